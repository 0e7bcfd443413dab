"""Batches of a corpus in shuffled order: bucketed by length, resumable at any batch, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chemmara.language.corpus import Corpus
from chemmara.language.vocabulary import PAD, pad

if TYPE_CHECKING:
    import torch

BLOCK = 256
BLOCKS_IN_WINDOW = 128


class TokenBatches:
    """An iterable of id tensors (B, T) over a corpus; each pass is one epoch with its own order.

    The order is shuffled in two stages so that memory does not grow with the corpus: blocks of neighbouring rows are
    drawn in random order into a window, and the window is shuffled. Inside a window, molecules of like length share
    a batch (a random batch of ChEMBL would be padding to four tenths). ``randomize`` writes each molecule in a random
    spelling, seeded by (seed, epoch, row); a spelling outside the vocabulary or longer than ``max_tokens`` falls back
    to the stored one. With several processes every batch is dealt out among them, row by row: each has as many rows,
    rows of padding where they do not go round, so that a step is the same molecules however many share it. ``pin``
    gives tensors in pinned memory, from which a GPU takes them while it works. ``state_dict`` remembers epoch and
    batch, as Lightning's stateful data loaders do.
    """

    def __init__(
        self,
        corpus: Corpus,
        batch_size: int,
        *,
        seed: int = 0,
        randomize: bool = False,
        max_tokens: int = 128,
        rank: int = 0,
        world_size: int = 1,
        pin: bool = False,
    ) -> None:
        self.corpus, self.batch_size, self.seed = corpus, batch_size, seed
        self.randomize, self.max_tokens = randomize, max_tokens
        self.rank, self.world_size, self.pin = rank, world_size, pin
        self.epoch = self.done = 0
        self._sizes = self._window_sizes()

    def _window_sizes(self) -> int:
        window = BLOCK * BLOCKS_IN_WINDOW
        full, rest = divmod(len(self.corpus), window)
        return full * -(-window // self.batch_size) + -(-rest // self.batch_size)

    def __len__(self) -> int:
        return self._sizes

    def __iter__(self) -> Iterator[torch.Tensor]:
        import torch

        if self.done >= len(self):  # the pass before came to its end (a trainer need not exhaust the iterator)
            self.epoch, self.done = self.epoch + 1, 0
        skip = self.done
        for number, rows in enumerate(self._batches()):
            if number < skip:
                continue
            self.done = number + 1
            tensor = torch.from_numpy(self._ids(rows))
            yield tensor.pin_memory() if self.pin else tensor

    def _ids(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's part of a batch."""
        own = rows[self.rank :: self.world_size]
        ids = self._spelled(own) if self.randomize else self.corpus.batch(own)
        missing = -(-len(rows) // self.world_size) - len(own)
        return np.pad(ids, ((0, missing), (0, max(1 - ids.shape[1], 0))), constant_values=PAD) if missing else ids

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        total = len(self.corpus)
        blocks = np.arange(-(-total // BLOCK))
        # The short last block stays last, so that every window but the last one is full.
        rng.shuffle(blocks[: total // BLOCK])
        for start in range(0, len(blocks), BLOCKS_IN_WINDOW):
            rows = np.concatenate(
                [np.arange(b * BLOCK, min((b + 1) * BLOCK, total)) for b in blocks[start : start + BLOCKS_IN_WINDOW]]
            )
            rng.shuffle(rows)
            parts = _by_length(self.corpus, rows, self.batch_size)
            for index in rng.permutation(len(parts)):
                yield parts[index]

    def _spelled(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        from chemmara.chemistry.molecules import randomize

        vocabulary = self.corpus.vocabulary
        result = []
        for row, ids in zip(rows.tolist(), self.corpus.batch(rows)):
            stored = ids[ids != PAD].tolist()
            seed = int(np.random.default_rng([self.seed, self.epoch, row]).integers(2**31 - 1))
            try:
                spelled = vocabulary.encode(randomize(vocabulary.decode(ids[None])[0], seed))
            except ValueError:  # a spelling that the tokenizer or the vocabulary cannot express
                spelled = stored
            result.append(spelled if len(spelled) <= self.max_tokens + 1 else stored)
        return pad(result)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.done = int(state["epoch"]), int(state["done"])


def spread_batches(corpus: Corpus, batch_size: int, most: int) -> Iterator[torch.Tensor]:
    """Ids (B, T) of at most ``most`` molecules, evenly spread over the corpus, each once, bucketed by length."""
    import torch

    rows = np.unique(np.linspace(0, len(corpus) - 1, min(len(corpus), most)).astype(np.int64))
    for part in _by_length(corpus, rows, batch_size):
        if len(part):
            yield torch.from_numpy(corpus.batch(part))


def _by_length(corpus: Corpus, rows: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """``rows`` in batches of molecules of like length, the shortest first."""
    lengths = corpus.offsets[rows + 1] - corpus.offsets[rows]
    ordered = rows[np.argsort(lengths, kind="stable")]
    return np.array_split(ordered, range(batch_size, len(ordered), batch_size))

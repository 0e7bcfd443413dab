"""Sampling sequences in batches: one loop for every policy that can step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from chemmara.language.vocabulary import END, PAD, START
from chemmara.policies.decoding import PLAIN, Decoding, choose
from chemmara.policies.policy import Sequences

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Rows that have ended are dropped from the batch when this share of it is done: each drop copies the state. A batch
# keeps a multiple of ROWS: oneDNN makes, and remembers, a kernel for each size that it meets.
DROP_SHARE = 0.125
ROWS = 16


class Stepper(Protocol):
    """The state of a batch that is being written, one token at a time."""

    def step(self, ids: Tensor) -> Tensor:
        """Feed the last token of each row, (B,); return the logits of the next one, (B, V) float32."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only, (K,) indices into the current batch."""
        ...


def sample_sequences(
    stepper: Stepper,
    n: int,
    *,
    generator: torch.Generator,
    decoding: Decoding = PLAIN,
) -> Sequences:
    """Draw ``n`` sequences from one stepper; ends as soon as every row has its end token."""
    import torch

    max_tokens, prefix = decoding.max_tokens, decoding.prefix
    device = generator.device
    written = torch.full((n, max_tokens), PAD, dtype=torch.int64, device=device)
    total = torch.zeros(n, dtype=torch.float32, device=device)
    rows = torch.arange(n, device=device)
    ids = torch.full((n,), START, dtype=torch.int64, device=device)
    alive = torch.ones(n, dtype=torch.bool, device=device)
    for token in prefix:
        stepper.step(ids)
        ids = torch.full_like(ids, token)
    if prefix:
        written[:, : len(prefix)] = torch.tensor(prefix, device=device)
    for position in range(len(prefix), max_tokens):
        logits = stepper.step(ids)
        noise = torch.empty_like(logits).exponential_(generator=generator)
        ids, chosen = choose(logits, noise, decoding)
        written[rows[alive], position] = ids[alive]
        total[rows[alive]] += chosen[alive]
        alive &= ids != END
        living = int(alive.sum())
        if living == 0:
            break
        size = -(-living // ROWS) * ROWS
        if size <= (1 - DROP_SHARE) * len(rows):
            kept = torch.argsort(~alive, stable=True)[:size]  # the living, and as many others as fill the size
            stepper.keep(kept)
            rows, ids, alive = rows[kept], ids[kept], alive[kept]
    return Sequences(written[:, : position + 1], total)


def concatenate(parts: list[Sequences]) -> Sequences:
    """Batches of sequences as one, padded to the longest."""
    import torch

    if not parts:
        return Sequences(torch.zeros((0, 0), dtype=torch.int64), torch.zeros(0))
    width = max(part.ids.shape[1] for part in parts)
    ids = [torch.nn.functional.pad(part.ids, (0, width - part.ids.shape[1]), value=PAD) for part in parts]
    return Sequences(torch.cat(ids), torch.cat([part.log_prob for part in parts]))

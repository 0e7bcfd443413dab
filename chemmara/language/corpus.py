"""A training corpus on disk: molecules as token ids in flat files, read through memory maps.

Preparing it is one streaming pass over the input, spread over processes, so that a file of any size trains in the
memory of one window of batches. Next to the ids lie the sorted 64-bit hashes of the canonical SMILES, which tell
whether a sampled molecule is new.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from chemmara.chemistry.files import read_records
from chemmara.chemistry.molecules import read
from chemmara.errors import UserError
from chemmara.language.tokenizers import TOKENIZERS, UnreadableText
from chemmara.language.vocabulary import END, SPECIAL, Vocabulary

CHUNK = 2000
EXAMPLES = 5
HELD_OUT = "held_out"


@dataclass
class Refusals:
    """Lines that could not be used: how many for which reason, with a few examples of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, example: str) -> None:
        self.counts[reason] += 1
        known = self.examples.setdefault(reason, [])
        if len(known) < EXAMPLES:
            known.append(example)

    def describe(self) -> list[str]:
        """One line a reason, for the terminal."""
        return [
            f"{count:,} lines left out: {reason} (for example {'; '.join(self.examples[reason][:3])})"
            for reason, count in self.counts.most_common()
        ]


def hash_smiles(smiles: str) -> int:
    """A stable 64-bit hash of a canonical SMILES."""
    return int.from_bytes(hashlib.blake2b(smiles.encode(), digest_size=8).digest(), "little")


class Corpus:
    """Molecules as token ids on disk; ``corpus[rows]`` is a padded batch."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        info = json.loads((self.folder / "corpus.json").read_text())
        self.vocabulary = Vocabulary(info["tokens"], info["tokenizer"])
        self.info = info
        self.ids = _map(self.folder / "ids.u16", np.uint16)
        self.offsets = _map(self.folder / "offsets.i64", np.int64)
        self.hashes = _map(self.folder / "hashes.u64", np.uint64)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def mean_length(self) -> float:
        """Mean number of tokens a molecule, the end token included."""
        return float(self.offsets[-1]) / max(len(self), 1)

    def batch(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Padded ids (B, longest) of these rows, gathered without a loop over molecules."""
        starts, ends = self.offsets[rows], self.offsets[rows + 1]
        lengths = ends - starts
        columns = np.arange(lengths.max(initial=0))
        inside = columns < lengths[:, None]
        positions = np.where(inside, starts[:, None] + columns, 0)
        return np.where(inside, self.ids[positions], 0).astype(np.int64)

    def known(self, smiles: Sequence[str]) -> NDArray[np.bool_]:
        """Which of these canonical SMILES are in the corpus, shape (B,)."""
        wanted = np.array([hash_smiles(s) for s in smiles], dtype=np.uint64)
        if not len(self.hashes):
            return np.zeros(len(wanted), dtype=bool)
        found = np.searchsorted(self.hashes, wanted)
        return np.asarray(self.hashes[np.minimum(found, len(self.hashes) - 1)] == wanted)


def _map(path: Path, dtype: type) -> NDArray:
    return np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)


def prepare(
    files: Sequence[str | Path],
    folder: str | Path,
    *,
    tokenizer: str = "smiles",
    vocabulary: Vocabulary | None = None,
    max_tokens: int = 128,
    column: str | None = None,
    keep_as_written: bool = False,
    workers: int = 1,
    holdout: float = 0.0,
) -> tuple[Corpus, Refusals]:
    """Read files of molecules into a corpus in ``folder``; says which lines were left out and why.

    Without ``vocabulary`` the tokens found make one, in the order of first appearance. SMILES are canonicalized unless
    ``keep_as_written``. ``holdout`` is the share of molecules that go to a second corpus in ``folder/held_out``,
    chosen by hash, so that every copy of a molecule falls on one side. Raises :class:`UserError` if no line can be
    used.
    """
    folder = Path(folder)
    refusals = Refusals()
    name = vocabulary.tokenizer_name if vocabulary else tokenizer
    convert = partial(_convert_chunk, tokenizer=name, max_tokens=max_tokens, keep_as_written=keep_as_written)
    tokens = list(vocabulary.tokens) if vocabulary else list(SPECIAL)
    numbers = {token: number for number, token in enumerate(tokens)}
    intake = _Intake(numbers, fixed=vocabulary is not None, refusals=refusals)
    writers = [_Writer(folder), *([_Writer(folder / HELD_OUT)] if holdout else [])]
    chunks = _chunks(_lines(files, column), CHUNK)
    with ExitStack() as stack:
        for writer in writers:
            stack.enter_context(writer)
        if workers > 1:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(workers))
            results: Iterable = pool.imap(convert, chunks)
        else:
            results = map(convert, chunks)
        for chunk in results:
            intake.add(chunk, writers, holdout)
    if not writers[0].count:
        listed = ", ".join(str(f) for f in files)
        raise UserError(f"no usable molecule in {listed}" + (f": {refusals.describe()[0]}" if refusals.counts else ""))
    for writer in writers:
        info = {"tokens": list(numbers), "tokenizer": name, "molecules": writer.count}
        (writer.folder / "corpus.json").write_text(json.dumps(info))
    return Corpus(folder), refusals


def _lines(files: Sequence[str | Path], column: str | None) -> Iterator[tuple[str, str]]:
    for path in files:
        for record in read_records(path, column):
            yield record.smiles, f"{Path(path).name} line {record.line}"


def _chunks(items: Iterable, size: int) -> Iterator[list]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _convert_chunk(
    chunk: list[tuple[str, str]], tokenizer: str, max_tokens: int, keep_as_written: bool
) -> list[tuple[list[str] | None, str, str]]:
    """For each line: (tokens, canonical SMILES, "") or (None, reason, example). Runs in a worker process."""
    split = TOKENIZERS[tokenizer].item().split
    results: list[tuple[list[str] | None, str, str]] = []
    for text, place in chunk:
        reading = read(text)
        example = f"{place}: {text[:60]}"
        if reading.molecule is None:
            results.append((None, "not a valid molecule", example))
            continue
        canonical = reading.molecule.smiles
        try:
            tokens = split(text if keep_as_written else canonical)
        except UnreadableText:
            results.append((None, f"no {tokenizer} tokens for it", example))
            continue
        if len(tokens) > max_tokens:
            results.append((None, f"more than {max_tokens} tokens", example))
        else:
            results.append((tokens, canonical, example))
    return results


class _Intake:
    """Gives ids to tokens as they appear, refuses what cannot be used, and shares the rest out to the writers."""

    def __init__(self, numbers: dict[str, int], fixed: bool, refusals: Refusals) -> None:
        self.numbers, self.fixed, self.refusals = numbers, fixed, refusals

    def add(self, chunk: list[tuple[list[str] | None, str, str]], writers: list[_Writer], holdout: float) -> None:
        for tokens, text, example in chunk:
            if tokens is None:
                self.refusals.add(text, example)
                continue
            unknown = dict.fromkeys(token for token in tokens if token not in self.numbers)
            if unknown and self.fixed:
                self.refusals.add(f"tokens outside the vocabulary ({' '.join(unknown)})", example)
                continue
            for token in unknown:
                self.numbers[token] = len(self.numbers)
            code = hash_smiles(text)
            # The low bits decide, so that the choice depends on the molecule alone.
            held = code % 100_000 < holdout * 100_000
            writers[1 if held else 0].append([*map(self.numbers.__getitem__, tokens), END], code)
        for writer in writers:
            writer.flush()


class _Writer:
    """Appends ids, offsets and hashes to the files of one corpus."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = self.end = 0
        self._streams: list[IO[bytes]] = []
        self._ids: list[int] = []
        self._ends: list[int] = []
        self._hashes: list[int] = []

    def __enter__(self) -> _Writer:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._streams = [open(self.folder / name, "wb") for name in ("ids.u16", "offsets.i64", "hashes.u64")]
        np.zeros(1, np.int64).tofile(self._streams[1])
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams:
            stream.close()
        path = self.folder / "hashes.u64"
        if path.stat().st_size:
            hashes = np.memmap(path, dtype=np.uint64, mode="r+")
            hashes.sort()
            hashes.flush()

    def append(self, ids: list[int], code: int) -> None:
        self._ids += ids
        self.end += len(ids)
        self.count += 1
        self._ends.append(self.end)
        self._hashes.append(code)

    def flush(self) -> None:
        np.array(self._ids, np.uint16).tofile(self._streams[0])
        np.array(self._ends, np.int64).tofile(self._streams[1])
        np.array(self._hashes, np.uint64).tofile(self._streams[2])
        self._ids, self._ends, self._hashes = [], [], []

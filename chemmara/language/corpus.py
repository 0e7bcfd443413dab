"""A training corpus on disk: molecules as token ids in flat files, read through memory maps.

Next to the ids lie the sorted 64-bit hashes of the canonical SMILES, which tell whether a sampled molecule is new.
:mod:`chemmara.language.intake` makes a corpus from files of molecules.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from chemmara.language.vocabulary import Vocabulary

HELD_OUT = "held_out"
FILES = ("ids.u16", "offsets.i64", "hashes.u64")


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
        self.ids = _map(self.folder / FILES[0], np.uint16)
        self.offsets = _map(self.folder / FILES[1], np.int64)
        self.hashes = _map(self.folder / FILES[2], np.uint64)

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


def _map(path: Path, dtype: type) -> NDArray[Any]:
    return np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)


class CorpusWriter:
    """Appends ids, offsets and hashes to the files of one corpus, which are made when the first molecule comes.

    A context: the files are closed on the way out, whatever happened; only :meth:`finish` makes them a corpus.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = self.end = 0
        self._open = ExitStack()
        self._streams: list[IO[bytes]] = []
        self._ids: list[int] = []
        self._ends: list[int] = []
        self._hashes: list[int] = []

    def __enter__(self) -> CorpusWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def append(self, ids: list[int], code: int) -> None:
        """One molecule: its ids, the end token included, and the hash of its canonical SMILES."""
        self._ids += ids
        self.end += len(ids)
        self.count += 1
        self._ends.append(self.end)
        self._hashes.append(code)

    def flush(self) -> None:
        """Write what was appended."""
        if not self._ends:
            return
        self._begin()
        np.array(self._ids, np.uint16).tofile(self._streams[0])
        np.array(self._ends, np.int64).tofile(self._streams[1])
        np.array(self._hashes, np.uint64).tofile(self._streams[2])
        self._ids, self._ends, self._hashes = [], [], []

    def _begin(self) -> None:
        if not self._streams:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                stream = open(self.folder / name, "wb")  # noqa: SIM115 (closed by the stack)
                self._streams.append(self._open.enter_context(stream))
            np.zeros(1, np.int64).tofile(self._streams[1])

    def finish(self, info: dict[str, Any]) -> None:
        """Close the files, sort the hashes and write ``corpus.json``."""
        self.flush()
        self._begin()
        self._open.close()
        if self.count:
            hashes = np.memmap(self.folder / FILES[2], dtype=np.uint64, mode="r+")
            hashes.sort()
            hashes.flush()
        (self.folder / "corpus.json").write_text(json.dumps({**info, "molecules": self.count}))

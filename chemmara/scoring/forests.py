"""Ensembles of trees as plain arrays: read without running code, evaluated with numpy, made by scikit-learn elsewhere.

A file is an ``.npz`` of the nodes of all trees, one tree after the other; T trees, N nodes. The trees belong to M
members of equally many trees: in a random forest each tree is a member, in gradient boosting each repetition. A member
says link(base + sum of its trees' leaves); the ensemble's value is the mean over members, their spread its uncertainty.

* ``start`` (T + 1,): the first node of each tree, and N
* ``feature`` (N,): the fingerprint bit that a node asks for
* ``threshold`` (N,): go left where the bit's value is <= it
* ``left``, ``right`` (N,): how many nodes further the child stands; 0 at a leaf
* ``value`` (N,): share of actives, mean or increment at a leaf
* ``known`` (molecules, size / 8), optional: fingerprint bits of the training molecules, packed
* ``meta``: JSON text, the fingerprint (``fingerprint``, ``size``, ``counts``), what the numbers mean (``target``,
  ``unit``, ``task``: classification or regression), and of members that are not trees ``base`` (M,) and ``link``
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chemmara.errors import UserError, nearest
from chemmara.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy("numpy")

BUNDLED = Path(__file__).parent.parent / "assets" / "forests"
FILE = "forest.npz"
_ARRAYS = {
    "start": "int64", "feature": "int64", "threshold": "float64", "left": "int64", "right": "int64", "value": "float64",
}  # fmt: skip


@dataclass(frozen=True)
class Forest:
    """The trees of a file, checked: every path ends at a leaf, every bit and every child exist."""

    start: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: NDArray[np.float64]
    meta: Mapping[str, Any]
    known: NDArray[np.uint8] | None = None

    @property
    def trees(self) -> int:
        return len(self.start) - 1

    @property
    def size(self) -> int:
        """Number of fingerprint bits."""
        return int(self.meta["size"])

    @property
    def counts(self) -> bool:
        """Whether the trees ask for counts instead of bits."""
        return self.meta.get("counts") is True

    @property
    def classifies(self) -> bool:
        """Whether values are probabilities, in [0, 1]."""
        return bool(self.meta.get("task", "classification") == "classification")

    @property
    def base(self) -> tuple[float, ...]:
        """Where each member begins: (M,)."""
        return tuple(self.meta["base"]) if "base" in self.meta else (0.0,) * self.trees

    def predict(self, bits: NDArray[Any]) -> NDArray[np.float64]:
        """Probability of the active class, or the value: ``bits`` (n, size), counts if so made, -> (n,)."""
        return mean_of(self.members(bits))

    def members(self, bits: NDArray[Any]) -> NDArray[np.float64]:
        """What each member says: ``bits`` (n, size) -> (n, M)."""
        leaves = self._leaves(bits)
        base = self.base
        each = self.trees // len(base)
        raw = np.tile(np.asarray(base, dtype=float), (len(bits), 1))
        # Added one after the other: a sum along an axis rounds differently with the number of rows.
        for tree in range(each):
            raw += leaves[:, tree::each]
        return 1 / (1 + np.exp(-np.clip(raw, -700, 700))) if self.meta.get("link") == "logistic" else raw

    def _leaves(self, bits: NDArray[Any]) -> NDArray[np.float64]:
        """The value of the leaf that each row comes to in each tree: (n, T)."""
        node = np.tile(self.start[:-1], len(bits))  # molecule by molecule, tree by tree
        row = np.repeat(np.arange(len(bits)), self.trees)
        walking = np.flatnonzero(self.right[node])
        while len(walking):  # trees on sparse bits have few deep paths: only what is not at a leaf moves on
            at = node[walking]
            goes_left = bits[row[walking], self.feature[at]] <= self.threshold[at]
            node[walking] = at = at + np.where(goes_left, self.left[at], self.right[at])
            walking = walking[self.right[at] > 0]
        return self.value[node].reshape(len(bits), self.trees)


def mean_of(members: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over members, (n, M) -> (n,), rounded in the same way whatever n is."""
    total = np.zeros(len(members))
    for column in range(members.shape[1]):
        total += members[:, column]
    return np.asarray(total / members.shape[1])


def spread_of(members: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation over members, (n, M) -> (n,)."""
    return np.sqrt(mean_of((members - mean_of(members)[:, None]) ** 2))


def features(fingerprint: Any, size: int, counts: bool) -> NDArray[np.uint8]:
    """A folded RDKit fingerprint as a row (size,): bits, or counts up to 255."""
    row = np.zeros(size, dtype=np.uint8)
    if counts:
        for index, count in fingerprint.GetNonzeroElements().items():
            row[index] = min(count, 255)
    else:
        row[list(fingerprint.GetOnBits())] = 1
    return row


def find_forest(model: str) -> Path:
    """The file of a bundled name or a path. Raises :class:`UserError` with the nearest bundled name."""
    bundled = BUNDLED / model / FILE
    if "/" not in model and "\\" not in model and bundled.is_file():
        return bundled
    path = Path(model).expanduser()
    for file in (path, path / FILE):
        if file.is_file():
            return file
    names = [folder.name for folder in BUNDLED.glob("*") if (folder / FILE).is_file()]
    raise UserError(f"no forest '{model}': neither a bundled name nor a file{nearest(model, names)}")


def load_forest(path: str | Path) -> Forest:
    """Read and check a file. Raises :class:`UserError`; nothing in the file is ever executed."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            meta = json.loads(str(stored["meta"]))
            arrays: dict[str, Any] = {name: np.asarray(stored[name]).astype(kind) for name, kind in _ARRAYS.items()}
            if "known" in stored:
                arrays["known"] = np.asarray(stored["known"]).astype("uint8")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"'{path}' is no forest: {' '.join(str(error).split())}") from None
    forest = Forest(**arrays, meta=meta)
    fault = _fault(forest)
    if fault:
        raise UserError(f"'{path}' is no forest: {fault}")
    return forest


def save_forest(forest: Forest, path: str | Path) -> None:
    """Write a file, in the narrowest types that hold the numbers."""
    offsets = np.uint32
    known: dict[str, Any] = {} if forest.known is None else {"known": forest.known}
    np.savez_compressed(
        path,
        start=forest.start,
        feature=forest.feature.astype(np.uint16 if forest.size <= 2**16 else np.uint32),
        threshold=forest.threshold,
        left=forest.left.astype(offsets),
        right=forest.right.astype(offsets),
        value=forest.value,
        meta=np.array(json.dumps(dict(forest.meta), sort_keys=True)),
        **known,
    )


def _fault(forest: Forest) -> str | None:
    meta, nodes = forest.meta, len(forest.feature)
    if not isinstance(meta, dict) or not isinstance(meta.get("size"), int) or meta["size"] < 1:
        return "its meta text has no fingerprint size"
    if any(getattr(forest, name).shape != (nodes,) for name in _ARRAYS if name != "start"):
        return "its arrays differ in length"
    start = forest.start
    if start.ndim != 1 or len(start) < 2 or start[0] != 0 or start[-1] != nodes or (np.diff(start) < 1).any():
        return "its trees do not cover its nodes"
    if (forest.feature < 0).any() or (forest.feature >= forest.size).any():
        return "it asks for bits that the fingerprint has not"
    # Children stand after their parent and within its tree, so every path ends.
    end = np.repeat(start[1:], np.diff(start))
    for child in (forest.left, forest.right):
        if (child < 0).any() or (np.arange(nodes) + child >= end).any():
            return "a node has its child outside its tree"
    if ((forest.left == 0) != (forest.right == 0)).any():
        return "a node has one child"
    if not np.isfinite(forest.value).all() or np.isnan(forest.threshold).any():
        return "its values are no numbers"
    if forest.classifies and "link" not in meta and not ((forest.value >= 0) & (forest.value <= 1)).all():
        return "its values are no probabilities"
    return _meta_fault(forest)


def _meta_fault(forest: Forest) -> str | None:
    meta, known = forest.meta, forest.known
    base = meta.get("base", [0.0])
    if not isinstance(base, list) or not base or not all(type(x) in (int, float) and math.isfinite(x) for x in base):
        return "its members have no base"
    if forest.trees % len(forest.base):
        return "its members differ in trees"
    task = meta.get("task", "regression")
    if meta.get("link", "logistic") != "logistic" or task not in ("classification", "regression"):
        return "its link or task is unknown"
    if known is not None and (known.ndim != 2 or known.shape[1] * 8 != forest.size):
        return "its training molecules have another size"
    return None

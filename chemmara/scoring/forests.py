"""Random forests as plain arrays: read without running code, evaluated with numpy, made from scikit-learn's elsewhere.

A file is an ``.npz`` of the nodes of all trees, one tree after the other; T trees, N nodes.

* ``start`` (T + 1,): the first node of each tree, and N
* ``feature`` (N,): the fingerprint bit that a node asks for
* ``threshold`` (N,): go left where the bit's value is <= it
* ``left``, ``right`` (N,): how many nodes further the child stands; 0 at a leaf
* ``value`` (N,): share of actives at a leaf
* ``meta``: JSON text, the fingerprint (``fingerprint``, ``size``) and what the numbers mean (``target``)
"""

from __future__ import annotations

import json
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

    @property
    def trees(self) -> int:
        return len(self.start) - 1

    @property
    def size(self) -> int:
        """Number of fingerprint bits."""
        return int(self.meta["size"])

    def predict(self, bits: NDArray[Any]) -> NDArray[np.float64]:
        """Probability of the active class, the mean over the trees: ``bits`` (n, size) -> (n,), in [0, 1]."""
        node = np.tile(self.start[:-1], len(bits))  # molecule by molecule, tree by tree
        row = np.repeat(np.arange(len(bits)), self.trees)
        walking = np.flatnonzero(self.right[node])
        while len(walking):  # trees on sparse bits have few deep paths: only what is not at a leaf moves on
            at = node[walking]
            goes_left = bits[row[walking], self.feature[at]] <= self.threshold[at]
            node[walking] = at = at + np.where(goes_left, self.left[at], self.right[at])
            walking = walking[self.right[at] > 0]
        leaves = self.value[node].reshape(len(bits), self.trees)
        # Added one after the other: a sum along an axis rounds differently with the number of rows.
        total = np.zeros(len(bits))
        for tree in range(self.trees):
            total += leaves[:, tree]
        return np.asarray(total / self.trees)


def find_forest(model: str) -> Path:
    """The file of a bundled name or a path. Raises :class:`UserError` with the nearest bundled name."""
    bundled = BUNDLED / model / FILE
    if "/" not in model and "\\" not in model and bundled.is_file():
        return bundled
    path = Path(model).expanduser()
    if path.is_file():
        return path
    names = [folder.name for folder in BUNDLED.glob("*") if (folder / FILE).is_file()]
    raise UserError(f"no forest '{model}': neither a bundled name nor a file{nearest(model, names)}")


def load_forest(path: str | Path) -> Forest:
    """Read and check a file. Raises :class:`UserError`; nothing in the file is ever executed."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            meta = json.loads(str(stored["meta"]))
            arrays: dict[str, Any] = {name: np.asarray(stored[name]).astype(kind) for name, kind in _ARRAYS.items()}
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
    np.savez_compressed(
        path,
        start=forest.start,
        feature=forest.feature.astype(np.uint16 if forest.size <= 2**16 else np.uint32),
        threshold=forest.threshold,
        left=forest.left.astype(offsets),
        right=forest.right.astype(offsets),
        value=forest.value,
        meta=np.array(json.dumps(dict(forest.meta), sort_keys=True)),
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
    if not ((forest.value >= 0) & (forest.value <= 1)).all() or np.isnan(forest.threshold).any():
        return "its values are no probabilities"
    return None

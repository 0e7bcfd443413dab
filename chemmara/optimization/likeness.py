"""How like two molecules are, for a model of their scores: by their fragments, and by a few numbers of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from chemmara.chemistry.fingerprints import SIZE, function
from chemmara.chemistry.molecules import Molecule
from chemmara.lazy import lazy
from chemmara.scoring.components.descriptors import DESCRIPTORS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy import sparse
else:
    np = lazy("numpy")
    sparse = lazy("scipy.sparse")

MOST = 4
"""A fragment that a molecule has more often counts as often as this."""

SCALES = {
    "molecular_weight": 100.0,
    "heavy_atoms": 7.0,
    "logp": 1.5,
    "tpsa": 30.0,
    "hbd": 1.0,
    "hba": 2.0,
    "rotatable_bonds": 2.5,
    "rings": 1.0,
    "aromatic_rings": 1.0,
    "fraction_csp3": 0.25,
}
"""Descriptors, and what counts as one step of each: about a standard deviation among drug-like molecules."""


class Features(NamedTuple):
    """Of n molecules: ``counts`` (n, SIZE * MOST), 0 or 1, sparse; ``size`` (n,), their sums; ``numbers`` (n, 10)."""

    counts: Any
    size: NDArray[np.float32]
    numbers: NDArray[np.float32]

    def last(self, n: int) -> Features:
        """Those of the last ``n`` molecules."""
        return Features(self.counts[-n:], self.size[-n:], self.numbers[-n:])

    def followed_by(self, other: Features) -> Features:
        return Features(
            sparse.vstack([self.counts, other.counts]).tocsr(),
            np.concatenate([self.size, other.size]),
            np.concatenate([self.numbers, other.numbers]),
        )


def features(molecules: Sequence[Molecule]) -> Features:
    """ECFP4 counts in unary (a fragment that is there twice has two places), and scaled descriptors."""
    make = function("ecfp4", folded_counts=True)
    rows, places = [], []
    for row, molecule in enumerate(molecules):
        for place, count in make(molecule.mol).GetNonzeroElements().items():
            times = min(count, MOST)
            rows += [row] * times
            places += [place + SIZE * level for level in range(times)]
    shape = (len(molecules), SIZE * MOST)
    counts = sparse.csr_array((np.ones(len(rows), dtype=np.float32), (rows, places)), shape=shape)
    numbers = [[DESCRIPTORS[name].function(each.mol) / scale for name, scale in SCALES.items()] for each in molecules]
    return Features(
        counts,
        np.asarray(counts.sum(axis=1), dtype=np.float32).reshape(-1),
        np.array(numbers, dtype=np.float32).reshape(len(molecules), len(SCALES)),
    )


def likeness(some: Features, others: Features) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Tanimoto similarity of counts, and squared distance of the scaled descriptors: (len(some), len(others)) each.

    Whole numbers and sums in one order: a pair has the same values in whatever company it is looked at.
    """
    common = (some.counts @ others.counts.T).toarray()
    tanimoto = common / np.maximum(some.size[:, None] + others.size[None, :] - common, 1)
    distance = np.zeros_like(common)
    for mine, theirs in zip(some.numbers.T, others.numbers.T):
        distance += (mine[:, None] - theirs[None, :]) ** 2
    return tanimoto.astype(np.float32, copy=False), distance

"""Fingerprints by name, and Tanimoto similarity between them. Generators are made once a process.

>>> from chemmara.chemistry.molecules import read
>>> ethanol, propanol = (read(s).molecule.mol for s in ("CCO", "CCCO"))
>>> print(tanimoto(fingerprint(ethanol, "ecfp4"), [fingerprint(m, "ecfp4") for m in (ethanol, propanol)]).round(3))
[1.    0.556]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from chemmara.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    from rdkit import Chem, DataStructs
    from rdkit.Chem import rdFingerprintGenerator
else:
    np = lazy("numpy")
    Chem = lazy("rdkit.Chem")
    DataStructs = lazy("rdkit.DataStructs")
    rdFingerprintGenerator = lazy("rdkit.Chem.rdFingerprintGenerator")


FingerprintName = Literal["ecfp4", "ecfp6", "fcfp4", "atom_pairs", "phco"]
Kind = FingerprintName | Literal["all_atom_pairs"]
NAMES: tuple[str, ...] = (*get_args(FingerprintName), "all_atom_pairs")
SIZE = 2048
ATOM_PAIR_DISTANCE = 10
"""Longest topological distance of an atom pair, in bonds, as the GuacaMol and PMO benchmarks have it."""
ALL_ATOM_PAIRS = 30
"""The same of RDKit's own atom pairs, which REINVENT takes."""

MAX_PHARMACOPHORE_ATOMS = 100
"""Larger molecules have no phco fingerprint: its triples grow with the cube, C300 takes a minute."""


@cache
def _generator(name: str, size: int) -> Any:
    """ECFP/FCFP: Morgan [Rogers and Hahn, JCIM 2010, 50, 742]; atom pairs [Carhart et al., JCICS 1985, 25, 64]."""
    if name in ("atom_pairs", "all_atom_pairs"):
        longest = ATOM_PAIR_DISTANCE if name == "atom_pairs" else ALL_ATOM_PAIRS
        return rdFingerprintGenerator.GetAtomPairGenerator(maxDistance=longest, fpSize=size)
    features = rdFingerprintGenerator.GetMorganFeatureAtomInvGen() if name == "fcfp4" else None
    radius = 3 if name == "ecfp6" else 2
    return rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=size, atomInvariantsGenerator=features)


def fingerprint(mol: Chem.Mol, name: Kind = "ecfp4", counts: bool = False, size: int = SIZE) -> Any:
    """The fingerprint of a molecule: ``size`` bits, or unhashed sparse counts (exact: no two features share a bin).

    ``phco`` is Gobbi's 2D pharmacophore [Gobbi and Poppinger, Biotechnol. Bioeng. 1998, 61, 47]: unhashed bits whatever
    ``size`` says, some 7 ms a molecule, no counts; ValueError
    above MAX_PHARMACOPHORE_ATOMS.
    """
    return function(name, counts, size)(mol)


def check(name: str, counts: bool = False) -> None:
    """Raise ValueError for an unknown name or phco counts."""
    if name not in NAMES:
        raise ValueError(f"unknown fingerprint '{name}'; valid: {', '.join(NAMES)}")
    if name == "phco" and counts:
        raise ValueError("phco fingerprints are bits: they have no counts")


def function(
    name: Kind, counts: bool = False, size: int = SIZE, folded_counts: bool = False
) -> Callable[[Chem.Mol], Any]:
    """:func:`fingerprint` with its settings bound, for loops. Raises what :func:`check` does.

    ``folded_counts``: counts in ``size`` bins, for models that need a row of fixed length.
    """
    check(name, counts or folded_counts)
    if name == "phco":
        return _pharmacophore
    generator = _generator(name, size)
    if folded_counts:
        return cast(Callable[["Chem.Mol"], Any], generator.GetCountFingerprint)
    chosen: Callable[[Chem.Mol], Any] = generator.GetSparseCountFingerprint if counts else generator.GetFingerprint
    return chosen


def _pharmacophore(mol: Chem.Mol) -> Any:
    if mol.GetNumHeavyAtoms() > MAX_PHARMACOPHORE_ATOMS:
        raise ValueError(f"more than {MAX_PHARMACOPHORE_ATOMS} heavy atoms, too many for a 2D pharmacophore")
    from rdkit.Chem.Pharm2D import Generate, Gobbi_Pharm2D

    return Generate.Gen2DFingerprint(mol, Gobbi_Pharm2D.factory)  # type: ignore[no-untyped-call]


def bits(prints: Sequence[Any]) -> np.ndarray:
    """Bit fingerprints of one length as zeros and ones: (len(prints), length), uint8."""
    packed = [np.frombuffer(DataStructs.BitVectToBinaryText(each), dtype=np.uint8) for each in prints]
    return np.unpackbits(np.stack(packed), axis=1, count=len(prints[0]), bitorder="little")


def tanimoto(one: Any, others: Sequence[Any]) -> np.ndarray:
    """Tanimoto similarity of one fingerprint to others of its kind: (len(others),), in [0, 1].

    On counts, sum of minima over sum of maxima.
    """
    return np.asarray(DataStructs.BulkTanimotoSimilarity(one, list(others)), dtype=float)

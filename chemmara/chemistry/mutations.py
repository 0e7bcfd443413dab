"""The mutations of :mod:`chemmara.chemistry.genetics`: each changes a kekulized molecule in place.

It says whether there was anything to change; whether the result is a sound molecule is for the caller to find out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from chemmara.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")

T = TypeVar("T")
Mutation = Callable[["Chem.RWMol", "np.random.Generator"], bool]

_C, _N, _O, _F, _S, _CL, _BR = 6, 7, 8, 9, 16, 17, 35
_SINGLE, _DOUBLE, _TRIPLE = 1, 2, 3
_APPENDED = [
    *((element, _SINGLE) for element in (_C, _C, _N, _O, _F, _S, _CL, _BR)),
    *((element, _DOUBLE) for element in (_C, _N, _O, _S)),
    *((element, _TRIPLE) for element in (_C, _N)),
]
_INSERTED = [_C, _C, _N, _O, _S]
_CHANGED = [_C, _N, _O, _F, _S, _CL, _BR]
_RING_SIZES, _RING_CHANCES = [3, 4, 5, 6], [0.05, 0.05, 0.45, 0.45]


def _order(number: int) -> Chem.BondType:
    return (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)[number - 1]


def _append_atom(mol: Chem.RWMol, rng: np.random.Generator) -> bool:
    free = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetTotalNumHs()]
    if not free:
        return False
    at = pick(free, rng)
    element, order = pick(_APPENDED, rng)
    mol.AddBond(at, mol.AddAtom(Chem.Atom(element)), _order(order))
    plain(mol, at)
    return True


def _insert_atom(mol: Chem.RWMol, rng: np.random.Generator) -> bool:
    bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds() if b.GetBondType() == _order(_SINGLE)]
    if not bonds:
        return False
    a, b = pick(bonds, rng)
    mol.RemoveBond(a, b)
    new = mol.AddAtom(Chem.Atom(pick(_INSERTED, rng)))
    for end in (a, b):
        mol.AddBond(end, new, _order(_SINGLE))
    forget_stereo(mol, a, b)
    return True


def _delete_atom(mol: Chem.RWMol, rng: np.random.Generator) -> bool:
    """A terminal atom goes; one between two others goes, and these are bonded to each other."""
    ends = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetDegree() in (1, 2)]
    if not ends:
        return False
    atom = mol.GetAtomWithIdx(pick(ends, rng))
    beside = [neighbor.GetIdx() for neighbor in atom.GetNeighbors()]
    if len(beside) == 2:
        if mol.GetBondBetweenAtoms(beside[0], beside[1]) is not None:
            return False
        mol.AddBond(beside[0], beside[1], _order(_SINGLE))
    for each in beside:
        plain(mol, each)
    mol.RemoveAtom(atom.GetIdx())
    return True


def _change_atom(mol: Chem.RWMol, rng: np.random.Generator) -> bool:
    atom = mol.GetAtomWithIdx(int(rng.integers(mol.GetNumAtoms())))
    atom.SetAtomicNum(pick([element for element in _CHANGED if element != atom.GetAtomicNum()], rng))
    atom.SetFormalCharge(0)
    atom.SetIsotope(0)
    plain(mol, atom.GetIdx())
    return True


def _change_order(mol: Chem.RWMol, rng: np.random.Generator) -> bool:
    if not mol.GetNumBonds():
        return False
    bond = mol.GetBondWithIdx(int(rng.integers(mol.GetNumBonds())))
    highest = _DOUBLE if bond.IsInRing() else _TRIPLE
    bond.SetBondType(pick([t for t in map(_order, range(1, highest + 1)) if t != bond.GetBondType()], rng))
    for end in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()):
        plain(mol, end)
    return True


def _add_ring(mol: Chem.RWMol, rng: np.random.Generator) -> bool:
    """A single bond between two atoms with hydrogens: rings of five and six nine times as often as smaller ones."""
    size = int(rng.choice(_RING_SIZES, p=_RING_CHANCES))
    free = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetTotalNumHs()]
    distance = Chem.GetDistanceMatrix(mol)
    pairs = [(a, b) for a in free for b in free if a < b and distance[a][b] == size - 1]
    if not pairs:
        return False
    a, b = pick(pairs, rng)
    mol.AddBond(a, b, _order(_SINGLE))
    plain(mol, a)
    plain(mol, b)
    return True


def _delete_ring_bond(mol: Chem.RWMol, rng: np.random.Generator) -> bool:
    bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds() if b.IsInRing()]
    if not bonds:
        return False
    a, b = pick(bonds, rng)
    mol.RemoveBond(a, b)
    plain(mol, a)
    plain(mol, b)
    return True


MUTATIONS: list[Mutation] = [
    _append_atom, _insert_atom, _delete_atom, _change_atom, _change_order, _add_ring, _delete_ring_bond,
]  # fmt: skip


def plain(mol: Chem.RWMol, at: int) -> None:
    """Let an atom whose bonds have changed find its hydrogens anew, and forget its stereo."""
    atom = mol.GetAtomWithIdx(at)
    atom.SetNoImplicit(False)
    atom.SetNumExplicitHs(0)
    forget_stereo(mol, at)


def forget_stereo(mol: Chem.RWMol, *atoms: int) -> None:
    """What was left or right of a changed atom means nothing any more."""
    for at in atoms:
        mol.GetAtomWithIdx(at).SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
        for bond in mol.GetAtomWithIdx(at).GetBonds():
            bond.SetStereo(Chem.BondStereo.STEREONONE)
            bond.SetBondDir(Chem.BondDir.NONE)
            for end in (bond.GetBeginAtom(), bond.GetEndAtom()):
                for near in end.GetBonds():
                    near.SetBondDir(Chem.BondDir.NONE)


def pick(choices: Sequence[T], rng: np.random.Generator) -> T:
    return choices[int(rng.integers(len(choices)))]


def shuffled(choices: list[T], rng: np.random.Generator) -> list[T]:
    return [choices[int(k)] for k in rng.permutation(len(choices))]

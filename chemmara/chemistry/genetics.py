"""Graph crossover and mutation: offspring of molecules, deterministic in the generator that is given.

Own code after the idea of Graph-GA [Jensen, Chem. Sci. 2019, 10, 3567]: two molecules are cut at a ring or a non-ring
bond each, and a piece of one is joined to a piece of the other; a mutation changes one atom or bond. Whatever comes out
is sanitized and looked at; what is no sound molecule is dropped, and another try is made.

>>> import numpy as np
>>> from chemmara.chemistry.molecules import read
>>> aspirin, caffeine = (read(s).molecule for s in ("CC(=O)Oc1ccccc1C(=O)O", "Cn1cnc2c1c(=O)n(C)c(=O)n2C"))
>>> crossover(aspirin, caffeine, np.random.default_rng(1)) == crossover(aspirin, caffeine, np.random.default_rng(1))
True
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

from chemmara.chemistry.molecules import Molecule, quiet, read
from chemmara.chemistry.mutations import MUTATIONS, forget_stereo, pick, shuffled
from chemmara.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")

TRIES = 10
LEAST_ATOMS, MOST_ATOMS = 5, 40
"""Heavy atoms of an offspring."""
LARGEST_RING = 6
"""Atoms of a ring that an offspring may have even where no parent has such a large one."""
CUT, SECOND_CUT = 1, 2
"""Isotopes of the dummy atoms that mark where a piece was cut."""


def breed(
    mother: Molecule, father: Molecule, mutation_rate: float, rng: np.random.Generator, most_atoms: int = MOST_ATOMS
) -> Molecule | None:
    """Their offspring, mutated with probability ``mutation_rate``; None where no sound one was found."""
    child = crossover(mother, father, rng, most_atoms)
    if child is not None and rng.random() < mutation_rate:
        return mutate(child, rng, most_atoms)
    return child


def crossover(
    mother: Molecule, father: Molecule, rng: np.random.Generator, most_atoms: int = MOST_ATOMS
) -> Molecule | None:
    """A piece of one joined to a piece of the other, cut at rings or elsewhere with equal chances."""
    limit = max(_largest_ring(mother.mol), _largest_ring(father.mol), LARGEST_RING)
    for _ in range(TRIES):
        cut = (_cut_ring, _cut_chain)[int(rng.integers(2))]
        with quiet():
            pieces = [cut(_kekulized(parent.mol), rng) for parent in (mother, father)]
            if not all(pieces):
                continue
            one, other = (pick(half, rng) for half in pieces)
            for joined in shuffled(list(_join(one, other)), rng):
                child = _sound(joined, limit, most_atoms)
                if child is not None and child not in (mother, father):
                    return child
    return None


def mutate(molecule: Molecule, rng: np.random.Generator, most_atoms: int = MOST_ATOMS) -> Molecule | None:
    """The molecule with one atom or bond changed; None where no sound change was found."""
    limit = max(_largest_ring(molecule.mol), LARGEST_RING)
    for _ in range(TRIES):
        change = pick(MUTATIONS, rng)
        with quiet():
            mol = _kekulized(molecule.mol)
            changed = _sound(mol, limit, most_atoms) if change(mol, rng) else None
        if changed is not None and changed != molecule:
            return changed
    return None


# Cutting and joining --------------------------------------------------------------------------------------------------


def _cut_chain(mol: Chem.RWMol, rng: np.random.Generator) -> list[Chem.Mol]:
    """Both pieces of a cut through a single bond outside of rings; none if there is no such bond."""
    single = Chem.BondType.SINGLE
    bonds = [b.GetIdx() for b in mol.GetBonds() if not b.IsInRing() and b.GetBondType() == single]
    return _pieces(mol, [pick(bonds, rng)]) if bonds else []


def _cut_ring(mol: Chem.RWMol, rng: np.random.Generator) -> list[Chem.Mol]:
    """Both pieces of a cut through two bonds of one ring; none if that leaves the molecule whole."""
    rings = [list(ring) for ring in mol.GetRingInfo().BondRings()]
    if not rings:
        return []
    return _pieces(mol, shuffled(pick(rings, rng), rng)[:2])


def _pieces(mol: Chem.RWMol, bonds: list[int]) -> list[Chem.Mol]:
    labels = [(mark, mark) for mark in (CUT, SECOND_CUT)[: len(bonds)]]
    apart = Chem.FragmentOnBonds(mol, bonds, dummyLabels=labels)
    pieces = Chem.GetMolFrags(apart, asMols=True, sanitizeFrags=False)
    return list(pieces) if len(pieces) == 2 else []


def _join(one: Chem.Mol, other: Chem.Mol) -> Iterator[Chem.RWMol]:
    """All ways to close the cuts of two pieces with each other, by single and double bonds where there are two."""
    here, there = (
        _ends(one),
        [(mark, end + one.GetNumAtoms(), to + one.GetNumAtoms()) for mark, end, to in _ends(other)],
    )
    if len(here) != len(there):
        return
    single, double = Chem.BondType.SINGLE, Chem.BondType.DOUBLE
    orders = [(single,)] if len(here) == 1 else product((single, double), repeat=2)
    for chosen, way in product(orders, (there, there[::-1])[: len(here)]):
        joined = Chem.RWMol(Chem.CombineMols(one, other))
        pairs = [(a, b) for (_, _, a), (_, _, b) in zip(here, way)]
        if len(set(pairs)) < len(pairs):
            continue
        for (a, b), order in zip(pairs, chosen):
            joined.AddBond(a, b, order)
            forget_stereo(joined, a, b)
        for dummy in sorted((end for _, end, _ in [*here, *there]), reverse=True):
            joined.RemoveAtom(dummy)
        yield joined


def _ends(piece: Chem.Mol) -> list[tuple[int, int, int]]:
    """(mark, dummy atom, the atom that it is bonded to) of each cut, in the order of the marks."""
    dummies = [atom for atom in piece.GetAtoms() if atom.GetAtomicNum() == 0]
    return sorted((atom.GetIsotope(), atom.GetIdx(), atom.GetNeighbors()[0].GetIdx()) for atom in dummies)


# What is sound --------------------------------------------------------------------------------------------------------


def _sound(mol: Chem.RWMol, largest_ring: int, most_atoms: int) -> Molecule | None:
    """The molecule, sanitized and read from its canonical SMILES; None if it is none, or nothing one would make."""
    if not LEAST_ATOMS <= mol.GetNumAtoms() <= most_atoms:
        return None
    if Chem.SanitizeMol(mol, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        return None
    molecule = read(Chem.MolToSmiles(mol)).molecule
    if molecule is None or "." in molecule.smiles or _strained(molecule.mol, largest_ring):
        return None
    return None if any(atom.GetNumRadicalElectrons() for atom in molecule.mol.GetAtoms()) else molecule


def _strained(mol: Chem.Mol, largest_ring: int) -> bool:
    """Whether a ring is too large, or holds a triple bond, an allene, or a double bond where it is of four or less."""
    double, triple = Chem.BondType.DOUBLE, Chem.BondType.TRIPLE
    for ring in mol.GetRingInfo().BondRings():
        bonds = [mol.GetBondWithIdx(bond) for bond in ring]
        doubles = [bond for bond in bonds if bond.GetBondType() == double]
        ends = [end for bond in doubles for end in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())]
        if len(ring) > largest_ring or any(bond.GetBondType() == triple for bond in bonds):
            return True
        if len(set(ends)) < len(ends) or (doubles and len(ring) <= 4):
            return True
    return False


def _largest_ring(mol: Chem.Mol) -> int:
    return max(map(len, mol.GetRingInfo().AtomRings()), default=0)


def _kekulized(mol: Chem.Mol) -> Chem.RWMol:
    copy = Chem.RWMol(mol)
    Chem.Kekulize(copy, clearAromaticFlags=True)
    return copy

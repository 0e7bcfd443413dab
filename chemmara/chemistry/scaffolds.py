"""Scaffolds: what "distinct" means when molecules are counted."""

from __future__ import annotations

from rdkit import Chem
from rdkit.Chem.Scaffolds import MurckoScaffold


def murcko(mol: Chem.Mol) -> str:
    """Bemis-Murcko scaffold: rings, the linkers between them, and the atoms double-bonded to either, as SMILES.

    Without stereo and isotopes, so that stereoisomers do not count as distinct scaffolds. An acyclic molecule has
    none: ''. [Bemis and Murcko, J. Med. Chem. 1996, 39, 2887; exocyclic double bonds kept as RDKit does]
    """
    if mol.GetRingInfo().NumRings() == 0:
        return ""
    return str(Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(mol), isomericSmiles=False))


def generic(mol: Chem.Mol) -> str:
    """The graph framework: ring and linker atoms alone, every atom carbon and every bond single, as SMILES; '' if acyclic.

    [Bemis and Murcko 1996, "graph framework"; exocyclic double-bonded atoms are dropped, unlike in :func:`murcko`]
    """
    if mol.GetRingInfo().NumRings() == 0:
        return ""
    frame = Chem.RWMol(MurckoScaffold.GetScaffoldForMol(mol))
    _prune(frame)
    blank = Chem.RWMol()
    for _ in range(frame.GetNumAtoms()):
        blank.AddAtom(Chem.Atom(6))
    for bond in frame.GetBonds():
        blank.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), Chem.BondType.SINGLE)
    return str(Chem.MolToSmiles(blank))


def _prune(frame: Chem.RWMol) -> None:
    """Remove terminal atoms until only rings and linkers are left."""
    while terminal := [atom.GetIdx() for atom in frame.GetAtoms() if atom.GetDegree() <= 1]:
        for index in sorted(terminal, reverse=True):
            frame.RemoveAtom(index)

"""Scaffolds: what "distinct" means when molecules are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chemmara.lazy import lazy

if TYPE_CHECKING:
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")


def murcko(mol: Chem.Mol) -> str:
    """Bemis-Murcko scaffold: rings, the linkers between them, and the atoms double-bonded to either, as SMILES.

    Without stereo, isotopes and atom maps, so that stereoisomers do not count as distinct scaffolds. An acyclic
    molecule has none: ''. [Bemis and Murcko, J. Med. Chem. 1996, 39, 2887; exocyclic double bonds kept as RDKit does]
    """
    if mol.GetRingInfo().NumRings() == 0:
        return ""
    framework = _framework(mol)
    text = str(Chem.MolToSmiles(framework, isomericSmiles=False))
    if ":" not in text:  # as good as always, and to walk over the atoms takes time
        return text
    for atom in framework.GetAtoms():
        atom.SetAtomMapNum(0)
    return str(Chem.MolToSmiles(framework, isomericSmiles=False))


def generic(mol: Chem.Mol) -> str:
    """The graph framework: ring and linker atoms alone, every atom carbon and every bond single, as SMILES.

    '' if acyclic. Exocyclic double-bonded atoms are dropped, unlike in :func:`murcko`.
    [Bemis and Murcko 1996, "graph framework"]
    """
    if mol.GetRingInfo().NumRings() == 0:
        return ""
    frame = Chem.RWMol(_framework(mol))
    _prune(frame)
    blank = Chem.RWMol()
    for _ in range(frame.GetNumAtoms()):
        blank.AddAtom(Chem.Atom(6))
    for bond in frame.GetBonds():
        blank.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), Chem.BondType.SINGLE)
    return str(Chem.MolToSmiles(blank))


def _framework(mol: Chem.Mol) -> Chem.Mol:
    # MurckoScaffold.GetScaffoldForMol without its module, which imports far more than these three calls.
    framework = Chem.MurckoDecompose(mol)
    framework.ClearComputedProps()
    framework.UpdatePropertyCache()
    return framework


def _prune(frame: Chem.RWMol) -> None:
    """Remove terminal atoms until only rings and linkers are left."""
    while terminal := [atom.GetIdx() for atom in frame.GetAtoms() if atom.GetDegree() <= 1]:
        for index in sorted(terminal, reverse=True):
            frame.RemoveAtom(index)

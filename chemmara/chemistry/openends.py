"""Writing a scaffold so that text can go on where it is open: the SMILES before an attachment point that comes last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chemmara.chemistry.molecules import quiet, read
from chemmara.errors import UserError
from chemmara.lazy import lazy

if TYPE_CHECKING:
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")

SPELLINGS = 100


def open_spellings(scaffold: str) -> list[list[str]]:
    """Beginnings of SMILES that hold all of ``scaffold`` and end at an atom that is open: one list for each open end.

    A scaffold with one ``*`` is open there alone; without ``*``, every atom with a hydrogen is (of atoms that symmetry
    makes alike, one). Each list holds different spellings of one beginning, sorted; all rings and branches in them are
    closed, so that whatever follows is bonded to the open atom, its last. Raises :class:`UserError` for a text that is
    no molecule or several, has more than one ``*`` or no open atom.

    >>> [benzene] = open_spellings("*c1ccccc1")
    >>> benzene[-1]
    'c1ccccc1'
    """
    reading = read(scaffold)
    if reading.molecule is None:
        raise UserError(f"scaffold '{scaffold[:80]}' is no valid SMILES ({reading.error})")
    mol = reading.molecule.mol
    if "." in reading.molecule.smiles:
        raise UserError(f"scaffold '{scaffold[:80]}' has several fragments; give one, without its counter-ions")
    marks = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() == 0]
    if len(marks) > 1:
        raise UserError(f"scaffold '{scaffold[:80]}' has {len(marks)} attachment points (*); text can go on at one")
    if marks and mol.GetAtomWithIdx(marks[0]).GetDegree() != 1:
        raise UserError(f"scaffold '{scaffold[:80]}': its * should be bonded to one atom")
    marked = [mol] if marks else _marked(mol)
    ends = [spelled for each in marked if (spelled := _before_the_mark(each))]
    if not ends:
        raise UserError(f"scaffold '{scaffold[:80]}' has no atom at which text can go on")
    return ends


def _marked(mol: Chem.Mol) -> list[Chem.Mol]:
    """Copies of ``mol`` with a ``*`` in place of one hydrogen, one for each kind of atom that has any."""
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=False))
    kinds = {ranks[atom.GetIdx()]: atom.GetIdx() for atom in mol.GetAtoms() if atom.GetTotalNumHs() > 0}
    copies = []
    for index in sorted(kinds.values()):
        copy = Chem.RWMol(mol)
        atom = copy.GetAtomWithIdx(index)
        if atom.GetNumExplicitHs():
            atom.SetNumExplicitHs(atom.GetNumExplicitHs() - 1)
        copy.AddBond(index, copy.AddAtom(Chem.Atom(0)), Chem.BondType.SINGLE)
        reading = read(Chem.MolToSmiles(copy))
        if reading.molecule is not None:
            copies.append(reading.molecule.mol)
    return copies


def _before_the_mark(mol: Chem.Mol) -> list[str]:
    mol = Chem.RWMol(mol)
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() == 0:  # [*:1] and [1*] are marks as well
            atom.SetAtomMapNum(0)
            atom.SetIsotope(0)
    with quiet():
        written = Chem.MolToRandomSmilesVect(mol, SPELLINGS, randomSeed=1)
    return sorted({text[:-1] for text in written if text.endswith("*") and len(text) > 1 and "*" not in text[:-1]})

"""Writing a molecule so that its text begins with a scaffold: one that is the scaffold with more at its open atom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chemmara.chemistry.molecules import quiet, read
from chemmara.lazy import lazy

if TYPE_CHECKING:
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")

MATCHES = 1000
"""Ways to lay a symmetric scaffold over a molecule that are tried."""
BONDS = "=#"


class Beginning:
    """One beginning of :func:`chemmara.chemistry.openends.open_spellings`, with all that molecules can be made of it.

    >>> Beginning("c1cc(S(N)(=O)=O)ccc1").continued("Cc1cc(-c2ccc(S(N)(=O)=O)cc2)no1")
    'c1cc(S(N)(=O)=O)ccc1-c1cc(C)on1'
    """

    def __init__(self, text: str) -> None:
        self.text = text
        with quiet():
            mol = Chem.MolFromSmiles(f"{text}*")
            if mol is None:
                raise ValueError(f"'{text}' is no beginning of a molecule")
            settings = Chem.AdjustQueryParameters.NoAdjustments()
            settings.makeDummiesQueries = True  # type: ignore[assignment]
            pattern = Chem.RWMol(Chem.AdjustQueryProperties(mol, settings))
            self._mark = mol.GetNumAtoms() - 1
            self._open = mol.GetAtomWithIdx(self._mark).GetNeighbors()[0].GetIdx()
            bond = pattern.GetBondBetweenAtoms(self._mark, self._open)
            pattern.ReplaceBond(bond.GetIdx(), Chem.BondFromSmarts("~"))  # "=O" may follow as well
        self._pattern = pattern.GetMol()

    def continued(self, text: str) -> str | None:
        """The molecule of a SMILES in a spelling that begins with this text; None where it has none.

        What follows the scaffold is canonical if ``text`` is, else it is in the order of ``text``'s atoms: a random
        SMILES gives a random one. All of the scaffold stays as it is written: its hydrogens but those of the open atom,
        charges, and stereo marks, given or not.
        """
        molecule = read(text).molecule
        if molecule is None:
            return None
        canonical = molecule.smiles == text
        with quiet():
            mol = molecule.mol if canonical else Chem.MolFromSmiles(text)
            for match in mol.GetSubstructMatches(self._pattern, uniquify=False, maxMatches=MATCHES):
                scaffold = set(match) - {match[self._mark]}
                if self._decorated_elsewhere(mol, scaffold, match[self._open]):
                    continue
                written = self.text.rstrip(BONDS) + self._rest(mol, scaffold, match[self._open], canonical)
                if written.startswith(self.text) and read(written).molecule == molecule:
                    return written
        return None

    @staticmethod
    def _decorated_elsewhere(mol: Chem.Mol, scaffold: set[int], end: int) -> bool:
        return any(
            neighbour.GetIdx() not in scaffold
            for atom in scaffold - {end}
            for neighbour in mol.GetAtomWithIdx(atom).GetNeighbors()
        )

    @staticmethod
    def _rest(mol: Chem.Mol, scaffold: set[int], end: int, canonical: bool) -> str:
        """What comes after the open atom, bond symbols included."""
        atoms = [index for index in range(mol.GetNumAtoms()) if index == end or index not in scaffold]
        written = Chem.MolFragmentToSmiles(mol, atomsToUse=atoms, rootedAtAtom=end, canonical=canonical)
        first = written.index("]") + 1 if written.startswith("[") else 2 if written[:2] in ("Br", "Cl") else 1
        return str(written[first:])

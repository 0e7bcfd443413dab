"""Salts: the molecule that is meant by one. A prior writes no counter-ions: what is known as a salt is met without."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chemmara.chemistry.molecules import Molecule, quiet, read
from chemmara.lazy import lazy

if TYPE_CHECKING:
    from rdkit.Chem.MolStandardize import rdMolStandardize
else:
    rdMolStandardize = lazy("rdkit.Chem.MolStandardize.rdMolStandardize")


PARENT_ATOMS = 5
"""Heavy atoms from which an organic part may be what a salt is about: acetate and mesylate are not."""


def parents(molecule: Molecule) -> list[Molecule]:
    """The organic parts of a molecule of several, largest first, their charges neutralized where that can be done.

    Empty for a molecule of one part. More than one where a counter-ion is a molecule in its own right, as embonic acid
    is, which is larger than most drugs. [RDKit's MolStandardize]

    >>> [each.smiles for each in parents(read("CCC(=O)[O-].[Na+]").molecule)], parents(read("CCO").molecule)
    (['CCC(=O)O'], [])
    """
    if "." not in molecule.smiles:
        return []
    from rdkit import Chem

    with quiet():
        uncharged = (
            rdMolStandardize.Uncharger().uncharge(part)
            for part in Chem.GetMolFrags(molecule.mol, asMols=True)
            if part.GetNumHeavyAtoms() >= PARENT_ATOMS and any(atom.GetSymbol() == "C" for atom in part.GetAtoms())
        )
        found = {each.smiles: each for part in uncharged if (each := read(Chem.MolToSmiles(part)).molecule)}
    return sorted(found.values(), key=lambda each: -each.mol.GetNumHeavyAtoms())


def warn_of_salts(references: Sequence[Molecule], where: str) -> None:
    """Warn of references of several parts: no molecule without the counter-ion is wholly like one."""
    salts = [molecule for molecule in references if "." in molecule.smiles]
    if salts:
        meant = " and ".join(repr(each.smiles[:80]) for each in parents(salts[0])[:2])
        warnings.warn(
            f"{where}: {len(salts)} of {len(references)} have several parts, such as '{salts[0].smiles[:80]}', and are "
            f"compared as a whole{f'; its organic part is {meant}' if meant else ''}",
            stacklevel=3,
        )

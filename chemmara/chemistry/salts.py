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


def parent(molecule: Molecule) -> Molecule | None:
    """The largest organic part of a molecule of several, its charges neutralized where that can be done.

    None for a molecule of one part. [RDKit's MolStandardize, after the ChEMBL structure pipeline]

    >>> print(parent(read("CC(=O)[O-].[Na+]").molecule).smiles, parent(read("CCO").molecule))
    CC(=O)O None
    """
    if "." not in molecule.smiles:
        return None
    with quiet():
        chosen = rdMolStandardize.LargestFragmentChooser(preferOrganic=True).choose(molecule.mol)
        return read(_smiles(rdMolStandardize.Uncharger().uncharge(chosen))).molecule


def warn_of_salts(references: Sequence[Molecule], where: str) -> None:
    """Warn of references of several parts: no molecule without the counter-ion is wholly like one."""
    salts = [molecule for molecule in references if "." in molecule.smiles]
    if salts:
        meant = parent(salts[0])
        warnings.warn(
            f"{where}: {len(salts)} of {len(references)} have several parts, such as '{salts[0].smiles[:80]}', and are "
            f"compared as a whole{f'; its parent alone is {meant.smiles[:80]!r}' if meant else ''}",
            stacklevel=3,
        )


def _smiles(mol: object) -> str:
    from rdkit import Chem

    return str(Chem.MolToSmiles(mol))

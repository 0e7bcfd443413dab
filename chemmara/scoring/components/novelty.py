"""Novelty against a file of known molecules."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from chemmara.chemistry import scaffolds
from chemmara.chemistry.files import read_records
from chemmara.chemistry.molecules import Molecule, read
from chemmara.chemistry.salts import parents
from chemmara.config import Parameters
from chemmara.errors import ConfigError, UserError
from chemmara.lazy import lazy
from chemmara.scoring.component import COMPONENTS, Component
from chemmara.wording import no_molecules

if TYPE_CHECKING:
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")


class NoveltyParameters(Parameters):
    """Parameters of the novelty."""

    known_file: Path = Field(description="file of known molecules (.smi, .csv, .sdf, also .gz)")
    level: Literal["molecule", "connectivity", "scaffold", "generic_scaffold"] = Field(
        "molecule", description="what must be new: the molecule, the molecule without stereo, or its scaffold"
    )


@COMPONENTS.register("novelty", NoveltyParameters)
class Novelty(Component):
    """1 for a molecule, or a scaffold, that a file of known molecules does not have, else 0.

    Molecules are compared by canonical SMILES; of a salt its organic parts are known as well,
    uncharged. An acyclic molecule has no scaffold: at the level of scaffolds it is new
    where the file has no acyclic molecule. Lines of the file that are no molecules are left out, with a warning. The
    file is read at the first score, some 10,000 molecules a second.
    """

    parameters: NoveltyParameters
    version = 2  # 1 did not know the parents of salts
    cost_us = 60

    def __init__(self, parameters: NoveltyParameters, where: str) -> None:
        super().__init__(parameters, where)
        try:
            if next(iter(read_records(parameters.known_file)), None) is None:
                raise UserError(f"file '{parameters.known_file}' has no molecules")
        except UserError as error:
            raise ConfigError(f"{where}.known_file: {error}") from None

    @cached_property
    def _known(self) -> frozenset[str]:
        found, bad, first = set(), 0, 0
        for record in read_records(self.parameters.known_file):
            molecule = read(record.smiles).molecule
            if molecule is None:
                bad, first = bad + 1, first or record.line
                continue
            found.add(self._form(molecule.mol, molecule.smiles))
            found |= {self._form(meant.mol, meant.smiles) for meant in parents(molecule)}
        if bad:
            warnings.warn(
                f"{self.where}.known_file: in '{self.parameters.known_file}' {no_molecules(bad, 'line')}, the first is "
                f"line {first}: left out",
                stacklevel=2,
            )
        return frozenset(found)

    def _form(self, mol: Chem.Mol, smiles: str) -> str:
        level = self.parameters.level
        if level == "scaffold":
            return scaffolds.murcko(mol)
        if level == "generic_scaffold":
            return scaffolds.generic(mol)
        if level == "connectivity":
            return str(Chem.MolToSmiles(mol, isomericSmiles=False))
        return smiles

    def _score(self, molecules: Sequence[Molecule]) -> list[float]:
        return [float(self._form(molecule.mol, molecule.smiles) not in self._known) for molecule in molecules]

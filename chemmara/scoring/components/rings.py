"""Ring systems: whether those of a molecule are known."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from chemmara.chemistry.molecules import Molecule
from chemmara.chemistry.ring_systems import BUNDLED, RingTable, bundled, ring_systems
from chemmara.config import Parameters
from chemmara.errors import ConfigError, UserError
from chemmara.scoring.component import COMPONENTS, PerMolecule, file_hash

if TYPE_CHECKING:
    from rdkit import Chem


class RingSystemsParameters(Parameters):
    """Parameters of the ring systems."""

    mode: Literal["known", "share", "unknown"] = Field(
        "known", description="1 where all are known, else 0; the share that is known; or the number of unknown ones"
    )
    least: int = Field(2, ge=1, description="reference molecules that must have a ring system for it to be known")
    table: Path | None = Field(
        None, description="own table, by python -m chemmara.workflows.rings file; default: the bundled one"
    )


@COMPONENTS.register("ring_systems", RingSystemsParameters)
class RingSystems(PerMolecule):
    """Whether a molecule's ring systems occur in reference molecules: samples of the prior `chembl`, or your own.

    A ring system is a set of rings that share atoms, with the atoms double-bonded to them; substituents do not count.
    An acyclic molecule has none, so nothing unknown: 1, or 0 unknown ones.

    >>> from chemmara.chemistry.molecules import read
    >>> known = RingSystems(RingSystemsParameters(), "")
    >>> [e.value for e in known([read("CC(=O)Nc1ccc(O)cc1").molecule, read("C1CC2(C1)SSC21CC1").molecule])]
    [1.0, 0.0]
    """

    parameters: RingSystemsParameters
    cost_us = 250
    example = "{ name = 'left_step', low = 0 }"

    def __init__(self, parameters: RingSystemsParameters, where: str) -> None:
        super().__init__(parameters, where)
        if parameters.table is not None:
            try:
                RingTable.load(parameters.table)
            except UserError as error:
                raise ConfigError(f"{where}.table: {error}") from None
        self.bounds = (0.0, None) if parameters.mode == "unknown" else (0.0, 1.0)

    def identity(self) -> dict[str, Any]:
        """The settings and what is in the table."""
        table = self.parameters.model_dump(mode="json", exclude={"table"})
        return {**table, "table": file_hash(self.parameters.table or BUNDLED)}

    @cached_property
    def _known(self) -> frozenset[str]:
        table = bundled() if self.parameters.table is None else RingTable.load(self.parameters.table)
        return frozenset(name for name, count in table.counts.items() if count >= self.parameters.least)

    def _value(self, mol: Chem.Mol) -> float:
        found = ring_systems(mol)
        unknown = sum(name not in self._known for name in found)
        if self.parameters.mode == "unknown":
            return float(unknown)
        if self.parameters.mode == "known":
            return float(unknown == 0)
        return 1 - unknown / len(found) if found else 1.0

    def note(self, molecule: Molecule) -> str:
        """The ring systems that are not known."""
        unknown = [name for name in ring_systems(molecule.mol) if name not in self._known]
        return f"unknown: {', '.join(unknown)}" if unknown else ""

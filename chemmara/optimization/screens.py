"""The rules of a screen about the chemistry of a molecule and what the run has of its scaffold, one class each."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from chemmara.chemistry.environments import EnvironmentTable
from chemmara.chemistry.molecules import Molecule
from chemmara.chemistry.plausibility import Plausibility, standard
from chemmara.chemistry.scaffolds import generic
from chemmara.config import Parameters
from chemmara.errors import ConfigError, UserError
from chemmara.lazy import lazy
from chemmara.optimization.screening import SCREENS, ScreenRule

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")


class PlausibleParameters(Parameters):
    """The chemistry gate."""

    penalise: bool = Field(True, description="learn from an implausible molecule with reward 0, as from invalid text")
    table: Path | None = Field(
        None,
        description="atom environments of another kind of chemistry (docs/clean.md); default: those of the reports",
    )
    largest_ring: int | None = Field(None, ge=3, description="atoms that a ring may have; default: 8")


@SCREENS.register("plausible", PlausibleParameters)
class Plausible(ScreenRule):
    """Refuses what is not clean: radicals, odd charges, large rings, alerts, atom environments that are hardly known.

    The definition is the one that reports count by (docs/clean.md), whatever the prior; with ``table`` or
    ``largest_ring`` the gate is another one, and reports count as ever.
    """

    parameters: PlausibleParameters

    def __init__(self, parameters: PlausibleParameters) -> None:
        super().__init__(parameters)
        self.penalise = parameters.penalise
        try:
            self._table = None if parameters.table is None else EnvironmentTable.load(parameters.table)
        except UserError as error:
            raise ConfigError(f"table: {error}") from None

    @cached_property
    def _gate(self) -> Plausibility:
        gate = standard() if self._table is None else Plausibility(self._table)
        largest_ring = self.parameters.largest_ring
        return gate if largest_ring is None else replace(gate, largest_ring=largest_ring)

    def refuse(self, molecule: Molecule) -> str | None:
        fault = self._gate.fault(molecule)
        return None if fault is None else str(fault)


class BucketParameters(Parameters):
    """A number of molecules per group."""

    bucket_size: int = Field(1, ge=1, description="molecules of one group that are sent")
    minimum_score: float = Field(0.0, ge=0, le=1, description="molecules that scored less do not fill a group")


class _Buckets(ScreenRule):
    """A group is full once ``bucket_size`` molecules of it, scored at least ``minimum_score``, were sent."""

    parameters: BucketParameters
    word = "group"

    def __init__(self, parameters: BucketParameters) -> None:
        super().__init__(parameters)
        self._filled: Counter[str] = Counter()
        self._sent: set[str] = set()  # admitted in this step, without a score so far

    def refuse(self, molecule: Molecule) -> str | None:
        full = self._filled[self._key(molecule)] >= self.parameters.bucket_size
        return f"its {self.word} has {self.parameters.bucket_size} scored already" if full else None

    def admit(self, molecule: Molecule) -> None:
        self._filled[self._key(molecule)] += 1
        self._sent.add(molecule.smiles)

    def learn(self, molecule: Molecule, score: float) -> None:
        """Seed molecules were never admitted, so nothing has counted them yet."""
        fills = score >= self.parameters.minimum_score  # NaN fills nothing either
        counted = molecule.smiles in self._sent
        self._sent.discard(molecule.smiles)
        self._filled[self._key(molecule)] += int(fills) - int(counted)

    def _key(self, molecule: Molecule) -> str:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return {"filled": {key: count for key, count in self._filled.items() if count}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._filled = Counter(state["filled"])


@SCREENS.register("scaffold", BucketParameters)
class CoveredScaffold(_Buckets):
    """Refuses molecules of a Bemis-Murcko scaffold that has been scored already; an acyclic one is its own scaffold."""

    word = "scaffold"

    def _key(self, molecule: Molecule) -> str:
        return molecule.scaffold or molecule.smiles


@SCREENS.register("generic_scaffold", BucketParameters)
class CoveredGenericScaffold(_Buckets):
    """Refuses molecules of a generic scaffold (all atoms carbon, all bonds single) that has been scored already."""

    word = "generic scaffold"

    def _key(self, molecule: Molecule) -> str:
        return generic(molecule.mol) or molecule.smiles

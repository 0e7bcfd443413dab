"""Diversity filters: what a good score earns in a neighbourhood that the run has filled already.

A filter changes the reward that is learned from, never the reported score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from chemmara.chemistry.molecules import Molecule, read
from chemmara.chemistry.scaffolds import generic
from chemmara.config import NoParameters, Parameters
from chemmara.lazy import lazy
from chemmara.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy("numpy")

DIVERSITY_FILTERS: Registry[type[DiversityFilter]] = Registry("diversity filter", ("chemmara.optimization.filters",))


class DiversityFilter:
    """Base: sees each distinct molecule of the run once, in order, and gives the factor on its score."""

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters

    def __call__(
        self, molecules: Sequence[Molecule | None], scores: NDArray[np.float64], fresh: Sequence[bool]
    ) -> NDArray[np.float64]:
        """Rewards (B,) of scores (B,): NaN and invalid rows stay as they are. ``fresh`` marks the
        first row of each molecule that is new to the run."""
        return scores

    def full(self, smiles: str) -> bool:
        """Whether the bucket of a molecule (canonical SMILES) is full; never, where there are none."""
        return False

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@DIVERSITY_FILTERS.register("none", NoParameters)
class NoFilter(DiversityFilter):
    """The reward is the score."""


class BucketParameters(Parameters):
    """A bucket of molecules per scaffold."""

    bucket_size: int = Field(25, ge=1, description="molecules of one scaffold that earn their full score")
    minimum_score: float = Field(
        0.4, ge=0, le=1, description="molecules below it neither fill a bucket nor are filtered"
    )


class BucketFilter(DiversityFilter):
    """A bucket per scaffold: once it is full, further molecules of that scaffold earn nothing.

    A molecule met again earns what its scaffold earns now; an acyclic molecule is its own scaffold.
    """

    parameters: BucketParameters

    def __init__(self, parameters: BucketParameters) -> None:
        super().__init__(parameters)
        self._filled: Counter[str] = Counter()
        self._buckets: dict[str, str] = {}  # of the molecules that this process has met

    def __call__(
        self, molecules: Sequence[Molecule | None], scores: NDArray[np.float64], fresh: Sequence[bool]
    ) -> NDArray[np.float64]:
        rewards = scores.copy()
        for row, (molecule, is_fresh) in enumerate(zip(molecules, fresh)):
            if molecule is None or not scores[row] >= self.parameters.minimum_score:
                continue
            key = self._bucket(molecule)
            if self._filled[key] >= self.parameters.bucket_size:
                rewards[row] = 0.0
            elif is_fresh:
                self._filled[key] += 1
        return rewards

    def _bucket(self, molecule: Molecule) -> str:
        if molecule.smiles not in self._buckets:
            self._buckets[molecule.smiles] = self._key(molecule) or molecule.smiles
        return self._buckets[molecule.smiles]

    def _key(self, molecule: Molecule) -> str:
        return molecule.scaffold

    def full(self, smiles: str) -> bool:
        if smiles not in self._buckets:
            molecule = read(smiles).molecule
            return molecule is not None and self._filled[self._bucket(molecule)] >= self.parameters.bucket_size
        return self._filled[self._buckets[smiles]] >= self.parameters.bucket_size

    def state_dict(self) -> dict[str, Any]:
        return {"filled": dict(self._filled)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._filled = Counter(state["filled"])


@DIVERSITY_FILTERS.register("murcko", BucketParameters)
class MurckoFilter(BucketFilter):
    """Buckets of identical Bemis-Murcko scaffolds (REINVENT's IdenticalMurckoScaffold)."""


@DIVERSITY_FILTERS.register("generic", BucketParameters)
class GenericFilter(BucketFilter):
    """Buckets of identical generic scaffolds (REINVENT's IdenticalTopologicalScaffold)."""

    def _key(self, molecule: Molecule) -> str:
        return generic(molecule.mol)

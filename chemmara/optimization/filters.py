"""Diversity filters: what a good score earns in a neighbourhood that the run has filled already.

A filter changes the reward that is learned from, never the reported score.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

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

DIVERSITY_FILTERS: Registry[type[DiversityFilter]] = Registry(
    "diversity filter", ("chemmara.optimization.filters", "chemmara.optimization.similarity_filter")
)


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


def step(n: int, size: int) -> float:
    """1 up to a full bucket, then 0."""
    return 1.0 if n <= size else 0.0


def linear(n: int, size: int) -> float:
    """1 - n/size, never below 0."""
    return max(0.0, 1 - n / size)


def sigmoid(n: int, size: int) -> float:
    """1 - 1/(1 + exp(-(2 n/size - 1)/0.15)): one half where the bucket is half full."""
    return 1 - 1 / (1 + math.exp(-(2 * n / size - 1) / 0.15))


def tanh(n: int, size: int) -> float:
    """1 - tanh(3 (n - 1)/size): all for the first one."""
    return 1 - math.tanh(3 * (n - 1) / size)


PENALTIES: dict[str, Callable[[int, int], float]] = {"step": step, "linear": linear, "sigmoid": sigmoid, "tanh": tanh}
"""The share of its score that the n-th molecule (from 1) of a bucket of a size earns, as REINVENT 4 has them."""


class BucketParameters(Parameters):
    """A bucket of molecules per scaffold."""

    bucket_size: int = Field(25, ge=1, description="molecules of one scaffold after which its bucket is full")
    minimum_score: float = Field(
        0.4, ge=0, le=1, description="molecules below it neither fill a bucket nor are filtered"
    )
    penalty: Literal["step", "linear", "sigmoid", "tanh"] = Field(
        "step",
        description="what the n-th of a bucket of size b earns of its score: step, all up to n = b, then nothing; "
        "linear, 1 - n/b; sigmoid, 1 - 1/(1 + exp(-(2n/b - 1)/0.15)); tanh, 1 - tanh(3(n - 1)/b)",
    )

    repeat: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of what it would earn that a molecule earns when it is met again after it has filled a "
        "place of a bucket; REINVENT has 0; default: all of it",
    )

    @field_validator("repeat")
    @classmethod
    def _all_of_it(cls, value: float | None) -> float | None:
        return None if value == 1 else value

    @model_validator(mode="after")
    def _earns_something(self) -> BucketParameters:
        if self.penalty == "linear" and self.bucket_size == 1:
            raise ValueError("with penalty = 'linear' a bucket of 1 never earns anything; take 2 or more")
        return self


class BucketFilter(DiversityFilter):
    """A bucket per scaffold: the fuller it is, the less a further molecule of that scaffold earns.

    A molecule met again earns what a new one of its scaffold would now, times ``repeat``; an acyclic molecule is its
    own scaffold.
    """

    parameters: BucketParameters

    def __init__(self, parameters: BucketParameters) -> None:
        super().__init__(parameters)
        self._filled: Counter[str] = Counter()
        self._placed: dict[str, None] = {}  # the molecules that have filled a place, where repeats earn less
        self._buckets: dict[str, str] = {}  # of the molecules that this process has met

    def __call__(
        self, molecules: Sequence[Molecule | None], scores: NDArray[np.float64], fresh: Sequence[bool]
    ) -> NDArray[np.float64]:
        rewards = scores.copy()
        size, penalty = self.parameters.bucket_size, PENALTIES[self.parameters.penalty]
        repeat = self.parameters.repeat
        for row, (molecule, is_fresh) in enumerate(zip(molecules, fresh)):
            if molecule is None or not scores[row] >= self.parameters.minimum_score:
                continue
            key = self._bucket(molecule)
            rewards[row] *= penalty(self._filled[key] + 1, size)
            if repeat is not None and molecule.smiles in self._placed:
                rewards[row] *= repeat
            if is_fresh:
                self._filled[key] += 1
                if repeat is not None:
                    self._placed[molecule.smiles] = None
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
        return {"filled": dict(self._filled), **({"placed": list(self._placed)} if self._placed else {})}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._filled = Counter(state["filled"])
        self._placed = dict.fromkeys(state.get("placed", ()))


@DIVERSITY_FILTERS.register("murcko", BucketParameters)
class MurckoFilter(BucketFilter):
    """Buckets of identical Bemis-Murcko scaffolds (REINVENT's IdenticalMurckoScaffold)."""


@DIVERSITY_FILTERS.register("generic", BucketParameters)
class GenericFilter(BucketFilter):
    """Buckets of identical generic scaffolds (REINVENT's IdenticalTopologicalScaffold)."""

    def _key(self, molecule: Molecule) -> str:
        return generic(molecule.mol)


class SameMoleculeParameters(Parameters):
    """Molecules that are met again."""

    factor: float = Field(0.5, ge=0, le=1, description="share of its score that a molecule earns when it is met again")


@DIVERSITY_FILTERS.register("same_molecule", SameMoleculeParameters)
class SameMoleculeFilter(DiversityFilter):
    """A molecule that the run has scored already earns less (REINVENT's PenalizeSameSmiles)."""

    parameters: SameMoleculeParameters

    def __call__(
        self, molecules: Sequence[Molecule | None], scores: NDArray[np.float64], fresh: Sequence[bool]
    ) -> NDArray[np.float64]:
        rewards: NDArray[np.float64] = np.where(np.asarray(fresh, dtype=bool), scores, scores * self.parameters.factor)
        return rewards

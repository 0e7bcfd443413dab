"""The rules of a screen, one class each."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from chemmara.chemistry.environments import EnvironmentTable
from chemmara.chemistry.fingerprints import fingerprint, tanimoto
from chemmara.chemistry.molecules import Molecule, read
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


LATEST = 128
"""Molecules that were scored while the rule held, of which ``hit_share`` is taken: two steps' worth."""
GROWTH = 1.002
"""Of the buckets with each molecule that is scored while hits are short."""


class ClusterParameters(Parameters):
    """Clusters by the leader algorithm."""

    similarity: float = Field(0.4, gt=0, lt=1, description="Tanimoto (ECFP4) to a leader from which one belongs to it")
    bucket_size: int = Field(50, ge=1, description="molecules of one cluster that are sent")
    minimum_score: float | None = Field(
        None, ge=0, le=1, description="molecules that scored less neither lead nor fill; default: the hit threshold"
    )
    growth: float = Field(
        0.0, ge=0, description="a cluster may hold this many times what clusters hold on average, if that is more"
    )
    hit_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="buckets grow, once some are full, as long as fewer than this share of the last 128 molecules that "
        "were scored under the rule have minimum_score: as wide a search as leaves so many hits; default: they do not",
    )


@lru_cache(maxsize=4096)
def _fingerprint(smiles: str) -> Any:
    """Kept, because all of a replay buffer is asked for anew at each step."""
    molecule = read(smiles).molecule
    return None if molecule is None else fingerprint(molecule.mol)


@SCREENS.register("cluster", ClusterParameters)
class FullCluster(ScreenRule):
    """Refuses molecules near a leader whose cluster is full: the search has to move to other chemistry.

    A scored molecule joins each leader within reach, or leads a new cluster if there is none. With ``growth`` above 1
    buckets grow where no new clusters are found: on a narrow goal all that is good lies in few. With ``hit_share`` they
    grow, by some 17% over 80 molecules, as long as the search finds too little outside of them, and never shrink.
    """

    parameters: ClusterParameters

    def __init__(self, parameters: ClusterParameters) -> None:
        super().__init__(parameters)
        self._leaders: list[str] = []
        self._prints: list[Any] = []
        self._filled: list[int] = []
        self._closed: list[Any] | None = None
        self._recent: deque[bool] = deque(maxlen=LATEST)
        self._grown = 1.0

    def refuse(self, molecule: Molecule) -> str | None:
        full = self._full(molecule)
        return f"the cluster of {self._leaders[full[0]]} is full" if len(full) else None

    @property
    def _capacity(self) -> float:
        mean = sum(self._filled) / len(self._filled) if self._filled else 0.0
        return max(self.parameters.bucket_size * self._grown, self.parameters.growth * mean)

    def closed(self, smiles: str) -> bool:
        if self._closed is None:  # asked for all of a buffer while nothing changes
            capacity = self._capacity
            self._closed = [leader for leader, filled in zip(self._prints, self._filled) if filled >= capacity]
        mine = _fingerprint(smiles) if self._closed else None
        return mine is not None and bool((tanimoto(mine, self._closed) >= self.parameters.similarity).any())

    def _full(self, molecule: Molecule) -> np.ndarray:
        """The full clusters that a molecule belongs to."""
        return np.flatnonzero(self._near(molecule) & (np.array(self._filled) >= self._capacity))

    def learn(self, molecule: Molecule, score: float) -> None:
        good = score >= (self.parameters.minimum_score or 0.0)
        if self.parameters.hit_share is not None and not self.lifted and score == score:
            self._grow(good, self.parameters.hit_share)
        if not good:
            return
        self._closed = None
        near = np.flatnonzero(self._near(molecule))
        for leader in near:
            self._filled[leader] += 1
        if not len(near):
            self._lead(molecule, 1)

    def _grow(self, good: bool, hit_share: float) -> None:
        """Buckets grow while there is too little to find outside of the full ones."""
        self._recent.append(good)
        short = len(self._recent) == LATEST and sum(self._recent) < hit_share * LATEST
        if short and max(self._filled, default=0) >= self._capacity:
            self._grown *= GROWTH
            self._closed = None

    def _near(self, molecule: Molecule) -> np.ndarray:
        if not self._prints:
            return np.zeros(0, dtype=bool)
        near: np.ndarray = tanimoto(fingerprint(molecule.mol), self._prints) >= self.parameters.similarity
        return near

    def _lead(self, molecule: Molecule, filled: int) -> None:
        self._leaders.append(molecule.smiles)
        self._prints.append(fingerprint(molecule.mol))
        self._filled.append(filled)

    def state_dict(self) -> dict[str, Any]:
        grown = {"recent": list(self._recent), "grown": self._grown} if self.parameters.hit_share is not None else {}
        return {"leaders": self._leaders, "filled": self._filled, **grown}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._leaders, self._prints, self._filled, self._closed = [], [], [], None
        self._recent, self._grown = deque(state.get("recent", ()), maxlen=LATEST), state.get("grown", 1.0)
        for smiles, filled in zip(state["leaders"], state["filled"]):
            molecule = read(smiles).molecule
            if molecule is not None:
                self._lead(molecule, filled)

"""The screen's rule about clusters: a search that has found enough of one kind of chemistry has to find another."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import Field

from chemmara.chemistry.fingerprints import fingerprint, tanimoto
from chemmara.chemistry.molecules import Molecule, read
from chemmara.config import Parameters
from chemmara.errors import ConfigError
from chemmara.lazy import lazy
from chemmara.optimization.screening import SCREENS, ScreenRule

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

LATEST = 128
"""Molecules that were scored while the rule held, of which ``hit_share`` is taken: two steps' worth."""
GROWTH = 1.002
"""Of the buckets with each molecule that is scored while hits are short; they shrink as fast while there are plenty."""


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
    shrink_to: int | None = Field(
        None,
        ge=1,
        description="with hit_share: as long as there are that many hits or more, buckets shrink, down to this size; "
        "default: they never shrink",
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
    grow, by some 17% over 80 molecules, as long as the search finds too little outside of them, and with ``shrink_to``
    they shrink again where it finds plenty, so that it goes as wide as that share of hits allows.
    """

    parameters: ClusterParameters

    def __init__(self, parameters: ClusterParameters) -> None:
        super().__init__(parameters)
        if parameters.shrink_to is not None:
            if parameters.hit_share is None:
                raise ConfigError("shrink_to: buckets shrink while there are more hits than hit_share; set hit_share")
            if parameters.shrink_to > parameters.bucket_size:
                raise ConfigError(f"shrink_to: buckets begin with bucket_size = {parameters.bucket_size}; give no more")
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
        size = round(self.parameters.bucket_size * self._grown, 9)  # 25 * (7 / 25) is above 7
        return max(size, self.parameters.growth * mean)

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
            self._resize(good, self.parameters.hit_share)
        if not good:
            return
        self._closed = None
        near = np.flatnonzero(self._near(molecule))
        for leader in near:
            self._filled[leader] += 1
        if not len(near):
            self._lead(molecule, 1)

    def _resize(self, good: bool, hit_share: float) -> None:
        """Buckets grow while there is too little to find outside of the full ones, and shrink while there is plenty."""
        self._recent.append(good)
        if len(self._recent) < LATEST:
            return
        if sum(self._recent) >= hit_share * LATEST:
            if self.parameters.shrink_to is not None:
                least = self.parameters.shrink_to / self.parameters.bucket_size
                self._grown, self._closed = max(self._grown / GROWTH, least), None
        elif max(self._filled, default=0) >= self._capacity:
            self._grown, self._closed = self._grown * GROWTH, None

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

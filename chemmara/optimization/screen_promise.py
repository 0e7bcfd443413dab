"""The rule of a screen that looks ahead: oracle calls go to the molecules that are expected to score best."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from chemmara.chemistry.molecules import Molecule
from chemmara.config import Parameters
from chemmara.errors import ConfigError
from chemmara.lazy import lazy
from chemmara.optimization.forecast import Forecast
from chemmara.optimization.screening import SCREENS, ScreenRule

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

WINDOW = 256
"""Forecasts, the latest, that a molecule is compared with: some steps' worth."""
FEWEST = 32
"""Forecasts to compare with, below which there is no telling what is little."""


class PromisingParameters(Parameters):
    """What is expected of a molecule."""

    share: float = Field(
        0.25, gt=0, lt=1, description="of the molecules that reach the rule, the best so many are sent"
    )
    curiosity: float = Field(
        2.0,
        ge=0,
        description="standard deviations of its uncertainty that are added to what a molecule is expected to score",
    )
    least: int = Field(128, ge=8, description="scored molecules from which on it refuses any")
    memory: int = Field(
        2000,
        ge=100,
        le=5_000,
        description="molecules that it learns from, the latest of the run; time grows with its cube",
    )


@SCREENS.register("promising", PromisingParameters)
class Promising(ScreenRule):
    """Refuses molecules of which a Gaussian process, learned from what the run has scored, expects less than of others.

    It stands last, so that it compares what the other rules let through; and it needs ``draws`` to choose from. What is
    bred is compared beside what is sampled: the more good offspring there are, the fewer of the samples are sent.
    """

    parameters: PromisingParameters
    looks_ahead = True

    def __init__(self, parameters: PromisingParameters) -> None:
        super().__init__(parameters)
        if parameters.least > parameters.memory:
            raise ConfigError(f"least: it never knows {parameters.least} molecules (memory = {parameters.memory})")
        self._forecast = Forecast(parameters.memory)
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._expected: dict[str, tuple[float, float]] = {}  # what a molecule is expected to score, and is worth

    @property
    def ready(self) -> bool:
        return len(self._forecast) >= self.parameters.least

    def look(self, molecules: Sequence[Molecule]) -> None:
        new = [molecule for molecule in molecules if molecule.smiles not in self._expected]
        if new and self.ready:
            mean, deviation = self._forecast(new)
            worth = mean + self.parameters.curiosity * deviation
            names = (molecule.smiles for molecule in new)
            self._expected.update(zip(names, zip(mean.tolist(), worth.tolist())))

    def promise(self, molecule: Molecule) -> float:
        return self._expected.get(molecule.smiles, (0.0, 0.0))[1]

    def refuse(self, molecule: Molecule) -> str | None:
        if molecule.smiles not in self._expected:
            return None
        mean, worth = self._expected[molecule.smiles]
        self._recent.append(worth)
        bar = float(np.quantile(self._recent, 1 - self.parameters.share))
        if worth >= bar or len(self._recent) < FEWEST:
            return None
        curious = f" and {worth - mean:.3f} for curiosity" if self.parameters.curiosity else ""
        return f"{mean:.3f} is expected of it{curious}, {bar:.3f} asked for"

    def learn(self, molecule: Molecule, score: float) -> None:
        self._expected.clear()  # of what was known before
        if score == score:
            self._forecast.learn(molecule, score)

    def state_dict(self) -> dict[str, Any]:
        return {"forecast": self._forecast.state_dict(), "recent": list(self._recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._forecast.load_state_dict(state["forecast"])
        self._recent = deque(state["recent"], maxlen=WINDOW)

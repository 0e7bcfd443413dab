"""The KL strength beta along a run: as the objective has it, or as weak as it takes for enough of a step to be good."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from chemmara.config import Parameters
from chemmara.klrl.objectives import ObjectiveParameters
from chemmara.registry import Registry


class Strength:
    """Says, step by step, how many times the objective's own sigma = 1/beta counts. The base class: once, always."""

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters

    @property
    def factor(self) -> float:
        """What the objective's sigma is multiplied by, and its beta divided by, in this step."""
        return 1.0

    def learn(self, hits: int, scored: int) -> None:
        """A step is over: so many distinct new molecules were scored, and so many of them are hits."""

    def applied(self, objective: ObjectiveParameters) -> ObjectiveParameters:
        """The objective's parameters with the beta of this step."""
        if self.factor == 1.0:
            return objective
        beta = objective.beta / self.factor
        return objective.model_copy(update={"beta": beta, "sigma": 1 / beta})

    def state_dict(self) -> dict[str, float]:
        return {}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take up what :meth:`state_dict` gave."""


STRENGTHS: Registry[type[Strength]] = Registry("strength", ("chemmara.klrl.strength",))


@STRENGTHS.register("constant")
class Constant(Strength):
    """beta is the objective's own throughout."""


class HitShareParameters(Parameters):
    """Settings of ``hit_share``."""

    target: float = Field(
        default=0.5, gt=0, lt=1, description="share of a step's scored molecules that shall be hits, 0 to 1"
    )
    rate: float = Field(
        default=0.2,
        gt=0,
        le=10,
        description="how fast sigma follows: ln sigma changes by this times (target - share) a step",
    )
    lowest: float = Field(default=0.25, gt=0, le=1, description="sigma may fall to this part of the objective's own")
    highest: float = Field(
        default=1.0, ge=1, le=1000, description="sigma may grow to so many times the objective's own"
    )

    @model_validator(mode="after")
    def _some_room(self) -> HitShareParameters:
        if self.lowest == self.highest:
            raise ValueError("lowest = highest = 1 leaves sigma no room; make lowest smaller or highest larger")
        return self


@STRENGTHS.register("hit_share", HitShareParameters)
class HitShare(Strength):
    r"""sigma = 1/beta falls while more than ``target`` of a step's scored molecules are hits, and rises if fewer are.

    At a fixed beta the optimal policy pays for a reward with exp(-KL) of prior probability, and how much of that a goal
    needs is not known beforehand: one that the prior finds likely is met within a few nats, a narrow one takes twenty,
    and at the beta of the first the agent comes to rest where it cannot pay for the second. The other way round the
    question has an answer that fits both: stay as near the prior as a share rho of hits allows,

        min KL(pi || pi_ref)   subject to   P_pi(score >= threshold) >= rho,

    whose multiplier takes the place of sigma. Multiplicative dual ascent finds it while the agent learns, from the
    objective's own sigma_0 on,

        ln sigma <- ln sigma + rate (rho - share),    lowest sigma_0 <= sigma <= highest sigma_0,

    with the graded reward in place of the indicator, so that there is a slope to climb before the first hit. (The
    optimum of the problem as written tilts the prior by the indicator alone: flat in the reward among the hits, as
    ``mara`` makes it, but not flat in the prior.) A step without a new score changes nothing. The augmentation takes
    the same beta. [Dual ascent of a constraint's multiplier: Haarnoja et al. 2018, arXiv 1812.05905, section 5, there
    for the entropy.]
    """

    parameters: HitShareParameters

    def __init__(self, parameters: HitShareParameters | None = None) -> None:
        super().__init__(parameters or HitShareParameters())
        self._log_factor = 0.0

    @property
    def factor(self) -> float:
        return math.exp(self._log_factor)

    def learn(self, hits: int, scored: int) -> None:
        if scored == 0:
            return
        step = self.parameters.rate * (self.parameters.target - hits / scored)
        low, high = math.log(self.parameters.lowest), math.log(self.parameters.highest)
        self._log_factor = min(max(self._log_factor + step, low), high)

    def state_dict(self) -> dict[str, float]:
        return {"log_factor": self._log_factor}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self._log_factor = float(state["log_factor"])

"""Where "good" begins: the rules for MARA's threshold tau."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from chemmara.config import Parameters
from chemmara.errors import ConfigError
from chemmara.klrl.anchors import upper_quantile

if TYPE_CHECKING:
    from torch import Tensor

    from chemmara.klrl.augmentation_base import Moment, Samples


class ThresholdParameters(Parameters):
    """One of: a fixed tau, one that rises to it, a quantile of the batch or of the run, or graded levels."""

    threshold: float | None = Field(
        default=None,
        description="tau in reward units: samples that reach it are made equally likely (default: the run's threshold)",
    )
    headroom: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="where no threshold is given: tau lies this share of the way from the run's threshold to a reward "
        "of 1, so that hits are still drawn upwards to it",
    )
    start: float | None = Field(
        default=None, description="annealed: tau rises in a straight line from here to threshold, in reward units"
    )
    anneal_steps: int | None = Field(default=None, ge=1, description="annealed: steps until tau is at threshold")
    anneal_budget: float | None = Field(
        default=None, gt=0, le=1, description="annealed: share of the oracle budget until tau is at threshold, 0 to 1"
    )
    quantile: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="in place of threshold: tau is this quantile of the batch's distinct valid molecules, 0 to 1",
    )
    window: int | None = Field(
        default=None,
        ge=1,
        description="running quantile: that of the run's last so many distinct valid molecules, not of the batch's",
    )
    levels: tuple[float, ...] | None = Field(
        default=None,
        min_length=2,
        description="graded, in place of threshold: rising values of tau; samples of one level are made equally "
        "likely, and those of a higher level likelier by the factor exp(gap/beta)",
    )

    @model_validator(mode="after")
    def _one_rule(self) -> ThresholdParameters:
        rules = {"threshold": self.threshold, "quantile": self.quantile, "levels": self.levels}
        given = [f"{name} = {value}" for name, value in rules.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"give {given[0]} or {given[1]}, not both")
        if self.headroom and given:
            raise ValueError(
                f"headroom lifts the run's own threshold: give it or {given[0]}, not both; headroom = 0 where a preset "
                "brings it"
            )
        if self.window is not None and self.quantile is None:
            raise ValueError("window belongs to quantile: give one")
        ends = [name for name in ("anneal_steps", "anneal_budget") if getattr(self, name) is not None]
        if ends and self.start is None:
            raise ValueError(f"{ends[0]} needs start, the tau to rise from")
        if self.start is not None and len(ends) != 1:
            raise ValueError("start needs anneal_steps or anneal_budget, and one of them only")
        if self.start is not None and (self.quantile is not None or self.levels is not None):
            raise ValueError("start belongs to a threshold, not to quantile or levels")
        if self.levels is not None and any(low >= high for low, high in pairwise(self.levels)):
            raise ValueError(f"levels must rise, got {list(self.levels)}")
        return self


class Threshold:
    """tau of each batch by the rule that the parameters choose. Raises :class:`ConfigError` if they choose none.

    A batch from the replay buffer gets the tau of the last sampled batch: the buffer's own quantile would call only the
    best of the best good, and its updates are no steps of the run.
    """

    def __init__(self, parameters: ThresholdParameters, default: float | None, name: str) -> None:
        self.parameters = parameters
        lifted = None if default is None else default + parameters.headroom * (1 - default)
        self.end = lifted if parameters.threshold is None else parameters.threshold
        if self.end is None and parameters.quantile is None and parameters.levels is None:
            raise ConfigError(f"{name}: give a threshold or a quantile")
        if parameters.start is not None and self.end is not None and parameters.start >= self.end:
            raise ConfigError(f"{name}: start = {parameters.start} must lie below the threshold {self.end}")
        self._steps = 0
        self._last = math.nan
        self._recent: dict[int, float] = {}
        self._unlabelled = 0

    @property
    def levels(self) -> tuple[float, ...]:
        """The graded values of tau; empty where it is not graded."""
        return self.parameters.levels or ()

    def __call__(self, samples: Samples, moment: Moment) -> float:
        """tau in reward units; of graded levels the lowest. NaN: there is none, and nothing is good."""
        if self.levels:
            return self.levels[0]
        if self.parameters.start is None and self.parameters.quantile is None:
            return math.nan if self.end is None else self.end
        if not moment.replayed or math.isnan(self._last):
            now = self._annealed(moment) if self.parameters.quantile is None else self._quantile(samples, moment)
            self._last = self._last if math.isnan(now) else now
            if not moment.replayed:
                self._steps += 1
                return now
        return self._last

    def _annealed(self, moment: Moment) -> float:
        start, end = self.parameters.start, self.end
        assert start is not None and end is not None  # noqa: PT018
        if self.parameters.anneal_steps is not None:
            part = self._steps / self.parameters.anneal_steps
        else:
            if moment.budget_spent is None or self.parameters.anneal_budget is None:
                raise ValueError("anneal_budget needs budget_spent, the share of the oracle budget spent so far")
            part = moment.budget_spent / self.parameters.anneal_budget
        return end if part >= 1 else start + (end - start) * part

    def _quantile(self, samples: Samples, moment: Moment) -> float:
        import torch

        quantile, window = self.parameters.quantile, self.parameters.window
        assert quantile is not None
        if moment.replayed:
            return math.nan  # nothing was sampled yet
        values, keep = samples.reward, samples.counts & samples.distinct
        if window is not None:
            self._remember(samples, window)
            values = values.new_tensor(list(self._recent.values()))
            keep = torch.ones_like(values, dtype=torch.bool)
        return _above_the_rest(values[keep & ~values.isnan()], float(upper_quantile(values, keep, quantile)))

    def _remember(self, samples: Samples, window: int) -> None:
        """The molecules' last rewards, in the order in which they were last met."""
        keep = samples.counts & samples.distinct & ~samples.reward.isnan()
        rewards = samples.reward[keep].tolist()
        if samples.molecule is None:
            labels = [-self._unlabelled - place for place in range(1, len(rewards) + 1)]
            self._unlabelled += len(rewards)
        else:
            labels = samples.molecule[keep].tolist()
        for label, reward in zip(labels, rewards):
            self._recent.pop(label, None)
            self._recent[label] = reward
        for label in list(self._recent)[: max(len(self._recent) - window, 0)]:
            del self._recent[label]

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {}
        if self.parameters.quantile is not None and not math.isnan(self._last):
            state["last"] = self._last
        if self.parameters.window is not None:
            state |= {"recent": list(self._recent.items()), "unlabelled": self._unlabelled}
        if self.parameters.anneal_steps is not None and self._steps:
            state["steps"] = self._steps
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._steps = int(state.get("steps", 0))
        self._recent = {int(label): float(reward) for label, reward in state.get("recent", ())}
        self._unlabelled = int(state.get("unlabelled", 0))
        self._last = float(state.get("last", math.nan))


def _above_the_rest(values: Tensor, tau: float) -> float:
    """tau, but where a quantile falls among equal lowest values the next higher one: what earned least is not good, and
    a filter or a substructure leaves many at 0. NaN where nothing earned anything."""
    if not len(values) or tau > float(values.min()):
        return tau
    above = values[values > tau]
    if len(above):
        return float(above.min())
    return tau if tau > 0 else math.nan

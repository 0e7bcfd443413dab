"""MARA: mode-anchored reward augmentation [arXiv 2510.20817]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from chemmara.config import Parameters, check
from chemmara.errors import ConfigError
from chemmara.klrl.augmentation_base import (
    AUGMENTATIONS,
    Anchor,
    Augmentation,
    Samples,
    Spelling,
    check_shapes,
    reaches,
    usable,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class MaraParameters(Parameters):
    """Settings of ``mara``."""

    threshold: float | None = Field(
        default=None,
        description="tau in reward units: samples that reach it are made equally likely (default: the run's threshold)",
    )
    quantile: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="in place of threshold: tau is this quantile of the batch's distinct valid molecules, 0 to 1",
    )
    anchor: Literal["batch", "running", "buffer", "random", "lowest"] = Field(
        default="batch",
        description="which good sample the others are raised to: the one that the prior finds likeliest in the batch, "
        "in the run so far (running), or in batch and replay buffer (buffer); ablations: a random one, the unlikeliest "
        "one (lowest), under which a good sample can fall below a bad one",
    )
    spelling: Spelling = Field(
        default="sampled",
        description="what is made equally likely: sampled strings as published (a molecule's share grows with its "
        "spellings), canonical strings, or molecules (all spellings together)",
    )

    @model_validator(mode="after")
    def _one_rule(self) -> MaraParameters:
        if self.threshold is not None and self.quantile is not None:
            raise ValueError(f"give threshold = {self.threshold} or quantile = {self.quantile}, not both")
        return self


@AUGMENTATIONS.register("mara", MaraParameters)
class Mara(Augmentation):
    r"""Mode-anchored reward augmentation: all samples at or above tau become equally likely in the optimal policy.

    With m the probability that is flattened (``mode_log_ref``), every counting sample with R >= tau gets

        R_bar(y) = R(z) + beta (log m(z) - log m(y)),

    and the others keep R. z is the good sample of highest m (ties: the higher reward). Under reverse KL the target is
    flat over the strings, canonical strings or molecules above tau, at m(z) exp(R(z)/beta)
    (:func:`chemmara.klrl.targets.mara_target`). For the batch anchor and a fixed tau it is idempotent, and no good
    sample falls below tau. [arXiv 2510.20817]

    >>> Mara(threshold=0.7, anchor="running").parameters.anchor
    'running'
    """

    parameters: MaraParameters
    _KEYS: ClassVar[tuple[str, str]] = ("anchor_reward", "anchor_log_ref")

    def __init__(
        self, parameters: Parameters | None = None, default_threshold: float | None = None, **settings: Any
    ) -> None:
        """``parameters``, or its fields as keywords; a :class:`ConfigError` says what is wrong with them."""
        if parameters is not None and settings:
            raise TypeError("give either parameters or keywords")
        super().__init__(parameters or check(MaraParameters, settings, "mara"), default_threshold)
        if not isinstance(self.parameters, MaraParameters):
            raise TypeError(f"expected MaraParameters, got {type(self.parameters).__name__}")
        if self._fixed is None and self.parameters.quantile is None:
            raise ConfigError("mara: give a threshold or a quantile")
        self.spelling = self.parameters.spelling
        self._running: Anchor | None = None

    @property
    def _fixed(self) -> float | None:
        own = self.parameters.threshold
        return self.default_threshold if own is None else own

    def _threshold(self, samples: Samples) -> float:
        quantile = self.parameters.quantile
        if quantile is None:
            return math.nan if self._fixed is None else self._fixed
        rewards = samples.reward[samples.counts & samples.distinct & ~samples.reward.isnan()].sort().values
        if not len(rewards):
            return math.nan
        # `higher` interpolation; the small number undoes rounding, as in 0.07 * 100 = 7.000000000000001.
        return float(rewards[math.ceil(quantile * (len(rewards) - 1) - 1e-9)])

    def _anchor(
        self, samples: Samples, good: Tensor, tau: float, generator: torch.Generator | None, buffer: Samples | None
    ) -> Anchor | None:
        rule = self.parameters.anchor
        candidates = _sorted_anchors(samples, good)
        if rule == "buffer" and buffer is not None:
            check_shapes(buffer)
            candidates += _sorted_anchors(buffer, reaches(buffer, tau))
        if rule == "running":
            return self._update_running(candidates, tau, samples.reward)
        if not candidates:
            return None
        if rule == "lowest":
            return candidates[0]
        if rule == "random":
            return candidates[_draw(len(candidates), generator)]
        return max(candidates, key=_rank)

    def _update_running(self, candidates: list[Anchor], tau: float, like: Tensor) -> Anchor | None:
        if math.isnan(tau):  # a batch without a single counting molecule says nothing about the anchor
            return self._running
        # tau is rounded to the rewards' precision, as in `reaches`: 0.7 in float32 is below 0.7.
        if self._running is not None and not self._running.reward >= float(like.new_tensor(tau)):
            self._running = None
        known = [] if self._running is None else [self._running]
        self._running = max(known + candidates, key=_rank, default=None)
        return self._running

    def state_dict(self) -> dict[str, Any]:
        if self._running is None:
            return {}
        return dict(zip(self._KEYS, (self._running.reward, self._running.log_ref)))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._running = Anchor(*(float(state[key]) for key in self._KEYS)) if state else None


def _rank(anchor: Anchor) -> tuple[float, float]:
    return anchor.log_ref, anchor.reward


def _sorted_anchors(samples: Samples, good: Tensor) -> list[Anchor]:
    """All possible anchors, least likely first; an order by value, so that the batch's own order plays no part."""
    keep = usable(samples, good)
    pairs = zip(samples.reward[keep].tolist(), samples.mode_log_ref[keep].tolist())
    return sorted((Anchor(reward, log_ref) for reward, log_ref in pairs), key=_rank)


def _draw(n: int, generator: torch.Generator | None) -> int:
    import torch

    if generator is None:
        raise ValueError("the random anchor needs a generator")
    return int(torch.randint(n, (), generator=generator, device=generator.device))

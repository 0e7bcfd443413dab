"""MARA: mode-anchored reward augmentation [arXiv 2510.20817]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from chemmara.config import Parameters, check
from chemmara.klrl.anchors import flat_reward, pick_anchor
from chemmara.klrl.augmentation_base import (
    AUGMENTATIONS,
    Anchor,
    Augmentation,
    Moment,
    Samples,
    Spelling,
    check_shapes,
    reaches,
    usable,
)
from chemmara.klrl.thresholds import Threshold, ThresholdParameters

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class MaraParameters(ThresholdParameters):
    """Settings of ``mara``."""

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
    prior_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="part of the prior's own preference that good samples keep: 0 makes them equally likely (as "
        "published), 1 gives them all the anchor's reward and nothing else",
    )


@AUGMENTATIONS.register("mara", MaraParameters)
class Mara(Augmentation):
    r"""Mode-anchored reward augmentation: all samples at or above tau become equally likely in the optimal policy.

    With m the probability that is flattened (``mode_log_ref``), every counting sample with R >= tau gets

        R_bar(y) = R(z) + (1 - s) beta (log m(z) - log m(y)),

    and the others keep R. z is the good sample of highest m (ties: the higher reward), s the ``prior_share``, 0 as
    published. Under reverse KL the target is flat over the strings, canonical strings or molecules above tau, at
    m(z) exp(R(z)/beta), or proportional to pi_ref^s (:func:`chemmara.klrl.targets.mara_target`). For the batch anchor
    and a fixed tau no good sample falls below tau, and at s = 0 it is idempotent. [arXiv 2510.20817]

    The anchor of a batch depends on the batch, and so on y: where the rewards of good samples differ, an objective
    whose baseline does not take the batch's level off rests near that target and not at it, the further off the smaller
    the batch. ``running`` rests at it once it has met the highest m.

    Graded ``levels`` add tau_l(y) - tau_l(z), the gap of the highest levels that y and z reach: flat within a level,
    and a factor exp(gap/beta) between levels. Thresholds that follow the run (``window``, ``anneal_*``) move with
    sampled batches alone.

    Replay: a batch of the buffer takes its own anchor (``running`` and ``buffer`` give one to both kinds of batch, so
    that fresh and replayed molecules are raised to one level). R_bar is right for any samples, and its target is the
    above where the objective is off-policy valid (trajectory_balance, vargrad at b = 1); elsewhere it is lost.

    >>> Mara(threshold=0.7, anchor="running").parameters.anchor
    'running'
    """

    parameters: MaraParameters
    _NAME: ClassVar[str] = "mara"
    _MODEL: ClassVar[type[MaraParameters]] = MaraParameters
    _KEYS: ClassVar[tuple[str, str]] = ("anchor_reward", "anchor_log_ref")

    def __init__(
        self, parameters: Parameters | None = None, default_threshold: float | None = None, **settings: Any
    ) -> None:
        """``parameters``, or its fields as keywords; a :class:`ConfigError` says what is wrong with them."""
        if parameters is not None and settings:
            raise TypeError("give either parameters or keywords")
        super().__init__(parameters or check(self._MODEL, settings, self._NAME), default_threshold)
        if not isinstance(self.parameters, self._MODEL):
            raise TypeError(f"expected {self._MODEL.__name__}, got {type(self.parameters).__name__}")
        self.tau = Threshold(self.parameters, default_threshold, self._NAME)
        self.spelling = self.parameters.spelling
        self.looks_at_buffer = self.parameters.anchor == "buffer"
        self._running: Anchor | None = None

    def _threshold(self, samples: Samples, moment: Moment) -> float:
        return self.tau(samples, moment)

    def _augment(
        self, samples: Samples, good: Tensor, tau: float, beta: float, moment: Moment
    ) -> tuple[Tensor, Anchor | None]:
        if beta == 0:
            return samples.reward, None
        keep = usable(samples, good)
        if self.looks_at_buffer and moment.buffer is not None:
            check_shapes(moment.buffer)
            self._meet(moment.buffer, tau)
        self._meet(samples, tau)
        samples = replace(samples, mode_log_ref=self._log_cost(samples, keep, tau))
        anchor = self._anchor(samples, keep, tau, moment)
        if anchor is None:
            return samples.reward, None
        pair = samples.mode_log_ref.new_tensor([[anchor.reward], [anchor.log_ref]]).double()
        strength = (1 - self.parameters.prior_share) * beta
        reward = flat_reward(samples.reward, samples.mode_log_ref, keep, (pair[0], pair[1]), strength)
        if self.tau.levels:
            gap = self._level(samples.reward) - self._level(samples.reward.new_tensor(anchor.reward))
            reward = (reward + gap).where(keep, reward)
        return reward, anchor

    def _meet(self, samples: Samples, tau: float) -> None:
        """Take note of samples before any cost is asked for."""

    def _log_cost(self, samples: Samples, keep: Tensor, tau: float) -> Tensor:
        """(B,) nats: what is made equal over the kept rows, log m itself."""
        return samples.mode_log_ref

    def _still_good(self, buffer: Samples, keep: Tensor, tau: float) -> Tensor:
        """The kept rows (B,) of the buffer that nothing newer says are not good."""
        return keep

    def _level(self, reward: Tensor) -> Tensor:
        """The highest of the graded thresholds that each reward reaches; the lowest where it reaches none."""
        import torch

        levels = reward.new_tensor(self.tau.levels)
        return levels[(torch.bucketize(reward, levels, right=True) - 1).clamp(min=0)]

    def _anchor(self, samples: Samples, keep: Tensor, tau: float, moment: Moment) -> Anchor | None:
        import torch

        rule, buffer = self.parameters.anchor, moment.buffer
        reward, mode = samples.reward, samples.mode_log_ref
        if rule == "buffer" and buffer is not None:
            in_buffer = self._still_good(buffer, usable(buffer, reaches(buffer, tau)), tau)
            reward = torch.cat([reward, buffer.reward])
            mode = torch.cat([mode, self._log_cost(buffer, in_buffer, tau)])
            keep = torch.cat([keep, in_buffer])
        if rule == "lowest":
            return _anchor(*pick_anchor(reward, mode, keep, "lowest"))
        if rule == "random":
            return _anchor(*pick_anchor(reward, mode, keep, "random", _draw(moment.generator))) if keep.any() else None
        found = _anchor(*pick_anchor(reward, mode, keep))
        return self._update_running(found, tau, reward) if rule == "running" else found

    def _update_running(self, found: Anchor | None, tau: float, like: Tensor) -> Anchor | None:
        if math.isnan(tau):  # a batch without a single counting molecule says nothing about the anchor
            return self._running
        # tau is rounded to the rewards' precision, as in `reaches`: 0.7 in float32 is below 0.7.
        if self._running is not None and not self._running.reward >= float(like.new_tensor(tau)):
            self._running = None
        known = [anchor for anchor in (self._running, found) if anchor is not None]
        self._running = max(known, key=_rank, default=None)
        return self._running

    def state_dict(self) -> dict[str, Any]:
        anchor = self._running
        held = {} if anchor is None else dict(zip(self._KEYS, (anchor.reward, anchor.log_ref)))
        rule = self.tau.state_dict()
        return {**held, "threshold": rule} if rule else dict(held)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._running = Anchor(*(float(state[key]) for key in self._KEYS)) if self._KEYS[0] in state else None
        self.tau.load_state_dict(state.get("threshold", {}))


def _rank(anchor: Anchor) -> tuple[float, float]:
    return anchor.log_ref, anchor.reward


def _anchor(reward: Tensor, log_ref: Tensor) -> Anchor | None:
    return None if bool(log_ref.isnan()) else Anchor(float(reward), float(log_ref))


def _draw(generator: torch.Generator | None) -> Tensor:
    import torch

    if generator is None:
        raise ValueError("the random anchor needs a generator")
    return torch.rand((), generator=generator, device=generator.device, dtype=torch.float64)

"""Other people's changes of the reward, for comparison: each as a function of the reward alone.

R~ takes the place of R in an objective; what that does to the scalar is exact where the loss is linear in R without a
baseline (``reinvent``, trajectory balance): E[grad loss] is that of the expected R~ of each y, held constant. A
leave-one-out baseline (``reverse_kl``, ``vargrad``, ``grpo``) is no longer independent of a sample whose R~ depends on
the others', an error of the order 1/n. Replay: frequencies and ranks are then those of the replayed batch, which is
drawn from the buffer and says nothing of the agent's own; no target distribution is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from chemmara.config import Parameters
from chemmara.klrl.augmentation_base import AUGMENTATIONS, Anchor, Augmentation, ModeParameters, Moment, Samples, wanted

if TYPE_CHECKING:
    from torch import Tensor


class RewardChange(Augmentation):
    """Base: a subclass writes ``_changed``, of the rows that the objective learns from.

    These are the batch of the formulas: n, its mean, its shares and ranks have invalid text in them, at reward 0 and
    each a mode of its own, as the objective has it in its baseline.
    """

    def _augment(
        self, samples: Samples, good: Tensor, tau: float, beta: float, moment: Moment
    ) -> tuple[Tensor, Anchor | None]:
        learned = samples.counts if samples.learned is None else samples.learned
        keep = learned & samples.reward.isfinite()
        if not bool(keep.any()):
            return samples.reward, None
        changed = self._changed(samples, keep, good[keep])
        return samples.reward.masked_scatter(keep, changed.to(samples.reward.dtype)), None

    def _changed(self, samples: Samples, keep: Tensor, good: Tensor) -> Tensor:
        """R~ of the kept rows, (n,). ``good``: (n,) bool, those that reach the threshold."""
        raise NotImplementedError


def _counts(samples: Samples, keep: Tensor, by: str) -> Tensor:
    """How many of the kept rows have the mode of each, (n,) int64; invalid text has one of its own."""
    import torch

    valid = samples.counts[keep]
    modes = wanted(samples.mode, "the label of each mode", by)[keep][valid]
    _, place, of_mode = torch.unique(modes, return_inverse=True, return_counts=True)
    return torch.ones_like(valid, dtype=torch.int64).masked_scatter(valid, of_mode[place])


class IpsParameters(ModeParameters):
    """Settings of ``ips``."""

    floor: float = Field(default=0.0, ge=0, le=1, description="smallest share of the batch that a mode is taken for")
    normalize: bool = Field(
        default=True,
        description="divide the weights by their mean over the molecules of the batch, which then is 1; "
        "false: as published, for an objective that divides by the standard deviation",
    )


@AUGMENTATIONS.register("ips", IpsParameters)
class Ips(RewardChange):
    r"""Inverse propensity: R~ = R / max(p(o), floor), p(o) the share of the batch whose mode is that of the sample.

    ``normalize`` makes the mean weight of the batch's molecules 1. Without it and floor, with q the agent's probability
    of y's mode, E[R~ | y] = R(y) (1 - (1 - q)^n) / q in a batch of n: the agent's mean reward becomes the sum over
    modes of their mean reward times the chance to be met. Modes are scaffolds or clusters; if each string were one of
    its own, p = 1/n and nothing would change. Replay: p is that of the replayed batch. [IPS-GRPO, arXiv 2601.21669]
    """

    parameters: IpsParameters

    def _changed(self, samples: Samples, keep: Tensor, good: Tensor) -> Tensor:
        counts = _counts(samples, keep, "ips")
        weight = 1 / (counts.double() / len(counts)).clamp(min=self.parameters.floor)
        valid = samples.counts[keep]
        if self.parameters.normalize and bool(valid.any()):
            weight /= weight[valid].sort().values.mean()  # sorted: rounding must not depend on the order of rows
        return samples.reward[keep] * weight


class UnlikelinessParameters(Parameters):
    """Settings of ``unlikeliness``."""

    strength: float = Field(default=0.25, ge=0, le=1, description="part of the reward that the likeliest sample loses")


@AUGMENTATIONS.register("unlikeliness", UnlikelinessParameters)
class Unlikeliness(RewardChange):
    r"""Unlikeliness reward: R~ = R (1 - b rank/n), rank 0 the sample of the batch that the agent finds least likely.

    Ties take their mean rank. E[R~ | y] = R(y) (1 - b (n - 1)/n (P(less likely than y) + P(as likely)/2)) under the
    agent. Replay: ranks of the replayed batch under the present agent. [arXiv 2506.02355]
    """

    parameters: UnlikelinessParameters

    def _changed(self, samples: Samples, keep: Tensor, good: Tensor) -> Tensor:
        log_agent = wanted(samples.log_agent, "log_agent, the agent's log-probabilities", "unlikeliness")[keep]
        below = (log_agent.unsqueeze(0) < log_agent.unsqueeze(1)).sum(1)
        tied = (log_agent.unsqueeze(0) == log_agent.unsqueeze(1)).sum(1)
        rank = below + (tied - 1).clamp(min=0).double() / 2
        return samples.reward[keep] * (1 - self.parameters.strength * rank / len(rank))


class DifferentialSmoothingParameters(Parameters):
    """Settings of ``differential_smoothing``."""

    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="reward from which a sample counts as correct (default: the run's threshold)",
    )
    correct: float = Field(
        default=0.002, ge=0, description="g_p: reward units per nat by which correct samples gain from being unlikely"
    )
    incorrect: float = Field(
        default=0.002, ge=0, description="g_n: reward units per nat by which the others lose by it; keep it below beta"
    )


@AUGMENTATIONS.register("differential_smoothing", DifferentialSmoothingParameters)
class DifferentialSmoothing(RewardChange):
    r"""Differential smoothing: R~ = R - g_p log pi(y) if R >= tau, R + g_n log pi(y) otherwise, log pi held constant.

    Each sample's R~ depends on itself alone, so every objective but ``grpo`` with its deviation or its lengths and
    those on the best of the batch ascend their J plus - g_p sum_correct pi (log pi - 1) + g_n sum_others pi
    (log pi - 1): entropy for the correct, its opposite for the rest, invalid text among them. Under reverse KL
    stationary where log pi = (beta log pi_ref + R - c) / (beta + g_p) on the correct and (beta log pi_ref + R - c) /
    (beta - g_n) on the rest, c the number that normalises it, for g_n < beta. Replay: log pi is that of the present
    agent; only trajectory_balance and vargrad keep this target. [arXiv 2511.19942]
    """

    parameters: DifferentialSmoothingParameters

    def _threshold(self, samples: Samples, moment: Moment) -> float:
        own = self.parameters.threshold
        return super()._threshold(samples, moment) if own is None else own

    def _changed(self, samples: Samples, keep: Tensor, good: Tensor) -> Tensor:
        import torch

        log_agent = wanted(samples.log_agent, "log_agent, the agent's log-probabilities", "differential_smoothing")
        slope = torch.where(good, -self.parameters.correct, self.parameters.incorrect)
        # A string that the agent excludes was not sampled from it, and keeps its reward.
        return samples.reward[keep] + slope * log_agent[keep].nan_to_num(0.0, 0.0, 0.0)


class UniquenessParameters(ModeParameters):
    """Settings of ``uniqueness``."""

    exponent: float = Field(default=0.5, ge=0, le=1, description="alpha in f^-alpha, f the samples of one mode")


@AUGMENTATIONS.register("uniqueness", UniquenessParameters)
class Uniqueness(RewardChange):
    r"""Uniqueness-aware advantage: R~ = b + (R - b) f^-alpha, f the number of the batch's samples of the same mode.

    b is the batch's mean reward (invalid text has 0), so that the advantage R - b is what f^-alpha scales: a crowded
    mode is rewarded less above the mean, and punished less below it. Replay: f and b are those of the replayed batch.
    """

    parameters: UniquenessParameters

    def _changed(self, samples: Samples, keep: Tensor, good: Tensor) -> Tensor:
        counts = _counts(samples, keep, "uniqueness")
        reward = samples.reward[keep].double()
        mean = reward.sort().values.mean()
        return mean + (reward - mean) * counts.double() ** -self.parameters.exponent

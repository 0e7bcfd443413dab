"""Trajectory balance, the GFlowNets' loss [Malkin et al. 2022, arXiv 2201.13259], and its VarGrad form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from chemmara.klrl.estimators import k1
from chemmara.klrl.objectives import (
    OBJECTIVES,
    Learned,
    LossOutput,
    PolicyBatch,
    PositiveBetaParameters,
    counting_rows,
    logged_objective,
    nothing_counts,
)

if TYPE_CHECKING:
    from torch import Tensor

LOG_Z = "log_z"


class BalanceParameters(PositiveBetaParameters):
    """What both forms of trajectory balance are set by."""

    prior_exponent: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="a in the target pi_ref^a exp(R/beta): 1 is KL regularisation, 0 leaves the prior out; "
        "an augmentation takes a beta as its KL strength",
    )

    @property
    def prior_strength(self) -> float:
        return self.beta * self.prior_exponent


class VarGradParameters(BalanceParameters):
    """Settings of ``vargrad``."""

    baseline: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="share of the batch's mean that stands for log Z: 1 is VarGrad, 0 REINVENT's loss, which raises "
        "whatever it sees, what is better a little more; between the two, little is pushed down and much is told apart",
    )


class TrajectoryBalanceParameters(BalanceParameters):
    """Settings of ``trajectory_balance``. Genetic-GFN's loss: sigma = 50, prior_exponent = 0, k1_weight = 0.01."""

    log_z: float = Field(default=0.0, description="where the learned log Z starts, nats")
    log_z_learning_rate: float = Field(default=0.1, gt=0, description="step size of the optimiser for log Z")
    k1_weight: float = Field(
        default=0.0,
        ge=0,
        description="weight of the mean of log pi - log pi_ref, differentiated: nothing on-policy, holds back replay",
    )

    @property
    def learned(self) -> Mapping[str, Learned]:
        return {LOG_Z: Learned(self.log_z, self.log_z_learning_rate)}


@OBJECTIVES.register("trajectory_balance", TrajectoryBalanceParameters)
def trajectory_balance(batch: PolicyBatch, parameters: TrajectoryBalanceParameters) -> LossOutput:
    r"""Trajectory balance with a learned log Z: mean of (log pi + log Z - R/beta - a log pi_ref)^2.

    On-policy, E[grad loss] = 2 grad KL(pi || G) whatever log Z is, with G proportional to pi_ref^a exp(R/beta) (a = 1:
    the reverse-KL target, and the constant is -2/beta for J = E_pi[R] - beta KL(pi || pi_ref); a < 1:
    :func:`chemmara.klrl.targets.entropy_kl_target` with beta a and eta = beta (1 - a)). So in expectation it is
    ``reinvent``, which has log Z = 0; d/d log Z is 2 (log Z - E_pi[R/beta + a log pi_ref - log pi]), whose root is the
    true log Z once pi = G. ``k1_weight`` c adds c mean(log pi - log pi_ref): 0 in expectation on-policy.

    Replay: off-policy valid for c = 0. Whatever the samples' distribution, the loss is 0 at pi = G and the true log Z,
    there alone if every sequence can be sampled (``reinvent`` has no such zero unless Z = 1). [Kim et al. 2024,
    arXiv 2402.05961 for Genetic-GFN]
    """
    rows = counting_rows(batch)
    if rows is None:
        return nothing_counts(batch)
    if LOG_Z not in batch.learned:
        raise ValueError("trajectory_balance learns log_z: give it in the batch's learned parameters")
    agent, prior, reward = rows
    log_z = batch.learned[LOG_Z]
    loss = (_log_ratio(agent, prior, reward, parameters) + log_z).square().mean()
    if parameters.k1_weight:
        loss = loss + parameters.k1_weight * k1(agent, prior).mean()
    return LossOutput(loss, {**logged_objective(agent, prior, reward, parameters.beta), LOG_Z: float(log_z.detach())})


@OBJECTIVES.register("vargrad", VarGradParameters)
def vargrad(batch: PolicyBatch, parameters: VarGradParameters) -> LossOutput:
    r"""Trajectory balance with the batch's mean for log Z: the variance of log pi - R/beta - a log pi_ref.

    The unbiased variance, over n - 1 (n - b below). On-policy, E[grad loss] = 2 grad KL(pi || G), with the same G as
    ``trajectory_balance``; at a = 1 the gradient of every single batch is 2/beta times that of ``reverse_kl``, the mean
    of the others being the baseline in both. One row alone has no variance and teaches nothing.

    A ``baseline`` b < 1 takes b times the mean, and divides by n - b: on-policy the same expected gradient for every b,
    and a different teacher off-policy. b = 0 is ``reinvent``. exp(R/beta) is so steep that at b = 1 nearly everything
    ordinary is pushed towards no probability at all, and the grammar with it.

    Replay: off-policy valid for b = 1. Whatever the samples' distribution, the loss is 0 where pi is proportional to G
    over the batch. A batch settles only ratios within itself: replay and fresh samples in batches of their own are not
    weighed against one another. [Richter et al. 2020, arXiv 2010.10436; Zhang et al. 2023, arXiv 2302.05446]
    """
    rows = counting_rows(batch)
    if rows is None:
        return nothing_counts(batch)
    agent, prior, reward = rows
    ratio = _log_ratio(agent, prior, reward, parameters)
    # Detached: the gradient of the variance is the same, and at b < 1 log Z is a constant.
    error = ratio - parameters.baseline * ratio.detach().mean()
    loss = error.square().sum() / ((len(ratio) - parameters.baseline) or 1)
    estimate = float(-ratio.detach().mean())
    return LossOutput(loss, {**logged_objective(agent, prior, reward, parameters.beta), LOG_Z: estimate})


def _log_ratio(agent: Tensor, prior: Tensor, reward: Tensor, parameters: BalanceParameters) -> Tensor:
    """log pi - log of the unnormalised target, nats. An exponent of 0 takes a string that the prior excludes, too."""
    target = reward / parameters.beta
    if parameters.prior_exponent:
        target = target + parameters.prior_exponent * prior
    return agent - target

"""Losses of KL-regularized RL: their contract, and the three basic ones. The others have modules of their own.

Each docstring states the scalar whose gradient the loss estimates, with its constant, and what replay does to it.
Samples are on-policy unless said otherwise: y ~ pi, the agent. R is the reward (after augmentation), pi_ref the prior,
beta the KL strength in reward units per nat. [P] is arXiv 2510.20817.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

from pydantic import Field, field_validator, model_validator

from chemmara.config import Parameters
from chemmara.klrl.estimators import k1, k3
from chemmara.klrl.losses import forward_kl_loss, reinvent_loss, reverse_kl_loss
from chemmara.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_BETA = 1 / 128


@dataclass(frozen=True, eq=False)
class TokenLogProbs:
    """A batch token by token; every field has shape (B, T). What stands outside ``mask`` is never looked at."""

    agent: Tensor
    """log pi(y_t | y_<t), nats; carries the graph. Its sum over the mask is the sequence's total."""
    prior: Tensor
    """log pi_ref(y_t | y_<t), nats."""
    mask: Tensor
    """bool: a token of the sequence, the end token included, and no padding."""


@dataclass(frozen=True, eq=False)
class PolicyBatch:
    """What an objective learns from; every field has shape (B,), but for the last two."""

    agent_log_prob: Tensor
    """log pi(y), nats, total with the end token; carries the graph."""
    prior_log_prob: Tensor
    """log pi_ref(y), nats, total with the end token."""
    reward: Tensor
    """Reward units. Invalid text has reward 0 and counts; rows that do not count may be NaN."""
    counts: Tensor
    """bool: learned from. False for a failed oracle, which has no part in loss, baseline or logs."""
    tokens: TokenLogProbs | None = None
    """For objectives whose parameters say ``needs_tokens``."""
    learned: Mapping[str, Tensor] = field(default_factory=dict)
    """The objective's own parameters by name (``ObjectiveParameters.learned``): scalars that carry a graph."""


@dataclass(frozen=True)
class Learned:
    """A number that an objective learns along with the agent: where it starts, and the step size of its optimiser."""

    initial: float
    learning_rate: float


@dataclass(frozen=True, eq=False)
class LossOutput:
    """``loss``: a scalar with a graph. ``logs``: plain numbers for the metrics, empty if no row counted.

    A name of the objective's own, such as ``spread``, is the column ``objective_spread`` of metrics.csv.

    ``objective`` in the logs is the batch's estimate of E_pi[R] - beta KL(pi || pi_ref), in reward units. (For
    ``forward_kl`` too: k3's value estimates that divergence, its gradient descends the other one.)
    """

    loss: Tensor
    logs: dict[str, float]


Objective = Callable[[PolicyBatch, Any], LossOutput]
OBJECTIVES: Registry[Objective] = Registry(
    "objective",
    (
        "chemmara.klrl.objectives",
        "chemmara.klrl.best_of_batch",
        "chemmara.klrl.grpo",
        "chemmara.klrl.trajectory_balance",
    ),
)


LEAST_STRENGTH = 1e-12
"""Of beta above 0 and of sigma: the square of a reward of 1 over it is within float32 still."""


class ObjectiveParameters(Parameters):
    """What every objective takes. ``beta`` and ``sigma`` = 1/beta are two names of one number."""

    beta: float = Field(default=DEFAULT_BETA, description="KL strength, reward units per nat")
    sigma: float | None = Field(
        default=1 / DEFAULT_BETA,
        gt=0,
        le=1 / LEAST_STRENGTH,
        exclude=True,
        description="1/beta, nats per reward unit (REINVENT's sigma); accepted in place of beta",
    )
    learning_rate: float = Field(default=5e-4, gt=0, description="step size of the optimiser")

    @property
    def needs_tokens(self) -> bool:
        """Whether the objective wants :class:`TokenLogProbs`."""
        return False

    @property
    def learned(self) -> Mapping[str, Learned]:
        """What the objective learns besides the agent, by name."""
        return {}

    @property
    def prior_strength(self) -> float:
        """The factor of log pi_ref in the objective, reward units per nat: what an augmentation takes as beta."""
        return self.beta

    @model_validator(mode="before")
    @classmethod
    def _one_strength(cls, data: Any) -> Any:
        """Fill in whichever of beta and sigma is missing; what is no number is left for the fields to refuse."""
        if not isinstance(data, dict):
            return data
        beta, sigma = data.get("beta"), data.get("sigma")
        if _positive(sigma) and "beta" not in data:
            return {**data, "beta": 1 / sigma}
        if _positive(sigma) and _number(beta) and not math.isclose(beta * sigma, 1, rel_tol=1e-6):
            raise ValueError(f"beta = {beta} and sigma = {sigma} disagree (sigma = 1/beta); give one of them")
        if "beta" in data and sigma is None:
            return {**data, "sigma": 1 / beta if _positive(beta) else None}
        return data

    @field_validator("beta")
    @classmethod
    def _not_negative(cls, beta: float) -> float:
        if beta < 0:
            raise ValueError("must not be negative: a negative KL strength has no optimal policy")
        if 0 < beta < LEAST_STRENGTH:
            raise ValueError(f"below {LEAST_STRENGTH:g} a loss that divides by it is infinite in float32; raise it")
        if beta > 1 / LEAST_STRENGTH:
            raise ValueError(
                f"above {1 / LEAST_STRENGTH:g} (sigma below {LEAST_STRENGTH:g}) nothing is learned; lower it"
            )
        return beta


class PositiveBetaParameters(ObjectiveParameters):
    """For losses that divide by beta."""

    @field_validator("beta")
    @classmethod
    def _divides(cls, beta: float) -> float:
        if beta == 0:
            raise ValueError("must be greater than 0: the loss divides by it")
        return beta


class ReinventParameters(PositiveBetaParameters):
    """Settings of ``reinvent``."""


class ForwardKLParameters(ObjectiveParameters):
    """Settings of ``forward_kl``."""

    max_log_ratio: float = Field(
        default=10.0,
        gt=0,
        le=60,
        description="log(prior/agent), nats, above which a sample's importance weight grows no further "
        "(exp overflows float32 past 88)",
    )


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: Any) -> TypeGuard[float]:
    return _number(value) and value > 1e-308  # 1 over less is infinite


def counting_rows(batch: PolicyBatch) -> tuple[Tensor, Tensor, Tensor] | None:
    """(agent, prior, reward) of the counting rows, (n,) each; None if there are none.

    Rows are picked, not multiplied by zero: NaN times zero is NaN.
    """
    keep = batch.counts
    if not bool(keep.any()):
        return None
    return batch.agent_log_prob[keep], batch.prior_log_prob[keep].detach(), batch.reward[keep].detach()


def nothing_counts(batch: PolicyBatch) -> LossOutput:
    """A zero that can be differentiated."""
    return LossOutput(batch.agent_log_prob[batch.counts].sum(), {})


def logged_objective(agent: Tensor, prior: Tensor, reward: Tensor, beta: float) -> dict[str, float]:
    """The batch's estimate of J = E_pi[R] - beta KL(pi || pi_ref), reward units, for the logs."""
    return {"objective": float((reward - beta * k1(agent.detach(), prior)).mean())}


@OBJECTIVES.register("reinvent", ReinventParameters)
def reinvent(batch: PolicyBatch, parameters: ReinventParameters) -> LossOutput:
    r"""REINVENT's squared loss: mean of (log pi_ref + R/beta - log pi)^2.

    On-policy, E[grad loss] = 2 grad KL(pi || G) = -(2/beta) grad J with the reverse-KL target G and
    J = E_pi[R] - beta KL(pi || pi_ref): the constant is 2 sigma, sigma = 1/beta. On replayed samples this identity
    breaks. [Olivecrona et al. 2017; P]
    """
    rows = counting_rows(batch)
    if rows is None:
        return nothing_counts(batch)
    agent, prior, reward = rows
    loss = reinvent_loss(agent, prior, reward, parameters.beta)
    return LossOutput(loss, logged_objective(agent, prior, reward, parameters.beta))


@OBJECTIVES.register("reverse_kl", ObjectiveParameters)
def reverse_kl(batch: PolicyBatch, parameters: ObjectiveParameters) -> LossOutput:
    r"""Score function with the reverse KL in the reward: - mean of (s - b) log pi.

    s = R - beta (log pi - log pi_ref), detached; b is the mean s of the *other* counting samples (leave one out),
    which leaves the expectation as it is. On-policy, E[grad loss] = -grad J = beta grad KL(pi || G), with the
    reverse-KL target G and J = E_pi[R] - beta KL(pi || pi_ref): the constant is 1. At beta = 0 it is plain REINFORCE.
    [P]
    """
    rows = counting_rows(batch)
    if rows is None:
        return nothing_counts(batch)
    agent, prior, reward = rows
    loss = reverse_kl_loss(agent, prior, reward, parameters.beta)
    return LossOutput(loss, logged_objective(agent, prior, reward, parameters.beta))


@OBJECTIVES.register("forward_kl", ForwardKLParameters)
def forward_kl(batch: PolicyBatch, parameters: ForwardKLParameters) -> LossOutput:
    r"""Score function of the reward plus differentiated k3: - mean of (R - b) log pi + beta mean of k3.

    b is the mean reward of the other counting samples; k3 = exp(lr) - 1 - lr, lr = log pi_ref - log pi over the whole
    sequence, as in GRPO, yet neither per token nor divided by the standard deviation. On-policy,
    E[grad loss] = -grad J with J = E_pi[R] - beta KL(pi_ref || pi): the constant is 1. J's maximiser is beta pi_ref /
    (Lambda - R) (:func:`chemmara.klrl.targets.forward_kl_target`); its gradient is that of no divergence to a target.

    Exact as long as no sample has lr above ``max_log_ratio`` = c; past it the weight exp(lr) stays at exp(c). On-policy
    that happens with a probability of at most exp(-c) (Markov's inequality: E_pi[exp(lr)] <= 1); ``clamped_share``
    in the logs is the share of such rows. [P]
    """
    rows = counting_rows(batch)
    if rows is None:
        return nothing_counts(batch)
    agent, prior, reward = rows
    loss = forward_kl_loss(agent, prior, reward, parameters.beta, parameters.max_log_ratio)
    penalty = k3(agent.detach(), prior, parameters.max_log_ratio).mean()
    clamped = (prior - agent.detach() > parameters.max_log_ratio).to(agent.dtype).mean()
    objective = reward.mean() - parameters.beta * penalty
    return LossOutput(loss, {"objective": float(objective), "clamped_share": float(clamped)})

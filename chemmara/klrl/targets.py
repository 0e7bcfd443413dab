"""Optimal policies of KL-regularized RL in closed form, in log space (nats).

Every function takes anything that ``torch.as_tensor`` takes, computes in float64 and returns float64. ``log_ref`` and
``reward`` have shape (..., V): the last dimension runs over all V sequences (or tokens of a toy), the leading ones are
a batch. ``beta`` is the KL strength in reward units per nat, a number or a tensor of the leading shape. ``log_ref``
may hold -inf (outside the reference's support). [P] is arXiv 2510.20817.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from chemmara.klrl.forward_target import ForwardKLTarget, forward_kl_target
from chemmara.klrl.numeric import as_double, broadcast, check_support, positive

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ForwardKLTarget",
    "beta_flip",
    "entropy_kl_target",
    "forward_kl_target",
    "log_ratio",
    "mara_target",
    "mode_log_ref",
    "ratio_at",
    "reverse_kl_target",
]

Spelling = Literal["sampled", "canonical", "molecule"]


def _tilt(log_ref: Tensor, reward: Tensor, temperature: Tensor) -> Tensor:
    """log of ref exp(reward / temperature) / Z. The best reward on the support is subtracted first: no overflow."""
    import torch

    log_ref, reward = broadcast(log_ref, reward)
    inside = log_ref > -torch.inf
    check_support(inside)
    best = reward.masked_fill(~inside, -torch.inf).amax(-1, keepdim=True)
    return torch.where(inside, log_ref + (reward - best) / temperature, -torch.inf).log_softmax(-1)


def reverse_kl_target(log_ref: Tensor, reward: Tensor, beta: Tensor | float) -> Tensor:
    r"""log G, nats: the maximiser of J(pi) = E_pi[R] - beta KL(pi || pi_ref) is G = pi_ref exp(R/beta) / Z.

    log_ref, reward: (..., V) -> (..., V). J(pi) = beta log Z - beta KL(pi || G), so maximising J is minimising
    KL(pi || G). Raises ValueError unless beta > 0. [P, Remark 3.1]
    """
    return _tilt(as_double(log_ref), as_double(reward), positive(beta))


def entropy_kl_target(log_ref: Tensor, reward: Tensor, beta: Tensor | float, eta: Tensor | float) -> Tensor:
    r"""log G, nats, for J(pi) = E_pi[R] - beta KL(pi || pi_ref) + eta H(pi):
    G \propto pi_ref^(beta/(beta+eta)) exp(R/(beta+eta)).

    log_ref, reward: (..., V) -> (..., V). beta, eta >= 0 with a positive sum, in reward units per nat. At beta = 0 the
    reference plays no part, its support included. [P, entropy and KL]
    """
    import torch

    strength, entropy = as_double(beta).unsqueeze(-1), as_double(eta).unsqueeze(-1)
    if not bool((strength >= 0).all() and (entropy >= 0).all()):
        raise ValueError(f"beta and eta must not be negative, got {beta} and {eta}")
    temperature = positive((strength + entropy).squeeze(-1), "beta + eta")
    share = strength / temperature
    # 0 * -inf is NaN, and the limit is 0.
    tempered = torch.where(share > 0, share * as_double(log_ref), 0.0)
    return _tilt(tempered, as_double(reward), temperature)


def log_ratio(
    log_ref_1: Tensor | float,
    log_ref_2: Tensor | float,
    reward_1: Tensor | float,
    reward_2: Tensor | float,
    beta: Tensor | float,
) -> Tensor:
    """log G(y1)/G(y2) under the reverse-KL target, nats: log pi_ref(y1)/pi_ref(y2) + (R(y1) - R(y2))/beta.

    With equal rewards it is the reference's own ratio, whatever beta. All arguments broadcast. [P]
    """
    reward_part = (as_double(reward_1) - as_double(reward_2)) / positive(beta).squeeze(-1)
    return as_double(log_ref_1) - as_double(log_ref_2) + reward_part


def ratio_at(reward_difference: Tensor | float, beta: Tensor | float) -> Tensor:
    """G(y1)/G(y2) = exp((R(y1) - R(y2))/beta), for two samples of equal reference probability. [P, Fig. 7]"""
    return log_ratio(0.0, 0.0, reward_difference, 0.0, beta).exp()


def beta_flip(
    log_ref_1: Tensor | float, log_ref_2: Tensor | float, reward_1: Tensor | float, reward_2: Tensor | float
) -> Tensor:
    """The beta (reward units per nat) at which two samples tie in the reverse-KL target.

    (R(y2) - R(y1)) / (log pi_ref(y1) - log pi_ref(y2)): above it the target prefers the sample that the reference
    prefers, below it the one of higher reward. NaN where no positive beta makes exactly one tie (equal rewards, equal
    references, or one sample ahead in both). All arguments broadcast. [P]
    """
    import torch

    flip = (as_double(reward_2) - as_double(reward_1)) / (as_double(log_ref_1) - as_double(log_ref_2))
    return torch.where((flip > 0) & flip.isfinite(), flip, torch.nan)


def mode_log_ref(
    log_ref: Tensor, spelling: Spelling, molecule: Tensor | None = None, canonical: Tensor | None = None
) -> Tensor:
    """The log-probability (nats) that MARA flattens, one value per string: (..., V) -> (..., V).

    ``sampled``: that of the string itself. ``canonical``: that of its molecule's canonical string; ``canonical`` (V,)
    holds for each string the index of that string. ``molecule``: the log of the mass of all spellings of its molecule;
    ``molecule`` (V,) holds for each string the index of its molecule, 0 and up.
    """
    import torch

    log_ref = as_double(log_ref)
    if spelling == "sampled":
        return log_ref
    if spelling == "canonical":
        if canonical is None:
            raise ValueError("spelling = 'canonical' needs the index of each string's canonical string")
        return log_ref[..., torch.as_tensor(canonical)]
    if molecule is None:
        raise ValueError("spelling = 'molecule' needs the index of each string's molecule")
    index = torch.as_tensor(molecule).expand(log_ref.shape)
    molecules = log_ref.new_full((*log_ref.shape[:-1], int(index.max()) + 1), -torch.inf)
    peak = molecules.scatter_reduce(-1, index, log_ref, "amax").clamp(min=torch.finfo(torch.float64).min)
    mass = torch.zeros_like(peak).scatter_add(-1, index, (log_ref - peak.gather(-1, index)).exp())
    return (peak + mass.log()).gather(-1, index)


def mara_target(
    log_ref: Tensor,
    reward: Tensor,
    beta: Tensor | float,
    threshold: Tensor | float,
    *,
    divergence: Literal["reverse", "forward"] = "reverse",
    form: Literal["reward", "reference"] = "reward",
    spelling: Spelling = "sampled",
    molecule: Tensor | None = None,
    canonical: Tensor | None = None,
) -> Tensor:
    r"""log G, nats: the optimal policy under MARA's reward. (..., V) -> (..., V). [P, MARA]

    Among the strings with R >= threshold the anchor z has the highest mode probability m (:func:`mode_log_ref`; ties:
    the higher reward). Reverse KL: G(y) \propto pi_ref(y)/m(y) * m(z) exp(R(z)/beta) on good strings and
    pi_ref exp(R/beta) on the others. So the good ones are flat over strings (``sampled``), over canonical strings with
    the other spellings in proportion (``canonical``), or over molecules (``molecule``).

    Forward KL has two readings, which differ: ``form = "reward"`` puts the augmented reward
    R(z) + beta (log m(z) - log m(y)) beside the reference as it is; ``form = "reference"`` gives good strings the
    reward R(z) and the (unnormalised) reference pi_ref(y) m(z)/m(y). Under reverse KL both are one target.

    Strings outside the support are never sampled and stay at probability 0; a good string whose mode probability is 0
    keeps its reward. Nothing at the threshold: the plain target.
    """
    import torch

    strength = positive(beta)
    tau = as_double(threshold).unsqueeze(-1)
    log_ref, reward, tau = broadcast(as_double(log_ref), as_double(reward), tau)
    mode = mode_log_ref(log_ref, spelling, molecule, canonical)
    good = (reward >= tau) & (mode > -torch.inf)
    anchor_mode = mode.masked_fill(~good, -torch.inf).amax(-1, keepdim=True)
    at_anchor = good & (mode == anchor_mode)
    anchor_reward = reward.masked_fill(~at_anchor, -torch.inf).amax(-1, keepdim=True)
    if divergence == "forward" and form == "reward":
        bonus = strength * (anchor_mode - mode)
        return forward_kl_target(log_ref, torch.where(good, anchor_reward + bonus, reward), beta).log_probs
    flat_ref = torch.where(good, log_ref - mode + anchor_mode, log_ref)
    flat_reward = torch.where(good, anchor_reward, reward)
    if divergence == "forward":
        return forward_kl_target(flat_ref, flat_reward, beta).log_probs
    return reverse_kl_target(flat_ref, flat_reward, beta)

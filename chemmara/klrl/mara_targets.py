"""The optimal policies under MARA's reward in closed form; conventions as in :mod:`chemmara.klrl.targets`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from chemmara.klrl.forward_target import forward_kl_target
from chemmara.klrl.numeric import as_double, broadcast, positive, tilt

if TYPE_CHECKING:
    from torch import Tensor

Spelling = Literal["sampled", "canonical", "molecule"]
Within = Literal["reference", "flat"]


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
    threshold: Tensor | float | Sequence[float],
    *,
    divergence: Literal["reverse", "forward"] = "reverse",
    form: Literal["reward", "reference"] = "reward",
    spelling: Spelling = "sampled",
    molecule: Tensor | None = None,
    canonical: Tensor | None = None,
    prior_share: float = 0.0,
) -> Tensor:
    r"""log G, nats: the optimal policy under MARA's reward. (..., V) -> (..., V). [P, MARA]

    Among the strings with R >= threshold the anchor z has the highest mode probability m (:func:`mode_log_ref`; ties:
    the higher reward). Reverse KL: G(y) \propto pi_ref(y)/m(y) * m(z) exp(R(z)/beta) on good strings and
    pi_ref exp(R/beta) on the others. So the good ones are flat over strings (``sampled``), over canonical strings with
    the other spellings in proportion (``canonical``), or over molecules (``molecule``).

    ``prior_share`` s keeps a part of the prior's own term: on good strings
    G(y) \propto pi_ref(y) (m(z)/m(y))^(1-s) exp(R(z)/beta), which is pi_ref(y)^s pi_ref(z)^(1-s) exp(R(z)/beta) for
    m = pi_ref. At s = 1 rewards are raised to R(z) and nothing else.

    A sequence of rising thresholds grades them: a good string of level l, the highest threshold tau_l that it reaches,
    has exp((tau_l - tau_l(z))/beta) times the above, tau_l(z) the anchor's level. Each level is flat, and one lies
    above another by the gap of their thresholds, whatever the prior.

    Forward KL has two readings, which differ: ``form = "reward"`` puts the augmented reward
    R(z) + (1-s) beta (log m(z) - log m(y)) beside the reference as it is; ``form = "reference"`` gives good strings the
    reward R(z) and the (unnormalised) reference pi_ref(y) (m(z)/m(y))^(1-s). Under reverse KL both are one target.

    Strings outside the support are never sampled and stay at probability 0; a good string whose mode probability is 0
    keeps its reward. Nothing at the threshold: the plain target.
    """
    mode = mode_log_ref(log_ref, spelling, molecule, canonical)
    levels = _levels(threshold)
    good = (as_double(reward) >= levels[..., :1]) & (mode > -float("inf"))
    return _anchored(log_ref, reward, beta, good, mode, levels, prior_share, divergence, form)


def mara_modes_target(
    log_ref: Tensor,
    reward: Tensor,
    beta: Tensor | float,
    threshold: Tensor | float | Sequence[float],
    mode: Tensor,
    *,
    within: Within = "reference",
    divergence: Literal["reverse", "forward"] = "reverse",
    form: Literal["reward", "reference"] = "reward",
    spelling: Spelling = "sampled",
    molecule: Tensor | None = None,
    canonical: Tensor | None = None,
    prior_share: float = 0.0,
) -> Tensor:
    r"""log G, nats: the optimal policy under ``mara_modes``: one mass for each mode. (..., V) -> (..., V).

    ``mode`` (V,) holds for each string the index of its mode (a scaffold, a cluster), 0 and up. Let A(M) be the good
    members of mode M (R >= threshold). Every good string is given a cost c that stands where MARA has m:

        ``reference``: c(y) = sum of m over A(M(y)), the mode's mass under the reference;
        ``flat``:      c(y) = |A(M(y))| m(y).

    With z the good string of highest c (ties: the higher reward), G(y) \propto pi_ref(y)/c(y) * c(z) exp(R(z)/beta) on
    good strings and pi_ref exp(R/beta) on the others. So each mode with a good member has the one mass
    c(z) exp(R(z)/beta) (``canonical``: on the canonical strings of its members alone, other spellings have theirs
    beside it), however many members it has; within a mode G is proportional to pi_ref, or flat. Where every
    mode has one member both are :func:`mara_target`; with one mode for all ``flat`` is, and ``reference`` raises
    rewards to R(z). Members count once each as ``spelling`` has it: strings, or molecules. ``prior_share``, graded
    thresholds (a member then has exp((tau_l - tau_l(z))/beta) times its part of the mode's mass) and the forward forms
    are those of :func:`mara_target`, with c for m.
    """
    log_mode = mode_log_ref(log_ref, spelling, molecule, canonical)
    levels = _levels(threshold)
    good = (as_double(reward) >= levels[..., :1]) & (log_mode > -float("inf"))
    cost = _mode_cost(log_mode, good, mode, within, _shares(good, spelling, molecule, canonical))
    return _anchored(log_ref, reward, beta, good, cost, levels, prior_share, divergence, form)


def _levels(threshold: Tensor | float | Sequence[float]) -> Tensor:
    """(..., L) rising thresholds; of a number or a tensor (...) L = 1."""
    import torch

    if isinstance(threshold, Sequence):
        return torch.tensor(threshold, dtype=torch.float64)
    return as_double(threshold).unsqueeze(-1)


def _shares(good: Tensor, spelling: Spelling, molecule: Tensor | None, canonical: Tensor | None) -> Tensor:
    """The part of a member that each string is, so that a molecule with many spellings counts once: (..., V)."""
    import torch

    if spelling == "sampled":
        return good.double()
    if spelling == "canonical":
        index = torch.as_tensor(canonical)
        return (good & (index == torch.arange(len(index)))).double()
    index = torch.as_tensor(molecule).expand(good.shape)
    spellings = good.new_zeros((*good.shape[:-1], int(index.max()) + 1), dtype=torch.float64)
    spellings = spellings.scatter_add(-1, index, good.double()).gather(-1, index)
    return good.double() / spellings.clamp(min=1)


def _mode_cost(log_mode: Tensor, good: Tensor, mode: Tensor, within: Within, share: Tensor) -> Tensor:
    """log c, (..., V); only good strings' values mean anything."""
    import torch

    index = torch.as_tensor(mode).expand(good.shape)
    empty = share.new_zeros((*good.shape[:-1], int(index.max()) + 1))
    if within == "flat":
        return log_mode + empty.scatter_add(-1, index, share).gather(-1, index).log()
    peak = torch.full_like(empty, -torch.inf).scatter_reduce(-1, index, log_mode.masked_fill(~good, -torch.inf), "amax")
    peak = peak.gather(-1, index)
    part = torch.where(good, (log_mode - peak).exp() * share, 0.0)
    return peak + empty.scatter_add(-1, index, part).gather(-1, index).log()


def _anchored(
    log_ref: Tensor,
    reward: Tensor,
    beta: Tensor | float,
    good: Tensor,
    cost: Tensor,
    levels: Tensor,
    prior_share: float,
    divergence: Literal["reverse", "forward"],
    form: Literal["reward", "reference"],
) -> Tensor:
    """log G for R(z) + tau_l(y) - tau_l(z) + (1 - s) beta (log c(z) - log c(y)) on good strings and R elsewhere."""
    import torch

    strength = positive(beta)
    log_ref, reward, cost, good = broadcast(as_double(log_ref), as_double(reward), cost, good)
    anchor_cost = cost.masked_fill(~good, -torch.inf).amax(-1, keepdim=True)
    at_anchor = good & (cost == anchor_cost)
    anchor_reward = reward.masked_fill(~at_anchor, -torch.inf).amax(-1, keepdim=True)
    raised = anchor_reward + _level(reward, levels) - _level(anchor_reward, levels)
    # Bad strings have no cost, and nothing is good in some rows: no infinity may meet another there.
    gain = torch.where(good, (1 - prior_share) * (anchor_cost - cost), 0.0)
    if divergence == "forward" and form == "reward":
        return forward_kl_target(log_ref, torch.where(good, raised + strength * gain, reward), beta).log_probs
    flat_ref, flat_reward = log_ref + gain, torch.where(good, raised, reward)
    if divergence == "forward":
        return forward_kl_target(flat_ref, flat_reward, beta).log_probs
    return tilt(flat_ref, flat_reward, strength)


def _level(reward: Tensor, levels: Tensor) -> Tensor:
    """The highest threshold that each reward reaches; the first one where it reaches none."""
    reached = (reward.unsqueeze(-1) >= levels.unsqueeze(-2)).sum(-1)
    return levels.expand(*reward.shape[:-1], levels.shape[-1]).gather(-1, (reached - 1).clamp(min=0))

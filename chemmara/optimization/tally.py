"""One row of metrics.csv: what a step did, in the terms of :mod:`chemmara.optimization.columns`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from chemmara.klrl.augmentation import Augmented
from chemmara.klrl.objectives import LossOutput
from chemmara.language.tokenizers import UnreadableText
from chemmara.language.vocabulary import Vocabulary
from chemmara.optimization.columns import LOG, LOGGED, REFUSED
from chemmara.optimization.rollout import Scored

if TYPE_CHECKING:
    from chemmara.optimization.learner import Learner


def tally(
    learner: Learner,
    scored: Scored,
    rewards: np.ndarray,
    agent_log_prob: Tensor,
    prior_log_prob: Tensor,
    output: LossOutput,
    augmented: Augmented,
    replay_losses: Sequence[float],
    clock: Sequence[float],
    offspring: int = 0,
) -> dict[str, float]:
    """The step's figures.

    ``clock`` holds the times before sampling, the prior's pass, scoring, the step's own update, breeding and replay,
    and after it. The prior's pass and replay count as update, breeding, which has its own molecules scored, as scoring.
    """
    valid, total = scored.valid, scored.scores.total
    agent, prior = agent_log_prob.cpu().double().numpy(), prior_log_prob.cpu().double().numpy()
    hits = valid & (np.nan_to_num(total, nan=-1.0) >= learner.head.threshold)
    canonical = [
        m is not None and _canonical(learner.agent.vocabulary, m.smiles) == written
        for m, written in zip(scored.molecules, scored.sampled)
    ]
    learned = np.where(valid, rewards, 0.0)[scored.learnable]
    sampling, before, scoring, own, breeding, replay = np.diff(clock)
    scoring, update = scoring + breeding, before + own + replay
    return {
        "step": learner.step_number,
        "oracle_calls": learner.seen.calls,
        "evaluations": learner.evaluations,
        "mean_score": _mean(total[valid & ~np.isnan(total)]),
        "mean_reward": _mean(learned),
        "best_score": learner.seen.best,
        "hits": learner.seen.hits,
        "scaffolds": len(learner.seen.scaffolds),
        "validity": _mean(valid),
        "unique": _mean(scored.distinct[valid]),
        "new": _mean((scored.distinct & ~np.array(scored.known, bool))[valid]),
        "failed": int((valid & np.isnan(total) & ~scored.unpaid).sum()),
        "sampled": len(scored.texts),
        "not_sent": int(scored.unpaid.sum()),
        "exploiting": int(learner.replay.lifted),
        "offspring": offspring,
        "penalised": int(scored.penalised.sum()),
        **{f"{REFUSED}{name}": learner.screen.refused[name] for name, _ in learner.screen.rules},
        "kl": _mean((agent - prior)[~scored.extra]),
        "agent_log_prob": _mean(agent[~scored.extra]),
        "prior_log_prob": _mean(prior[~scored.extra]),
        "hit_prior_log_prob": _mean(prior[hits & ~scored.extra]),
        "noncanonical": _mean(~np.array(canonical, bool)[valid]),
        "sigma": _sigma(learner),
        "anchor_reward": augmented.anchor_reward,
        "anchor_log_ref": augmented.anchor_log_ref,
        "threshold_used": augmented.threshold,
        "good": _mean(augmented.good.cpu().numpy()),
        **{name: output.logs.get(name, float("nan")) for name in LOGGED},
        **{f"{LOG}{name}": float(value) for name, value in output.logs.items() if name not in LOGGED},
        "loss": float(output.loss.detach()),
        "replay_loss": _mean(np.array(replay_losses)),
        "seconds_sampling": sampling,
        "seconds_scoring": scoring,
        "seconds_update": update,
        "molecules_per_second": len(scored.texts) / max(sampling + scoring + update, 1e-9),
    }


def _sigma(learner: Learner) -> float:
    beta = learner.update.strength.applied(learner.update.objective_parameters).beta
    return 1 / beta if beta else float("inf")


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _canonical(vocabulary: Vocabulary, smiles: str) -> str | None:
    """A canonical SMILES as the policy would write it; None where it has no such string."""
    try:
        return "".join(vocabulary.tokenizer.split(smiles))
    except UnreadableText:
        return None

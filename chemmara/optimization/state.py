"""What a checkpoint holds beside weights and optimiser, as JSON: the counts of the run, and the state of its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chemmara.optimization.rollout import Seen

if TYPE_CHECKING:
    from chemmara.optimization.learner import Learner


def state_of(learner: Learner) -> dict[str, Any]:
    """The state of a learner, but for its weights, its optimiser and torch's generator."""
    return {
        "step": learner.step_number,
        "stalled": learner.stalled,
        "evaluations": learner.evaluations,
        "seen": list(learner.seen.smiles),
        "scaffolds": list(learner.seen.scaffolds),
        "seed_hits": learner.seed_hits,
        "counts": [learner.seen.hits, learner.seen.best, learner.seen.failed],
        "filter": learner.filter.state_dict(),
        "screen": learner.screen.state_dict(),
        "replay": learner.replay.state_dict(),
        "exploit": learner.exploit.state_dict(),
        "strength": learner.update.strength.state_dict(),
        "augmentation": learner.update.augmentation.state_dict(),
        "modes": learner.update.modes.state_dict() if learner.update.modes else None,
        "buffer_modes": learner.update.buffer_modes.state_dict(),
        "failures": learner.failures.state_dict(),
        "rng": learner.rng.bit_generator.state,
    }


def take_up(learner: Learner, state: dict[str, Any]) -> None:
    """Put a learner where :func:`state_of` found one. Failures are counted anew where they are to be tried again."""
    learner.step_number, learner.stalled, learner.evaluations = state["step"], state["stalled"], state["evaluations"]
    learner.seed_hits = state.get("seed_hits", 0)
    hits, best, failed = state["counts"]
    learner.seen = Seen(dict.fromkeys(state["seen"]), dict.fromkeys(state["scaffolds"]), hits, best, failed)
    learner.filter.load_state_dict(state["filter"])
    learner.screen.load_state_dict(state["screen"])
    learner.replay.load_state_dict(state["replay"])
    learner.exploit.load_state_dict(state.get("exploit", {}))
    learner.update.strength.load_state_dict(state.get("strength", {}))
    learner.update.augmentation.load_state_dict(state["augmentation"])
    if learner.update.modes:
        learner.update.modes.load_state_dict(state["modes"])
    learner.update.buffer_modes.load_state_dict(state.get("buffer_modes", {}))
    if not learner.count_failures_anew:
        learner.failures.load_state_dict(state["failures"])
    learner.rng.bit_generator.state = state["rng"]
    learner.stop_reason = learner.reason_to_stop()

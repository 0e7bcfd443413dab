"""The optimisation step of the speed benchmark: that of a run, phase by phase, beside the plain baseline's."""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from chemmara.chemistry.molecules import Molecule
from chemmara.interrupts import Interrupted
from chemmara.optimization.watcher import Watcher
from chemmara.policies.decoding import MAX_TOKENS
from chemmara.workflows.benchmarks.memory import forget_peak, most_mb

BATCH = 64
STEPS = 3
"""Steps of a run that are timed."""
BEFORE = {"cpu": 1, "cuda": 8}
"""Steps of a run before them: what is loaded, and on a GPU made for shapes that come again, is there then."""
PHASES = ("sampling", "scoring", "update")
PLAIN = "float32, plain"

Seconds = dict[str, float]
"""Of one step: the whole under '', and its phases."""


@dataclass
class Timing:
    """What was measured of one way to make a step."""

    steps: list[Seconds] = field(default_factory=list)
    memory_mb: float = 0.0
    """The peak; on a GPU the plain side's weights, which stay there, are in that of the others."""

    @property
    def seconds(self) -> Seconds:
        """Medians."""
        return {name: statistics.median(step[name] for step in self.steps) for name in ("", *PHASES)}


class Clock(Watcher):
    """The seconds of each step of a run but the first, from the end of the step before: what a step writes is in the
    whole. On a GPU a phase ends when its work has been asked for, which is waited for where the next one needs it."""

    def __init__(self) -> None:
        self.steps: list[Seconds] = []
        self._last: float | None = None

    def step(self, metrics: Mapping[str, float]) -> None:
        now = time.perf_counter()
        if self._last is not None:
            phases = {phase: float(metrics[f"seconds_{phase}"]) for phase in PHASES}
            self.steps.append({"": now - self._last, **phases})
        self._last = now


def measure(policy: Any, repeats: int) -> dict[str, Timing]:
    """``repeats`` x ``STEPS`` steps of each side, in turn: the plain loop, and runs of the preset `vanilla` in both
    precisions, QED for a score.

    Raises :class:`Interrupted`.
    """
    from chemmara.policies.storage import save_policy

    device, plain = str(policy.device), Plain(policy)
    plain.step()
    with tempfile.TemporaryDirectory() as folder:
        prior = Path(folder) / "prior.safetensors"
        save_policy(policy, prior)

        def ours(precision: str, repeat: int) -> list[Seconds]:
            return run(prior, precision, device, repeat, Path(folder) / f"{repeat}-{precision}")

        make: dict[str, Callable[[int], list[Seconds]]] = {
            PLAIN: lambda repeat: [plain.step() for _ in range(STEPS)],
            **{precision: partial(ours, precision) for precision in ("float32", "bfloat16")},
        }
        sides = {name: Timing() for name in make}
        try:
            for repeat in range(repeats):
                for name, side in sides.items():
                    forget_peak(device)
                    side.steps += make[name](repeat)
                    side.memory_mb = max(side.memory_mb, most_mb(device))
        except Interrupted:  # there is nothing of these runs to go on with
            raise Interrupted("interrupted; the rows so far are written") from None
    return sides


def run(prior: Path, precision: str, device: str, seed: int, out: Path) -> list[Seconds]:
    """The last ``STEPS`` steps of a run as `chemmara optimize` does it."""
    import torch

    from chemmara.workflows.optimize import optimize

    steps = BEFORE[torch.device(device).type] + STEPS
    table = {
        "prior": str(prior), "preset": "vanilla", "seed": seed, "batch_size": BATCH, "max_steps": steps,
        "oracle_budget": BATCH * steps + 1, "scoring": {"component": [{"name": "qed"}]},
        "execution": {
            "device": device, "precision": precision, "threads": torch.get_num_threads(), "checkpoint_seconds": 3600.0,
        },
    }  # fmt: skip
    clock = Clock()
    optimize(table, out, watcher=clock, report=False)
    return clock.steps[-STEPS:]


class Plain:
    """REINVENT's step in the obvious way (:mod:`chemmara.workflows.benchmarks.plain`)."""

    def __init__(self, policy: Any) -> None:
        import torch

        self.policy, self.prior = copy.deepcopy(policy), copy.deepcopy(policy).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=1e-5)
        self.generator = torch.Generator(device=policy.device).manual_seed(0)

    def step(self) -> Seconds:
        from chemmara.workflows.benchmarks import plain

        phases = plain.reinforce_step(self.policy, self.prior, _qed, BATCH, self.optimizer, self.generator, MAX_TOKENS)
        return {"": sum(phases.values()), **phases}


def _qed(molecule: Molecule) -> float:
    from rdkit.Chem import QED

    return float(QED.qed(molecule.mol))  # type: ignore[no-untyped-call]

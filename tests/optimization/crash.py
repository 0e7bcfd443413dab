"""A run that is cut off, for the tests that go on with it."""

from __future__ import annotations

from chemmara.optimization.watcher import Watcher


class StopAfter(Watcher):
    """Ends the process's part in a run at a step, as a crash would."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, metrics: dict[str, float]) -> None:
        if metrics["step"] == self.at:
            raise RuntimeError("crash")

"""TensorBoard event files of a run, in RUN/tensorboard, where the package is installed."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from chemmara.optimization.watcher import Watcher

if TYPE_CHECKING:
    from chemmara.optimization.directory import RunDirectory
    from chemmara.optimization.settings import RunSettings

FOLDER = "tensorboard"


def installed() -> bool:
    """Whether event files can be written."""
    return importlib.util.find_spec("tensorboard") is not None


class TensorBoard(Watcher):
    """Writes each column of metrics.csv as a scalar; a context manager that closes the file."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._writer: Any = None

    def start(self, directory: RunDirectory, settings: RunSettings) -> None:
        self.close()
        self._folder = directory.path / FOLDER

    def step(self, metrics: Mapping[str, float]) -> None:
        step = int(metrics["step"])
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # A resumed run takes up an earlier step: what was logged past it is taken back.
            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        for name, value in metrics.items():
            if name != "step" and not math.isnan(value):
                self._writer.add_scalar(name, value, step)

    def end(self, reason: str) -> None:
        self.close()

    def close(self) -> None:
        """Close the file of the run, if one is open."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

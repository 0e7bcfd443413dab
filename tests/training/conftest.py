"""A training small enough to test with, that can be stopped at any step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from chemmara.training import fit
from chemmara.training.settings import TrainSettings

SHAPE = {"name": "lstm", "embedding_size": 8, "hidden_size": 16, "layers": 2, "dropout": 0.1}
HEADS = ["C" * i for i in range(1, 11)]
TAILS = ["O", "N", "Cl", "C(F)F", "C=O", "[N+](=O)[O-]"]


class Stopped(Exception):
    """The training was stopped by the test."""


class Act(pl.Callback):
    """Does something after one step, or after one epoch (negative), when all other callbacks are done."""

    def __init__(self, at: int, what: Callable[[], None]) -> None:
        self.at, self.what = at, what

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.at:
            self.what()

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.current_epoch + 1 == -self.at:
            self.what()


@pytest.fixture(scope="session")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 molecules and a line that is none; 3 of the 60 are held out, the others make 8 steps of 8."""
    path = tmp_path_factory.mktemp("data") / "molecules.smi"
    path.write_text("\n".join([*(head + tail for head in HEADS for tail in TAILS), "nonsense"]) + "\n")
    return path


def settings(**changes: Any) -> TrainSettings:
    small = {"epochs": 2, "batch_size": 8, "samples": 20, "precision": "float32", "checkpoint_seconds": 0.0}
    return TrainSettings(**{**small, "randomize": True, "policy": SHAPE, **changes})


@pytest.fixture
def run(molecules: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Train in ``out``; ``at`` and ``what`` interfere. Returns what was said."""
    make = fit._trainer

    def start(
        out: Path,
        at: int | None = None,
        what: Callable[[], None] | None = None,
        files: list[Path] | None = None,
        resume: bool = False,
        validation: Path | None = None,
        **changes: Any,
    ) -> list[str]:
        said: list[str] = []

        def stop() -> None:
            raise Stopped

        def trainer(chosen: TrainSettings, callbacks: list[pl.Callback]) -> pl.Trainer:
            return make(chosen, [*callbacks, *([Act(at, what or stop)] if at is not None else [])])

        with monkeypatch.context() as patch:
            patch.setattr(fit, "_trainer", trainer)
            fit.train(
                files or [molecules], out, settings(**changes), resume=resume, validation=validation,
                say=said.append, progress=False, command="chemmara train molecules.smi",
            )  # fmt: skip
        return said

    return start


@pytest.fixture(scope="session")
def finished(molecules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training of :func:`settings`, uninterrupted."""
    out = tmp_path_factory.mktemp("finished") / "prior"
    fit.train([molecules], out, settings(), say=lambda text: None, progress=False, command="chemmara train m.smi")
    return out

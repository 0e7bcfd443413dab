"""What happens at the end of an epoch and along it: a row of figures, and a progress bar."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from chemmara.chemistry.molecules import read
from chemmara.language.batches import spread_batches
from chemmara.language.corpus import Corpus
from chemmara.language.vocabulary import Vocabulary
from chemmara.places import replacing
from chemmara.policies.decoding import Decoding
from chemmara.training.likelihood import mean_nll
from chemmara.training.settings import TrainSettings

COLUMNS = (
    "epoch", "step", "learning_rate", "train_nll", "valid_nll", "validity", "uniqueness", "novelty", "seconds",
)  # fmt: skip
VALIDATION_ROWS = 10_000
Say = Callable[[str], None]


class EpochTable(pl.Callback):
    """After each epoch: validation loss and the quality of samples, as a row of ``metrics.csv`` and a line of text."""

    def __init__(self, out: Path, corpus: Corpus, held_out: Corpus, settings: TrainSettings, say: Say) -> None:
        self.path, self.corpus, self.held_out, self.settings, self.say = (
            out / "metrics.csv", corpus, held_out, settings, say,
        )  # fmt: skip
        self.rows: list[dict[str, Any]] = []
        self._started = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        self.catch_up(trainer, module, len(trainer.train_dataloader or ()))

    def catch_up(self, trainer: pl.Trainer, module: Any, steps: int) -> None:
        """Add the row of an epoch whose last step was in the checkpoint, but not yet its row."""
        known = self.rows[-1]["step"] if self.rows else 0
        if trainer.global_step > known and trainer.global_step % steps == 0:
            self._add_row(trainer, module, trainer.global_step // steps)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        self._add_row(trainer, module, trainer.current_epoch + 1)

    def _add_row(self, trainer: pl.Trainer, module: Any, epoch: int) -> None:
        train_nll = module.training_nll()
        row = self._measure(trainer, module.policy, epoch, train_nll) if trainer.is_global_zero else {}
        self.rows.append(trainer.strategy.broadcast(row))
        if trainer.is_global_zero:
            self.write()
            self._say(self.rows[-1])

    def _measure(self, trainer: pl.Trainer, policy: Any, epoch: int, train_nll: float) -> dict[str, Any]:
        settings = self.settings
        policy.eval()
        valid_nll = mean_nll(policy, spread_batches(self.held_out, settings.batch_size, VALIDATION_ROWS))
        generator = torch.Generator(device=policy.device).manual_seed(settings.seed + epoch - 1)
        quality = sample_quality(policy, self.corpus, settings.samples, generator, settings.max_tokens)
        policy.train()
        return {
            "epoch": epoch,
            "step": trainer.global_step,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "train_nll": train_nll,
            "valid_nll": valid_nll,
            **quality,
            "seconds": round(time.monotonic() - self._started, 1),
        }

    def _say(self, row: dict[str, Any]) -> None:
        self.say(
            f"epoch {row['epoch']}: loss {row['train_nll']:.2f}, validation {row['valid_nll']:.2f} nats a molecule; "
            f"valid {row['validity']:.3f}, unique {_share(row['uniqueness'])}, novel {_share(row['novelty'])}"
        )

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": time.monotonic() - self._started}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])
        self._started = time.monotonic() - state["seconds"]


def sample_quality(
    policy: Any, corpus: Corpus, n: int, generator: torch.Generator, max_tokens: int
) -> dict[str, float]:
    """Validity, uniqueness of the valid ones and novelty of the unique ones, of ``n`` raw samples at temperature 1.

    The last two are NaN where no sample is valid.
    """
    vocabulary: Vocabulary = policy.vocabulary
    sampled = policy.sample(n, generator=generator, decoding=Decoding(max_tokens=max_tokens))
    readings = [read(text) for text in vocabulary.decode(sampled.ids.cpu().numpy())]
    valid = [reading.molecule.smiles for reading in readings if reading.molecule]
    unique = list(dict.fromkeys(valid))
    return {
        "validity": len(valid) / max(n, 1),
        "uniqueness": len(unique) / len(valid) if valid else math.nan,
        "novelty": 1 - float(corpus.known(unique).mean()) if unique else math.nan,
    }


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


class ProgressLine(pl.Callback):
    """A progress bar for the epoch, with the loss, renewed every so often: reading a number off a GPU stops it."""

    EVERY = 0.25  # seconds
    _next = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=len(trainer.train_dataloader or ()))
        self.bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.EVERY
        loss = float(outputs["loss"]) * module.mean_length
        text = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {loss:.2f} nats a molecule"
        self.bar.update(self.task, completed=trainer.fit_loop.batch_idx + 1, description=text)

    def on_train_end(self, *_: Any) -> None:
        self.bar.stop()

    def on_exception(self, *_: Any) -> None:
        self.bar.stop()

"""One training directory: corpus, checkpoints, table of epochs, and in the end the prior with its model card."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from chemmara.chemistry.molecules import read
from chemmara.errors import UserError
from chemmara.interrupts import Interrupts
from chemmara.language.batches import TokenBatches
from chemmara.language.corpus import HELD_OUT, Corpus, prepare
from chemmara.language.vocabulary import Vocabulary
from chemmara.policies.catalog import CARD, WEIGHTS
from chemmara.policies.checkpoints import LAST, AtomicCheckpointIO, TimedCheckpoint, quiet_lightning
from chemmara.policies.policy import POLICIES
from chemmara.policies.storage import save_policy
from chemmara.training.card import model_card
from chemmara.training.likelihood import LikelihoodModule, mean_nll
from chemmara.training.settings import TrainSettings

COLUMNS = (
    "epoch", "step", "learning_rate", "train_nll", "valid_nll", "validity", "uniqueness", "novelty", "seconds",
)  # fmt: skip
VALIDATION_ROWS = 10_000
Say = Callable[[str], None]


def train(
    files: Sequence[str | Path],
    out: str | Path,
    settings: TrainSettings,
    *,
    validation: str | Path | None = None,
    resume: bool = False,
    say: Say = print,
    progress: bool = True,
    command: str = "",
) -> Path:
    """Fit a prior to files of molecules in ``out``; returns the path of its weights.

    Raises :class:`UserError` for bad input or a directory that holds a training already (without ``resume``). A
    finished training is left as it is.
    """
    out = Path(out)
    weights = out / WEIGHTS
    if weights.is_file() and resume:
        say(f"{out} is finished: nothing to do")
        return weights
    if (out / "checkpoints").exists() and not resume:
        raise UserError(f"'{out}' holds a training already; go on with --resume, or choose another directory")
    entry, parameters = POLICIES.build_parameters(settings.policy, "policy")
    corpus, held_out = _corpora(files, out, settings, validation, say)
    pl.seed_everything(settings.seed, verbose=False)
    policy = entry.item(corpus.vocabulary, parameters)
    policy.precision = settings.precision
    options = {"seed": settings.seed, "max_tokens": settings.max_tokens}
    batches = TokenBatches(corpus, settings.batch_size, randomize=settings.randomize, **options)
    module = LikelihoodModule(policy, settings, corpus.mean_length, len(batches) * settings.epochs)
    table = EpochTable(out, corpus, held_out, settings, say)
    interrupts = Interrupts()
    saver = TimedCheckpoint(out / "checkpoints", settings.checkpoint_seconds, interrupts)
    last = out / "checkpoints" / LAST
    say(f"{len(corpus):,} molecules, {len(corpus.vocabulary)} tokens, {len(batches):,} steps an epoch")
    with quiet_lightning(), interrupts:
        trainer = _trainer(settings, [table, saver, *([ProgressLine()] if progress else [])])
        trainer.fit(module, batches, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    if trainer.is_global_zero:
        history = {"files": [Path(f).name for f in files], "molecules": len(corpus), "command": command}
        history |= {"settings": settings.model_dump(mode="json"), **table.rows[-1]}
        (out / CARD).write_text(model_card(policy, history), encoding="utf-8")
        save_policy(policy.float(), weights, half=True, history=history)
    return weights


def _trainer(settings: TrainSettings, callbacks: list[pl.Callback]) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=settings.epochs,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        gradient_clip_val=settings.clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


def _corpora(
    files: Sequence[str | Path], out: Path, settings: TrainSettings, validation: str | Path | None, say: Say
) -> tuple[Corpus, Corpus]:
    """The training and the validation corpus, made once a directory: a resumed training reads what lies there."""
    folder = out / "corpus"
    source = [[str(Path(f).resolve()), os.stat(f).st_size] for f in map(_existing, [*files, *filter(None, [validation])])]
    wanted = {"source": source, "tokenizer": settings.tokenizer, "max_tokens": settings.max_tokens}
    made = folder / "made_from.json"
    if made.is_file():
        if json.loads(made.read_text()) != wanted:
            raise UserError(f"'{out}' was made from other files or settings; choose another directory")
        return Corpus(folder), Corpus(folder / HELD_OUT)
    options: dict[str, Any] = {
        "max_tokens": settings.max_tokens, "column": settings.column, "workers": settings.workers,
    }  # fmt: skip
    share = 0.0 if validation else 0.02
    corpus, refusals = prepare(files, folder, tokenizer=settings.tokenizer, holdout=share, **options)
    if validation:
        _, more = prepare([validation], folder / HELD_OUT, vocabulary=corpus.vocabulary, **options)
        for line in more.describe():
            say(f"{Path(validation).name}: {line}")
    for line in refusals.describe():
        say(line)
    made.write_text(json.dumps(wanted))
    return corpus, Corpus(folder / HELD_OUT)


def _existing(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise UserError(f"file '{path}' does not exist")
    return Path(path)


class EpochTable(pl.Callback):
    """After each epoch: validation loss and the quality of samples, as a row of ``metrics.csv`` and a line of text."""

    def __init__(self, out: Path, corpus: Corpus, held_out: Corpus, settings: TrainSettings, say: Say) -> None:
        self.path, self.corpus, self.held_out, self.settings, self.say = (
            out / "metrics.csv", corpus, held_out, settings, say,
        )  # fmt: skip
        self.rows: list[dict[str, Any]] = []
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        policy, settings = module.policy, self.settings
        policy.eval()
        batches = TokenBatches(self.held_out, settings.batch_size, shuffle=False)
        limit = max(VALIDATION_ROWS // settings.batch_size, 1)
        valid_nll = mean_nll(policy, (ids for number, ids in enumerate(batches) if number < limit))
        generator = torch.Generator(device=policy.device).manual_seed(settings.seed + trainer.current_epoch)
        quality = sample_quality(policy, self.corpus, settings.samples, generator, settings.max_tokens)
        policy.train()
        self.rows.append(
            {
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
                "train_nll": module.training_nll(),
                "valid_nll": valid_nll,
                **quality,
                "seconds": round(time.monotonic() - self._started, 1),
            }
        )
        self.write()
        row = self.rows[-1]
        self.say(
            f"epoch {row['epoch']}: loss {row['train_nll']:.2f}, validation {valid_nll:.2f} nats a molecule; "
            f"valid {row['validity']:.3f}, unique {row['uniqueness']:.3f}, novel {row['novelty']:.3f}"
        )

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".partial")
        with open(temporary, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(temporary, self.path)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": time.monotonic() - self._started}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])
        self._started = time.monotonic() - state["seconds"]


def sample_quality(
    policy: Any, corpus: Corpus, n: int, generator: torch.Generator, max_tokens: int
) -> dict[str, float]:
    """Validity, uniqueness of the valid ones and novelty of the unique ones, of ``n`` raw samples at temperature 1."""
    vocabulary: Vocabulary = policy.vocabulary
    sampled = policy.sample(n, generator=generator, max_tokens=max_tokens)
    readings = [read(text) for text in vocabulary.decode(sampled.ids.cpu().numpy())]
    valid = [reading.molecule.smiles for reading in readings if reading.molecule]
    unique = list(dict.fromkeys(valid))
    known = int(corpus.known(unique).sum()) if unique else 0
    return {
        "validity": len(valid) / max(n, 1),
        "uniqueness": len(unique) / max(len(valid), 1),
        "novelty": 1 - known / max(len(unique), 1),
    }


class ProgressLine(pl.Callback):
    """A progress bar for the epoch, with loss and speed."""

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
        loss = float(outputs["loss"]) * module.mean_length
        text = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {loss:.2f} nats a molecule"
        self.bar.update(self.task, completed=trainer.fit_loop.batch_idx + 1, description=text)

    def on_train_end(self, *_: Any) -> None:
        self.bar.stop()

    def on_exception(self, *_: Any) -> None:
        self.bar.stop()

"""Checkpoints that survive a kill at any moment: temporary file, fsync, rename; read back without running code."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from chemmara.errors import RunError, UserError
from chemmara.interrupts import Interrupts
from chemmara.places import replacing
from chemmara.policies.memory import give_back_memory

LAST = "last.ckpt"
TOGETHER_EVERY = 10
LEAST_FREE = 2**16
"""Bytes of a disk below which it is full."""


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's advice to developers inside the block; its warnings of substance stay."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint format, written so that the file at ``path`` is whole at every moment."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as temporary:
                _save(checkpoint, temporary)
        except (OSError, RuntimeError) as error:
            raise RunError(f"checkpoint '{target}' could not be written: {_reason(error)}") from None

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        return read_checkpoint(path)


def _save(checkpoint: dict[str, Any], path: Path) -> None:
    try:
        with open(path, "wb") as stream:
            torch.save(checkpoint, stream)
    except RuntimeError:
        # torch says of a full disk that a position is unexpected; it is full as long as the half file lies there.
        if shutil.disk_usage(path.parent).free < LEAST_FREE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        raise


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content. Only numbers and plain tables are accepted: nothing in the file can run.

    Raises :class:`UserError` if the file is missing, damaged or holds anything else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"checkpoint '{path}' does not exist") from None
    except pickle.UnpicklingError:
        fault = "it is damaged or holds more than weights and tables"
        raise UserError(f"checkpoint '{path}' is refused: {fault}") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(f"checkpoint '{path}' cannot be read: {_reason(error)}") from None
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"'{path}' is no checkpoint of chemmara")
    return content


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().split("\n")[0][:200]


class TimedCheckpoint(pl.Callback):
    """Writes ``last.ckpt`` every ``seconds``, when training ends, and after the step in which Ctrl-C came."""

    def __init__(self, folder: str | Path, seconds: float, interrupts: Interrupts | None = None) -> None:
        self.path = Path(folder) / LAST
        self.seconds = seconds
        self.interrupts = interrupts or Interrupts()
        self._saved_at = time.monotonic()
        self._saved_step = -1

    def on_train_start(self, *_: Any) -> None:
        # Lightning's own answer to SIGTERM ends the process after the step, saved or not, with exit code 0.
        self.interrupts.take_back()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        stop, due = self.interrupts.requested, time.monotonic() - self._saved_at >= self.seconds
        if getattr(trainer, "world_size", 1) > 1:
            # All processes write at the same step or none does; asking at every step would hold them up.
            if trainer.global_step % TOGETHER_EVERY:
                return
            agree = trainer.strategy.reduce_boolean_decision
            stop, due = agree(stop, all=False), agree(due, all=False)
            self.interrupts.requested = stop
        if stop:
            self.save(trainer)
            self.interrupts.check()
        if due:
            self.save(trainer)

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.save(trainer)

    def step_id(self, trainer: pl.Trainer) -> int:
        """What tells one step's state from another's."""
        return int(trainer.global_step)

    def save(self, trainer: pl.Trainer) -> None:
        """Write the checkpoint now, unless this step's is there already."""
        if self.step_id(trainer) == self._saved_step:
            return
        trainer.save_checkpoint(self.path)
        give_back_memory()
        self._saved_at = time.monotonic()
        self._saved_step = self.step_id(trainer)

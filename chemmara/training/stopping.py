"""Early stopping: the weights of the epoch with the lowest validation loss, and an end when none has been lower."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from chemmara.training.epochs import EpochTable


class EarlyStop(pl.Callback):
    """Ends a training after ``patience`` epochs without a lower validation loss; does nothing where that is 0.

    Stands after its :class:`EpochTable` in the list of callbacks. The best weights are part of the checkpoint, so that
    a resumed training ends as if never stopped.
    """

    def __init__(self, table: EpochTable) -> None:
        self.table, self.patience = table, table.settings.patience
        self.best, self.epoch = math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        self.look(trainer, module)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.look(trainer, module)

    def look(self, trainer: pl.Trainer, module: Any) -> None:
        """Take the newest row of the table into account."""
        if not self.patience or not self.table.rows:
            return
        row = self.table.rows[-1]
        if row["valid_nll"] < self.best:
            self.best, self.epoch = row["valid_nll"], row["epoch"]
            state = module.policy.state_dict()
            self.weights = {name: value.detach().to("cpu", copy=True) for name, value in state.items()}
        elif row["epoch"] - self.epoch >= self.patience:
            trainer.should_stop = True

    def restore(self, policy: Any) -> dict[str, Any]:
        """Give the policy the best weights; returns the row of their epoch."""
        if not self.weights:
            return self.table.rows[-1]
        policy.load_state_dict(self.weights)
        return next(row for row in self.table.rows if row["epoch"] == self.epoch)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.epoch, self.weights = state["best"], int(state["epoch"]), state["weights"]

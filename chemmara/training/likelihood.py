"""Maximum likelihood: the LightningModule that fits a prior to molecules."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from chemmara.errors import UserError
from chemmara.training.settings import LikelihoodSettings

# What may differ when a training goes on; anything else would make it another training.
MAY_CHANGE = ("epochs", "samples", "workers", "checkpoint_seconds", "column", "precision")


class LikelihoodModule(pl.LightningModule):
    """Minimises the negative log-likelihood per molecule, in nats.

    The loss is that sum over ``mean_length`` (tokens a molecule in the corpus): as large as a loss per token, but
    each token weighs the same in short and in long batches, which bucketing by length would otherwise tilt.
    """

    def __init__(self, policy: Any, settings: LikelihoodSettings, mean_length: float, total_steps: int) -> None:
        super().__init__()
        self.policy, self.settings = policy, settings
        self.mean_length, self.total_steps = mean_length, total_steps
        self._sum = self._count = 0.0

    def training_step(self, ids: Tensor, _: int) -> Tensor:
        nll: Tensor = -self.policy.log_prob(ids)
        self._sum += float(nll.detach().sum())
        self._count += len(ids)
        return nll.mean() / self.mean_length

    def training_nll(self) -> float:
        """Mean negative log-likelihood per molecule (nats) since the last call."""
        mean = self._sum / self._count if self._count else math.nan
        self._sum = self._count = 0.0
        return mean

    def configure_optimizers(self) -> Any:
        s = self.settings
        warmup = min(s.warmup, self.total_steps // 10)
        optimizer = torch.optim.AdamW(self.policy.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay)

        def shape(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            progress = (step - warmup) / max(self.total_steps - warmup, 1)
            return max(0.5 * (1 + math.cos(math.pi * min(progress, 1.0))), 1e-3)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, shape)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["chemmara"] = {
            "sum": self._sum,
            "count": self._count,
            "rng": torch.get_rng_state(),
            "settings": self.settings.model_dump(mode="json"),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["chemmara"]
        now = self.settings.model_dump(mode="json")
        for name, was in state.get("settings", {}).items():
            if name not in MAY_CHANGE and now.get(name) != was:
                raise UserError(f"the training was begun with {name} = {was}, not {now.get(name)}; go on with that")
        self._sum, self._count = state["sum"], state["count"]
        torch.set_rng_state(state["rng"])


@torch.no_grad()
def mean_nll(policy: Any, batches: Any) -> float:
    """Mean negative log-likelihood per molecule in nats over all batches of ids; NaN if there is none."""
    total, count = 0.0, 0
    for ids in batches:
        total -= float(policy.log_prob(ids).double().sum())
        count += len(ids)
    return total / count if count else math.nan

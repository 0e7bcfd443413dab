"""Maximum likelihood: the LightningModule that fits a prior to molecules."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed

from chemmara.chemistry.molecules import read
from chemmara.errors import UserError
from chemmara.klrl.objectives import ObjectiveParameters, PolicyBatch, reverse_kl
from chemmara.language.vocabulary import PAD
from chemmara.policies.dropout import without_dropout
from chemmara.training.settings import LikelihoodSettings

VALIDITY_PHASE = 0.75  # share of the steps after which the validity of samples counts too
VALIDITY_SAMPLES = 32
# What may differ when a training goes on; anything else would make it another training.
MAY_CHANGE = ("epochs", "patience", "samples", "workers", "devices", "checkpoint_seconds", "column", "precision")


class LikelihoodModule(pl.LightningModule):
    """Minimises the negative log-likelihood per molecule, in nats.

    The loss is that sum over ``mean_length`` (tokens a molecule in the corpus): as large as a loss per token, but
    each token weighs the same in short and in long batches, which bucketing by length would otherwise tilt.
    Processes that share a step each take their rows over the step's molecules, so that the mean of their gradients is
    the gradient of the whole step.

    With a ``validity_weight`` w the last quarter of the steps ascends E_data[log p] + w P(valid), nats, P(valid) the
    probability that a sample is a molecule: its gradient is REINFORCE with a leave-one-out baseline on 32 samples a
    step. All data being valid, the two do not pull apart until the network's capacity ends.
    """

    def __init__(self, policy: Any, settings: LikelihoodSettings, mean_length: float, total_steps: int) -> None:
        super().__init__()
        self.policy, self.settings = policy, settings
        self.mean_length, self.total_steps = mean_length, total_steps
        # A tensor on the device: reading a number off a GPU at every step would stop it each time.
        self._sum: Tensor | float = 0.0
        self._count = 0

    def training_step(self, ids: Tensor, _: int) -> Tensor:
        nll: Tensor = -self.policy.log_prob(ids)
        self._sum = self._sum + nll.detach().sum().double()
        if distributed.is_initialized():
            count = (ids[:, 0] != PAD).sum()
            self._count += int(count)
            distributed.all_reduce(count)
            loss = nll.sum() * distributed.get_world_size() / count
        else:
            self._count += len(ids)
            loss = nll.mean()
        if self.settings.validity_weight and self.global_step >= VALIDITY_PHASE * self.total_steps:
            loss = loss + self.settings.validity_weight * self._validity_loss()
        return loss / self.mean_length

    def _validity_loss(self) -> Tensor:
        """A scalar whose gradient estimates that of -P(valid)."""
        generator = torch.Generator(device=self.policy.device).manual_seed(self.settings.seed + self.global_step)
        # What is sampled and what is learned from must be one distribution, which dropout would make two of.
        with without_dropout(self.policy):
            sampled = self.policy.sample(VALIDITY_SAMPLES, generator=generator)
            log_prob = self.policy.log_prob(sampled.ids)
        texts = self.policy.vocabulary.decode(sampled.ids.cpu().numpy())
        parsed = torch.tensor([read(text).molecule is not None for text in texts], device=sampled.ids.device)
        valid = parsed & sampled.ended
        batch = PolicyBatch(log_prob, log_prob.detach(), valid.float(), torch.ones_like(valid))
        return reverse_kl(batch, ObjectiveParameters(beta=0)).loss

    def training_nll(self) -> float:
        """Mean negative log-likelihood per molecule (nats) since the last call."""
        total, count = self._sums()
        self._sum, self._count = 0.0, 0
        return total / count if count else math.nan

    def _sums(self) -> tuple[float, int]:
        """Negative log-likelihood and molecules since the last reading, of all processes."""
        sums = torch.tensor([float(self._sum), float(self._count)], dtype=torch.float64, device=self.policy.device)
        if distributed.is_initialized():
            distributed.all_reduce(sums)
        return float(sums[0]), int(sums[1])

    def configure_optimizers(self) -> Any:
        s = self.settings
        warmup = min(s.warmup, self.total_steps // 10)
        optimizer = torch.optim.AdamW(
            self.policy.parameters(),
            lr=s.learning_rate,
            weight_decay=s.weight_decay,
            fused=self.policy.device.type == "cuda",
        )

        def shape(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            progress = (step - warmup) / max(self.total_steps - warmup, 1)
            return max(0.5 * (1 + math.cos(math.pi * min(progress, 1.0))), 1e-3)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, shape)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        total, count = self._sums()
        checkpoint["chemmara"] = {
            "sum": total,
            "count": count,
            "rng": torch.get_rng_state(),
            "settings": self.settings.model_dump(mode="json"),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["chemmara"]
        now = self.settings.model_dump(mode="json")
        for name, was in state.get("settings", {}).items():
            if name not in MAY_CHANGE and now.get(name) != was:
                raise UserError(f"the training was begun with {name} = {was}, not {now.get(name)}; go on with that")
        if not distributed.is_initialized() or distributed.get_rank() == 0:
            self._sum, self._count = state["sum"], int(state["count"])
        torch.set_rng_state(state["rng"])


@torch.no_grad()
def mean_nll(policy: Any, batches: Any) -> float:
    """Mean negative log-likelihood per molecule in nats over all batches of ids; NaN if there is none."""
    total, count = 0.0, 0
    for ids in batches:
        total -= float(policy.log_prob(ids).double().sum())
        count += len(ids)
    return total / count if count else math.nan

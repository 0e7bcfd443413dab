"""One update: rewards augmented, the agent's log-probabilities, and the loss that is descended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chemmara.klrl.augmentation import Augmented, Samples, build_augmentation
from chemmara.klrl.objectives import LossOutput, PolicyBatch, TokenLogProbs
from chemmara.language.vocabulary import PAD
from chemmara.optimization.labels import ModeLabels, sample_labels, unpadded
from chemmara.optimization.repeats import once_each
from chemmara.optimization.replay import Remembered
from chemmara.optimization.rollout import first_of
from chemmara.optimization.settings import RunSettings
from chemmara.optimization.spelling import BufferModes, mode_log_ref


@dataclass(frozen=True)
class Batch:
    """Sequences to learn from, B rows: the step's own, or replayed ones.

    ``ids``: (B, T). ``smiles``: canonical, None for what is no molecule. ``rewards``: (B,), NaN where the oracle
    failed; invalid text counts as 0 whatever stands there. ``masks``: which rows to learn from, and which are the first
    of their molecule, (B,) each; None for replayed rows. ``prior_log_prob``: (B,), nats, of these very strings.
    """

    ids: Tensor
    texts: Sequence[str]
    smiles: Sequence[str | None]
    rewards: np.ndarray
    masks: tuple[np.ndarray, np.ndarray] | None
    prior_log_prob: Tensor

    @property
    def valid(self) -> np.ndarray:
        return np.array([smiles is not None for smiles in self.smiles], dtype=bool)

    @property
    def learnable(self) -> np.ndarray:
        return self.masks[0] if self.masks else np.ones(len(self.texts), dtype=bool)

    @property
    def distinct(self) -> np.ndarray:
        return self.masks[1] if self.masks else self.valid & first_of(self.smiles)


class Update:
    """The augmentation, the strength and the objective of a run, with their state."""

    def __init__(
        self, settings: RunSettings, agent: Any, prior: Any, rng: np.random.Generator, generator: torch.Generator
    ) -> None:
        self.agent, self.prior, self.rng, self.generator = agent, prior, rng, generator
        self.objective, self.objective_parameters = settings.objective[0].item, settings.objective[1]
        self.strength = settings.strength[0].built(settings.strength[1], "strength")
        self.augmentation = build_augmentation(settings.head.augmentation, settings.head.threshold)
        self.modes = ModeLabels(self.augmentation.modes) if self.augmentation.modes else None
        self.buffer_modes = BufferModes(prior, self.augmentation.spelling)

    def __call__(
        self, batch: Batch, buffer: Sequence[Remembered], learned: Mapping[str, Tensor], budget_spent: float
    ) -> tuple[LossOutput, Augmented]:
        """The loss, for the caller to descend, and what the augmentation did.

        ``buffer``: what the replay buffer holds, for anchors that look at it. ``learned``: the objective's own
        parameters. ``budget_spent``: share of the oracle budget, for thresholds that follow it.
        """
        prior_log_prob, device = batch.prior_log_prob, batch.prior_log_prob.device
        # A string that the prior excludes is infinitely far from it: one would make the whole batch's loss infinite.
        valid, learnable = batch.valid, batch.learnable & prior_log_prob.isfinite().cpu().numpy()
        log_ref_seeds = self.rng.integers(2**31 - 16, size=len(batch.texts)).tolist()
        modes = mode_log_ref(
            self.prior,
            self.augmentation.spelling,
            batch.ids,
            batch.texts,
            batch.smiles,
            prior_log_prob,
            log_ref_seeds,
        )
        agent_log_prob, tokens = self._agent_log_prob(batch.ids)
        samples = Samples(
            reward=torch.from_numpy(np.where(valid, batch.rewards, 0.0)).float().to(device),
            log_ref=prior_log_prob,
            mode_log_ref=modes,
            counts=torch.from_numpy(valid & learnable).to(device),
            distinct=torch.from_numpy(batch.distinct.copy()).to(device),
            log_agent=agent_log_prob.detach(),
            learned=torch.from_numpy(learnable.copy()).to(device),
            **sample_labels(self.modes, batch.smiles, unpadded(batch.ids), device),
        )
        parameters = self.strength.applied(self.objective_parameters)
        augmented = self.augmentation(
            samples,
            parameters.prior_strength,
            self.generator,
            self._buffer_samples(buffer),
            replayed=batch.masks is None,
            budget_spent=budget_spent,
        )
        counts = torch.from_numpy(learnable.copy()).to(device)
        rows = PolicyBatch(agent_log_prob, prior_log_prob, augmented.reward, counts, tokens, learned)
        return self.objective(rows, parameters), augmented

    def _agent_log_prob(self, ids: Tensor) -> tuple[Tensor, TokenLogProbs | None]:
        """log pi of ids (B, T), and token by token if the objective wants that."""
        if not self.objective_parameters.needs_tokens:
            return once_each(self.agent.log_prob, ids), None
        agent = once_each(self.agent.token_log_probs, ids)
        with torch.no_grad():
            prior = once_each(self.prior.token_log_probs, ids)
        return agent.sum(dim=1), TokenLogProbs(agent, prior, (ids != PAD).to(agent.device))

    def _buffer_samples(self, buffer: Sequence[Remembered]) -> Samples | None:
        if not buffer or not self.augmentation.looks_at_buffer:
            return None
        device = self.generator.device
        log_ref = torch.tensor([entry.prior_log_prob for entry in buffer], device=device)
        reward = torch.tensor([entry.reward for entry in buffer], device=device)
        every = torch.ones(len(buffer), dtype=torch.bool, device=device)
        labels = {}
        if self.modes:
            smiles, rows = [entry.smiles for entry in buffer], [entry.ids for entry in buffer]
            labels = sample_labels(self.modes, smiles, rows, device)
        return Samples(reward, log_ref, self.buffer_modes(buffer).to(device), every, every, **labels)

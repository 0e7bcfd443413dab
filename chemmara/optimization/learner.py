"""The LightningModule that tunes an agent: sample, score, augment, update."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from chemmara.klrl.augmentation import Augmented
from chemmara.klrl.objectives import LossOutput
from chemmara.language.vocabulary import pad
from chemmara.optimization.breeding import offspring
from chemmara.optimization.couples import Breeders
from chemmara.optimization.directory import BUDGET_SPENT, HITS_FOUND, STEPS_DONE
from chemmara.optimization.exploit import Exploit
from chemmara.optimization.labels import unpadded
from chemmara.optimization.repeats import of_rows, once_each
from chemmara.optimization.replay import Remembered, ReplayBuffer
from chemmara.optimization.rollout import Sampled, Scored, Seen, ledger_rows, score_batch
from chemmara.optimization.sampling import as_given, draw
from chemmara.optimization.screening import Screen
from chemmara.optimization.settings import RunSettings
from chemmara.optimization.spelling import canonical_entries
from chemmara.optimization.state import state_of, take_up
from chemmara.optimization.tally import tally
from chemmara.optimization.update import Batch, Update
from chemmara.policies.begun import given
from chemmara.policies.dropout import take_off
from chemmara.scoring.failure import FailureCounter
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.rows import BRED, SEED, RunRow

STALLED_STEPS = 200
ROWS_AT_ONCE = {"cpu": 256, "cuda": 4096}
"""Sequences that a model goes through at a time where nothing is learned: it holds some MB for each of them."""
WriteStep = Callable[[int, Sequence[RunRow], dict[str, float]], None]


class Learner(pl.LightningModule):
    """One run. Its whole state (agent, optimiser, budget, filter, replay, generators) is in Lightning's checkpoint.

    ``write_step(step, rows, metrics)`` is called at the end of each step with what the ledger and metrics.csv keep.
    ``starts``: texts that all sequences begin with; ``policy`` is the agent given them, and so is ``prior``.
    """

    def __init__(
        self,
        settings: RunSettings,
        agent: Any,
        prior: Any,
        scoring: ScoringFunction,
        write_step: WriteStep,
        seeds: Sequence[str] = (),
        count_failures_anew: bool = False,
        starts: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings, self.head = settings, settings.head
        take_off(agent)
        self.agent = agent.train()
        # Outside the module's children: the frozen prior belongs neither to the checkpoint nor to the optimiser.
        self.__dict__["prior"] = given(prior.eval().requires_grad_(False), starts)
        self.__dict__["policy"] = given(self.agent, starts)
        self.prior: Any
        self.policy: Any
        self.scoring, self.write_step, self.seeds = scoring, write_step, list(seeds)
        self.objective_parameters = settings.objective[1]
        # The objective's own parameters; as children of the module they are in the checkpoint.
        own = self.objective_parameters.learned.items()
        self.learned = torch.nn.ParameterDict({name: torch.tensor(each.initial) for name, each in own})
        self.filter = settings.diversity_filter[0].built(settings.diversity_filter[1], "diversity_filter")
        self.screen = Screen(settings.screen)
        self.replay = ReplayBuffer(self.head.replay, keep_best=self.head.exploit.used)
        self.exploit = Exploit(self.head.exploit, self.head.oracle_budget)
        self.failures = FailureCounter(self.head.failure)
        self.count_failures_anew = count_failures_anew
        self.seen = Seen.empty()
        self.breeders = Breeders(torch.get_num_threads())
        self.rng = np.random.default_rng(self.head.seed)
        self.generator = torch.Generator(device=prior.device).manual_seed(self.head.seed)
        self.update = Update(settings, self.policy, self.prior, self.rng, self.generator)
        self.step_number = self.stalled = self.evaluations = self.seed_hits = 0
        self.stop_reason = ""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups: list[dict[str, Any]] = [{"params": list(self.agent.parameters())}]
        for name, each in self.objective_parameters.learned.items():
            groups.append({"params": [self.learned[name]], "lr": each.learning_rate})
        fused = self.generator.device.type == "cuda" or None
        return torch.optim.Adam(groups, lr=self.objective_parameters.learning_rate, fused=fused)

    # One step ---------------------------------------------------------------------------------------------------------

    def training_step(self, batch: Any, _: int) -> None:
        if self.stop_reason:
            return
        if self.step_number == 0 and self.seeds and not self.seen.smiles:
            self._take_seeds()
            self._end_of_step(new=True)
            return
        self.step_number += 1
        self.screen.lift(self.exploit.lifts(self.seen.calls))
        self.replay.lift(self.exploit.due(self.seen.calls))
        clock = [time.perf_counter()]
        sampled, batch = draw(
            self.policy, self._read, self.screen, self.seen, batch_size=self.head.batch_size,
            budget=self.head.oracle_budget, generator=self.generator, max_tokens=self.head.max_tokens,
        )  # fmt: skip
        clock.append(time.perf_counter())
        # Before the scoring: a GPU goes through the prior while the oracle is at work on the processor.
        prior = of_rows(self._prior_log_prob, sampled.ids, batch.admitted | ~batch.extra)
        clock.append(time.perf_counter())
        scored = self._score(batch)
        clock.append(time.perf_counter())
        filtered = self.filter(scored.molecules, scored.scores.total, scored.first.tolist())
        # A new array: a filter may hand back the scores themselves, and those are reported.
        rewards = np.where(scored.penalised, 0.0, filtered)
        output, augmented = self._learn(sampled.ids, scored, rewards, prior)
        fresh = self._remember(sampled.ids, scored, rewards, prior)
        clock.append(time.perf_counter())
        bred = self._breed(len(scored.texts))
        clock.append(time.perf_counter())
        if self.head.replay.purge:
            self.replay.purge(self.filter.full, self.screen.closed)
        beside = (fresh, _invalid(sampled.ids, scored, prior)) if self.head.replay.with_batch else ([], [])
        replay_losses = [self._replay_update(*beside) for _ in range(self.head.replay.updates) if len(self.replay)]
        clock.append(time.perf_counter())
        metrics = tally(
            self, scored, rewards, sampled.log_prob, prior, output, augmented, replay_losses, clock, len(bred)
        )
        hits = scored.new_hits(self.head.threshold)
        self.update.strength.learn(sum(hits), len(hits))
        self.exploit.learn(hits)
        rows = ledger_rows(scored, self.step_number, sampled.log_prob.cpu().numpy(), prior.cpu().numpy())
        self.write_step(self.step_number, [*rows, *bred], metrics)
        self._end_of_step(new=bool(scored.first.any()) or any(row.score == row.score for row in bred))

    def _read(self, ids: Tensor) -> tuple[list[str], list[str]]:
        """The SMILES of ids (B, T), and the strings as written."""
        array = ids.cpu().numpy()
        texts = self.policy.vocabulary.decode(array)
        plain = self.policy.vocabulary.tokenizer_name == "smiles"
        return texts, texts if plain else self.policy.vocabulary.written(array)

    def _score(self, batch: Sampled) -> Scored:
        scored = score_batch(batch, self.scoring, self.seen, self.head.oracle_budget, self.head.threshold)
        self.screen.learn(scored.molecules, scored.scores.total, scored.first)
        self.evaluations += scored.scores.evaluations
        self.failures.add(scored.scores, scored.first)
        return scored

    def _prior_log_prob(self, ids: Tensor) -> Tensor:
        return once_each(partial(in_parts, self.prior), ids)

    def _learn(
        self, ids: Tensor, scored: Scored, rewards: np.ndarray, prior_log_prob: Tensor
    ) -> tuple[LossOutput, Augmented]:
        """The step's own update. Rows beyond the batch that teach nothing are left out before the model sees them."""
        rows = np.flatnonzero(~scored.extra | scored.first)
        texts = [scored.texts[row] for row in rows]
        # What the screen penalises is learned from as text that is no molecule, and sets no threshold.
        smiles = [
            molecule.smiles if (molecule := scored.molecules[row]) and not scored.penalised[row] else None
            for row in rows
        ]
        learnable, distinct = scored.learnable[rows], scored.distinct[rows]
        at, rewards = torch.from_numpy(rows), rewards[rows]
        ids, prior_log_prob = ids[at.to(ids.device)], prior_log_prob[at]
        joining = self.replay.joining(self.rng)
        if joining:
            ids = torch.from_numpy(pad([*unpadded(ids), *(entry.ids for entry in joining)])).to(ids.device)
            texts += self._read(ids[len(rows) :])[0]
            smiles += [entry.smiles for entry in joining]
            rewards = np.append(rewards, [entry.reward for entry in joining])
            learnable = np.append(learnable, np.ones(len(joining), dtype=bool))
            distinct = np.append(distinct, np.zeros(len(joining), dtype=bool))  # a threshold is for what was sampled
            also = torch.tensor([entry.prior_log_prob for entry in joining], device=prior_log_prob.device)
            prior_log_prob = torch.cat([prior_log_prob, also])
        with torch.set_grad_enabled(not self.head.replay.only):
            return self._descend(Batch(ids, texts, smiles, rewards, (learnable, distinct), prior_log_prob))

    def _descend(self, batch: Batch) -> tuple[LossOutput, Augmented]:
        """One step of the optimiser."""
        spent = self.seen.calls / self.head.oracle_budget
        output, augmented = self.update(batch, self.replay.entries, dict(self.learned.items()), spent)
        optimizer: Any = self.optimizers()
        optimizer.zero_grad(set_to_none=True)
        if output.loss.requires_grad and bool(batch.learnable.any()) and bool(torch.isfinite(output.loss)):
            self.manual_backward(output.loss)
            optimizer.step()
        return output, augmented

    # Replay -----------------------------------------------------------------------------------------------------------

    def _remember(self, ids: Tensor, scored: Scored, rewards: np.ndarray, prior: Tensor) -> list[Remembered]:
        """Offer the buffer the scored molecules; those to learn from come back."""
        if not self.head.replay.used:
            return []
        rows, nats = unpadded(ids), prior.tolist()
        molecules = {
            row: Remembered(molecule.smiles, rows[row], molecule.scaffold, float(rewards[row]), nats[row])
            for row, molecule in enumerate(scored.molecules)
            if molecule is not None and scored.distinct[row] and not np.isnan(rewards[row])
        }
        if self.head.replay.canonical:
            molecules = dict(zip(molecules, canonical_entries(self.prior, list(molecules.values())), strict=True))
        self.replay.add(list(molecules.values()))
        return [molecule for row, molecule in molecules.items() if scored.learnable[row]]

    def _replay_update(self, fresh: Sequence[Remembered], invalid: Sequence[Remembered]) -> float:
        """Learn from molecules of the buffer, and beside them from the step's own and its strings that are none."""
        entries = [*self.replay.draw(self.rng), *fresh]
        spelled = [self.replay.spell(entry, self.policy.vocabulary, self.rng) for entry in entries]
        smiles = [*(entry.smiles for entry in entries), *(None for _ in invalid)]
        entries += invalid
        ids = torch.from_numpy(pad([*spelled, *(entry.ids for entry in invalid)])).to(self.generator.device)
        texts, _ = self._read(ids)
        rewards = np.array([entry.reward for entry in entries])
        if self.head.replay.randomize:
            prior = self._prior_log_prob(ids)
        else:  # the spelling is the one whose log-probability was kept, and the prior does not change
            prior = torch.tensor([entry.prior_log_prob for entry in entries], device=ids.device)
        output, _ = self._descend(Batch(ids, texts, smiles, rewards, None, prior))
        return float(output.loss.detach())

    def _take_seeds(self) -> None:
        """Step 0: the seed molecules, scored within the budget and put into the replay buffer."""
        ids = torch.from_numpy(self.policy.vocabulary.encode_batch(self.seeds))
        self.write_step(0, self._take_in(ids, as_given(*self._read(ids)), SEED), {})
        self.seed_hits = self.seen.hits

    def _take_in(self, ids: Tensor, batch: Sampled, origin: str, start: int = 0) -> list[RunRow]:
        """Score molecules that the agent has not sampled, and put them into the replay buffer."""
        scored = self._score(batch)
        prior, agent = (of_rows(partial(in_parts, policy), ids, batch.admitted) for policy in (self.prior, self.policy))
        filtered = self.filter(scored.molecules, scored.scores.total, scored.first.tolist())
        self._remember(ids, scored, np.where(scored.penalised, 0.0, filtered), prior)
        return ledger_rows(scored, self.step_number, agent.cpu().numpy(), prior.cpu().numpy(), start, origin)

    def _breed(self, start: int) -> list[RunRow]:
        """The step's generations of offspring, as rows that come after ``start`` others."""
        genetic, rows = self.head.genetic, list[RunRow]()
        if self.replay.lifted:  # it digs
            genetic = genetic.model_copy(update={"ahead": max(genetic.ahead, self.head.exploit.ahead)})
        for _ in range(genetic.generations if genetic.offspring else 0):
            bred, batch = offspring(
                self.replay.entries, genetic, self.head.replay.rank_coefficient, self.policy.vocabulary, self._written,
                self.screen, self.seen, self.breeders,
                budget=self.head.oracle_budget, max_tokens=self.head.max_tokens, rng=self.rng,
            )  # fmt: skip
            if bred:
                ids = torch.from_numpy(pad(bred)).to(self.generator.device)
                rows += self._take_in(ids, batch, BRED, start + len(rows))
        return rows

    def _written(self, ids: list[int]) -> tuple[str, str]:
        texts, strings = self._read(torch.tensor([ids]))
        return texts[0], strings[0]

    # The end of a step, and of the run --------------------------------------------------------------------------------

    def _end_of_step(self, new: bool) -> None:
        self.stalled = 0 if new else self.stalled + 1
        self.failures.check()
        self.stop_reason = self.reason_to_stop()
        if self.stop_reason:
            self.trainer.should_stop = True

    def reason_to_stop(self) -> str:
        """Why there is no further step, from the counts and the config alone; empty while there is one."""
        if self.seen.calls >= self.head.oracle_budget:
            return BUDGET_SPENT
        if self.head.max_steps is not None and self.step_number >= self.head.max_steps:
            return STEPS_DONE
        if self.head.max_hits is not None and self.seen.hits - self.seed_hits >= self.head.max_hits:
            return HITS_FOUND
        if self.stalled >= STALLED_STEPS:
            return f"no new molecule in {STALLED_STEPS} steps: the agent has collapsed"
        return ""

    # State ------------------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["chemmara"] = json.dumps(state_of(self))
        checkpoint["generator"] = self.generator.get_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        take_up(self, json.loads(checkpoint["chemmara"]))
        if self.head.replay.canonical:  # an older version's buffer has them as they were sampled
            self.replay.respell(lambda entries: canonical_entries(self.prior, entries))
        self.generator.set_state(checkpoint["generator"].cpu())


@torch.no_grad()
def in_parts(policy: Any, ids: Tensor) -> Tensor:
    """log pi of ids (B, T), (B,): a file of seed molecules may be long, and a step samples far more than it sends."""
    return torch.cat([policy.log_prob(part) for part in torch.split(ids, ROWS_AT_ONCE[ids.device.type])])


def _invalid(ids: Tensor, scored: Scored, prior: Tensor) -> list[Remembered]:
    """The batch's strings that are no molecule, at reward 0, for what is replayed to be raised above them."""
    rows = np.flatnonzero(~scored.valid & scored.learnable).tolist()
    texts, nats = unpadded(ids), prior.tolist()
    return [Remembered(scored.texts[row], texts[row], "", 0.0, nats[row]) for row in rows]


class Steps:
    """Lightning's loader: one number a step, until the learner has a reason to stop."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    def __iter__(self) -> Iterator[int]:
        while not self.learner.stop_reason:
            yield self.learner.step_number

"""Creative question answering [arXiv 2510.20817]: a policy tuned on a reward model that likes many answers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from chemmara.errors import UserError
from chemmara.klrl.augmentation import Augmented, Samples
from chemmara.klrl.objectives import OBJECTIVES, LossOutput, PolicyBatch, TokenLogProbs
from chemmara.metrics.text import GPT2_VOCABULARY
from chemmara.studies import creative_qa_grammar as grammar
from chemmara.studies.causal_lm import CausalLM, Completions
from chemmara.studies.creative_qa_measure import Answers, embedding
from chemmara.studies.creative_qa_prompts import read_prompts
from chemmara.studies.creative_qa_report import Follow, Writer
from chemmara.studies.creative_qa_settings import BASE, CreativeQASettings
from chemmara.studies.creative_qa_tiny import tiny_pair
from chemmara.studies.creative_qa_update import augment_groups, first_in_group, grouped_loss, mean
from chemmara.studies.reward_model import RewardModel

Row = dict[str, Any]
THINKING = re.compile(r".*</think>\s*", re.DOTALL)


def load_models(settings: CreativeQASettings) -> tuple[CausalLM, RewardModel]:
    """The policy with its frozen reference, and the reward model."""
    if settings.tiny:
        return tiny_pair(settings.tiny_seed)
    model = settings.model
    reward_model = RewardModel.load(settings.reward_model, dtype=model.precision, device=model.device)
    policy = CausalLM.load(
        model.name,
        lora=model.lora if model.tuning == "lora" else False,
        dtype=model.precision,
        device=model.device,
        gradient_checkpointing=model.gradient_checkpointing,
    )
    return policy, reward_model


class CreativeQA:
    """The study on one pair of models. ``settings`` are resolved ones; ``notes`` holds what the user should be told."""

    def __init__(self, settings: CreativeQASettings, policy: CausalLM, reward_model: RewardModel) -> None:
        self.settings, self.policy, self.reward_model = settings, policy, reward_model
        self.notes: list[str] = []
        self.prompts = self._usable(read_prompts(settings.prompts) if settings.prompts else grammar.prompts())
        self.evaluated = self._usable(read_prompts(settings.evaluate)) if settings.evaluate else self.prompts
        self.embed = embedding(settings.embedding, settings.model.device, settings.score_batch)
        self.vocabulary_size = len(policy.tokenizer) if settings.tiny else GPT2_VOCABULARY

    def _usable(self, prompts: list[str]) -> list[str]:
        longest, chat = self.settings.max_prompt_tokens, self.settings.model.chat
        kept = [each for each in prompts if self.policy.encode([each], chat=chat).ids.shape[1] <= longest]
        if len(kept) < len(prompts):
            self.notes.append(f"{len(prompts) - len(kept):,} prompts longer than {longest} tokens are left out")
        if not kept:
            raise UserError(f"no prompt is left: all are longer than {longest} tokens")
        return kept

    def generator(self, seed: int) -> torch.Generator:
        """A generator on the policy's device."""
        return torch.Generator(device=self.policy.device).manual_seed(seed)

    def sample(self, prompts: Sequence[str], n: int, generator: torch.Generator) -> Completions:
        """``n`` answers to each prompt by the policy as it is."""
        settings = self.settings
        return self.policy.generate(
            self.policy.encode(prompts, chat=settings.model.chat),
            n,
            max_new_tokens=settings.max_new_tokens or 1,
            temperature=settings.temperature,
            generator=generator,
        )

    def rewards(self, prompts: Sequence[str], completions: Completions) -> Tensor:
        """(B,) float32: the reward model's, of what follows the model's thinking if it thinks aloud."""
        each = [prompt for prompt in prompts for _ in range(len(completions) // len(prompts))]
        answers = [answer(text) for text in completions.texts]
        scored = self.reward_model.score(each, answers, micro_batch=self.settings.score_batch)
        return scored.to(self.policy.device)

    def evaluate(self, seed: int) -> Answers:
        """``generations`` answers to each prompt of the evaluation by the policy as it is."""
        settings, generator = self.settings, self.generator(seed)
        texts, rewards, lengths, finished = [], [], [], []
        size = settings.prompts_per_step or 1
        for start in range(0, len(self.evaluated), size):
            prompts = self.evaluated[start : start + size]
            completions = self.sample(prompts, settings.generations, generator)
            texts += [answer(text) for text in completions.texts]
            rewards += self.rewards(prompts, completions).tolist()
            lengths += completions.lengths.tolist()
            finished += completions.finished.tolist()
        k = settings.generations
        return Answers(
            self.evaluated,
            [texts[i : i + k] for i in range(0, len(texts), k)],
            [rewards[i : i + k] for i in range(0, len(rewards), k)],
            sum(lengths) / len(lengths),
            sum(finished) / len(finished),
        )

    def run(self, augmentation: str, seed: int) -> Iterator[Row]:
        """One run from the reference's weights: a row a step, of its answers *before* the update."""
        self.policy.restart()
        run = _Run(self, augmentation, seed)
        for step in range(self.settings.steps or 0):
            yield {"augmentation": augmentation, "seed": seed, "step": step, **run.step()}


def run_all(study: CreativeQA, writer: Writer, follow: Follow) -> None:
    """The base, then all runs, each with its evaluation; written and shown as they come."""
    settings = study.settings
    study.policy.restart()
    for seed in settings.seeds or ():
        _conclude(study, BASE, seed, writer, follow)
    for seed in settings.seeds or ():
        for name in settings.augmentations:
            for row in study.run(name, seed):
                writer.step(row)
                follow.step(row)
            _conclude(study, name, seed, writer, follow)


def _conclude(study: CreativeQA, name: str, seed: int, writer: Writer, follow: Follow) -> None:
    answers = study.evaluate(seed)
    row = {"augmentation": name, "seed": seed, **answers.measures(study.embed, study.vocabulary_size)}
    writer.end(row, answers)
    follow.end(row)


class _Run:
    """The state of one run: optimiser, generators, the order of the prompts."""

    def __init__(self, study: CreativeQA, augmentation: str, seed: int) -> None:
        self.study, self.settings, self.policy = study, study.settings, study.policy
        self.table = study.settings.augmentation_table(augmentation)
        entry, self.parameters = OBJECTIVES.build_parameters(study.settings.objective_table(), "objective")
        self.objective = entry.item
        self.group = study.settings.answers_per_prompt or 2
        self.generator = study.generator(seed + 1)
        self.order = torch.Generator().manual_seed(seed)
        self.waiting: list[str] = []
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=self.parameters.learning_rate)

    def next_prompts(self) -> list[str]:
        """The prompts of a step, from passes over all of them in a new order each time."""
        wanted = self.settings.prompts_per_step or 1
        while len(self.waiting) < wanted:
            prompts = self.study.prompts
            self.waiting += [prompts[i] for i in torch.randperm(len(prompts), generator=self.order).tolist()]
        taken, self.waiting = self.waiting[:wanted], self.waiting[wanted:]
        return taken

    def step(self) -> Row:
        """Sample, score, augment, update; what the step's answers were like."""
        prompts, group = self.next_prompts(), self.group
        batch = self.study.sample(prompts, group, self.generator)
        passes: dict[str, Any] = {
            "temperature": self.settings.temperature,
            "micro_batch": self.settings.model.micro_batch,
        }
        prior = self.policy.reference_token_log_probs(batch, **passes)
        reward = self.study.rewards(prompts, batch)
        counts = reward.isfinite()
        samples = Samples(
            reward=reward,
            log_ref=prior.sum(-1),
            mode_log_ref=prior.sum(-1),
            counts=counts & batch.finished,  # an answer that was cut off is no anchor, and is not raised
            distinct=torch.tensor(first_in_group(batch.texts, group), device=reward.device),
            log_agent=batch.log_prob,
            learned=counts,
        )
        strength = self.parameters.prior_strength
        augmented = augment_groups(self.table, samples, group, strength, self.settings.quantile_over)

        def loss_of(agent: Tensor) -> LossOutput:
            tokens = TokenLogProbs(agent, prior, batch.mask)
            rows = PolicyBatch(agent.sum(-1), prior.sum(-1), augmented.reward, counts, tokens)
            return grouped_loss(self.objective, self.parameters, rows, group)

        self.optimizer.zero_grad(set_to_none=True)
        output = self.policy.accumulate(batch, loss_of, **passes)
        if math.isfinite(float(output.loss.detach())):
            self.optimizer.step()
        return _figures(batch, samples, augmented, output)


def answer(text: str) -> str:
    """A completion without the thinking that some models write first.

    >>> answer("<think>hm</think> Yes.")
    'Yes.'
    """
    return THINKING.sub("", text).strip()


def _figures(batch: Completions, samples: Samples, augmented: Augmented, output: LossOutput) -> Row:
    """A row of metrics.csv, from the reward on."""
    reward = samples.reward[samples.reward.isfinite()]
    return {
        "reward": float(reward.mean()),
        "reward_sd": float(reward.std(correction=0)),
        "threshold": augmented.threshold,
        "good_share": float(augmented.good.double().mean()) if not math.isnan(augmented.threshold) else math.nan,
        "augmented_reward": mean(augmented.reward.tolist()),
        "kl": float((batch.log_prob - samples.log_ref).mean()),
        "entropy": float(-batch.log_prob.mean()),
        "prior_log_prob": float(samples.log_ref.mean()),
        "distinct_share": float(samples.distinct.double().mean()),
        "length": float(batch.lengths.double().mean()),
        "finished": float(batch.finished.double().mean()),
        "loss": float(output.loss.detach()),
        "objective_value": output.logs.get("objective", math.nan),
    }

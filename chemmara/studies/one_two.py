"""The 1-2 task [arXiv 2510.20817]: two answers of equal reward, of which the reference prefers one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from chemmara.klrl.augmentation import Augmented, Samples, build_augmentation
from chemmara.klrl.objectives import OBJECTIVES, LossOutput, PolicyBatch, TokenLogProbs
from chemmara.studies.causal_lm import CausalLM, Completions
from chemmara.studies.one_two_settings import OneTwoSettings
from chemmara.studies.one_two_target import THRESHOLD, Answers, RunKey, grid, target
from chemmara.studies.one_two_task import PROMPT, answers, entropy, tiny_lm

Row = dict[str, Any]


def load_model(settings: OneTwoSettings) -> CausalLM:
    """The agent with its frozen reference."""
    if settings.tiny:
        return tiny_lm(settings.tiny_seed)
    model = settings.model
    return CausalLM.load(
        model.name,
        lora=model.adapter or False,
        dtype=model.precision,
        device=model.device,
        gradient_checkpointing=model.gradient_checkpointing,
    )


class OneTwo:
    """The study on one model: its prompt's tokens, and what the reference answers. ``settings`` are resolved ones."""

    def __init__(self, settings: OneTwoSettings, model: CausalLM) -> None:
        self.settings, self.model = settings, model
        self.prompt = model.encode([PROMPT], chat=settings.model.chat)
        model.restart()
        with model.reference():
            self.reference = self.count(settings.reference_samples or 1, self._generator(0))

    def _generator(self, seed: int) -> torch.Generator:
        return torch.Generator(device=self.model.device).manual_seed(seed)

    def sample(self, n: int, generator: torch.Generator) -> Completions:
        """``n`` completions of the prompt by the agent (inside ``reference()``: by the reference)."""
        length, temperature = self.settings.max_new_tokens or 1, self.settings.temperature
        return self.model.generate(self.prompt, n, max_new_tokens=length, temperature=temperature, generator=generator)

    def count(self, n: int, generator: torch.Generator) -> Answers:
        """The answers of ``n`` completions, drawn ``sample_batch`` at a time."""
        size = self.settings.sample_batch or n
        found: list[int] = []
        for start in range(0, n, size):
            found += answers(self.sample(min(size, n - start), generator))
        return Answers(found.count(1), found.count(2), n)

    def run(self, key: RunKey) -> Iterator[Row]:
        """One run from the reference's weights. A row a step, of the batch *before* its update; the last row, at
        step = ``steps``, counts ``final_samples`` completions of the agent at the end."""
        run = _Run(self, key)
        for step in range(self.settings.steps or 0):
            yield {**key.cells(), "step": step, **run.step(step)}
        final = self.count(self.settings.final_samples or 1, run.generator)
        yield {**key.cells(), "step": self.settings.steps, **_counts(final.ones, final.twos, final.samples)}

    def conclusion(self, rows: Sequence[Row]) -> Row:
        """The row of final.csv: where a run ended, and where its optimum lies."""
        last, before = rows[-1], rows[-2]
        optimum = target(self.settings, RunKey.of(last), self.reference)
        _, one, two = (math.nan,) * 3 if optimum is None else optimum.exp().tolist()
        aim = math.nan if optimum is None else entropy(one, two)
        return {
            **last,
            "target_entropy": aim,
            "target_reward": one + two,
            "drift": last["entropy"] - aim,
            **{name: before[name] for name in ("length", "kl", "valid_prior_log_prob")},
        }


class _Run:
    """The state of one run: agent (the model's trainable weights), optimiser, augmentation, generator."""

    def __init__(self, study: OneTwo, key: RunKey) -> None:
        self.study, self.settings, self.model = study, study.settings, study.model
        settings = self.settings
        entry, self.parameters = OBJECTIVES.build_parameters(
            settings.objective_table(key.objective, key.beta), "objective"
        )
        self.objective = entry.item
        self.augmentation = build_augmentation(settings.augmentation_table(key.augmentation), THRESHOLD)
        self.generator = study._generator(key.seed + 1)
        self.labels: dict[str, int] = {}
        self.model.restart()
        learned = self.parameters.learned
        self.learned = {name: torch.nn.Parameter(torch.tensor(each.initial)) for name, each in learned.items()}
        groups = [{"params": [self.learned[name]], "lr": each.learning_rate} for name, each in learned.items()]
        self.optimizer = torch.optim.Adam(
            [{"params": self.model.parameters()}, *groups], lr=self.parameters.learning_rate
        )

    def step(self, number: int) -> Row:
        """Sample, reward, augment, update; what the batch was like."""
        settings = self.settings
        batch = self.study.sample(settings.batch_size, self.generator)
        passes: dict[str, Any] = {"temperature": settings.temperature, "micro_batch": settings.model.micro_batch}
        prior = self.model.reference_token_log_probs(batch, **passes)
        found = answers(batch)
        augmented = self.augmentation(
            self._samples(batch, prior, found),
            self.parameters.prior_strength,
            self.generator,
            budget_spent=number / (settings.steps or 1),
        )

        def loss_of(agent: Tensor) -> LossOutput:
            tokens = TokenLogProbs(agent, prior, batch.mask)
            counts = torch.ones_like(augmented.good)
            rows = PolicyBatch(agent.sum(-1), prior.sum(-1), augmented.reward, counts, tokens, self.learned)
            return self.objective(rows, self.parameters)

        self.optimizer.zero_grad(set_to_none=True)
        output = self.model.accumulate(batch, loss_of, **passes)
        if math.isfinite(float(output.loss.detach())):
            self.optimizer.step()
        return _figures(batch, found, prior, augmented, output)

    def _samples(self, batch: Completions, prior: Tensor, found: Sequence[int]) -> Samples:
        """The batch as the augmentation sees it. A mode is an answer; what MARA calls a molecule is one too."""
        answer = torch.tensor(found, device=prior.device)
        log_ref = prior.sum(-1)
        strings = [self.labels.setdefault(text, len(self.labels)) for text in batch.texts]
        by_answer = self.augmentation.spelling == "molecule"
        modes = found if by_answer else strings
        return Samples(
            reward=(answer > 0).to(log_ref.dtype),
            log_ref=log_ref,
            mode_log_ref=self.study.reference.log_prob.to(log_ref)[answer] if by_answer else log_ref,
            counts=answer > 0,
            distinct=torch.tensor([mode not in modes[:row] for row, mode in enumerate(modes)], device=prior.device),
            log_agent=batch.log_prob,
            learned=torch.ones_like(answer, dtype=torch.bool),
            mode=answer,
            molecule=answer,
            string=torch.tensor(strings, device=prior.device),
        )


def run_grid(study: OneTwo, watch: Callable[[RunKey, Row], None]) -> Iterator[list[Row]]:
    """The rows of one run after the other; ``watch`` sees each row as it comes."""
    for key in grid(study.settings):
        rows = []
        for row in study.run(key):
            rows.append(row)
            watch(key, row)
        yield rows


def _counts(ones: int, twos: int, samples: int) -> Row:
    return {
        "entropy": entropy(ones, twos),
        "reward": (ones + twos) / samples,
        "ones": ones,
        "twos": twos,
        "samples": samples,
    }


def _figures(batch: Completions, found: list[int], prior: Tensor, augmented: Augmented, output: LossOutput) -> Row:
    """A row of runs.csv, from the counts on."""
    valid = torch.tensor(found, device=prior.device) > 0
    log_ref = prior.sum(-1)
    return {
        **_counts(found.count(1), found.count(2), len(found)),
        "length": float(batch.lengths.double().mean()),
        "kl": float((batch.log_prob - log_ref).mean()),
        "valid_prior_log_prob": float(log_ref[valid].mean()) if bool(valid.any()) else math.nan,
        "augmented_reward": float(augmented.reward.mean()),
        "distinct": len(dict.fromkeys(batch.texts)),
        "loss": float(output.loss.detach()),
        "objective_value": output.logs.get("objective", math.nan),
        "clamped_share": output.logs.get("clamped_share", 0.0),
    }

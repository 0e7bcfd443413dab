"""Settings of `chemmara study creative-qa`; read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from chemmara.config import Parameters
from chemmara.errors import ConfigError
from chemmara.studies.causal_lm_settings import TINY, ModelSettings

HASHED, UNIGRAM = "hashed", "unigram"
BASE = "base"
"""What the untuned policy is called in the tables."""

# What suits the tiny model, and a real one; None in the settings takes these. Roll-outs, lengths and the step size of
# full tuning are the paper's for the real one; the rest is our choice.
_TINY = {
    "steps": 100,
    "prompts_per_step": 8,
    "answers_per_prompt": 16,
    "learning_rate": 1e-3,
    "max_new_tokens": 16,
    "seeds": (0, 1, 2),
}
_REAL = {
    "steps": 900,
    "prompts_per_step": 32,
    "answers_per_prompt": 5,
    "learning_rate": {"lora": 1e-5, "full": 1e-6},
    "max_new_tokens": 2048,
    "seeds": (0,),
}

METRIC_COLUMNS = {
    "augmentation": "name of the augmentation",
    "seed": "seed of the run's sampling",
    "step": "updates behind the policy that this row's answers come from",
    "reward": "mean reward of the step's answers, in the reward model's unit",
    "reward_sd": "standard deviation of the rewards",
    "threshold": "tau, reward units (the mean over prompts where each has its own); blank without MARA",
    "good_share": "share of the answers that reach tau",
    "augmented_reward": "mean reward after augmentation",
    "kl": "mean log(agent/reference) over the answers, nats an answer",
    "entropy": "mean -log(agent) over the answers, nats an answer",
    "prior_log_prob": "mean log-probability of the answers under the reference, nats",
    "distinct_share": "distinct share of the answers to a prompt, mean over prompts",
    "length": "mean tokens of an answer, the end token included",
    "finished": "share of the answers that ended before the limit",
    "loss": "the objective's loss",
    "objective_value": "the objective's own estimate of what it maximises, reward units",
}
SUMMARY_COLUMNS = {
    "augmentation": f"name of the augmentation; `{BASE}`: the policy before any update",
    "seed": "seed of the run, and of the evaluation's sampling",
    "reward": "mean reward of the answers, in the reward model's unit",
    "ead": "expectation-adjusted distinct n-grams of the answers to a prompt, n = 1 to 5",
    "semantic_diversity": "mean cosine distance between the embeddings of the answers to a prompt",
    "distinct": "equivalence classes among the answers to a prompt (NoveltyBench), mean over prompts",
    "value": "share of answers that the synthetic task's reader truly likes; blank for prompts that are not its own",
    "length": "mean tokens of an answer",
    "finished": "share of the answers that ended before the limit",
    "generations": "answers a prompt",
    "prompts": "prompts of the evaluation",
}


class CreativeQASettings(Parameters):
    """One study: a policy, a reward model, and the runs (augmentations x seeds) that tune the one by the other."""

    model: ModelSettings = ModelSettings()
    reward_model: str = Field(default=TINY, description="tiny (made on the spot), a directory, or a name on the hub")
    prompts: Path | None = Field(
        default=None, description="a prompt a line (.txt), or in the field prompt (.jsonl) [default: the tiny task's]"
    )
    evaluate: Path | None = Field(
        default=None, description="prompts of the evaluation [default: those of the training]"
    )
    augmentations: tuple[Literal["none", "mara"], ...] = Field(
        default=("none", "mara"), min_length=1, description="what happens to the rewards"
    )
    objective: str = Field(default="reverse_kl", description="name of an objective")
    beta: float = Field(default=0.1, gt=0, description="KL strength, reward units per nat")
    quantile: float = Field(default=0.5, gt=0, lt=1, description="MARA's tau is this quantile of the rewards")
    quantile_over: Literal["batch", "prompt"] = Field(
        default="batch", description="of whose rewards: all of a step's, or those of each prompt's answers"
    )
    seeds: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="one run for each [default: 0-2 tiny, 0 real]"
    )
    steps: int | None = Field(default=None, ge=1, description="updates a run [default: 100 tiny, 900 real]")
    prompts_per_step: int | None = Field(
        default=None, ge=1, description="prompts a step, in shuffled passes [default: 8 tiny, 32 real]"
    )
    answers_per_prompt: int | None = Field(
        default=None, ge=2, description="answers to each, the baseline's group [default: 16 tiny, 5 real]"
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="Adam's step size [default: 1e-3 tiny, 1e-5 LoRA, 1e-6 full]"
    )
    temperature: float = Field(default=1.0, gt=0, description="of sampling and of all log-probabilities")
    max_new_tokens: int | None = Field(default=None, ge=1, description="tokens an answer [default: 16 tiny, 2048 real]")
    max_prompt_tokens: int = Field(default=512, ge=1, description="longer prompts are left out")
    generations: int = Field(default=10, ge=2, description="answers a prompt in the evaluation")
    embedding: str = Field(
        default=HASHED,
        description="for semantic diversity: hashed (words and pairs of words), or a model's directory or name",
    )
    score_batch: int = Field(default=32, ge=1, description="answers in one pass of reward and embedding models")
    tiny_seed: int = Field(default=0, ge=0, description="seed of the tiny models' weights and training text")

    @model_validator(mode="after")
    def _both_tiny(self) -> CreativeQASettings:
        if self.tiny != (self.reward_model == TINY):
            raise ValueError("the tiny policy and the tiny reward model belong together: give both by name, or neither")
        if not self.tiny and self.prompts is None:
            raise ValueError("a real model needs prompts: a .txt with one a line, or a .jsonl with the field prompt")
        return self

    @property
    def tiny(self) -> bool:
        """Whether the models are the ones made on the spot."""
        return self.model.name == TINY

    def resolved(self) -> CreativeQASettings:
        """With numbers in place of each "what suits the model". Raises :class:`ConfigError` for what is not right."""
        suits: dict[str, Any] = dict(_TINY if self.tiny else _REAL)
        if not self.tiny:
            suits["learning_rate"] = suits["learning_rate"][self.model.tuning]
        missing = {name: value for name, value in suits.items() if getattr(self, name) is None}
        settings = self.model_copy(update=missing)
        settings.check_names()
        answers = settings.answers_per_prompt or 0
        if settings.quantile_over == "prompt" and settings.quantile * (answers - 1) > answers - 2 + 1e-9:
            raise ConfigError(
                f"quantile: of {answers} answers to a prompt one alone is good at {settings.quantile:g}, so that MARA "
                "has nothing to make equal; take a lower one, more answers_per_prompt, or quantile_over = 'batch'"
            )
        return settings

    def check_names(self) -> None:
        """Objective and augmentations are right, before anything is loaded."""
        from chemmara.klrl.augmentation import build_augmentation
        from chemmara.klrl.objectives import OBJECTIVES

        _, parameters = OBJECTIVES.build_parameters(self.objective_table(), "objective")
        if parameters.learned:
            raise ConfigError(
                f"objective.name: {self.objective} learns one {next(iter(parameters.learned))} for all prompts, but "
                "each prompt has its own; take vargrad or reverse_kl"
            )
        for name in self.augmentations:
            build_augmentation(self.augmentation_table(name))

    def objective_table(self) -> dict[str, Any]:
        """The config table of the objective."""
        return {"name": self.objective, "beta": self.beta, "learning_rate": self.learning_rate or 1e-3}

    def augmentation_table(self, name: str) -> dict[str, Any]:
        """The config table of an augmentation."""
        return {"name": name, "quantile": self.quantile} if name == "mara" else {"name": name}

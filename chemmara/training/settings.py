"""What training can be told. Imports no torch, so that a command can refuse a mistake at once."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from chemmara.config import Parameters
from chemmara.policies.precision import Precision


class LikelihoodSettings(Parameters):
    """How a prior is fitted."""

    epochs: int = Field(10, ge=1, description="passes over the data")
    batch_size: int = Field(128, ge=1, description="molecules a step")
    learning_rate: float = Field(2e-3, gt=0, description="highest learning rate, after the warm-up")
    warmup: int = Field(200, ge=0, description="steps over which the learning rate rises to its highest value")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    validity_weight: float = Field(
        0.0, ge=0, description="nats that P(valid) = 1 is worth in the last quarter of the steps; 0: likelihood alone"
    )
    patience: int = Field(
        0,
        ge=0,
        description="epochs without a lower validation loss that end the training; the best are kept; 0: all run",
    )
    seed: int = Field(0, ge=0, description="seed of the weights, the order and the spellings")
    precision: Precision = Field("auto", description="auto takes bfloat16 where the processor gains from it")


class TrainSettings(LikelihoodSettings):
    """Everything that `chemmara train` can be told."""

    policy: dict[str, Any] = Field(
        {"name": "lstm"}, description="architecture by name, with its parameters, or size = small or base"
    )
    initial: str | None = Field(None, description="prior to begin from: its tokens, architecture and weights are kept")
    tokenizer: str = Field("smiles", description="smiles or selfies")
    max_tokens: int = Field(128, ge=1, le=5000, description="molecules with more tokens are left out")
    randomize: bool = Field(False, description="a random spelling of each molecule, another one each epoch")
    holdout: float = Field(0.02, gt=0, lt=1, description="share of the molecules that the validation loss is of")
    samples: int = Field(1000, ge=1, description="molecules sampled after each epoch for the figures")
    workers: int = Field(1, ge=1, description="processes that read the files")
    devices: int = Field(1, ge=1, description="GPUs, or processes on the CPU, that share each step's molecules")
    checkpoint_seconds: float = Field(300.0, ge=0, description="time between checkpoints")
    column: str | None = Field(None, description="column of SMILES in a table; found by name if not given")

    further: ClassVar[str] = "chemmara train DATA... -o ANOTHER --from {out}"
    """The command that trains on from a finished training in ``out``."""


class FinetuneSettings(TrainSettings):
    """What `chemmara finetune` can be told: as a training, with defaults for a few dozen to thousands of molecules."""

    epochs: int = Field(50, ge=1, description="passes over the data at most")
    batch_size: int = Field(32, ge=1, description="molecules a step")
    learning_rate: float = Field(5e-4, gt=0, description="highest learning rate, after the warm-up")
    patience: int = Field(3, ge=0, description="epochs without a lower validation loss that end it; 0: all run")
    holdout: float = Field(0.1, gt=0, lt=1, description="share of the molecules that the validation loss is of")
    policy: dict[str, Any] = Field({}, description="what differs from the prior's shape: dropout alone can")
    further: ClassVar[str] = "chemmara finetune {out} DATA... -o ANOTHER"

    initial: str = Field(description="prior to begin from: its tokens, architecture and weights are kept")

"""What workflows can be told beyond a config. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from chemmara.config import Parameters
from chemmara.policies.decoding import MAX_TOKENS
from chemmara.policies.precision import Precision


class SampleSettings(Parameters):
    """How a policy is sampled from."""

    n: int = Field(ge=1, description="raw sequences drawn, invalid ones included")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the draw")
    temperature: float = Field(1.0, gt=0, le=100, description="divides the logits; 1 is the distribution as trained")
    top_k: int = Field(0, ge=0, description="draw among the k likeliest tokens alone; 0: among all")
    top_p: float = Field(1.0, gt=0, le=1, description="draw among the fewest likeliest tokens whose sum reaches p")
    prefix: str = Field("", description="SMILES text that every sequence begins with")
    scaffold: str = Field("", description="molecule that every sequence begins with, written so that it goes on there")
    max_tokens: int = Field(MAX_TOKENS, ge=1, le=5000, description="longest sequence")
    precision: Precision = Field("auto", description="auto, float32 or bfloat16")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")

"""What a step samples: one batch, and with a screen as many more as it takes to fill a batch with new molecules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from chemmara.chemistry.molecules import read
from chemmara.optimization.rollout import Judge, Sampled, Seen
from chemmara.optimization.screening import Screen
from chemmara.policies.decoding import Decoding
from chemmara.policies.generation import concatenate
from chemmara.policies.policy import Sequences

MARGIN = 1.15
"""Sampled beyond the expected need: a second top-up costs more than a few sequences too many."""
LEAST = 16
"""Sequences of a top-up: smaller batches leave the processor idle."""

Decode = Callable[[Tensor], tuple[list[str], list[str]]]
"""Ids (B, T) to SMILES and to the strings as written."""


def draw(
    agent: Any,
    decode: Decode,
    screen: Screen,
    seen: Seen,
    *,
    batch_size: int,
    budget: int,
    generator: torch.Generator,
    max_tokens: int,
) -> tuple[Sequences, Sampled]:
    """Sample until ``batch_size`` molecules (or what is left of the budget) pass the screen, or its draws are done."""
    judge = Judge(screen, seen, min(batch_size, budget - seen.calls))
    parts: list[Sequences] = []
    batch = Sampled([], [], [], [], [], batch_size)
    number, most = batch_size, screen.draws * batch_size
    while number:
        parts.append(agent.sample(number, generator=generator, decoding=Decoding(max_tokens=max_tokens)))
        judge.add(batch, *decode(parts[-1].ids), parts[-1].ended.tolist())
        number = further(judge.wanted - judge.admitted, judge.admitted, len(batch.texts), most)
    return concatenate(parts) if len(parts) > 1 else parts[0], batch


def further(missing: int, admitted: int, sampled: int, most: int) -> int:
    """How many sequences to sample next: what it should take to fill the batch, by the share that passed so far.

    Whole batches would on average overshoot by half a batch, and each sequence costs sampling and two models.

    >>> further(missing=32, admitted=32, sampled=64, most=384), further(missing=0, admitted=64, sampled=100, most=384)
    (74, 0)
    """
    if missing <= 0:
        return 0
    wanted = math.ceil(MARGIN * missing * sampled / max(admitted, 1))
    return min(max(wanted, LEAST), most - sampled)


def as_given(texts: list[str], strings: list[str]) -> Sampled:
    """Text that no screen looks at, such as seed molecules."""
    n = len(texts)
    return Sampled(texts, strings, [read(text) for text in texts], [None] * n, [False] * n, n)

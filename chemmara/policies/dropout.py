"""Dropout taken off: what a policy samples and what it is told the probability of must be one distribution."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def take_off(policy: Any) -> list[tuple[Any, str, float]]:
    """Set all dropout to 0; returns (module, attribute, value before).

    Evaluation mode would do so too, but cuDNN's recurrent layers have no gradient in it.
    """
    before = []
    for module in policy.modules():
        name = "p" if isinstance(module, torch.nn.Dropout) else "dropout"
        if isinstance(module, (torch.nn.Dropout, torch.nn.RNNBase)):
            before.append((module, name, getattr(module, name)))
            setattr(module, name, 0.0)
    return before


@contextmanager
def without_dropout(policy: Any) -> Iterator[None]:
    """No dropout within the block."""
    before = take_off(policy)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)

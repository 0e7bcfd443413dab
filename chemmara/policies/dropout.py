"""Dropout taken off: what a policy samples and what it is told the probability of must be one distribution."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def dropouts(policy: Any) -> Iterator[tuple[Any, str, float]]:
    """(module, attribute, share) of all that drops units in training, a share of 0 included."""
    for module in policy.modules():
        if isinstance(module, (torch.nn.Dropout, torch.nn.RNNBase)):
            name = "p" if isinstance(module, torch.nn.Dropout) else "dropout"
            yield module, name, getattr(module, name)


def take_off(policy: Any) -> list[tuple[Any, str, float]]:
    """Set all dropout to 0; returns (module, attribute, value before).

    Evaluation mode would do so too, but cuDNN's recurrent layers have no gradient in it.
    """
    before = list(dropouts(policy))
    for module, name, _ in before:
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

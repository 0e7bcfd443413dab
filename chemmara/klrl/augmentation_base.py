"""The contract of reward augmentation: what goes in, what comes out, and the base class that does the common part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from chemmara.config import NoParameters, Parameters
from chemmara.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Spelling = Literal["sampled", "canonical", "molecule"]


@dataclass(frozen=True, eq=False)
class Samples:
    """A batch as an augmentation sees it; every field has shape (B,)."""

    reward: Tensor
    """Reward units, after the diversity filter. Rows that do not count may be NaN."""
    log_ref: Tensor
    """Prior log-probability of the sampled string: nats, total, end token included."""
    mode_log_ref: Tensor
    """The log-probability that is flattened (nats): that of the sampled string, of the molecule's canonical string, or
    of all its spellings together, as ``spelling`` says."""
    counts: Tensor
    """bool: valid and not failed; may be an anchor and counts in the quantile."""
    distinct: Tensor
    """bool: the first occurrence of its molecule in the batch."""


@dataclass(frozen=True, eq=False)
class Augmented:
    """The reward to learn from, and what led to it."""

    reward: Tensor
    """(B,), reward units."""
    good: Tensor
    """(B,) bool: counts, and at or above the threshold before augmentation."""
    threshold: float
    """tau in reward units, NaN if there was none."""
    anchor_reward: float
    """R(z), NaN if there was no anchor."""
    anchor_log_ref: float
    """The anchor's ``mode_log_ref``, NaN if there was no anchor."""


@dataclass(frozen=True)
class Anchor:
    """The sample z: its reward and its ``mode_log_ref``."""

    reward: float
    log_ref: float


class Augmentation:
    """Base: ``__call__`` checks and finds the good samples once; a subclass writes ``_threshold`` and ``_anchor``."""

    spelling: Spelling = "sampled"

    def __init__(self, parameters: Parameters | None = None, default_threshold: float | None = None) -> None:
        self.parameters = parameters or NoParameters()
        self.default_threshold = default_threshold

    def __call__(
        self, samples: Samples, beta: float, generator: torch.Generator | None = None, buffer: Samples | None = None
    ) -> Augmented:
        """The augmented reward of a batch.

        ``beta``: KL strength, reward units per nat, finite and >= 0; at 0 the reward comes back as it was.
        ``generator``: for the random anchor. ``buffer``: the replay buffer's molecules, for the buffer anchor.
        Rows that do not count keep their reward, NaN included, and have no part in the others'.
        """
        if not (math.isfinite(beta) and beta >= 0):
            raise ValueError(f"beta must be finite and not negative, got {beta}")
        check_shapes(samples)
        tau = self._threshold(samples)
        good = reaches(samples, tau)
        anchor = self._anchor(samples, good, tau, generator, buffer) if beta > 0 else None
        reward = samples.reward if anchor is None else _flatten(samples, good, anchor, beta)
        seen = anchor or Anchor(math.nan, math.nan)
        return Augmented(reward, good, tau, seen.reward, seen.log_ref)

    def _threshold(self, samples: Samples) -> float:
        """tau; NaN: nothing is good."""
        return math.nan if self.default_threshold is None else self.default_threshold

    def _anchor(
        self, samples: Samples, good: Tensor, tau: float, generator: torch.Generator | None, buffer: Samples | None
    ) -> Anchor | None:
        """z, or None to leave all rewards alone."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, ready for JSON."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where :meth:`state_dict` left off."""


AUGMENTATIONS: Registry[type[Augmentation]] = Registry("augmentation", ("chemmara.klrl.augmentation",))


def check_shapes(samples: Samples) -> None:
    """ValueError that names the first field which is not of the rewards' shape (B,)."""
    shape = samples.reward.shape
    for name in ("reward", "log_ref", "mode_log_ref", "counts", "distinct"):
        if len(shape) != 1 or getattr(samples, name).shape != shape:
            raise ValueError(f"{name}: expected shape (B,), got {tuple(getattr(samples, name).shape)}")


def reaches(samples: Samples, tau: float) -> Tensor:
    """(B,) bool: counts and reaches tau. NaN reaches nothing."""
    return samples.counts & (samples.reward >= samples.reward.new_tensor(tau))


def usable(samples: Samples, good: Tensor) -> Tensor:
    """Good samples that have a finite place to be raised from; a probability of zero has none."""
    return good & samples.reward.isfinite() & samples.mode_log_ref.isfinite()


def _flatten(samples: Samples, good: Tensor, anchor: Anchor, beta: float) -> Tensor:
    """R(z) + beta (log m(z) - log m(y)) on the good samples, R elsewhere, in the rewards' precision."""
    keep = usable(samples, good)
    flat = anchor.reward + beta * (anchor.log_ref - samples.mode_log_ref)
    return flat.to(samples.reward.dtype).where(keep, samples.reward)

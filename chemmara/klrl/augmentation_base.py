"""The contract of reward augmentation: what goes in, what comes out, and the base class that does the common part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from chemmara.config import NoParameters, Parameters
from chemmara.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Spelling = Literal["sampled", "canonical", "molecule"]
ModeRule = Literal["scaffold", "generic_scaffold", "cluster"]


class ModeParameters(Parameters):
    """What counts as one mode, for augmentations that want a mode label for each sample."""

    mode: ModeRule = Field(
        default="scaffold",
        description="what counts as one mode: a Bemis-Murcko scaffold, a generic scaffold (an acyclic molecule is a "
        "mode of its own), or a cluster of similar molecules",
    )
    similarity: float = Field(
        default=0.3,
        gt=0,
        lt=1,
        description="mode = cluster: a molecule joins the first leader to which its Tanimoto similarity (ECFP4) is at "
        "least this, or else leads a cluster of its own",
    )


@dataclass(frozen=True, eq=False)
class Samples:
    """A batch as an augmentation sees it; every field has shape (B,). Those that may be None serve some alone."""

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
    log_agent: Tensor | None = None
    """Log-probability of the sampled string under the agent as it is now, detached: nats, total."""
    mode: Tensor | None = None
    """int64: the label of the sample's mode (a scaffold, a cluster), the same number through the whole run."""
    molecule: Tensor | None = None
    """int64: the label of the sample's molecule, the same number through the whole run."""
    learned: Tensor | None = None
    """bool: the objective learns from it, invalid text at reward 0 included; None: those that count."""
    string: Tensor | None = None
    """int64: the label of the sampled string, the same number through the whole run."""


@dataclass(frozen=True, eq=False)
class Moment:
    """When a batch is augmented, and what else may be looked at."""

    generator: torch.Generator | None = None
    """For random choices."""
    buffer: Samples | None = None
    """The replay buffer's molecules."""
    replayed: bool = False
    """The batch comes from the buffer: thresholds that follow the run stay where the last sampled batch put them."""
    budget_spent: float | None = None
    """Oracle calls so far over the budget, 0 to 1."""


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
    """Base: ``__call__`` checks and finds the good samples; a subclass writes ``_augment``, maybe ``_threshold``."""

    spelling: Spelling = "sampled"
    modes: ModeParameters | None = None
    """What labels ``Samples.mode``; None: no label is wanted."""
    looks_at_buffer: bool = False
    """Whether ``Moment.buffer`` is looked at."""

    def __init__(self, parameters: Parameters | None = None, default_threshold: float | None = None) -> None:
        self.parameters = parameters or NoParameters()
        self.default_threshold = default_threshold
        if isinstance(self.parameters, ModeParameters):
            self.modes = self.parameters

    def __call__(
        self,
        samples: Samples,
        beta: float,
        generator: torch.Generator | None = None,
        buffer: Samples | None = None,
        *,
        replayed: bool = False,
        budget_spent: float | None = None,
    ) -> Augmented:
        """The augmented reward of a batch.

        ``beta``: KL strength, reward units per nat, finite and >= 0. The rest is :class:`Moment`'s.
        Rows that do not count keep their reward, NaN included, and have no part in the others'; to a change of the
        whole batch the rows that are ``learned`` count.
        """
        if not (math.isfinite(beta) and beta >= 0):
            raise ValueError(f"beta must be finite and not negative, got {beta}")
        check_shapes(samples)
        moment = Moment(generator, buffer, replayed, budget_spent)
        tau = self._threshold(samples, moment)
        good = reaches(samples, tau)
        reward, anchor = self._augment(samples, good, tau, beta, moment)
        seen = anchor or Anchor(math.nan, math.nan)
        return Augmented(reward, good, tau, seen.reward, seen.log_ref)

    def _threshold(self, samples: Samples, moment: Moment) -> float:
        """tau; NaN: nothing is good."""
        return math.nan if self.default_threshold is None else self.default_threshold

    def _augment(
        self, samples: Samples, good: Tensor, tau: float, beta: float, moment: Moment
    ) -> tuple[Tensor, Anchor | None]:
        """The reward (B,) to learn from, in the rewards' precision, and the anchor that led to it, if there was one."""
        return samples.reward, None

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, ready for JSON."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where :meth:`state_dict` left off."""


AUGMENTATIONS: Registry[type[Augmentation]] = Registry(
    "augmentation",
    (
        "chemmara.klrl.augmentation",
        "chemmara.klrl.mara",
        "chemmara.klrl.mara_modes",
        "chemmara.klrl.rival_augmentations",
    ),
)


def check_shapes(samples: Samples) -> None:
    """ValueError that names the first field which is not of the rewards' shape (B,)."""
    shape = samples.reward.shape
    for each in fields(samples):
        value = getattr(samples, each.name)
        if value is not None and (len(shape) != 1 or value.shape != shape):
            raise ValueError(f"{each.name}: expected shape (B,), got {tuple(value.shape)}")


def wanted(value: Tensor | None, name: str, by: str) -> Tensor:
    """An optional field of :class:`Samples` that an augmentation cannot do without."""
    if value is None:
        raise ValueError(f"{by} needs {name} in the samples")
    return value


def reaches(samples: Samples, tau: float) -> Tensor:
    """(B,) bool: counts and reaches tau. NaN reaches nothing."""
    return samples.counts & (samples.reward >= samples.reward.new_tensor(tau))


def usable(samples: Samples, good: Tensor) -> Tensor:
    """Good samples that have a finite place to be raised from; a probability of zero has none."""
    return good & samples.reward.isfinite() & samples.mode_log_ref.isfinite()

"""MARA per mode: one mass for each scaffold or cluster, however many molecules it has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from chemmara.klrl.augmentation_base import AUGMENTATIONS, ModeParameters, Samples, usable, wanted
from chemmara.klrl.mara import Mara, MaraParameters

if TYPE_CHECKING:
    from torch import Tensor


class MaraModesParameters(MaraParameters, ModeParameters):
    """Settings of ``mara_modes``."""

    within: Literal["reference", "flat"] = Field(
        default="reference",
        description="how a mode's mass lies on its good members: in proportion to the prior (reference), or flat",
    )


class ModeMembers:
    """The good members of each mode that the run has met, each once: (label, log m in nats, reward)."""

    def __init__(self) -> None:
        self._members: dict[int, dict[int, tuple[float, float]]] = {}

    def add(self, modes: list[int], members: list[int], log_m: list[float], rewards: list[float], tau: float) -> None:
        """Take in rows: a new member if it reaches tau, a known one in any case.

        Of a member met again the higher log m stays (estimates are lower bounds), and its new reward holds. Repeats
        within the call count as one, of the higher values, so that their order plays no part.
        """
        fresh: dict[tuple[int, int], tuple[float, float]] = {}
        for mode, member, mass, reward in zip(modes, members, log_m, rewards):
            known = fresh.get((mode, member), (-math.inf, -math.inf))
            fresh[mode, member] = max(known[0], mass), max(known[1], reward)
        for (mode, member), (mass, reward) in fresh.items():
            held = self._members.get(mode, {})
            if reward >= tau or member in held:
                before = held.get(member, (-math.inf, 0.0))[0]
                self._members.setdefault(mode, {})[member] = max(mass, before), reward

    def good(self, mode: int, tau: float) -> list[float]:
        """log m of the members of a mode whose last reward reaches tau."""
        return sorted(mass for mass, reward in self._members.get(mode, {}).values() if reward >= tau)

    def is_good(self, mode: int, member: int, tau: float) -> bool:
        """Whether the member's last reward reaches tau."""
        return self._members.get(mode, {}).get(member, (0.0, -math.inf))[1] >= tau

    def state_dict(self) -> dict[str, Any]:
        return {
            str(mode): [[member, *values] for member, values in held.items()] for mode, held in self._members.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._members = {
            int(mode): {int(member): (float(mass), float(reward)) for member, mass, reward in held}
            for mode, held in state.items()
        }


@AUGMENTATIONS.register("mara_modes", MaraModesParameters)
class MaraModes(Mara):
    r"""MARA per mode: every scaffold or cluster with a good member gets the same mass, however many members it has.

    As ``mara``, with a cost c in the place of m:

        R_bar(y) = R(z) + (1 - s) beta (log c(z) - log c(y)),

    where A(M) are the good members of the mode M of y, and c(y) is their mass under the prior, the sum of m over A(M)
    (``within = "reference"``), or |A(M)| m(y) (``flat``); z is the good sample of highest c (ties: the higher reward).
    Under reverse KL, with s = 0, each mode's mass is c(z) exp(R(z)/beta), with ``spelling = "canonical"`` that of the
    canonical strings alone; within a mode it is proportional to pi_ref,
    or flat (:func:`chemmara.klrl.targets.mara_modes_target`). Modes of one member: ``mara``. For the batch anchor and a
    fixed tau no good sample falls below tau.

    A(M) is estimated: by the distinct members that the run has met so far and that were good when last met (strings, or
    molecules, as ``spelling`` has it; replayed ones included). So log c is an underestimate that rises to the truth as
    a mode is explored: a new mode's first member gets the whole bonus of ``mara``, later ones ever less, and a mode
    that is hardly explored has up to (true mass)/(mass met) times its share. For the same reason the reward is not
    stationary: each new member lowers those of its mode.

    Replay: as in ``mara``; since c is the run's and not the batch's, fresh and replayed members of a mode have one c.
    """

    parameters: MaraModesParameters
    _NAME: ClassVar[str] = "mara_modes"
    _MODEL: ClassVar[type[MaraParameters]] = MaraModesParameters

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._members = ModeMembers()

    def _meet(self, samples: Samples, tau: float) -> None:
        every, labels = self._labels(samples)
        met = usable(samples, samples.counts)
        self._members.add(
            every[met].tolist(),
            labels[met].tolist(),
            samples.mode_log_ref[met].tolist(),
            samples.reward[met].tolist(),
            _bound(samples, tau),
        )

    def _labels(self, samples: Samples) -> tuple[Tensor, Tensor]:
        """The mode and the member that each row is, (B,) each."""
        unit = "string" if self.spelling == "sampled" else "molecule"
        labels = wanted(getattr(samples, unit), f"the label of each {unit}", self._NAME)
        return wanted(samples.mode, "the label of each mode", self._NAME), labels

    def _still_good(self, buffer: Samples, keep: Tensor, tau: float) -> Tensor:
        """A molecule of the buffer that was met again in a full bucket has earned less since."""
        modes, labels = self._labels(buffer)
        bound = _bound(buffer, tau)
        now = [self._members.is_good(*pair, bound) for pair in zip(modes[keep].tolist(), labels[keep].tolist())]
        return keep.masked_scatter(keep, keep.new_tensor(now))

    def _log_cost(self, samples: Samples, keep: Tensor, tau: float) -> Tensor:
        every = wanted(samples.mode, "the label of each mode", self._NAME)
        modes, log_m = every[keep].tolist(), samples.mode_log_ref[keep]
        good = {mode: self._members.good(mode, _bound(samples, tau)) for mode in dict.fromkeys(modes)}
        if self.parameters.within == "flat":
            cost = log_m + log_m.new_tensor([math.log(len(good[mode])) for mode in modes])
        else:
            mass = {mode: _logsumexp(masses) for mode, masses in good.items()}
            cost = log_m.new_tensor([mass[mode] for mode in modes])
        return samples.mode_log_ref.masked_scatter(keep, cost)

    def state_dict(self) -> dict[str, Any]:
        members = self._members.state_dict()
        return {**super().state_dict(), "members": members} if members else super().state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._members.load_state_dict(state.get("members", {}))


def _bound(samples: Samples, tau: float) -> float:
    """tau in the rewards' precision, as in :func:`chemmara.klrl.thresholds.reaches`."""
    return float(samples.reward.new_tensor(tau))


def _logsumexp(values: list[float]) -> float:
    """log of the sum of exp over sorted values, in float64."""
    peak = values[-1]
    return peak + math.log(math.fsum(math.exp(value - peak) for value in values))

"""What of a config does not go together: the parts are right, and one of them would do nothing or do harm."""

from __future__ import annotations

import warnings
from typing import Any

from chemmara.errors import ConfigError, nearest
from chemmara.klrl.augmentation import Augmentation, Mara
from chemmara.klrl.mara_modes import MaraModes
from chemmara.klrl.objectives import ObjectiveParameters
from chemmara.klrl.strength import Strength
from chemmara.klrl.thresholds import ThresholdParameters
from chemmara.optimization.filters import DiversityFilter
from chemmara.optimization.screening import SCREENS, ScreenRule, ScreenSettings
from chemmara.optimization.tables import ExploitSettings, GeneticSettings, ReplaySettings
from chemmara.registry import Entry


def check_augmentation(
    name: str, augmentation: Augmentation, objective: ObjectiveParameters, replay: ReplaySettings
) -> None:
    """What does not go together. By what an augmentation is: another one's key of the same name may mean anything."""
    if isinstance(augmentation.parameters, ThresholdParameters):
        _check_scores(augmentation.parameters)
    if not isinstance(augmentation, Mara):
        return
    if type(augmentation)._augment is Mara._augment and objective.prior_strength == 0:
        at = "beta = 0; choose a beta" if objective.beta == 0 else "prior_exponent = 0; choose one"
        raise ConfigError(f"augmentation: {name} does nothing at objective.{at} above 0")
    exponent = getattr(objective, "prior_exponent", 1.0)
    if exponent not in (0, 1) and (isinstance(augmentation, MaraModes) or augmentation.spelling == "molecule"):
        raise ConfigError(
            f"augmentation: objective.prior_exponent = {exponent:g} weighs the strings of a mode or a molecule by a "
            f"power of their probabilities, and {name} makes the sums of these equal, not of the powers; set it to 1, "
            "or take mara with spelling = 'sampled' or 'canonical'"
        )
    if augmentation.looks_at_buffer and not replay.used:
        raise ConfigError(
            "augmentation.anchor: there is no replay buffer to look at; set replay.updates to 1 or more, or "
            "anchor = 'batch'"
        )


def _check_scores(parameters: ThresholdParameters) -> None:
    for key in ("threshold", "start", "levels"):
        value = getattr(parameters, key)
        for tau in value if isinstance(value, tuple) else [value]:
            if tau is not None and not 0 <= tau <= 1:
                raise ConfigError(f"augmentation.{key}: scores lie in [0, 1] (got {tau})")


def check_strength(strength: Entry[Any], objective: ObjectiveParameters) -> None:
    scales = strength.item.applied is Strength.applied  # one that sets beta in its own way may start from 0
    if strength.name != "constant" and scales and objective.beta == 0:
        raise ConfigError(
            f"strength: '{strength.name}' has nothing to change at objective.beta = 0; choose a beta above 0"
        )


def check_replay(replay: ReplaySettings, diversity_filter: Any, screen: ScreenSettings) -> None:
    if replay.randomize and replay.canonical:
        raise ConfigError("replay.canonical: a molecule is written in a random or in its canonical spelling, not both")
    closing = any(SCREENS[rule["name"]].item.closed is not ScreenRule.closed for rule in screen.rule)
    filling = diversity_filter.item.full is not DiversityFilter.full
    if replay.purge and not filling and not closing:
        raise ConfigError(
            f"replay.purge: the diversity filter '{diversity_filter.name}' has no buckets that could be full, and no "
            "rule of the screen closes clusters; set replay.purge = false, or diversity_filter.name = 'murcko'"
        )
    if replay.only and replay.join:
        raise ConfigError("replay.join: with only = true there is no update of the step's own that could be joined")
    for key in ("only", "with_batch", "purge", "randomize", "canonical"):
        if getattr(replay, key) and replay.updates == 0:
            raise ConfigError(f"replay.{key}: nothing is replayed; set replay.updates to 1 or more")


def check_genetic(genetic: GeneticSettings, replay: ReplaySettings, screen: ScreenSettings) -> None:
    if genetic.offspring and not replay.used:
        raise ConfigError("genetic.offspring: offspring are learned from by replay; set replay.updates to 1 or more")
    if genetic.offspring and genetic.population > replay.size:
        raise ConfigError(
            f"genetic.population: the buffer never holds {genetic.population} molecules (replay.size = {replay.size}); "
            "lower it, or set genetic.offspring = 0"
        )
    if genetic.ahead > 1 and not (genetic.offspring and screen.looks_ahead):
        # Said and not refused: a run that was begun so goes on, and other methods of the config may have a use for it.
        rules = " or ".join(f"`{entry.name}`" for entry in SCREENS if entry.item.looks_ahead)
        lacking = f"no rule of the screen tells what is expected of offspring; give it {rules}"
        warnings.warn(
            f"genetic.ahead = {genetic.ahead} does nothing: "
            f"{lacking if genetic.offspring else 'nothing is bred; set genetic.offspring'}",
            stacklevel=3,
        )


def check_exploit(exploit: ExploitSettings, replay: ReplaySettings, screen: ScreenSettings) -> None:
    """``lifts`` may name rules that this screen has not got: a preset's stands over screens of all kinds."""
    for key in ("lifts", "lifts_last"):
        for name in getattr(exploit, key):
            if name not in SCREENS:
                raise ConfigError(f"exploit.{key}: there is no screen rule '{name}'{nearest(name, SCREENS.names())}")
    named = [*exploit.lifts, *(exploit.lifts_last if exploit.share else ())]
    lifted = any(rule["name"] in named for rule in screen.rule)
    limited = replay.used and bool(replay.per_scaffold or replay.per_cluster)
    if exploit.used and not (lifted or limited):
        rules = " or ".join(f"`{name}`" for name in named) or "named in exploit.lifts"
        raise ConfigError(
            f"exploit: nothing is there to be lifted; set share = 0 and scarce = 0, or give the screen a rule {rules}, "
            "or replay a per_cluster or per_scaffold"
        )

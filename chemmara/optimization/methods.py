"""Methods: named ways to optimize one score. A preset comes with chemmara; a config may define its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chemmara.config import Table, merge, set_keys
from chemmara.errors import ConfigError, nearest

# fmt: off
_SCREENED: Table = {
    "objective": {"name": "vargrad", "sigma": 200.0, "baseline": 0.75, "learning_rate": 5e-4},
    "strength": {"name": "hit_share"},
    "augmentation": {"name": "mara", "headroom": 0.25},
    "diversity_filter": {"name": "none"},
    "screen": {
        "draws": 6,
        "rule": [
            {"name": "plausible"},
            {"name": "scaffold"},
            {"name": "cluster", "similarity": 0.4, "bucket_size": 10, "growth": 3.0},
        ],
    },
    "replay": {
        "updates": 4, "size": 1024, "batch_size": 64, "draw": "rank", "rank_coefficient": 0.01, "with_batch": True,
        "per_cluster": 2, "similarity": 0.4, "purge": True,
    },
    "exploit": {"share": 0.2, "scarce": 0.25},
}


def _foreseen(**clusters: Any) -> Table:
    """What looks ahead; ``clusters``: more settings of the rule that keeps it from staying where it is."""
    return {
        **_SCREENED,
        "screen": {
            "draws": 12,
            "rule": [
                {"name": "plausible"},
                {"name": "scaffold"},
                {"name": "cluster", "similarity": 0.4, "bucket_size": 10, "hit_share": 0.75, **clusters},
                {"name": "stereoisomer"},
                {"name": "promising", "share": 0.25, "curiosity": 2.0},
            ],
        },
        "genetic": {"offspring": 16, "generations": 1, "mutation_rate": 0.01, "population": 64},
        "exploit": {"share": 0.2, "scarce": 0.5, "lifts_last": ["scaffold"], "ahead": 4},
    }


PRESETS: dict[str, Table] = {
    # REINVENT's squared loss on each batch, nothing else.
    "vanilla": {
        "objective": {"name": "reinvent"},
        "augmentation": {"name": "none"},
        "diversity_filter": {"name": "none"},
    },
    # Vanilla plus the augmentation, nothing else.
    "mara": {
        "objective": {"name": "reinvent"},
        "augmentation": {"name": "mara"},
        "diversity_filter": {"name": "none"},
    },
    # REINVENT 4's loss and its filter of identical Murcko scaffolds, at the step size of `vanilla` (its own is 1e-4).
    "reinvent": {
        "objective": {"name": "reinvent"},
        "augmentation": {"name": "none"},
        "diversity_filter": {"name": "murcko", "bucket_size": 25, "minimum_score": 0.4, "repeat": 0.0},
    },
    # Thomas et al. 2022: the better half of each batch, with their sigma and step size (SMILES-RNN's defaults), without
    # the diversity filter that they tuned beside it.
    "ahc": {
        "objective": {"name": "ahc", "fraction": 0.5, "sigma": 60.0, "learning_rate": 5e-4},
        "augmentation": {"name": "none"},
        "diversity_filter": {"name": "none"},
    },
    # Guo and Schwaller 2024: ten of the 100 best join each update, then two rounds on the batch and all of the 100 in
    # fresh spellings; what lies in a full bucket is forgotten first.
    "augmented_memory": {
        "objective": {"name": "reinvent", "sigma": 128.0, "learning_rate": 1e-4},
        "augmentation": {"name": "none"},
        "diversity_filter": {"name": "murcko", "bucket_size": 25, "minimum_score": 0.4, "repeat": 0.0},
        "replay": {
            "updates": 2, "size": 100, "batch_size": 100, "randomize": True, "with_batch": True, "join": 10,
            "purge": True,
        },
    },
    # Guo and Schwaller 2024, arXiv 2405.17066: Augmented Memory with small batches and ten rounds.
    "saturn": {
        "batch_size": 16,
        "objective": {"name": "reinvent", "sigma": 128.0, "learning_rate": 1e-4},
        "augmentation": {"name": "none"},
        "diversity_filter": {"name": "murcko", "bucket_size": 10, "minimum_score": 0.0},
        "replay": {
            "updates": 10, "size": 100, "batch_size": 100, "randomize": True, "with_batch": True, "join": 10,
            "purge": True,
        },
    },
    # Kim et al. 2024, arXiv 2402.05961: trajectory balance on a rank-weighted buffer alone, which Graph-GA feeds too.
    "genetic_gfn": {
        "objective": {
            "name": "trajectory_balance", "sigma": 50.0, "prior_exponent": 0.0, "k1_weight": 0.01,
            "learning_rate": 5e-4, "log_z": 5.0, "log_z_learning_rate": 0.1,
        },
        "augmentation": {"name": "none"},
        "diversity_filter": {"name": "none"},
        "replay": {
            "updates": 8, "size": 1024, "batch_size": 64, "draw": "rank", "rank_coefficient": 0.01, "only": True,
            "canonical": True,
        },
        "genetic": {"offspring": 8, "generations": 2, "mutation_rate": 0.01, "population": 64},
    },
    # What `default` was before it looked ahead: the agent alone, kept from what is implausible or scored already.
    "screened": _SCREENED,
    # The best that we know so far: docs/experiments.md has the measurements.
    "default": _foreseen(),
    # `default` with clusters that shrink while hits are plenty: more kinds of chemistry, fewer molecules of each.
    "wide": _foreseen(shrink_to=1),
}
# fmt: on
Names = Sequence[str]


def method_names(config: Mapping[str, Any], chosen: Names = ()) -> list[str]:
    """The methods to run: the chosen ones, else all of [methods], else the one that the config itself describes."""
    if chosen:
        return list(dict.fromkeys(chosen))
    methods = own_methods(config)
    if methods:
        return list(methods)
    if "preset" in config:
        _preset(config["preset"], "preset")
        return [str(config["preset"])]
    return ["custom" if _describes_itself(config) else "default"]


def _describes_itself(config: Mapping[str, Any]) -> bool:
    """Whether a config says how to learn. One with only a filter or replay is the default with these settings."""
    return "objective" in config or "augmentation" in config


def resolve_method(config: Mapping[str, Any], name: str, assignments: Names = ()) -> Table:
    """The config of one method, as one table without [methods] and presets.

    ``[methods.NAME]`` laid over the rest of the config, or the preset NAME. A preset inside a method replaces what the
    config says of the same tables; a preset at the top lies under the config's own keys. ``assignments``, keys and
    values of a command line, are laid over all of it, whatever the method says itself.
    """
    refuse_new_methods(config, assignments)
    config = set_keys(dict(config), assignments)
    own = {key: value for key, value in set_keys({}, assignments).items() if key not in ("methods", "preset")}
    return merge(_resolve(config, name), own)


def refuse_new_methods(config: Mapping[str, Any], assignments: Names) -> None:
    """Raise :class:`ConfigError` for an assignment to a method that ``config`` has not got: a misspelt name would run
    as a method of its own, and the one that was meant without the value."""
    known = own_methods(config)
    for name, table in own_methods(set_keys({}, assignments)).items():
        if name not in known and "preset" not in table:
            hint = nearest(name, known) if known else ""
            raise ConfigError(
                f"--set methods.{name}: the config has no method '{name}'{hint}; a value for every method is set "
                f"without methods.{name}, and a new method needs methods.{name}.preset"
            )


def _resolve(config: Mapping[str, Any], name: str) -> Table:
    base = {key: value for key, value in config.items() if key not in ("methods", "preset")}
    methods = own_methods(config)
    if name in methods:
        own = dict(methods[name])
        layers = [_preset(own.pop("preset"), f"methods.{name}.preset")] if "preset" in own else []
        _refuse_shared(own, name)
        return merge(_under(config, base), *layers, own)
    if name == "custom":
        return merge(base)
    if name in PRESETS:
        if config.get("preset") == name or (name == "default" and not _describes_itself(base)):
            return merge(PRESETS[name], base)
        return merge(base, PRESETS[name])
    raise ConfigError(f"unknown method '{name}'{nearest(name, [*methods, *PRESETS])}")


def _under(config: Mapping[str, Any], base: Table) -> Table:
    return merge(_preset(config["preset"], "preset"), base) if "preset" in config else base


def _preset(name: Any, where: str) -> Table:
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigError(f"{where}: unknown preset '{name}'{nearest(str(name), PRESETS)}")
    return PRESETS[name]


def own_methods(config: Mapping[str, Any]) -> dict[str, Table]:
    """The tables of [methods], by name. Raises :class:`ConfigError`."""
    methods = config.get("methods", {})
    if not isinstance(methods, Mapping):
        raise ConfigError("methods: expected tables [methods.NAME]")
    for name, table in methods.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"methods.{name}: expected a table, [methods.{name}]")
        if not name or not all(c.isalnum() or c in "._-" for c in name) or name.startswith("."):
            raise ConfigError(f"methods.{name}: a method names a directory; use letters, digits, '.', '_' and '-'")
    return dict(methods)


def _refuse_shared(table: Mapping[str, Any], name: str) -> None:
    for key in ("scoring", "threshold", "oracle_budget"):
        if key in table:
            raise ConfigError(f"methods.{name}.{key}: methods share one {key}, or their results could not be compared")

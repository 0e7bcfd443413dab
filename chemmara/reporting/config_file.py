"""What the config.toml of a run means where it says nothing, for whoever reads one and whoever writes one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chemmara.config import Table

UNUSED: dict[str, Table] = {"strength": {"name": "constant"}, "exploit": {"share": 0.0, "scarce": 0.0, "window": 256}}
"""Tables that do nothing as they stand here. A run's config leaves them out then: runs begun before there were such
tables have the same config still."""
LATER: dict[str, Table] = {"genetic": {"ahead": 1}, "exploit": {"lifts": ["cluster"], "lifts_last": [], "ahead": 1}}
"""Keys that tables have got since, by what they are where nothing is said of them; left out for the same reason."""


def with_later(config: Table) -> Table:
    """A run's config with what the keys of :data:`LATER` are where it says nothing of them."""
    return {key: {**LATER[key], **table} if key in LATER else table for key, table in config.items()}


def without_later(config: Table) -> Table:
    """A run's config without the keys of :data:`LATER` that are as they always were, nor tables that had only those."""
    kept = dict(config)
    for name, usual in LATER.items():
        table = config.get(name)
        if table and isinstance(table, Mapping):
            kept[name] = {key: value for key, value in table.items() if key not in usual or value != usual[key]}
            if not kept[name]:
                del kept[name]
    return kept


def follows_budget(config: Mapping[str, Any]) -> bool:
    """Whether what a run does at some number of calls depends on how many there will be."""
    annealed = config.get("augmentation", {}).get("anneal_budget") is not None
    return annealed or bool(config.get("exploit", {}).get("share"))

"""What the config.toml of a run means where it says nothing, for whoever reads one and whoever writes one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chemmara.config import Table

UNUSED: dict[str, Table] = {"strength": {"name": "constant"}, "exploit": {"share": 0.0, "scarce": 0.0, "window": 256}}
"""Tables that do nothing as they stand here. A run's config leaves them out then: runs begun before there were such
tables have the same config still."""
LATER: dict[str, Table] = {"genetic": {"ahead": 1}, "exploit": {"lifts": ["cluster"], "lifts_last": []}}
"""Keys that tables have got since, by what they are where nothing is said of them; left out for the same reason."""


def without_later(config: Table) -> Table:
    """A run's config without the keys of :data:`LATER` that are as they always were."""

    def kept(name: str, table: Any) -> Any:
        usual = LATER.get(name)
        if usual is None or not isinstance(table, Mapping):
            return table
        return {key: value for key, value in table.items() if key not in usual or value != usual[key]}

    return {name: kept(name, table) for name, table in config.items()}


def follows_budget(config: Mapping[str, Any]) -> bool:
    """Whether what a run does at some number of calls depends on how many there will be."""
    annealed = config.get("augmentation", {}).get("anneal_budget") is not None
    return annealed or bool(config.get("exploit", {}).get("share"))

"""What the config.toml of a run means where it says nothing, for whoever reads one and whoever writes one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chemmara.config import Table

UNUSED: dict[str, Table] = {"strength": {"name": "constant"}, "exploit": {"share": 0.0, "scarce": 0.0, "window": 256}}
"""Tables that do nothing as they stand here. A run's config leaves them out then: runs begun before there were such
tables have the same config still."""


def follows_budget(config: Mapping[str, Any]) -> bool:
    """Whether what a run does at some number of calls depends on how many there will be."""
    annealed = config.get("augmentation", {}).get("anneal_budget") is not None
    return annealed or bool(config.get("exploit", {}).get("share"))

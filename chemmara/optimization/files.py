"""The files that a table of a config names: made absolute, and listed with the place that names them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chemmara.config import Table
from chemmara.registry import Registry
from chemmara.scoring.component import file_hash, locate
from chemmara.scoring.paths import has_path, paths_in, plain, with_paths


def located_table(registry: Registry[Any], table: Table, where: str, folder: Path) -> Table:
    """The table with its paths made absolute (as [scoring] does). Raises :class:`ConfigError`."""
    _, parameters = registry.build_parameters(table, where)
    found = with_paths(parameters, lambda path: locate(path, folder))
    return {**table, **{name: plain(value, str) for name, value in found if has_path(value)}}


def files_in(registry: Registry[Any], table: Table, where: str) -> dict[str, Path]:
    """The files that a checked table names, by their places."""
    return dict(paths_in(registry.build_parameters(table, where)[1], where))


def hashes(files: Mapping[str, Path]) -> dict[str, str]:
    """What is in each of the files, as a hash by the same places."""
    return {place: file_hash(path) for place, path in files.items()}

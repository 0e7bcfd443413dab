"""Which runs are compared: found at paths, each once, and told apart where one name stands for two things."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chemmara.config import Table
from chemmara.errors import UserError
from chemmara.reporting.config_file import UNUSED, follows_budget, with_later
from chemmara.reporting.runs import Run, find_runs, read_manifest
from chemmara.scoring.component import file_hash, placeless
from chemmara.scoring.forests import FILE

NO_VALUE = ("retry", "on_failure", "path", "timeout", "start_timeout", "retries", "longest_wait", "poses")
"""Keys of a component that decide no value, or not here."""
APART = ("seed", "execution", "failure", "oracle_budget", "max_steps", "max_hits", "prior", "agent", "scoring")
"""Keys of a config in which runs of one method may differ; the score and the weights are told by their contents.
``oracle_budget`` is none of them where the method follows it."""

TOLD = ("score", "scoring", "prior_sha256", "agent")
"""What a manifest may not say yet."""


def collect(paths: Sequence[str | Path | Run]) -> list[Run]:
    """The runs of all paths, each once. Two methods of one name are told apart by where they come from: those that have
    a seed in common, and those of other settings or another score, whose figures are no sample of one thing."""
    found: dict[tuple[Path, str], Run] = {}
    for path in paths:
        for run in [path] if isinstance(path, Run) else find_runs(path):
            found.setdefault((run.source.resolve(), run.name), run)
    runs = list(found.values())
    if not runs:
        raise UserError("nothing to compare: name at least one run")
    doubled = {method for method in {run.method for run in runs} if not _apart(runs, method)}
    named = {method: _by_origin([run for run in runs if run.method == method]) for method in doubled}
    return [next(named[run.method]) if run.method in doubled else run for run in runs]


def _apart(runs: Sequence[Run], method: str) -> bool:
    """Whether a method's runs are one each, and of one thing as far as they lie in different places."""
    own = [run for run in runs if run.method == method]
    return len({run.name for run in own}) == len(own) and not (mixed(own) and len(set(map(_folder_path, own))) > 1)


def _by_origin(runs: Sequence[Run]) -> Iterator[Run]:
    """The runs of one method named after where they come from, by no more than it takes."""
    found = list(runs)
    for origin in (_folder_name, _folder_path, _file_name, _file_path):
        found = [replace(run, method=f"{origin(run)}/{run.method}") for run in runs]
        if all(_apart(found, run.method) for run in found):
            break
    return iter(found)


def mixed(runs: Sequence[Run]) -> dict[str, str]:
    """The methods whose runs differ in more than seed, length and machine, with the first difference."""
    first: dict[str, tuple[Run, Table]] = {}
    found: dict[str, str] = {}
    for run in runs:
        if run.directory is None:
            continue
        settings = _settings(run.directory)
        one, before = first.setdefault(run.method, (run, settings))
        difference = next(_differences(before, settings), "") if one is not run else ""
        if difference and run.method not in found:
            found[run.method] = f"{difference} ('{one.directory}' and '{run.directory}')"
    return found


def _settings(directory: Path) -> Table:
    """What a method is, and its goal: the config with files by name, weights and score by content."""
    manifest, config = read_manifest(directory), _config(directory)
    if config:
        config = with_later({**UNUSED, **config})
    apart = [key for key in APART if key != "oracle_budget" or not follows_budget(config)]
    table = {key: placeless(value, lambda path: path.name) for key, value in config.items() if key not in apart}
    for key in ("score", "prior_sha256"):
        if key in manifest:
            table[key] = manifest[key]
    if "agent_sha256" in manifest:  # each seed of a second stage has its own
        table["agent"] = manifest["agent_sha256"] == manifest.get("prior_sha256")
    if "score" not in manifest:
        table["scoring"] = score_of(directory)
    return {"version": manifest.get("versions", {}).get("chemmara", ""), **table}


def _differences(one: Table, other: Table) -> Iterator[str]:
    """The keys in which two tables differ. One that only a newer version writes down is no difference."""
    alike = one.get("version") == other.get("version")
    for place, (before, after) in _pairs(one, other):
        told = _MISSING not in (before, after) or (alike and place not in TOLD)
        if place != "version" and before != after and told:
            yield place


_MISSING = object()


def _pairs(one: Mapping[str, Any], other: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """What stands at each place of two tables."""
    for key in sorted(one.keys() | other.keys()):
        before, after = one.get(key, _MISSING), other.get(key, _MISSING)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _pairs(before, after, f"{place}{key}.")
        else:
            yield f"{place}{key}", (before, after)


def score_of(directory: Path) -> str:
    """The [scoring] table of a run's config as text, without what decides no value; '' where there is none."""
    scoring = _config(directory).get("scoring", {})
    if not scoring:
        return ""
    parts = scoring.get("component", [])
    bare = [{k: placeless(v, _content) for k, v in part.items() if k not in NO_VALUE} for part in parts]
    return json.dumps([scoring.get("aggregation"), bare], sort_keys=True, default=str)


def _config(directory: Path) -> Table:
    try:
        return tomllib.loads((directory / "config.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _content(path: Path) -> str:
    """What is in a file, or its name where it is not here: a score is the same one on another machine."""
    files = [file for file in (path, path / FILE) if file.is_file()]
    return file_hash(files[0]) if files else path.name


def _folder_path(run: Run) -> str:
    """The output directory of a run, or the folder of a table."""
    parents = run.source.resolve().parents
    return str(parents[2] if run.directory is not None and run.source.parent == run.directory else parents[0])


def _folder_name(run: Run) -> str:
    return Path(_folder_path(run)).name


def _file_name(run: Run) -> str:
    return run.source.name


def _file_path(run: Run) -> str:
    return str(run.source.resolve())

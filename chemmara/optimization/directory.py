"""A run directory: what lies where, and what state it is in."""

from __future__ import annotations

import json
import math
import platform
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import chemmara
from chemmara.config import Table
from chemmara.errors import UserError
from chemmara.optimization.goal import changed_contents, own_file_hint, score_change
from chemmara.places import write_whole
from chemmara.reporting.config_file import LATER, UNUSED
from chemmara.scoring.component import placeless

if TYPE_CHECKING:
    from chemmara.optimization.settings import RunSettings

LEDGER = "ledger.sqlite"
METRICS = "metrics.csv"
EXTENDABLE = ("oracle_budget", "max_steps", "max_hits")
"""The keys that say how long a run is: a finished run goes on where they are raised."""
BUDGET_SPENT = "the oracle budget is spent"
STEPS_DONE = "max_steps is reached"
HITS_FOUND = "max_hits is reached"


@dataclass(frozen=True)
class RunDirectory:
    """``root/<method>/seed-<n>``; the ledger lies in ``root`` and is shared."""

    root: Path
    method: str
    seed: int

    @property
    def path(self) -> Path:
        return self.root / self.method / f"seed-{self.seed}"

    @property
    def key(self) -> str:
        """The run's name in the ledger."""
        return f"{self.method}/seed-{self.seed}"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoints" / "last.ckpt"

    def manifest(self) -> dict[str, Any]:
        """The manifest, empty if there is none or it is damaged."""
        try:
            return dict(json.loads((self.path / "manifest.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}

    @property
    def finished(self) -> bool:
        return bool(self.manifest().get("end"))

    def goes_on(self, table: Table) -> bool:
        """Whether the finished run came to an end that ``table`` puts off: a larger budget, more steps or hits."""
        manifest = self.manifest()
        return (
            manifest.get("stop_reason") in (BUDGET_SPENT, STEPS_DONE, HITS_FOUND)
            and manifest["oracle_calls"] < table["oracle_budget"]
            and manifest["steps"] < table.get("max_steps", math.inf)
            and manifest.get("hits", 0) - manifest.get("seed_hits", 0) < table.get("max_hits", math.inf)
        )

    def config(self) -> Table:
        """The config that ran last, empty if there is none or it is damaged."""
        try:
            return tomllib.loads((self.path / "config.toml").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    @property
    def begun(self) -> bool:
        """Whether there is anything that another run here would write over."""
        return self.finished or self.checkpoint.is_file() or _has_rows(self.path / METRICS)

    def check_same_config(self, settings: RunSettings, mended: bool = False) -> None:
        """Raise :class:`UserError` if the directory's run has another config, or was scored by something else.

        [execution], [failure], what the components say of failures and :data:`EXTENDABLE` may differ, and so may the
        folders of files.
        ``mended``: the contents of files and programs that components read and run may have changed.
        """
        before, table = self.config(), settings.to_table()
        if not before and self.checkpoint.is_file() and not self.finished:
            raise UserError(
                f"'{self.path / 'config.toml'}' is missing or damaged: it says how the run was begun; put it back, or "
                "choose another directory"
            )
        if not before or not self.begun:
            return
        free = ("execution", "failure", "scoring", *EXTENDABLE)
        changed = sorted(
            key for key in before.keys() | table.keys() if key not in free and _other(before.get(key), table.get(key))
        )
        change = score_change(self.manifest(), before.get("scoring"), settings.scoring)
        if change.text:
            changed = sorted([*changed, "scoring"])
        own = own_file_hint(settings)
        if changed:
            leaves = [leaf for key in changed if key != "scoring" for leaf in _leaves(key, before, table)]
            details = "".join(f"; {leaf}" for leaf in leaves)
            raise UserError(
                f"'{self.path}' was begun with another config ({', '.join(changed)} {_differ(changed)}{details}); "
                f"resume it with its own config{self._as_begun(changed, leaves)}, or choose another directory"
                f"{own if change.text else ''}"
            )
        if change and not mended and not (self.finished and not self.goes_on(table)):
            raise UserError(
                f"'{self.path}': what {changed_contents(change)} reads or runs has changed since the run began, and "
                "the molecules of one run are scored alike; put it back, go on with --resume --retry-failed if it was "
                f"mended and gives the same values, or choose another directory{own}"
            )

    def _as_begun(self, changed: Sequence[str], leaves: Sequence[_Leaf]) -> str:
        """The assignments that bring the beginning's values back, where all that differs are numbers, switches and
        lists."""
        plain = [leaf for leaf in leaves if isinstance(leaf.old, int | float | list)]
        if len(plain) < len(leaves) or {leaf.name.split(".")[0] for leaf in leaves} != {*changed}:
            return ""
        assignments = (shlex.quote(f"{leaf.name}={json.dumps(leaf.old)}") for leaf in plain)
        return f" (for {self.method}: {' '.join(f'--set {assignment}' for assignment in assignments)})"

    def check_not_shorter(self, table: Table) -> None:
        """Raise :class:`UserError` if the run was begun with more calls, steps or hits than ``table`` gives it."""
        before = self.config()
        if not before or not self.begun:
            return
        for key in EXTENDABLE:
            if table.get(key, math.inf) < before.get(key, math.inf):
                raise UserError(
                    f"'{self.path}' was begun with {key} = {before.get(key, 'unlimited')}, which can be raised but not "
                    f"lowered to {table[key]}; resume it with its own config, or choose another directory"
                )

    def check_same_goal(self, settings: RunSettings, mended: bool = False) -> None:
        """Raise :class:`UserError` if another run in ``root`` has another score or threshold: what lies together is
        compared. ``mended`` as in :meth:`check_same_config`."""
        for file in sorted(self.root.glob("*/seed-*/config.toml")):
            seed = file.parent.name.removeprefix("seed-")
            other = RunDirectory(self.root, file.parent.parent.name, int(seed) if seed.isdecimal() else -1)
            table = other.config()
            if not table or not other.begun:
                continue
            change = score_change(other.manifest(), table.get("scoring"), settings.scoring)
            changed = ["scoring"] if change.text else []
            changed += ["threshold"] if table.get("threshold") != settings.head.threshold else []
            if changed:
                raise UserError(
                    f"'{self.root}' holds runs of another goal ({' and '.join(changed)} of "
                    f"'{other.path}' {_differ(changed)}): they could not be compared; choose another directory with -o"
                )
            if change and not mended:
                raise UserError(
                    f"'{self.root}' holds runs that were scored otherwise: what {changed_contents(change)} reads or "
                    f"runs has changed since '{other.path}'; put it back, choose another directory with -o, or go on "
                    f"with --resume --retry-failed if it was mended and gives the same values{own_file_hint(settings)}"
                )

    def write(self, name: str, text: str) -> None:
        """Put a text file in place, whole or not at all. Raises :class:`RunError`."""
        write_whole(self.path / name, text)

    def write_config(self, table: Table) -> None:
        import tomli_w

        self.write("config.toml", tomli_w.dumps(table))

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        self.write("manifest.json", json.dumps(manifest, indent=2) + "\n")


class _Leaf(NamedTuple):
    """A key within a table, which differs from what it was."""

    name: str
    old: Any
    new: Any

    def __str__(self) -> str:
        old, new = self.old, self.new
        if isinstance(old, list) and isinstance(new, list):  # a screen's rules, say: what both have is left out
            old, new = ([each for each in one if each not in other] for one, other in ((old, new), (new, old)))
        return f"{self.name}: {old} then, {new} now"


def _leaves(key: str, before: Table, now: Table) -> Iterator[_Leaf]:
    """What differs within a table of a config, as a newer version's preset may have it."""
    old, new = (table.get(key, UNUSED.get(key)) for table in (before, now))
    if isinstance(old, dict) and isinstance(new, dict):
        usual = dict.fromkeys(old.keys() | new.keys(), "none") | LATER.get(key, {})
        old, new = {**usual, **old}, {**usual, **new}
        for name in sorted(usual):
            if _other(old[name], new[name]):
                yield _Leaf(f"{key}.{name}", old[name], new[name])


def _other(old: Any, new: Any) -> bool:
    """Whether two values differ in more than where files lie: a project may be moved, and what is in a file that
    matters is told by its hash."""
    return bool(placeless(old, _file_name) != placeless(new, _file_name))


def _file_name(path: Path) -> str:
    return path.name


def _has_rows(file: Path) -> bool:
    """Whether a table has a line below its header."""
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            return sum(1 for _ in islice(stream, 2)) > 1
    except OSError:
        return False


def _differ(names: Sequence[str]) -> str:
    return "differ" if len(names) > 1 else "differs"


def now() -> str:
    """The time as manifests have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions that decide which molecules a seed gives."""
    names = ("torch", "rdkit", "pytorch-lightning", "numpy", "selfies")
    found = {"chemmara": chemmara.__version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found

"""What a run is scored by, as its manifest keeps it: molecules of one run, and of runs side by side, are scored alike.

A config names files and programs; what lies in them may change under its text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chemmara.errors import UserError
from chemmara.scoring.arguments import OWN_FILE
from chemmara.scoring.component import COMPONENTS, placeless
from chemmara.scoring.settings import ScoringSettings

if TYPE_CHECKING:
    from chemmara.optimization.settings import RunSettings


@dataclass(frozen=True)
class Change:
    """How a score differs from one before: in its config's meaning, or in what the named components read and run."""

    text: bool
    contents: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.text or bool(self.contents)


SAME = Change(False)


def score_record(scoring: ScoringSettings) -> list[Any]:
    """Aggregation, and of each component its label and all that its part of the score depends on, as JSON has it."""
    aggregation, parts = scoring.essence()
    record = [aggregation, [[label, *part] for label, part in zip(scoring.labels, parts, strict=True)]]
    loaded: list[Any] = json.loads(json.dumps(record))
    return loaded


def score_change(manifest: Mapping[str, Any], before: Any, scoring: ScoringSettings) -> Change:
    """What has changed since a run whose manifest and [scoring] table are given.

    Runs from before the record was kept are told apart by their tables alone, and by what these give now.
    """
    same_text = _bare(before) == _bare(scoring.to_table())
    now, was = score_record(scoring), manifest.get("score")
    if was is None:
        if same_text:
            return SAME
        try:
            return Change(score_record(ScoringSettings.parse(before)) != now)
        except (UserError, TypeError):  # a file that it needs is not there any more
            return Change(True)
    if _renewed(was, scoring) == now:
        return SAME
    if not same_text:
        return Change(True)
    # The one text, and other keys: contents.
    return Change(False, tuple(part[0] for part, old in zip(now[1], was[1], strict=False) if part != old) or ("?",))


def _renewed(record: Any, scoring: ScoringSettings) -> Any:
    """The record of a run with today's keys in place of those that an earlier version gave the same components."""
    today = {each.spec.former: each.spec.key for each in scoring.components if each.spec.former}
    aggregation, parts = record
    return [aggregation, [[label, today.get(key, key), *rest] for label, key, *rest in parts]]


def _bare(table: Any) -> Any:
    """A [scoring] table without its policy on failures and its programs' own files, and with paths by their last part:
    a project may be moved."""
    components = table.get("component") if isinstance(table, Mapping) else None
    if not isinstance(components, list):
        return table
    policy = ("retry", "on_failure", "unwatched")
    bare = [
        {k: placeless(v, lambda path: path.name) for k, v in c.items() if k not in policy} if isinstance(c, dict) else c
        for c in components
    ]
    return {**table, "component": bare}


def own_file_hint(settings: RunSettings) -> str:
    """The end of a refusal where a component runs a program: it may write a file which stands in its command."""
    names = [component.spec.name for component in settings.scoring.components]
    programs = any("unwatched" in COMPONENTS[name].parameters.model_fields for name in names)
    return f"; {OWN_FILE}" if programs else ""


def changed_contents(change: Change) -> str:
    """The names of the components for a message."""
    return ", ".join(f"'{label}'" for label in change.contents)

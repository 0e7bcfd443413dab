"""Values in a ledger that were paid for and do not count any more, because a file behind their component has changed.

A config names files; a value is stored under what is in them. So the same config may find nothing the next time, and
the user is to hear why before all of it is paid for again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chemmara.errors import ChemmaraError
from chemmara.scoring import work
from chemmara.scoring.arguments import OWN_FILE, readings
from chemmara.scoring.component import COMPONENTS
from chemmara.scoring.ledger import ComponentInfo
from chemmara.scoring.settings import ACTING, ComponentSettings
from chemmara.wording import counted


def outdated(ledger: Path, known: Sequence[ComponentInfo], components: Sequence[ComponentSettings]) -> Iterator[str]:
    """A line for each component that the ledger has values of under the same settings, and none as it is now."""
    for component in components:
        spec = component.spec
        if any(info.key == spec.key for info in known):
            continue
        before = [info for info in known if info.name == spec.name and _alike(info.parameters, spec.parameters)]
        if before:
            most = max(before, key=lambda info: info.evaluations)
            values, reason = counted(most.evaluations, "value"), _reason(most, spec.parameters)
            yield f"{component.label}: {values} kept in '{ledger}' cannot be used: {reason}"


def _reason(before: ComponentInfo, now: Mapping[str, Any]) -> str:
    """What has made another oracle of the component, and the remedy where there is one."""
    files, new, gone = list[str](), list[str](), list[str]()
    for old, text in _pairs(before.parameters, now):
        was, is_ = _watched(old, before.parameters), _watched(text, now)
        if is_ and not was:
            new.append(old.removeprefix(text.removesuffix(is_)))
        elif was and not is_:
            gone.append(was)
        elif is_ and Path(is_).is_file():
            files.append(is_)
    if new and _still(before):
        names, remedy = " and ".join(map(repr, new)), [*(now.get("unwatched") or ()), *new]
        return f"{names} did not exist when they were made; {OWN_FILE}: with unwatched = {remedy} they count again"
    if gone:
        return f"what was in {' and '.join(map(repr, gone))} counted when they were made, and does not now"
    hint = f"; {OWN_FILE}" if "unwatched" in COMPONENTS[before.name].parameters.model_fields else ""
    read = f"what is in {' or '.join(map(repr, [*new, *files]))}" if new or files else "a file that it reads"
    return f"{read}, or the program's version, has changed since they were made{hint}"


def _watched(argument: Any, parameters: Mapping[str, Any]) -> str:
    """The absolute path in an argument, unless it is unwatched; '' for none."""
    if not isinstance(argument, str):
        return ""
    names = [name for _, name in readings(argument)]
    free = {argument, *names} & {*(parameters.get("unwatched") or ())}
    return "" if free else next((name for name in names if Path(name).is_absolute()), "")


def _still(before: ComponentInfo) -> bool:
    """Whether the settings of before, to the letter, would give the values that are stored."""
    try:
        return work.spec_of(before.name, work.build(before.name, before.parameters, "")).key == before.key
    except ChemmaraError:
        return False


def _alike(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return all(old == new or _one_file(old, new) for old, new in _pairs(before, now))


def _one_file(old: Any, new: Any) -> bool:
    """Whether two arguments name one file, be it in another folder, or relatively in one of the two."""
    if not (isinstance(old, str) and isinstance(new, str)):
        return False
    both = zip(readings(old), readings(new), strict=False)
    return any(head == other and _one_path(Path(a), Path(b)) for (head, a), (other, b) in both)


def _one_path(a: Path, b: Path) -> bool:
    if a.is_absolute() and b.is_absolute():
        return a.name == b.name
    short, long = sorted((a.parts, b.parts), key=len)
    return a.is_absolute() != b.is_absolute() and bool(short) and long[-len(short) :] == short


def _pairs(before: Any, now: Any) -> Iterator[tuple[Any, Any]]:
    """What stands at the same place of two tables of parameters, as far as values depend on it."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted({*before, *now} - {*ACTING}):
            yield from _pairs(before.get(key), now.get(key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for pair in zip(before, now, strict=True):
            yield from _pairs(*pair)
    else:
        yield before, now

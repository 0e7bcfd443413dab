"""The paths among parameters, however deep they lie: in lists, in tables, in tables of tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

_MANY = (list, tuple, set, frozenset)


def paths_in(value: Any, place: str = "") -> Iterator[tuple[str, Path]]:
    """(its place, the path) for each path in a value whose own place is ``place``.

    >>> [place for place, _ in paths_in({"files": [Path("a"), Path("b")]}, "screen")]
    ['screen.files[0]', 'screen.files[1]']
    """
    if isinstance(value, Path):
        yield place, value
    elif isinstance(value, (BaseModel, Mapping)):
        for name, part in _named(value):
            yield from paths_in(part, f"{place}.{name}" if place else str(name))
    elif isinstance(value, _MANY):
        for number, part in enumerate(_ordered(value)):
            yield from paths_in(part, f"{place}[{number}]")


def has_path(value: Any) -> bool:
    """Whether there is a path anywhere in a value."""
    return any(True for _ in paths_in(value))


def with_paths(value: Any, change: Callable[[Path], Path]) -> Any:
    """The value with another path in place of each; what holds none stays the very same object."""
    if isinstance(value, Path):
        return change(value)
    if not has_path(value):
        return value
    if isinstance(value, BaseModel):
        return value.model_copy(update={name: with_paths(part, change) for name, part in value if has_path(part)})
    if isinstance(value, Mapping):
        return {name: with_paths(part, change) for name, part in value.items()}
    return type(value)(with_paths(part, change) for part in value)


def plain(value: Any, stand_in: Callable[[Path], str]) -> Any:
    """The value as JSON has it, with ``stand_in`` in place of each path.

    >>> plain({"files": (Path("/here/a.smi"),)}, lambda path: path.name)
    {'files': ['a.smi']}
    """
    if isinstance(value, Path):
        return stand_in(value)
    if isinstance(value, BaseModel):
        # Only what holds paths is replaced: the rest is as the model writes it, and stored values are keyed by that.
        found = {name: plain(part, stand_in) for name, part in value if has_path(part)}
        return {**value.model_dump(mode="json"), **found}
    if isinstance(value, Mapping):
        return {str(name): plain(part, stand_in) for name, part in value.items()}
    if isinstance(value, _MANY):
        return [plain(part, stand_in) for part in _ordered(value)]
    return to_jsonable_python(value)


def _named(value: BaseModel | Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    return iter(value.items()) if isinstance(value, Mapping) else iter(value)


def _ordered(value: Any) -> Any:
    """A set has no order of its own, and would have another one in each process."""
    return sorted(value, key=str) if isinstance(value, (set, frozenset)) else value

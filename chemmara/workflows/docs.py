"""The generated parts of docs/*.md: tables made from what is registered, so that they cannot fall behind.

``python -m chemmara.workflows.docs [FOLDER]`` writes them anew, between ``<!-- generated: NAME -->`` and
``<!-- end -->``; whatever stands outside these marks is written by hand and left alone.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from chemmara.klrl.augmentation import AUGMENTATIONS
from chemmara.klrl.objectives import OBJECTIVES
from chemmara.klrl.strength import STRENGTHS
from chemmara.metrics import table as metrics
from chemmara.optimization.columns import COLUMNS
from chemmara.optimization.filters import DIVERSITY_FILTERS
from chemmara.optimization.methods import PRESETS
from chemmara.optimization.screening import SCREENS, ScreenSettings
from chemmara.optimization.settings import _Head
from chemmara.optimization.tables import ExecutionSettings, ExploitSettings, GeneticSettings, ReplaySettings
from chemmara.policies.policy import POLICIES
from chemmara.registry import Registry, readable
from chemmara.reporting.report import COLUMN_MEANINGS
from chemmara.scoring.aggregation import AGGREGATIONS
from chemmara.scoring.cluster_settings import DaskSettings, SlurmSettings
from chemmara.scoring.component import COMPONENTS, Component
from chemmara.scoring.executors import EXECUTORS
from chemmara.scoring.failure import FailureSettings
from chemmara.scoring.settings import Common
from chemmara.scoring.transforms import TRANSFORMS
from chemmara.training.settings import TrainSettings
from chemmara.workflows.benchmarks.suite import SUITES

PART = re.compile(r"(<!-- generated: ([a-z_]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = list(header)
    lines = [cells, ["---"] * len(cells), *rows]
    return "".join("| " + " | ".join(_cell(text) for text in line) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# Parameters -----------------------------------------------------------------------------------------------------------


def kind(annotation: Any) -> str:
    """A type in the words of a config: ``number``, ``true or false``, ``list of text``.

    >>> kind(float | None), kind(list[str]), kind(Literal["max", "mean"])
    ('number', 'list of text', '`max`, `mean`')
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(kind(argument) for argument in arguments if argument is not type(None))
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin is typing.Annotated:
        return kind(arguments[0])
    if origin in (list, tuple):
        return f"list of {kind(arguments[0])}"
    if origin is dict:
        return "table" if arguments[1] is Any else f"table of {kind(arguments[1])}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "{ " + ", ".join(annotation.model_fields) + " }"
    names = {float: "number", int: "integer", bool: "true or false", str: "text", Path: "path", Any: "any"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def default(field: FieldInfo) -> str:
    """A field's default as a config would write it; ``required``, or ``-`` where nothing is the default."""
    value = field.default_factory() if field.default_factory is not None else field.default  # type: ignore[call-arg]
    if value is PydanticUndefined:
        return "required"
    if value is None or isinstance(value, BaseModel):
        return "-"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, Mapping):
        inside = ", ".join(f'{key} = "{item}"' for key, item in value.items())
        return f"`{{ {inside} }}`" if inside else "`{}`"
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        return f"`{json.dumps(value)}`"
    return f'`"{value}"`' if isinstance(value, (str, Path)) else f"`{value}`"


def parameters(model: type[BaseModel], but: Iterable[str] = ()) -> str:
    """The table of a model's fields."""
    rows = [
        (f"`{name}`", kind(field.annotation), default(field), field.description or "")
        for name, field in model.model_fields.items()
        if name not in set(but)
    ]
    return _table(("key", "type", "default", "meaning"), rows)


# Registries -----------------------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """A docstring as Markdown: also without the short name of the paper."""
    return re.sub(r"\[P(?=[],])", "[arXiv 2510.20817", readable(text)).replace("; P]", "; arXiv 2510.20817]")


def registered(registry: Registry[Any], whole: bool = False) -> str:
    """Every implementation of a registry with its parameters; ``whole``: with its whole docstring."""
    parts = []
    for entry in registry:
        text = _plain(inspect.getdoc(entry.item) or "") if whole else _plain(entry.summary)
        parts.append(f"### `{entry.name}`\n\n{text}\n")
        if entry.parameters.model_fields:
            parts.append(parameters(entry.parameters))
    return "\n".join(parts)


def _range(component: type[Component]) -> str:
    low, high = component.bounds
    return f"{'any' if low is None else f'{low:g}'} to {'any' if high is None else f'{high:g}'}"


def _components() -> str:
    rows = []
    for entry in COMPONENTS:
        low, high = entry.item.bounds
        inside = low is not None and high is not None and low >= 0 and high <= 1
        example = "none needed" if inside else f"`{entry.item.example}`"
        rows.append((f"`{entry.name}`", _plain(entry.summary), entry.item.unit or "-", _range(entry.item), example))
    parts = [_table(("name", "what it gives", "unit", "raw values", "a transform"), rows)]
    for entry in COMPONENTS:
        if entry.parameters.model_fields:
            parts.append(f"### `{entry.name}`\n\n{_plain(inspect.getdoc(entry.item) or '')}\n")
            parts.append(parameters(entry.parameters))
    return "\n".join(parts)


def _summaries(registry: Registry[Any]) -> str:
    return _table(("name", "what it does"), [(f"`{entry.name}`", _plain(entry.summary)) for entry in registry])


def _presets() -> str:
    parts = [f"### `{name}`\n\n```toml\n{tomli_w.dumps(preset).strip()}\n```\n" for name, preset in PRESETS.items()]
    return "\n".join(parts)


def _meanings(columns: Mapping[str, str]) -> str:
    return _table(("column", "meaning"), [(f"`{name}`", meaning) for name, meaning in columns.items()])


def _benchmarks() -> str:
    parts = []
    for entry in SUITES:
        suite = entry.item
        calls = ", ".join(f"{number:,}" for number in suite.calls)
        parts.append(f"### `{suite.name}`\n\n{suite.summary} [{suite.source}].\n")
        parts.append(f"Results after {calls} oracle calls; prior `{suite.prior}`; hit: score >= {suite.threshold:g}.\n")
        parts.append(_table(("task", "what is asked for"), [(f"`{t.name}`", t.summary) for t in suite.tasks]))
    return "\n".join(parts)


PARTS: dict[str, Callable[[], str]] = {
    "metrics_csv": lambda: _meanings(COLUMNS),
    "molecules_csv": lambda: _meanings(COLUMN_MEANINGS),
    "compare": metrics.markdown,
    "run": lambda: parameters(_Head, but=("replay", "genetic", "exploit", "execution", "failure")),
    "replay": lambda: parameters(ReplaySettings),
    "genetic": lambda: parameters(GeneticSettings),
    "exploit": lambda: parameters(ExploitSettings),
    "execution": lambda: parameters(ExecutionSettings),
    "dask": lambda: parameters(DaskSettings, but=("slurm",)),
    "slurm": lambda: parameters(SlurmSettings),
    "failure": lambda: parameters(FailureSettings),
    "train": lambda: parameters(TrainSettings),
    "policies": lambda: registered(POLICIES),
    "common": lambda: parameters(Common),
    "components": _components,
    "transforms": lambda: registered(TRANSFORMS, whole=True),
    "aggregations": lambda: _summaries(AGGREGATIONS),
    "objectives": lambda: registered(OBJECTIVES),
    "strengths": lambda: registered(STRENGTHS),
    "augmentations": lambda: registered(AUGMENTATIONS),
    "filters": lambda: registered(DIVERSITY_FILTERS),
    "screens": lambda: parameters(ScreenSettings) + "\n" + registered(SCREENS, whole=True),
    "executors": lambda: registered(EXECUTORS),
    "objective_theory": lambda: _theory(OBJECTIVES),
    "strength_theory": lambda: _theory(STRENGTHS),
    "augmentation_theory": lambda: _theory(AUGMENTATIONS),
    "presets": _presets,
    "benchmarks": _benchmarks,
}


def _theory(registry: Registry[Any]) -> str:
    return "\n".join(f"### `{entry.name}`\n\n{_plain(inspect.getdoc(entry.item) or '')}\n" for entry in registry)


# Pages ----------------------------------------------------------------------------------------------------------------


def filled(page: str) -> str:
    """A page with its generated parts made anew. Raises ``KeyError`` for a mark that names no part."""

    def part(match: re.Match[str]) -> str:
        return f"{match[1]}\n{PARTS[match[2]]()}\n{match[3]}"

    return PART.sub(part, page)


def main(folder: str = "docs") -> None:
    """Write the generated parts of every page in ``folder``."""
    for path in sorted(Path(folder).glob("*.md")):
        page = path.read_text(encoding="utf-8")
        path.write_text(filled(page), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The ``[scoring]`` table of a config, checked through the registries and written back as a plain table."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from chemmara.config import Parameters, Table, check
from chemmara.errors import ConfigError, nearest
from chemmara.scoring import transforms, work
from chemmara.scoring.aggregation import AGGREGATIONS
from chemmara.scoring.component import COMPONENTS, Component
from chemmara.scoring.evaluation import ComponentSpec
from chemmara.scoring.failure import OnFailure
from chemmara.scoring.transforms import TRANSFORMS

RESERVED = (
    *("SMILES", "InChIKey", "name", "step", "score", "scaffold", "valid", "error", "method", "seed", "sampled"),
    *("agent_log_prob", "prior_log_prob", "origin", "reward"),
)
"""Columns of molecules.csv that no label may take, in any case."""

ACTING = ("timeout", "start_timeout", "retries", "longest_wait", "poses", "secret_headers", "unwatched")
"""Parameters on which no value depends, but what is done for one does."""
FLAT = 0.02
"""Scores that differ by less, over all raw values that there can be, tell no molecules apart."""

_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,63}")


class Common(Parameters):
    """The keys that every component takes beside its own parameters."""

    label: str | None = Field(None, description="names the columns; default: the component's name")
    weight: float | None = Field(None, ge=0, description="weight in the aggregation, 1 by default; a filter takes none")
    filter: bool = Field(False, description="multiply the total instead of joining the mean")
    transform: dict[str, Any] | None = Field(None, description="maps raw values into [0, 1]; see the transforms")
    retry: int | None = Field(
        None, ge=0, le=100, description="how often a failure is tried again; default: that of [failure]"
    )
    on_failure: OnFailure | None = Field(
        None, description="blank: no score for the molecule; stop: the run ends; default: that of [failure]"
    )


class _Head(Parameters):
    aggregation: str = "geometric_mean"
    component: list[Any] = Field(default_factory=list)


@dataclass(frozen=True)
class TransformSettings:
    """A transform by name with its parameters."""

    name: str
    parameters: Parameters

    def to_table(self) -> Table:
        return {"name": self.name, **self.parameters.model_dump(mode="json", exclude_none=True)}


@dataclass(frozen=True)
class ComponentSettings:
    """One ``[[scoring.component]]``: what to compute (``spec``), and how it joins the total."""

    label: str
    spec: ComponentSpec
    unit: str
    cost_us: float
    weight: float = 1.0
    filter: bool = False
    transform: TransformSettings | None = None
    retry: int | None = None
    on_failure: OnFailure | None = None

    def to_table(self) -> Table:
        table: Table = {"name": self.spec.name, "label": self.label, **self.spec.parameters}
        table |= {"filter": True} if self.filter else {"weight": self.weight}
        table |= {} if self.retry is None else {"retry": self.retry}
        table |= {} if self.on_failure is None else {"on_failure": self.on_failure}
        return table if self.transform is None else {**table, "transform": self.transform.to_table()}


@dataclass(frozen=True)
class ScoringSettings:
    """The scoring table as checked: an aggregation and at least one component, labels distinct."""

    aggregation: str
    components: tuple[ComponentSettings, ...]

    @classmethod
    def parse(cls, table: Mapping[str, Any], where: str = "scoring", folder: str | Path = ".") -> ScoringSettings:
        """Check a plain table and build its components once. ``folder`` is where relative paths are looked for first.

        Raises ConfigError that names the place, what is wrong and the nearest valid name.
        """
        head = check(_Head, table, where)
        if head.aggregation not in AGGREGATIONS:
            try:
                AGGREGATIONS[head.aggregation]
            except ConfigError as error:
                raise ConfigError(f"{where}.aggregation: {error}") from None
        if not head.component:
            raise ConfigError(f"{where}: no components; add at least one [[{where}.component]], such as name = 'qed'")
        components = tuple(
            _component(entry, f"{where}.component[{index}]", Path(folder)) for index, entry in enumerate(head.component)
        )
        _distinct(components, where)
        _agreeing(components, where)
        weights = [component.weight for component in components if not component.filter]
        if weights and not sum(weights) > 0:
            raise ConfigError(f"{where}: all weights are 0; at least one component needs a weight above 0")
        return cls(head.aggregation, components)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(component.label for component in self.components)

    def essence(self) -> list[Any]:
        """Aggregation and components, as far as the score of a molecule depends on them, ready for JSON."""
        parts = [
            [each.spec.key, each.weight, each.filter, each.transform and each.transform.to_table()]
            for each in self.components
        ]
        return [self.aggregation, parts]

    def to_table(self) -> Table:
        """The plain table with every default filled in; parsing it gives these settings again."""
        return {"aggregation": self.aggregation, "component": [component.to_table() for component in self.components]}


def _component(table: Any, where: str, folder: Path) -> ComponentSettings:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: expected a table of keys, got {table!r:.80}")
    common = check(Common, {key: table[key] for key in Common.model_fields if key in table}, where)
    own = {key: value for key, value in table.items() if key not in Common.model_fields}
    try:
        entry, parameters = COMPONENTS.build_parameters(own, where)
    except ConfigError as error:
        raise ConfigError(_with_common_keys(str(error), own)) from None
    built = entry.item(entry.item.resolve(parameters, folder), where)
    spec = work.spec_of(entry.name, built)
    work.keep(spec, built)
    if common.filter and common.weight is not None:
        raise ConfigError(f"{where}.weight: a filter multiplies the total and takes no weight")
    return ComponentSettings(
        label=_label(common.label if common.label is not None else entry.name, where),
        spec=spec,
        unit=built.unit,
        cost_us=built.cost_us,
        weight=1.0 if common.weight is None else common.weight,
        filter=common.filter,
        transform=_transform(common.transform, entry.name, built, where),
        retry=common.retry,
        on_failure=common.on_failure,
    )


def _with_common_keys(message: str, own: Mapping[str, Any]) -> str:
    """A misspelt ``weight`` is met by the component's own parameters: offer the common keys as well."""
    place, unknown, hint = message.partition(": unknown key")
    key = place.rpartition(".")[2]
    better = nearest(key, Common.model_fields)
    if unknown and key in own and not hint.startswith("; did") and better.startswith("; did"):
        return f"{place}{unknown}{better}"
    return message


def _transform(table: Mapping[str, Any] | None, name: str, built: Component, where: str) -> TransformSettings | None:
    if table is not None:
        entry, parameters = TRANSFORMS.build_parameters(dict(table), f"{where}.transform")
        settings = TransformSettings(entry.name, parameters)
        _warn_if_flat(settings, name, built, where)
        return settings
    low, high = built.bounds
    if low is not None and high is not None and low >= 0 and high <= 1:
        return None
    shown = f"from {'-inf' if low is None else f'{low:g}'} to {'inf' if high is None else f'{high:g}'}"
    unit = f" {built.unit}" if built.unit else ""
    raise ConfigError(
        f"{where}.transform: '{name}' has raw values {shown}{unit} and needs a transform into [0, 1], "
        f"for example transform = {built.example}"
    )


def _warn_if_flat(transform: TransformSettings, name: str, built: Component, where: str) -> None:
    """Warn of a transform that makes one score of all raw values, as one in per cent does of a fraction."""
    low, high = built.bounds
    if low is None or high is None:
        return
    least, most = transforms.span(transform.name, transform.parameters, low, high)
    if most - least < FLAT:
        scores = f"{least:.3g}" if f"{least:.3g}" == f"{most:.3g}" else f"{least:.3g} to {most:.3g}"
        own = ", ".join(f"{key} = {value}" for key, value in transform.to_table().items() if key != "name")
        warnings.warn(
            f"{where}.transform: '{transform.name}' ({own}) scores {scores} whatever the molecule: raw values of "
            f"'{name}' are from {low:g} to {high:g}{f' {built.unit}' if built.unit else ''}",
            stacklevel=2,
        )


def _label(label: str, where: str) -> str:
    if not _LABEL.fullmatch(label):
        raise ConfigError(
            f"{where}.label: '{label}' cannot name a column; use a letter, then letters, digits, '_', '.' or '-'"
        )
    return label


def _distinct(components: tuple[ComponentSettings, ...], where: str) -> None:
    taken = {column.lower(): f"the column '{column}' of molecules.csv" for column in RESERVED}
    for index, component in enumerate(components):
        place = f"{where}.component[{index}]"
        for column in (component.label, f"{component.label}_score"):
            if column.lower() in taken:
                raise ConfigError(
                    f"{place}.label: '{component.label}' is taken by {taken[column.lower()]}; "
                    "give this component another label"
                )
        taken |= {component.label.lower(): place, f"{component.label}_score".lower(): f"the score column of {place}"}


def _agreeing(components: tuple[ComponentSettings, ...], where: str) -> None:
    """Raise ConfigError for settings that would be ignored: a component that stands twice is computed once, with the
    settings of one of the two."""
    first: dict[str, int] = {}
    for index, component in enumerate(components):
        before = first.setdefault(component.spec.key, index)
        one, other = component.spec.parameters, components[before].spec.parameters
        if one == other:
            continue
        for name in ACTING:
            if one.get(name) != other.get(name):
                raise ConfigError(
                    f"{where}.component[{index}].{name}: {one.get(name)!r:.80}, but {other.get(name)!r:.80} in "
                    f"{where}.component[{before}], whose values are the same and are computed once; "
                    "give both the same settings"
                )

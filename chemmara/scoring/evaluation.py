"""The values that components give, and the two places where they can come from: an executor or a store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol


class Evaluation(NamedTuple):
    """What one component says of one molecule: a raw value in the component's unit, or NaN with a reason.

    A failed oracle is NaN with a reason, never 0 (DESIGN, rule 1).
    """

    value: float
    error: str | None = None

    @property
    def failed(self) -> bool:
        return math.isnan(self.value)


class SharedEvaluation(Evaluation):
    """An evaluation that came together with those of other endpoints of the same program or service.

    ``general``: why there is no value for an endpoint that is not named.
    """

    also: Mapping[str, Evaluation]
    general: str | None

    @classmethod
    def of(cls, endpoint: str, answers: Mapping[str, Evaluation], general: str | None = None) -> SharedEvaluation:
        """The evaluation of ``endpoint`` among ``answers``, which may lack it."""
        shared = cls(*(answers.get(endpoint) or _missing(endpoint, general)))
        shared.also, shared.general = answers, general
        return shared


def of_endpoint(evaluation: Evaluation, endpoint: str) -> Evaluation:
    """What an evaluation says of another endpoint: its value there, or the reason why nothing came of the call."""
    if not isinstance(evaluation, SharedEvaluation):
        return evaluation  # a crash or a time-out in a worker, the same for all endpoints
    return evaluation.also.get(endpoint) or _missing(endpoint, evaluation.general)


def _missing(endpoint: str, general: str | None) -> Evaluation:
    return Evaluation(math.nan, general or f"no value for '{endpoint}'")


@dataclass(frozen=True)
class ComponentSpec:
    """What a worker needs to build a component: its type name and its parameters as a plain table.

    ``key`` identifies the component together with its settings in a store: values under one key are interchangeable
    between runs. It does not contain weight, label or transform, which do not change the raw value.
    Specs of one ``group`` differ in nothing but their ``endpoint``: one call answers them all. ``asked`` are the
    endpoints of the group that a score asks for, so that one which does not exist is found at the start. ``former`` is
    the key under an earlier version of chemmara, where that was another one.
    """

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    group: str = ""
    endpoint: str = ""
    asked: tuple[str, ...] = ()
    former: str = ""


@dataclass(frozen=True)
class Task:
    """One chunk of work: a component on some canonical SMILES."""

    spec: ComponentSpec
    smiles: tuple[str, ...]


class Executor(Protocol):
    """Runs tasks somewhere. Results are yielded as they arrive, in any order, with the index of their task.

    A task is taken from ``tasks`` when there is room for it, so that a caller may end them early and still get what is
    in flight. Every task is answered exactly once, with one :class:`Evaluation` per molecule: a crash or a time-out
    becomes a failed evaluation with its reason.
    """

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[int, list[Evaluation]]]: ...

    def close(self) -> None: ...


class EvaluationStore(Protocol):
    """Remembers evaluations by (component key, canonical SMILES)."""

    def describe(self, specs: Iterable[ComponentSpec]) -> None:
        """Take note of what the keys of components stand for, for whoever looks into the store."""
        ...

    def lookup(self, key: str, smiles: Sequence[str]) -> dict[str, Evaluation]:
        """The known evaluations among ``smiles``."""
        ...

    def record(self, key: str, evaluations: Sequence[tuple[str, Evaluation]]) -> None:
        """Remember. When this returns, the evaluations are as durable as the store can make them."""
        ...

    def record_all(self, batches: Sequence[tuple[str, Sequence[tuple[str, Evaluation]]]]) -> None:
        """:meth:`record` for several components at once, each with its key: one write to the disk instead of many."""
        ...


class MemoryStore:
    """An evaluation store that lives as long as the process."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], Evaluation] = {}

    def describe(self, specs: Iterable[ComponentSpec]) -> None:
        pass

    def lookup(self, key: str, smiles: Sequence[str]) -> dict[str, Evaluation]:
        return {s: self._values[key, s] for s in smiles if (key, s) in self._values}

    def record(self, key: str, evaluations: Sequence[tuple[str, Evaluation]]) -> None:
        self._values.update({(key, smiles): evaluation for smiles, evaluation in evaluations})

    def record_all(self, batches: Sequence[tuple[str, Sequence[tuple[str, Evaluation]]]]) -> None:
        for key, evaluations in batches:
            if evaluations:
                self.record(key, evaluations)

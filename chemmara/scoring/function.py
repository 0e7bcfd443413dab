"""The scoring function: molecules in, one row of :class:`Scores` each out, no row ever dropped.

>>> scores = ScoringFunction({"component": [{"name": "qed"}]})(["CC(=O)Nc1ccc(O)cc1", "C1CC"])
>>> scores.total.round(3)
array([0.595,   nan])
>>> scores.errors
[None, 'invalid SMILES: cannot be parsed as SMILES: unclosed ring 1']
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chemmara.chemistry.molecules import Molecule, read
from chemmara.config import Table, read_table
from chemmara.errors import ConfigError, RunError
from chemmara.scoring import transforms, work
from chemmara.scoring.aggregation import aggregate
from chemmara.scoring.component import EXPENSIVE_US
from chemmara.scoring.evaluation import (
    ComponentSpec,
    Evaluation,
    EvaluationStore,
    Executor,
    MemoryStore,
    Task,
    of_endpoint,
)
from chemmara.scoring.failure import OnFailure
from chemmara.scoring.scores import Scores
from chemmara.scoring.settings import ComponentSettings, ScoringSettings

if TYPE_CHECKING:
    from chemmara.scoring.scores import Array

Pairs = list[tuple[str, Evaluation]]
_SLACK = 1e-6  # rounding that a raw value in [0, 1] may bring along


class _Job(NamedTuple):
    """Molecules that a component has still to evaluate."""

    oracle: _Oracle
    smiles: list[str]


@dataclass(frozen=True)
class _Oracle:
    """One distinct component: what it is, what it costs, and what follows when it fails."""

    label: str
    spec: ComponentSpec
    cost_us: float
    retry: int
    stop: bool

    def check(self, pairs: Pairs) -> None:
        """Raise RunError for a failure, where the config has it so."""
        failed = next((pair for pair in pairs if pair[1].failed), None) if self.stop else None
        if failed is not None:
            raise RunError(
                f"component '{self.label}' failed on {failed[0]}: {failed[1].error} (on_failure = 'stop'); "
                "mend it and go on with --resume, which tries the molecule again"
            )


class _Call(NamedTuple):
    """One chunk for a component that answers for all components of its group: those with their missing molecules."""

    members: list[_Job]
    chunk: list[str]

    @property
    def oracle(self) -> _Oracle:
        """The one that is asked."""
        return self.members[0].oracle

    def pairs(self, evaluations: Sequence[Evaluation]) -> list[tuple[_Oracle, Pairs]]:
        """What each member of the group has of the answers, among its own molecules."""
        found = []
        for oracle, missing in self.members:
            wanted = set(missing)
            mine = [
                (smiles, evaluation if oracle is self.oracle else of_endpoint(evaluation, oracle.spec.endpoint))
                for smiles, evaluation in zip(self.chunk, evaluations, strict=True)
                if smiles in wanted
            ]
            found.append((oracle, mine))
        return found


class ScoringFunction:
    """Scores batches of molecules by the components of a ``[scoring]`` table.

    ``executor`` runs the components that are worth it elsewhere, in tasks of ``chunk`` molecules; without one
    everything runs in this process. ``store`` remembers evaluations; each finished chunk is in it before it is used.
    A failed evaluation is tried up to ``retry`` times again before the failure is recorded; with ``on_failure`` "stop"
    it is not recorded, and RunError ends the run. What a component says of either goes before.
    """

    def __init__(
        self,
        settings: ScoringSettings | Mapping[str, Any],
        executor: Executor | None = None,
        store: EvaluationStore | None = None,
        chunk: int = 16,
        retry: int = 0,
        on_failure: OnFailure = "blank",
    ) -> None:
        if chunk < 1 or retry < 0:
            raise ValueError(f"chunk must be at least 1 and retry at least 0, got {chunk} and {retry}")
        self.settings = settings if isinstance(settings, ScoringSettings) else ScoringSettings.parse(settings)
        self._executor = executor
        self._store: EvaluationStore = MemoryStore() if store is None else store
        self._oracles = _oracles(self.settings.components, retry, on_failure)
        self._store.describe(oracle.spec for oracle in self._oracles)
        self._chunk = chunk

    @classmethod
    def from_config(cls, config: str | Path | Mapping[str, Any], **options: Any) -> ScoringFunction:
        """From a config file, a whole config, or its ``[scoring]`` table alone; ``options`` go to the constructor."""
        return cls(ScoringSettings.parse(*_scoring_table(config)), **options)

    @property
    def labels(self) -> tuple[str, ...]:
        """The components' labels, in order."""
        return self.settings.labels

    def __call__(self, molecules: Sequence[Molecule | str | None]) -> Scores:
        """Score a batch. Text is read first; repeats of a molecule are computed once."""
        rows = [_reading(molecule) for molecule in molecules]
        distinct = {molecule.smiles: molecule for molecule, _ in rows if molecule is not None}
        known, computed = self._evaluate(distinct)
        total, raw, transformed = self._values(known, list(distinct))
        index = {smiles: number for number, smiles in enumerate(distinct)}
        at = np.array([-1 if molecule is None else index[molecule.smiles] for molecule, _ in rows], dtype=int)
        unknown = np.asarray(np.isnan(transformed).any(axis=0))
        reasons = [self._reason(known, smiles) if unknown[n] else None for n, smiles in enumerate(distinct)]
        return Scores(
            total=_spread(total, at),
            raw={label: _spread(row, at) for label, row in zip(self.labels, raw, strict=True)},
            transformed={label: _spread(row, at) for label, row in zip(self.labels, transformed, strict=True)},
            valid=at >= 0,
            errors=[error if number < 0 else reasons[number] for (_, error), number in zip(rows, at, strict=True)],
            evaluations=computed,
        )

    def _evaluate(self, molecules: dict[str, Molecule]) -> tuple[list[dict[str, Evaluation]], int]:
        """The evaluations of distinct molecules by component and SMILES, and how many were not in the store."""
        known = {oracle.spec.key: self._look_up(oracle, molecules) for oracle in self._oracles}
        jobs = [
            _Job(oracle, [smiles for smiles in molecules if smiles not in known[oracle.spec.key]])
            for oracle in self._oracles
        ]
        computed = sum(len(job.smiles) for job in jobs)
        attempt = 0
        while jobs:
            for together in self._run(jobs, molecules):
                final = []
                for oracle, pairs in together:
                    drop = attempt < oracle.retry or oracle.stop  # a failure that is not the last word
                    final.append((oracle.spec.key, [pair for pair in pairs if not (drop and pair[1].failed)]))
                self._store.record_all(final)
                for key, pairs in final:
                    known[key].update(pairs)
                for oracle, pairs in together:
                    if attempt >= oracle.retry:
                        oracle.check(pairs)
            # From the jobs, not from the answers: executors answer in any order, the next round must not depend on it.
            jobs = [
                _Job(job.oracle, left)
                for job in jobs
                if (left := [text for text in job.smiles if text not in known[job.oracle.spec.key]])
            ]
            attempt += 1
        return [known[component.spec.key] for component in self.settings.components], computed

    def _look_up(self, oracle: _Oracle, molecules: dict[str, Molecule]) -> dict[str, Evaluation]:
        found = dict(self._store.lookup(oracle.spec.key, list(molecules)))
        if oracle.stop:  # a failure that another run has left is no answer here
            return {smiles: evaluation for smiles, evaluation in found.items() if not evaluation.failed}
        return found

    def _run(self, jobs: list[_Job], molecules: dict[str, Molecule]) -> Iterator[list[tuple[_Oracle, Pairs]]]:
        """Evaluations, those together that are stored together: all of the cheap components, which are computed in this
        process, then chunk by chunk those of the others."""
        here: list[tuple[_Oracle, Pairs]] = []
        dear: list[_Call] = []
        for members in _groups(jobs):
            missing = list(dict.fromkeys(smiles for job in members for smiles in job.smiles))
            if members[0].oracle.cost_us < EXPENSIVE_US:
                here += self._compute(_Call(members, missing), molecules)
            else:
                # The largest first: they tend to take longest, and whoever gets one last is waited for.
                largest = sorted(missing, key=len, reverse=True)
                dear += [_Call(members, chunk) for chunk in _chunks(largest, self._chunk)]
        if here:
            yield here
        if self._executor is None:
            for call in dear:
                yield self._compute(call, molecules)
        elif dear:
            tasks = [Task(call.oracle.spec, tuple(call.chunk)) for call in dear]
            for index, evaluations in self._executor.run(tasks):
                yield dear[index].pairs(evaluations)

    @staticmethod
    def _compute(call: _Call, molecules: dict[str, Molecule]) -> list[tuple[_Oracle, Pairs]]:
        return call.pairs(work.component(call.oracle.spec)([molecules[text] for text in call.chunk]))

    def _values(self, known: list[dict[str, Evaluation]], smiles: list[str]) -> tuple[Array, Array, Array]:
        """Totals (n,), raw and transformed values (components, n) of distinct molecules."""
        components = self.settings.components
        raw = np.array([[found[text].value for text in smiles] for found in known], dtype=float)
        raw = raw.reshape(len(components), len(smiles))
        scores = np.array([_transformed(component, row) for component, row in zip(components, raw, strict=True)])
        filters = np.array([component.filter for component in components], dtype=bool)
        weights = np.array([component.weight for component in components], dtype=float)
        total = aggregate(self.settings.aggregation, scores[~filters], weights[~filters], scores[filters])
        return total, raw, scores

    def _reason(self, known: list[dict[str, Evaluation]], smiles: str) -> str | None:
        reasons = [
            f"{component.label}: {reason}"
            for component, found in zip(self.settings.components, known, strict=True)
            if (reason := _failure(component, found[smiles])) is not None
        ]
        return "; ".join(reasons) or None


def _oracles(components: Sequence[ComponentSettings], retry: int, on_failure: OnFailure) -> list[_Oracle]:
    """By key: a component that stands twice, with two transforms, is computed once, under the stricter policy."""
    found: dict[str, _Oracle] = {}
    for component in components:
        key = component.spec.key
        retries = retry if component.retry is None else component.retry
        stop = (component.on_failure or on_failure) == "stop"
        if key in found:
            retries, stop = max(retries, found[key].retry), stop or found[key].stop
        label = found[key].label if key in found else component.label
        found[key] = _Oracle(label, component.spec, component.cost_us, retries, stop)
    asked: dict[str, list[str]] = {}
    for oracle in found.values():
        asked.setdefault(oracle.spec.group, []).append(oracle.spec.endpoint)
    return [
        replace(oracle, spec=replace(oracle.spec, asked=tuple(asked[oracle.spec.group])))
        if oracle.spec.group
        else oracle
        for oracle in found.values()
    ]


def _reading(molecule: Molecule | str | None) -> tuple[Molecule | None, str | None]:
    if isinstance(molecule, str):
        found, error = read(molecule)
        return found, error and f"invalid SMILES: {error}"
    return molecule, "no molecule" if molecule is None else None


def _failure(component: ComponentSettings, evaluation: Evaluation) -> str | None:
    if evaluation.failed:
        return evaluation.error or "no value"
    if component.transform is None and _outside(np.asarray(evaluation.value)):
        return f"value {evaluation.value:g} lies outside [0, 1]: give the component a transform"
    return None


def _transformed(component: ComponentSettings, raw: Array) -> Array:
    if component.transform is None:
        with np.errstate(invalid="ignore"):
            return np.where(_outside(raw), np.nan, np.clip(raw, 0.0, 1.0))
    return transforms.apply(component.transform.name, component.transform.parameters, raw)


def _outside(raw: Array) -> NDArray[np.bool_]:
    return np.asarray((raw < -_SLACK) | (raw > 1 + _SLACK))


def _spread(values: Array, at: NDArray[np.int_]) -> Array:
    """Values of distinct molecules (n,) to the rows of the batch (B,), NaN where ``at`` is -1."""
    return np.append(values, np.nan)[at]


def _groups(jobs: list[_Job]) -> list[list[_Job]]:
    """Jobs that one call answers, together; those with nothing to do are left out."""
    groups: dict[str, list[_Job]] = {}
    for job in jobs:
        if job.smiles:
            groups.setdefault(job.oracle.spec.group or job.oracle.spec.key, []).append(job)
    return list(groups.values())


def _chunks(smiles: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(smiles), max(size, 1)):
        yield smiles[start : start + size]


def _scoring_table(config: str | Path | Mapping[str, Any]) -> tuple[Table, str, Path]:
    if isinstance(config, Mapping):
        inner = config.get("scoring", config)
        folder = Path(".")
    else:
        table = read_table(config)
        if "scoring" not in table:
            raise ConfigError(f"config file '{config}' has no [scoring] table")
        inner, folder = table["scoring"], Path(config).parent
    return inner, "scoring", folder

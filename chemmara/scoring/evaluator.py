"""Who computes what: the molecules that components have not evaluated yet, stored as soon as they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import NamedTuple

from chemmara import interrupts
from chemmara.chemistry.molecules import Molecule
from chemmara.errors import RunError
from chemmara.scoring import work
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
from chemmara.scoring.settings import ComponentSettings

Pairs = list[tuple[str, Evaluation]]
A_PROGRAM_S = 0.01
"""What takes longer may have waited for a program of its own."""


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

    @property
    def group(self) -> str:
        """What it shares with those that one call answers."""
        return self.spec.group or self.spec.key

    def check(self, pairs: Pairs) -> None:
        """Raise RunError for a failure, where the config has it so."""
        failed = next((pair for pair in pairs if pair[1].failed), None) if self.stop else None
        if failed is not None:
            raise RunError(
                f"component '{self.label}' failed on {failed[0]}: {failed[1].error} (on_failure = 'stop'); "
                "mend it and give the command again (optimize: with --resume), which tries the molecule again"
            )


class _Call(NamedTuple):
    """One chunk for a component that answers for all components of its group: those with their missing molecules.

    ``oracle``: the one that is asked, the same for a group whoever misses something, for it holds a running program.
    """

    oracle: _Oracle
    members: list[_Job]
    chunk: list[str]

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


class Evaluator:
    """Evaluations by the components of a config; its arguments are those of :class:`ScoringFunction`."""

    def __init__(
        self,
        components: Sequence[ComponentSettings],
        executor: Executor | None,
        store: EvaluationStore | None,
        chunk: int,
        retry: int,
        on_failure: OnFailure,
    ) -> None:
        if chunk < 1 or retry < 0:
            raise ValueError(f"chunk must be at least 1 and retry at least 0, got {chunk} and {retry}")
        self._components = components
        self._executor = executor
        self._store: EvaluationStore = MemoryStore() if store is None else store
        self._oracles = _oracles(components, retry, on_failure)
        self._store.describe(oracle.spec for oracle in self._oracles)
        self._chunk = chunk

    def __call__(self, molecules: dict[str, Molecule]) -> tuple[list[dict[str, Evaluation]], int]:
        """The evaluations of distinct molecules by component and SMILES, and how many were not in the store.

        ``molecules``: by canonical SMILES. Raises RunError where a component may not fail and does.
        """
        known = {oracle.spec.key: self._look_up(oracle, molecules) for oracle in self._oracles}
        jobs = [
            _Job(oracle, [smiles for smiles in molecules if smiles not in known[oracle.spec.key]])
            for oracle in self._oracles
        ]
        computed = sum(len(job.smiles) for job in jobs)
        attempt = 0
        faults: list[RunError] = []
        while jobs:
            for together in self._run(jobs, molecules, lambda: not faults):
                final = []
                for oracle, pairs in together:
                    drop = attempt < oracle.retry or oracle.stop  # a failure that is not the last word
                    final.append((oracle.spec.key, [pair for pair in pairs if not (drop and pair[1].failed)]))
                self._store.record_all(final)
                for key, pairs in final:
                    known[key].update(pairs)
                for oracle, pairs in together:
                    if attempt >= oracle.retry:
                        try:
                            oracle.check(pairs)
                        except RunError as error:  # once what others are at, which is paid for, has been stored
                            faults.append(error)
            if faults:
                raise faults[0]
            # From the jobs, not from the answers: executors answer in any order, the next round must not depend on it.
            jobs = [
                _Job(job.oracle, left)
                for job in jobs
                if (left := [text for text in job.smiles if text not in known[job.oracle.spec.key]])
            ]
            attempt += 1
        return [known[component.spec.key] for component in self._components], computed

    @property
    def _together(self) -> int:
        """Molecules of a task. Under a time limit each goes to its worker alone, and its value is not to wait there for
        others that may yet be interrupted."""
        return self._chunk if getattr(self._executor, "timeout", None) is None else 1

    def _look_up(self, oracle: _Oracle, molecules: dict[str, Molecule]) -> dict[str, Evaluation]:
        found = dict(self._store.lookup(oracle.spec.key, list(molecules)))
        if oracle.stop:  # a failure that another run has left is no answer here
            return {smiles: evaluation for smiles, evaluation in found.items() if not evaluation.failed}
        return found

    def _run(
        self, jobs: list[_Job], molecules: dict[str, Molecule], going: Callable[[], bool]
    ) -> Iterator[list[tuple[_Oracle, Pairs]]]:
        """Evaluations, those together that are stored together: all of the cheap components, which are computed in this
        process, then chunk by chunk those of the others. Nothing is begun once ``going`` says no."""
        here: list[tuple[_Oracle, Pairs]] = []
        dear: list[_Call] = []
        for name, members in _groups(jobs).items():
            leader = next(oracle for oracle in self._oracles if oracle.group == name)
            missing = list(dict.fromkeys(smiles for job in members for smiles in job.smiles))
            if leader.cost_us < EXPENSIVE_US:
                here += self._compute(_Call(leader, members, missing), molecules)
            else:
                # The largest first: they tend to take longest, and whoever gets one last is waited for.
                largest = sorted(missing, key=len, reverse=True)
                dear += [_Call(leader, members, chunk) for chunk in _chunks(largest, self._together)]
        if here:
            yield here
        calls = takewhile(lambda call: going(), dear)
        if self._executor is None:
            for call in calls:
                yield self._compute(call, molecules)
        elif dear and going():
            tasks = (Task(call.oracle.spec, tuple(call.chunk)) for call in calls)
            for index, evaluations in self._executor.run(tasks):
                yield dear[index].pairs(evaluations)

    @staticmethod
    def _compute(call: _Call, molecules: dict[str, Molecule]) -> list[tuple[_Oracle, Pairs]]:
        begun = time.monotonic()
        found = work.component(call.oracle.spec)([molecules[text] for text in call.chunk])
        if any(each.failed for each in found):
            if time.monotonic() - begun > A_PROGRAM_S:  # Ctrl-C is heard of by another thread, which needs a moment
                time.sleep(A_PROGRAM_S)
            if interrupts.pending():  # what stops the run has stopped a program that a component was waiting for
                raise interrupts.Interrupted("interrupted; what was done is saved, go on with --resume")
        return call.pairs(found)


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


def _groups(jobs: list[_Job]) -> dict[str, list[_Job]]:
    """Jobs that one call answers, together; those with nothing to do are left out."""
    groups: dict[str, list[_Job]] = {}
    for job in jobs:
        if job.smiles:
            groups.setdefault(job.oracle.group, []).append(job)
    return groups


def _chunks(smiles: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(smiles), max(size, 1)):
        yield smiles[start : start + size]

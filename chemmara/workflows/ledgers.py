"""Ledgers of several hosts and projects: one merged out of many, and the evaluations of one as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path

from chemmara.errors import UserError
from chemmara.places import make_directory
from chemmara.scoring.evaluation import ComponentSpec, Evaluation
from chemmara.scoring.ledger import ComponentInfo, Ledger, RunRow

COLUMNS = ("SMILES", "component", "label", "endpoint", "key", "value", "error")
LOOKED_AT = 50  # rows of a run from which is told what its labels stand for


@dataclass(frozen=True)
class Conflict:
    """One molecule to which two ledgers give different values of one component; the first was kept."""

    component: str
    key: str
    smiles: str
    kept: float
    other: float
    source: Path


@dataclass
class Merged:
    """What a merge has done. ``replaced``: failures in whose place a value came; ``same``: what both had."""

    evaluations: int = 0
    replaced: int = 0
    same: int = 0
    runs: list[str] = field(default_factory=list)
    runs_left: list[str] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)


def merge(out: str | Path, sources: Sequence[str | Path]) -> Merged:
    """Take what ``sources`` have and ``out`` has not into ``out``, which is made if it is not there.

    A value in ``out`` is never replaced: where another ledger has a different one, it is a conflict, for the caller to
    tell. A failure gives way to a value. A run comes along, or what ``out`` lacks of it, if what ``out`` has under its
    name is its beginning; else it is left, and named. Merging again changes nothing, so a merge that was cut off is
    simply repeated.
    Raises :class:`UserError` / :class:`RunError`.
    """
    out, paths = Path(out), [Path(source) for source in sources]
    for path in paths:
        if path.resolve() == out.resolve():
            raise UserError(f"'{path}' is the ledger that is merged into: name it once")
        Ledger(path, read_only=True).close()  # nothing is written before all of them are known to be ledgers
    if out.exists() and out.stat().st_size:
        Ledger(out, read_only=True).close()
    make_directory(out.parent)
    done = Merged()
    with Ledger(out) as target:
        for path in paths:
            with Ledger(path, read_only=True) as source:
                _evaluations(target, source, path, done)
                _runs(target, source, done)
    return done


def _evaluations(target: Ledger, source: Ledger, path: Path, done: Merged) -> None:
    infos = source.components()
    names = {info.key: info.name for info in infos}
    target.describe(ComponentSpec(info.name, info.parameters, info.key) for info in infos if info.name)
    for page in source.evaluations():
        for key, rows in groupby(sorted(page, key=itemgetter(0)), key=itemgetter(0)):
            given = {smiles: evaluation for _, smiles, evaluation in rows}
            known = target.lookup(key, list(given))
            new: list[tuple[str, Evaluation]] = []
            for smiles, evaluation in given.items():
                old = known.get(smiles)
                if old is None:
                    done.evaluations += 1
                elif old.failed and not evaluation.failed:
                    done.replaced += 1
                elif old.value == evaluation.value or evaluation.failed:
                    done.same += 1
                    continue
                else:
                    conflict = Conflict(names.get(key, ""), key, smiles, old.value, evaluation.value, path)
                    done.conflicts.append(conflict)
                    continue
                new.append((smiles, evaluation))
            target.record(key, new)


def _runs(target: Ledger, source: Ledger, done: Merged) -> None:
    for run in source.runs():
        rows = source.rows(run)
        if not _begins_with(rows, target.rows(run)):
            done.runs_left.append(run)
            continue
        last, new = target.run_info(run).last_step, False
        for step, together in groupby(rows, key=lambda row: row.step):
            if step == last:  # a step is written whole, so this is another run after all
                done.runs_left.append(run)
                break
            target.write_step(run, step, list(together))
            new = True
        if new:
            done.runs.append(run)


def _begins_with(rows: Iterator[RunRow], known: Iterator[RunRow]) -> bool:
    """Whether one is the beginning of the other; what ``rows`` has beyond ``known`` stays in it."""
    for row in known:
        own = next(rows, None)
        if own is None:
            return True
        if repr(own) != repr(row):  # NaN equals NaN
            return False
    return True


def labels_of(ledger: Ledger) -> dict[str, list[str]]:
    """The labels that runs have for the components of a ledger, by key.

    A ledger notes none: they are told from the raw values of runs' rows, which are the evaluations under one key. A key
    is left out where no run has rows of it, or another has the same values and the label is the name of neither.
    """
    found: dict[str, list[str]] = {}
    names = {info.key: info.name for info in ledger.components()}
    for run in ledger.runs():
        rows = list(islice((row for row in ledger.rows(run) if row.raw), LOOKED_AT))
        known = {key: ledger.lookup(key, [row.smiles for row in rows]) for key in names}
        for label in dict.fromkeys(label for row in rows for label in row.raw):
            raw = {row.smiles: row.raw[label] for row in rows if not math.isnan(row.raw.get(label, math.nan))}
            same = [k for k in names if raw and all(s in known[k] and known[k][s].value == raw[s] for s in raw)]
            same = [k for k in same if names[k] == label] or same
            if len(same) == 1 and label not in found.setdefault(same[0], []):
                found[same[0]].append(label)
    return found


def endpoint_of(info: ComponentInfo) -> str:
    """Which value of a program or service a component is; '' for others."""
    return str(info.parameters.get("endpoint", ""))


def _chosen(infos: Sequence[ComponentInfo], labels: Mapping[str, list[str]], wanted: str) -> list[ComponentInfo]:
    named = [info for info in infos if wanted in (info.name, endpoint_of(info), *labels.get(info.key, ()))]
    return named or [info for info in infos if info.key.startswith(wanted)]


def export(ledger: str | Path, out: str | Path, component: str | None = None) -> int:
    """Write evaluations to a CSV file with the columns COLUMNS; the number of rows.

    ``component``: only those of this name, label or endpoint, or of a key that begins so. Raises :class:`UserError`.
    """
    from chemmara.errors import nearest
    from chemmara.places import replacing_text
    from chemmara.reporting.tables import number, quote

    out = Path(out)
    if out.suffix.lower() != ".csv":
        raise UserError(f"evaluations are written as .csv (got '{out}')")
    count = 0
    with Ledger(ledger, read_only=True) as source:
        infos, labels = source.components(), labels_of(source)
        chosen = {info.key: info for info in (_chosen(infos, labels, component) if component else infos)}
        if component and not chosen:
            known = {name for i in infos for name in (i.name, endpoint_of(i), *labels.get(i.key, ())) if name}
            raise UserError(f"'{ledger}' has no component '{component}'{nearest(component, known)}")
        with replacing_text(out) as stream:
            stream.write(",".join(COLUMNS) + "\n")
            for page in source.evaluations():
                for key, smiles, evaluation in page:
                    if key in chosen:
                        cells = (
                            quote(smiles),
                            chosen[key].name,
                            " ".join(labels.get(key, ())),
                            quote(endpoint_of(chosen[key])),
                            key,
                            number(evaluation.value),
                            quote(evaluation.error or ""),
                        )
                        stream.write(",".join(cells) + "\n")
                        count += 1
    return count

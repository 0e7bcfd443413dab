"""Ledgers of several hosts and projects: one merged out of many, and the evaluations of one as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from chemmara.errors import UserError
from chemmara.places import make_directory
from chemmara.scoring.evaluation import ComponentSpec, Evaluation
from chemmara.scoring.ledger import Ledger, RunRow

COLUMNS = ("SMILES", "component", "key", "value", "error")


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


def export(ledger: str | Path, out: str | Path, component: str | None = None) -> int:
    """Write evaluations to a CSV file with the columns COLUMNS; the number of rows.

    ``component``: only those of this name, or of a key that begins so. Raises :class:`UserError`.
    """
    from chemmara.errors import nearest
    from chemmara.reporting.export import replacing
    from chemmara.reporting.tables import number, quote

    out = Path(out)
    if out.suffix.lower() != ".csv":
        raise UserError(f"evaluations are written as .csv (got '{out}')")
    count = 0
    with Ledger(ledger, read_only=True) as source:
        infos = source.components()
        chosen = {
            i.key: i.name for i in infos if component is None or i.name == component or i.key.startswith(component)
        }
        if component is not None and not chosen:
            raise UserError(
                f"'{ledger}' has no component '{component}'{nearest(component, {i.name for i in infos if i.name})}"
            )
        with replacing(out) as stream:
            stream.write(",".join(COLUMNS) + "\n")
            for page in source.evaluations():
                for key, smiles, evaluation in page:
                    if key in chosen:
                        cells = (
                            quote(smiles),
                            chosen[key],
                            key,
                            number(evaluation.value),
                            quote(evaluation.error or ""),
                        )
                        stream.write(",".join(cells) + "\n")
                        count += 1
    return count

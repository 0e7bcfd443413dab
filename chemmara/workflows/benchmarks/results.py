"""Results of a benchmark: rows distilled from run directories, and the one CSV file that keeps them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from chemmara.errors import UserError
from chemmara.metrics.efficiency import auc_top, oracle_burden
from chemmara.metrics.table import Metric, metric
from chemmara.places import write_whole
from chemmara.reporting.measures import COMPARED, digest, measure
from chemmara.reporting.runs import Run, find_run
from chemmara.scoring.ledger import RunRow
from chemmara.scoring.rows import was_sent

FILE = "results.csv"
BURDEN_1 = Metric("burden_1", "OB_1", "oracle calls until the first hit; infinite if never", "oracle calls", "lower")
METRICS = ("oracle_calls", *COMPARED, "auc_top_10", BURDEN_1.name)
"""The metrics of a row: those of ``compare``, and the two that only benchmarks report."""
ALWAYS = tuple(
    name for name in METRICS if name not in ("intdiv1", "top_10", "top_100", "top_100_clean", "validity", "uniqueness")
)
"""The metrics that every run has: where one of them is blank, the row is of a version that did not measure it."""

KEY = ("suite", "task", "method", "seed", "calls")
COLUMNS = (*KEY, "threshold", *METRICS, "seconds", "max_steps", "prior", "config", "version")
_TEXT = ("suite", "task", "method", "prior", "config", "version")
_WHOLE = ("seed", "calls")

Row = dict[str, Any]


def describe(name: str) -> Metric:
    """Label, meaning and unit of a metric of :data:`METRICS`."""
    return BURDEN_1 if name == BURDEN_1.name else metric(name)


# From a run directory -------------------------------------------------------------------------------------------------


def distil(directory: Path, calls: Sequence[int], threshold: float) -> list[dict[str, float]]:
    """The metrics of a finished run after each number of oracle calls, and the seconds that it had computed by then.

    A run that ended before its budget keeps what it has: its ``oracle_calls`` are fewer than ``calls``.
    """
    run = find_run(directory)
    seconds = _seconds(directory / "metrics.csv")
    found = []
    for number in calls:
        part = digest(replace(run, reader=partial(first_calls, run, number)))
        values = dict(measure(part, [threshold])[0])
        values["auc_top_10"] = auc_top(part.scores, 10, number)
        values[BURDEN_1.name] = oracle_burden(part.scores, threshold, 1)
        values["seconds"] = math.fsum(spent for reached, spent in seconds if reached <= number)
        found.append(values)
    return found


def first_calls(run: Run, number: int) -> Iterator[RunRow]:
    """The rows of a run up to its oracle call ``number``: the next row would be one call more."""
    seen: set[str] = set()
    for row in run.rows():
        if was_sent(row.valid, row.error) and row.smiles not in seen:
            if len(seen) == number:
                return
            seen.add(row.smiles)
        yield row


def _seconds(path: Path) -> list[tuple[float, float]]:
    """(oracle calls so far, seconds) of each step."""
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except OSError:
        return []
    spent = ("seconds_sampling", "seconds_scoring", "seconds_update")
    return [(float(row["oracle_calls"]), sum(float(row[name] or 0) for name in spent)) for row in rows]


# The file -------------------------------------------------------------------------------------------------------------


def read_results(path: Path) -> list[Row]:
    """The rows of a file, none if there is no file. Raises :class:`UserError` for what is no file of results."""
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            table = csv.DictReader(stream)
            if not {*KEY, "config"} <= set(table.fieldnames or ()):
                raise UserError(f"'{path}' is no table of benchmark results")
            return [_parse(row) for row in table]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"'{path}' cannot be read: {error}") from None


def write_results(path: Path, rows: Sequence[Row]) -> None:
    """Put the rows in place, sorted, whole or not at all."""
    extra = sorted({name for row in rows for name in row} - set(COLUMNS))
    names = [*COLUMNS, *extra]
    ordered = sorted(rows, key=lambda row: tuple(row[name] for name in KEY))
    lines = [",".join(names), *(",".join(_cell(row.get(name)) for name in names) for row in ordered)]
    write_whole(path, "\n".join(lines) + "\n")


def replaced(rows: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """``rows`` with ``new`` in the place of whatever has their keys."""
    by_key = {key_of(row): row for row in (*rows, *new)}
    return list(by_key.values())


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def _parse(row: Mapping[str, str]) -> Row:
    parsed: Row = {}
    for name, text in row.items():
        if name in _TEXT:
            parsed[name] = text
        elif name in _WHOLE:
            parsed[name] = int(text)
        else:
            parsed[name] = float(text) if text else math.nan
    return parsed


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    text = str(value)
    return f'"{text}"' if "," in text else text

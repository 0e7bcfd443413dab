"""`chemmara benchmark scaling`: what more molecules cost, sampled and trained on, in time and memory.

Each figure is of a process of its own, the one that a user would start: its memory is nobody else's.
"""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from chemmara.errors import RunError, UserError
from chemmara.places import make_directory, replacing_text
from chemmara.policies.catalog import find_prior
from chemmara.policies.policy import expand_size
from chemmara.workflows.benchmarks.memory import peak_mb

NUMBERS = (1_000, 10_000, 100_000, 1_000_000)
KIND = ("what", "network", "workers", "batch_size")  # rows that differ in one of these are points of different curves
FIGURES = ("seconds", "cpu_seconds", "peak_mb")
HEAD = (*KIND, "molecules", *FIGURES)
SAMPLING, TRAINING = "sampling", "training, one epoch"

Row = dict[str, Any]


@dataclass(frozen=True)
class Scaling:
    """What is asked for: ``prior`` is sampled, and a network of ``policy`` and ``size`` trained on the samples.

    ``workers``: processes that parse molecules; ``batch_size``: of the training.
    """

    out: Path
    prior: str = "chembl"
    policy: str = "lstm"
    size: str = "small"
    workers: int = 1
    batch_size: int = 128
    numbers: tuple[int, ...] = NUMBERS


def run(request: Scaling, say: Callable[[str], None]) -> list[Path]:
    """Sample each number of molecules to a file, and train an epoch on that file; returns the files written.

    What ``scaling.csv`` has already is not measured again; a row is in it as soon as it is measured. Raises
    :class:`UserError` for an unknown prior or policy, :class:`RunError` where a process fails.
    """
    find_prior(request.prior).header()
    expand_size({"name": request.policy, "size": request.size})
    make_directory(request.out)
    rows = _read(request.out / "scaling.csv")
    for number in sorted(set(request.numbers)):
        for row in _measure(request, number, {_key(row) for row in rows}):
            say(f"{row['what']}, {number:,} molecules: {row['seconds']:,.1f} s, peak {row['peak_mb']:,.0f} MB")
            rows = sorted([other for other in rows if _key(other) != _key(row)] + [row], key=_key)
            _write_csv(request.out / "scaling.csv", rows)
    return _write(request.out, rows)


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in (*KIND, "molecules"))


def _measure(request: Scaling, number: int, known: Set[tuple[Any, ...]]) -> Iterator[Row]:
    """The rows of a number that are missing. The samples lie in the directory until they have been trained on.

    The batch size of sampling is the command's own, written as 0.
    """
    both = {"workers": request.workers, "molecules": number}
    sampling = {"what": SAMPLING, "network": request.prior, "batch_size": 0, **both}
    network = f"{request.policy} {request.size}, {Path(request.prior).name}"
    training = {"what": TRAINING, "network": network, "batch_size": request.batch_size, **both}
    samples = request.out / f"samples-{Path(request.prior).name}-{number}.smi"
    workers = ["--workers", str(request.workers)]
    trained = _key(training) in known
    if _key(sampling) not in known or not (trained or samples.is_file()):
        yield sampling | _timed(["sample", request.prior, "-n", str(number), "-o", str(samples), *workers])
    if not trained:
        with tempfile.TemporaryDirectory(dir=request.out) as folder:
            shape = ["--policy", request.policy, "--size", request.size, "--batch-size", str(request.batch_size)]
            where = ["-o", str(Path(folder) / "prior"), "--epochs", "1", *workers]
            yield training | _timed(["train", str(samples), *where, *shape])
    samples.unlink(missing_ok=True)


def _timed(arguments: Sequence[str]) -> Row:
    """What one command of ours takes, its start included."""
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "chemmara", *arguments], stdout=output, stderr=subprocess.STDOUT
        )
        if hasattr(os, "wait4"):
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu = usage.ru_utime + usage.ru_stime
            peak = peak_mb(usage)
        else:  # Windows
            process.wait()
            cpu = peak = math.nan
        took = time.perf_counter() - start
        if process.returncode:
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines() or [f"exit {process.returncode}"]
            raise RunError(f"chemmara {' '.join(arguments)}: {lines[-1]}")
    return {"seconds": took, "cpu_seconds": cpu, "peak_mb": peak}


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return [
                {
                    **{name: row[name] for name in ("what", "network")},
                    **{name: int(row[name]) for name in ("workers", "batch_size", "molecules")},
                    **{name: float(row[name]) for name in FIGURES},
                }
                for row in csv.DictReader(stream)
            ]
    except (KeyError, ValueError, OSError):
        raise UserError(f"'{path}' is not a table of this benchmark; choose another directory") from None


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    with replacing_text(path) as stream:
        writer = csv.DictWriter(stream, HEAD)
        writer.writeheader()
        writer.writerows(rows)


def _write(out: Path, rows: Sequence[Row]) -> list[Path]:
    table, text, plot = (out / f"scaling.{suffix}" for suffix in ("csv", "md", "png"))
    lines = [
        "Each row is a process, its start included.\n",
        "| what | network | workers | batch size | molecules | seconds | CPU seconds | peak memory, MB"
        " | seconds for 1,000 more |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for own in _curves(rows):
        more = [math.nan, *(_slope(one, other) for one, other in pairwise(own))]
        for row, slope in zip(own, more, strict=True):
            figures = (f"{row['seconds']:,.1f}", f"{row['cpu_seconds']:,.1f}", f"{row['peak_mb']:,.0f}")
            kind = (row["what"], row["network"], str(row["workers"]), str(row["batch_size"] or ""))
            cells = (*kind, f"{row['molecules']:,}", *figures, "" if math.isnan(slope) else f"{slope:.3f}")
            lines.append(f"| {' | '.join(cells)} |")
    with replacing_text(text) as stream:
        stream.write("\n".join(lines) + "\n")
    _plot(rows, plot)
    return [table, text, plot]


def _curves(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows, sorted, of each kind of work, network and way to run them."""
    for _, own in groupby(rows, key=lambda row: [row[name] for name in KIND]):
        yield list(own)


def _slope(one: Row, other: Row) -> float:
    """Seconds for 1,000 molecules more: the same everywhere where the cost is linear."""
    return float(1000 * (other["seconds"] - one["seconds"]) / (other["molecules"] - one["molecules"]))


def _plot(rows: Sequence[Row], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for axis, (name, label) in zip(figure.subplots(1, 2), (("seconds", "seconds"), ("peak_mb", "peak memory, MB"))):
        for own in _curves(rows):
            label_of = f"{own[0]['what']}: {Path(own[0]['network']).name}, {own[0]['workers']} workers"
            axis.plot([row["molecules"] for row in own], [row[name] for row in own], marker="o", label=label_of)
        axis.set(xscale="log", xlabel="molecules", ylabel=label)
        axis.legend(frameon=False)
        if name == "seconds":
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
    figure.savefig(path, dpi=150)

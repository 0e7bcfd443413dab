"""One run of a benchmark: an ordinary run directory, begun, resumed or found finished, and its distilled rows.

In this process by :func:`run_job`; in one of its own by ``python -m`` this module, which takes a job as JSON on its
standard input, writes the rows beside the run, and stops (saved) when its parent is gone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import chemmara
from chemmara.config import Table
from chemmara.errors import ChemmaraError, UserError
from chemmara.interrupts import Interrupted, Interrupts, keep_to_python
from chemmara.optimization.directory import RunDirectory
from chemmara.optimization.settings import RunSettings
from chemmara.places import write_whole
from chemmara.workflows.benchmarks.results import Row, distil

ROWS = "rows.json"
_POLL_S = 1.0


@dataclass(frozen=True)
class Job:
    """A task, a method and a seed, with the run's resolved config (``table``) and the numbers of calls to report."""

    suite: str
    task: str
    method: str
    seed: int
    root: str  # the run directory is root/method/seed-n
    table: Table
    calls: tuple[int, ...]
    threshold: float
    prior: str
    config: str  # a hash of what the rows depend on
    threads: int
    keep: bool

    @property
    def directory(self) -> RunDirectory:
        return RunDirectory(Path(self.root), self.method, self.seed)

    @property
    def can_go_on(self) -> bool:
        """Whether a finished run that was kept was out of steps or budget, and is given more."""
        directory = self.directory
        return directory.checkpoint.is_file() and directory.finished and directory.goes_on(self.table)

    @property
    def name(self) -> str:
        return f"{self.task} {self.method} seed {self.seed}"

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.suite, self.task, self.method, self.seed


def run_job(job: Job, interrupts: Interrupts) -> list[Row]:
    """Run it to its end, if it is not there yet, and return its rows, one per number of calls.

    Raises :class:`UserError` where the directory holds a run of another config, :class:`RunError` when the run has to
    stop, and :class:`chemmara.interrupts.Interrupted` on Ctrl-C, resumable.
    """
    directory = job.directory
    settings = RunSettings.parse(_with_threads(job))
    directory.check_same_config(settings)
    directory.check_not_shorter(settings.to_table())
    longer = directory.finished and directory.goes_on(settings.to_table())
    if longer and not directory.checkpoint.is_file():
        raise UserError(
            f"'{directory.path}' cannot go on to a larger budget, or more steps: --keep was not given, its checkpoint "
            "is gone; remove it, and it is run anew"
        )
    if longer or not directory.finished:
        _optimize(settings, directory, interrupts)
    measured = distil(directory.path, job.calls, job.threshold)
    if not job.keep:
        clean(directory.path)
    same = {"suite": job.suite, "task": job.task, "method": job.method, "seed": job.seed, "threshold": job.threshold}
    same |= {
        "max_steps": directory.config().get("max_steps"),
        "prior": job.prior,
        "config": job.config,
        "version": chemmara.__version__,
    }
    return [{**same, "calls": calls, **values} for calls, values in zip(job.calls, measured, strict=True)]


def _with_threads(job: Job) -> Table:
    """The config with the threads of the run's beginning, or else its share of the machine."""
    execution = dict(job.table.get("execution", {}))
    begun = job.directory.manifest().get("threads")
    execution.setdefault("threads", begun if isinstance(begun, int) else job.threads)
    return {**job.table, "execution": execution}


def _optimize(settings: RunSettings, directory: RunDirectory, interrupts: Interrupts) -> None:
    from chemmara.optimization.run import optimize_one
    from chemmara.scoring.ledger import Ledger
    from chemmara.workflows.optimize import make_executor

    directory.path.mkdir(parents=True, exist_ok=True)
    # A ledger of its own: a ledger has one writing process, and several runs of a task go on side by side.
    with Ledger(directory.path / "ledger.sqlite") as ledger:
        executor = make_executor(settings.executor_table())
        try:
            optimize_one(settings, directory, ledger, executor, resume=True, interrupts=interrupts)
        finally:
            if executor is not None:
                executor.close()
    interrupts.check()


def clean(path: Path) -> None:
    """Drop what a finished run needs no more: checkpoints, agent, and the ledger, whose rows molecules.csv has."""
    for folder in ("checkpoints", "agent"):
        shutil.rmtree(path / folder, ignore_errors=True)
    for file in path.glob("ledger.sqlite*"):
        file.unlink(missing_ok=True)


# In a process of its own ----------------------------------------------------------------------------------------------


def to_json(job: Job) -> str:
    return json.dumps(asdict(job))


def from_json(text: str) -> Job:
    table: Mapping[str, Any] = json.loads(text)
    return Job(**{**table, "calls": tuple(table["calls"])})


def rows_file(job: Job) -> Path:
    return job.directory.path / ROWS


def read_rows(job: Job) -> list[Row]:
    """The rows that the job's process has left."""
    try:
        rows: list[Row] = json.loads(rows_file(job).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"'{rows_file(job)}' cannot be read: {error}") from None
    return rows


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)  # as if Ctrl-C: the step is finished and saved


def main() -> int:
    """Run the job on standard input; its exit code, with the reason as the last line on standard error."""
    keep_to_python()
    job = from_json(sys.stdin.read())
    if hasattr(os, "fork"):
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
    try:
        with Interrupts() as interrupts:
            rows = run_job(job, interrupts)
        write_whole(rows_file(job), json.dumps(rows) + "\n")
    except (ChemmaraError, Interrupted) as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Running the jobs of a plan, one after the other or side by side, each result written as it comes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from chemmara.errors import ChemmaraError, RunError, UserError
from chemmara.interrupts import Interrupted, Interrupts
from chemmara.places import make_directory
from chemmara.wording import counted
from chemmara.workflows.benchmarks import results
from chemmara.workflows.benchmarks.job import Job, read_rows, rows_file, run_job, to_json
from chemmara.workflows.benchmarks.plan import Plan
from chemmara.workflows.benchmarks.results import Row
from chemmara.workflows.benchmarks.suite import Suite

LOG = "log.txt"
_POLL_S = 0.2
_SAVING_S = 60.0
_INSISTED = 3

Listener = Callable[[str], None]


def run(plan: Plan, say: Listener = lambda text: None) -> dict[str, str]:
    """Run what is not there yet, each result written as it comes; the reasons of the runs that failed, by name.

    Raises :class:`RunError` where another benchmark is at work in the same directory, or the disk is full, and
    :class:`Interrupted` on Ctrl-C: the same call goes on.
    """
    from chemmara.scoring.database import acquire_lock, explained

    waiting = plan.waiting()
    say(f"{counted(len(plan.jobs), 'run')}, {len(plan.jobs) - len(waiting)} finished before")
    if not waiting:
        return {}
    make_directory(plan.request.out)
    try:
        with explained(plan.file):
            lock = acquire_lock(plan.file)
    except RunError:
        raise RunError(f"another benchmark is at work in '{plan.request.out}'; wait for it, or use -o") from None
    failed: dict[str, str] = {}
    try:
        with Interrupts() as interrupts:
            side_by_side = plan.request.processes > 1
            answers = (
                _in_processes(waiting, plan.request.processes, interrupts)
                if side_by_side
                else _here(waiting, interrupts)
            )
            for number, (job, answer) in enumerate(answers, 1):
                if isinstance(answer, str):
                    failed[job.name] = answer
                    say(f"[{number}/{len(waiting)}] {job.name} failed: {answer}")
                    continue
                results.write_results(plan.file, results.replaced(results.read_results(plan.file), answer))
                say(f"[{number}/{len(waiting)}] {job.name}: {_brief(plan.suite, answer[-1])}")
    except Interrupted:
        raise Interrupted("interrupted; what was done is saved, the same command goes on") from None
    finally:
        lock.close()
        Path(f"{plan.file}.lock").unlink(missing_ok=True)
    return failed


def _brief(suite: Suite, row: Row) -> str:
    parts = [f"{results.describe(name).label} {row[name]:.4g}" for name in suite.headline[:3]]
    return f"{', '.join(parts)} after {row['oracle_calls']:.0f} calls, {row['seconds']:.0f} s"


Answers = Iterator[tuple[Job, "list[Row] | str"]]


def _here(jobs: Sequence[Job], interrupts: Interrupts) -> Answers:
    """One job after the other in this process."""
    for job in jobs:
        interrupts.check()
        try:
            yield job, run_job(job, interrupts)
        except ChemmaraError as error:
            yield job, str(error)
        except Exception as error:  # the others are to run in any case
            yield job, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _in_processes(jobs: Sequence[Job], processes: int, interrupts: Interrupts) -> Answers:
    """Up to ``processes`` jobs at a time, each in a process of its own, answered as they end."""
    waiting, running = list(reversed(jobs)), dict[subprocess.Popen[str], Job]()
    try:
        while waiting or running:
            interrupts.check()
            while waiting and len(running) < processes:
                job = waiting.pop()
                running[_start(job)] = job
            for process in [process for process in running if process.poll() is not None]:
                job = running.pop(process)
                yield job, _answer(job, process.returncode)
            time.sleep(_POLL_S)
    finally:
        _stop(list(running))


def _start(job: Job) -> subprocess.Popen[str]:
    folder = job.directory.path
    folder.mkdir(parents=True, exist_ok=True)
    rows_file(job).unlink(missing_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(job.threads)}
    with open(folder / LOG, "w", encoding="utf-8") as log:
        # In a session of its own: Ctrl-C reaches it once, through this process.
        process = subprocess.Popen(
            [sys.executable, "-m", "chemmara.workflows.benchmarks.job"],
            stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, env=environment, start_new_session=True,
        )  # fmt: skip
    if process.stdin is not None:
        try:
            process.stdin.write(to_json(job))
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already; its exit code says so
    return process


def _answer(job: Job, code: int) -> list[Row] | str:
    try:
        return _reason(job, code) if code else read_rows(job)
    except UserError as error:
        return str(error)


def _reason(job: Job, code: int) -> str:
    log = job.directory.path / LOG
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{lines[-1][:300]} ({how}; {log})" if lines else f"{how}; see {log}"


def _stop(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Ask the processes to save and end, and wait until they have; kill them where the user insists."""
    for process in processes:
        process.terminate()
    deadline, insisted = time.monotonic() + _SAVING_S, 0
    while insisted < _INSISTED and time.monotonic() < deadline and any(process.poll() is None for process in processes):
        try:
            time.sleep(_POLL_S)
        except Interrupted:  # also the grace of the first signal running out
            insisted += 1
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()

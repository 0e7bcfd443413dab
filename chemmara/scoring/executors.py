"""Where components run: in this process, in worker processes that survive crashes, time-outs and a killed parent, or on
a Dask cluster."""

from __future__ import annotations

import importlib
import math
import os
import queue
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from pydantic import Field

from chemmara.config import Parameters
from chemmara.errors import ChemmaraError, RunError
from chemmara.registry import Registry
from chemmara.scoring.cluster_settings import DaskParameters
from chemmara.scoring.evaluation import Evaluation, Executor, Task
from chemmara.scoring.pool import Job, WorkerProcess, loading_s
from chemmara.scoring.worker import answer

WORK = "chemmara.scoring.work"
_POLL_S = 1.0
_NO_START = "worker processes cannot be started"
_STARTS = 3  # failed starts in a row after which no more are tried
_LAST_WORD_S = 0.5  # that a process whose pipe is closed has to end by itself, before it is killed


class SerialParameters(Parameters):
    """Takes no parameters."""


class ProcessParameters(Parameters):
    workers: int | None = Field(None, ge=1, le=4096, description="worker processes; default: one per available core")
    timeout: float | None = Field(
        None, gt=0, description="seconds per molecule and component; what takes longer fails. Default: no limit"
    )


EXECUTORS: Registry[Callable[[Any], Executor]] = Registry("executor", ("chemmara.scoring.executors",))


IN_WORKERS = ("processes", "dask")
"""Executors whose processes import this package alone, and none of the modules of whoever called it."""


@EXECUTORS.register("serial", SerialParameters)
def serial(parameters: SerialParameters) -> Executor:
    """In the main process, one task after the other."""
    return SerialExecutor()


@EXECUTORS.register("processes", ProcessParameters)
def processes(parameters: ProcessParameters) -> Executor:
    """In worker processes on this machine; a crash or a time-out fails the molecule, not the run."""
    return ProcessExecutor(parameters.workers, parameters.timeout)


@EXECUTORS.register("dask", DaskParameters)
def dask(parameters: DaskParameters) -> Executor:
    """On a Dask cluster: a running scheduler, jobs of SLURM, or workers in this process; docs/cluster.md."""
    from chemmara.scoring.cluster import build

    return build(parameters)


class SerialExecutor:
    """Runs tasks in this process, in order. A crash of a component's native code takes the process with it."""

    def __init__(self, module: str = WORK) -> None:
        self._evaluate = importlib.import_module(module).evaluate

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[int, list[Evaluation]]]:
        for index, task in enumerate(tasks):
            yield index, answer(self._evaluate, task.spec, task.smiles)

    def close(self) -> None:
        pass


class ProcessExecutor:
    """Runs tasks in ``workers`` processes that stay alive between calls and never import torch.

    A process that dies is replaced. Its molecules are run again one at a time, and one that kills a fresh process alone
    is a failed evaluation. With ``timeout`` (seconds) the molecules are sent one at a time, and one that takes longer
    is a failed evaluation; loading the component does not count. A process has at most one task, and gets the next when
    the caller has taken the result of the last: a kill -9 loses at most ``workers`` tasks. Processes whose parent is
    gone exit.

    Raises the component's own ChemmaraError if it cannot be built, and RunError if processes cannot be started, after
    what the other processes were at.
    """

    def __init__(self, workers: int | None = None, timeout: float | None = None, module: str = WORK) -> None:
        self.workers = workers or available_cores()
        self.timeout = timeout
        self._module = module
        self._pool: list[WorkerProcess] = []
        self._events: queue.SimpleQueue[tuple[WorkerProcess, Any]] = queue.SimpleQueue()
        self._failed_starts = 0
        self._lacking: RunError | None = None
        self._back: list[Job] = []  # for which no process could be started, until another is done

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[int, list[Evaluation]]]:
        if any(worker.job for worker in self._pool):
            raise RuntimeError("the executor is still running other tasks")
        self._forget_dead()
        waiting = (Job(i, task, self.timeout is not None) for i, task in enumerate(tasks))
        self._back = []
        fault: ChemmaraError | None = None
        try:
            while True:
                if fault is None:
                    yield from ((job.index, []) for job in self._assign(waiting))
                if not any(worker.job for worker in self._pool):
                    break
                finished = None
                try:
                    finished = self._next()
                except ChemmaraError as error:  # once what others are at, which is paid for, has been handed over
                    fault = fault or error
                if finished is not None:
                    yield finished.index, finished.results
        finally:  # also when the caller stops listening: nobody wants what is still in flight
            for worker in [worker for worker in self._pool if worker.job]:
                self._remove(worker)
        if fault is not None:
            raise fault

    def _assign(self, waiting: Iterator[Job]) -> list[Job]:
        """Give the next jobs to processes that have none; returns those without a molecule that were met."""
        empty: list[Job] = []
        while (worker := next((w for w in self._pool if w.job is None), None)) or len(self._pool) < self.workers:
            job = self._back.pop() if self._back else next(waiting, None)
            if job is None:
                break
            if not job.smiles:
                empty.append(job)
                continue
            self._begin(job, worker)
        return empty

    def _forget_dead(self) -> None:
        """Drop the processes that died while there was nothing to do."""
        while not self._events.empty():
            worker, message = self._events.get()
            if message is None and worker in self._pool:
                self._remove(worker)

    def _start(self) -> WorkerProcess:
        try:
            worker = WorkerProcess(self._module, self._events)
        except (OSError, RuntimeError) as error:  # no memory, or as many as the system lets its user have
            raise RunError(f"{_NO_START}: {error}") from None
        self._pool.append(worker)
        return worker

    def _begin(self, job: Job, worker: WorkerProcess | None = None) -> None:
        """Give a job to a process, a new one unless told which; it waits where none can be started."""
        try:
            worker = worker or self._start()
        except RunError as error:
            self._make_do(job, error)
        else:
            worker.job = job
            worker.send(self.timeout)

    def _make_do(self, job: Job, error: RunError) -> None:
        """Leave a job, and all others, to the processes that there are. Raises ``error`` where there is none."""
        if not self._pool:
            raise error
        self._back.append(job)
        self.workers = len(self._pool)
        self._lacking = error
        self._tell()

    def _tell(self) -> None:
        """Say that there are fewer processes than asked for, once one of them has shown that it can work."""
        if self._lacking is not None and any(worker.ready for worker in self._pool):
            warnings.warn(f"the work is left to {self.workers} of its processes: {self._lacking}", stacklevel=4)
            self._lacking = None

    def _remove(self, worker: WorkerProcess, patience: float = 0.0) -> str:
        self._pool.remove(worker)
        return worker.kill(patience)

    def _next(self) -> Job | None:
        """Wait for one event; the job that it finished, if any."""
        nearest = min((worker.deadline for worker in self._pool), default=math.inf)
        try:
            # A bounded wait, so that Ctrl-C is noticed on every platform.
            worker, message = self._events.get(timeout=min(_POLL_S, max(0.0, nearest - time.monotonic())))
        except queue.Empty:
            now = time.monotonic()
            late = next((worker for worker in self._pool if worker.deadline <= now), None)
            return self._too_late(late) if late else None
        if worker not in self._pool:
            return None  # a last word of one that was removed
        if message is None:
            return self._died(worker)
        kind, content = message
        if kind == "ready":
            worker.ready = True
            self._failed_starts = 0
            self._tell()
        elif kind == "started":
            worker.loading = False
            worker.deadline = math.inf if self.timeout is None else time.monotonic() + self.timeout
        elif kind == "refused":
            self._remove(worker)
            raise content
        elif kind == "done" and worker.job is not None:
            worker.job.settle(content)
            return self._go_on(worker, worker.job)
        return None

    def _go_on(self, worker: WorkerProcess | None, job: Job) -> Job | None:
        if worker is not None:
            worker.job, worker.deadline = None, math.inf
        if not job.units:
            return job
        self._begin(job, worker)
        return None

    def _died(self, worker: WorkerProcess) -> Job | None:
        job, reason = worker.job, self._remove(worker, _LAST_WORD_S)
        if not worker.ready:
            self._failed_starts += 1
        elif job is not None:
            job.crashed(reason, fresh=worker.sent == 1)
        if job is None:
            return None
        if not worker.ready and self._failed_starts >= _STARTS:
            self._make_do(job, RunError(f"{_NO_START}: {reason}"))
            return None
        return self._go_on(None, job)

    def _too_late(self, worker: WorkerProcess) -> Job | None:
        job = worker.job
        self._remove(worker)
        if job is None or self.timeout is None:
            return None
        late = f"its component was not loaded within {loading_s(job.spec):g} s"
        job.fail(late if worker.loading else f"timed out after {self.timeout:g} s")
        return self._go_on(None, job)

    def close(self) -> None:
        """End the processes. The executor can be used again: it starts new ones."""
        pool, self._pool = self._pool, []
        for worker in pool:
            worker.close(2.0) if worker.job is None else worker.kill()

    def __enter__(self) -> ProcessExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

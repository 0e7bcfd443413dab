"""Where components run: in this process, or in worker processes that survive crashes, time-outs and a killed parent."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from pydantic import Field

from chemmara.config import Parameters
from chemmara.errors import RunError
from chemmara.registry import Registry
from chemmara.scoring.evaluation import Evaluation, Executor, Task
from chemmara.scoring.worker import answer

WORK = "chemmara.scoring.work"
_LOADING_S = 300.0  # how long a component may load in a worker before a time-out, where there is one, applies to it
_POLL_S = 1.0
_STARTS = 3  # failed starts in a row after which the workers are given up


class SerialParameters(Parameters):
    """Takes no parameters."""


class ProcessParameters(Parameters):
    workers: int | None = Field(None, ge=1, le=4096, description="worker processes; default: one per available core")
    timeout: float | None = Field(
        None, gt=0, description="seconds per molecule and component; a molecule that takes longer fails. Default: no limit"
    )


EXECUTORS: Registry[Callable[[Any], Executor]] = Registry("executor", ("chemmara.scoring.executors",))


@EXECUTORS.register("serial", SerialParameters)
def serial(parameters: SerialParameters) -> Executor:
    """In the main process, one task after the other."""
    return SerialExecutor()


@EXECUTORS.register("processes", ProcessParameters)
def processes(parameters: ProcessParameters) -> Executor:
    """In worker processes on this machine; a crash or a time-out fails the molecule, not the run."""
    return ProcessExecutor(parameters.workers, parameters.timeout)


class SerialExecutor:
    """Runs tasks in this process, in order. A crash of a component's native code takes the process with it."""

    def __init__(self, module: str = WORK) -> None:
        self._evaluate = importlib.import_module(module).evaluate

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, list[Evaluation]]]:
        for index, task in enumerate(tasks):
            yield index, answer(self._evaluate, task.spec, task.smiles)

    def close(self) -> None:
        pass


class _Job:
    """A task on its way through one worker slot, whole or, after a crash or under a time-out, molecule by molecule."""

    def __init__(self, index: int, task: Task, one_by_one: bool) -> None:
        self.index = index
        self.spec = task.spec
        self.smiles = task.smiles
        self.results: list[Evaluation] = [Evaluation(math.nan, "not evaluated")] * len(task.smiles)
        places = range(len(task.smiles))
        self.units = deque([place] for place in places) if one_by_one else deque([list(places)])

    def settle(self, values: Sequence[Evaluation]) -> None:
        for place, value in zip(self.units.popleft(), values, strict=True):
            self.results[place] = value

    def fail(self, reason: str) -> None:
        self.settle([Evaluation(math.nan, reason)])

    def crashed(self, reason: str, fresh: bool) -> None:
        """A worker died on the first unit: blame a molecule that was alone in a fresh worker, else look closer."""
        if len(self.units[0]) == 1 and fresh:
            self.fail(reason)
        else:
            self.units.extendleft([place] for place in reversed(self.units.popleft()))


class _Worker:
    """One worker process and the thread that brings in its replies as events (worker, (kind, content) | None)."""

    def __init__(self, module: str, events: queue.SimpleQueue[tuple[_Worker, Any]]) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from chemmara.scoring.worker import main; main({module!r})"
        # A numerical library in each of many workers must not start a thread per core.
        environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | dict(os.environ)
        # Its own process group: Ctrl-C in a terminal reaches the parent only, and a kill reaches its children.
        group: dict[str, Any] = {"process_group": 0}
        if sys.platform == "win32":
            group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, **group
        )
        self.ready = False
        self.sent = 0
        self.deadline = math.inf
        self.job: _Job | None = None
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()

    def _listen(self, events: queue.SimpleQueue[tuple[_Worker, Any]]) -> None:
        replies = self._process.stdout
        assert replies is not None
        with replies:
            while True:
                try:
                    message = pickle.load(replies)
                except Exception:  # the end of the pipe, or half a message of a worker that died while writing
                    events.put((self, None))
                    return
                events.put((self, message))

    def send(self, timeout: float | None) -> None:
        """Send the first unit of the job."""
        assert self.job is not None
        self.sent += 1
        self.deadline = math.inf if timeout is None else time.monotonic() + _LOADING_S
        request = (self.job.spec, tuple(self.job.smiles[place] for place in self.job.units[0]))
        with contextlib.suppress(OSError):  # a dead worker is reported by its reader
            assert self._process.stdin is not None
            self._process.stdin.write(pickle.dumps(request))
            self._process.stdin.flush()

    def kill(self) -> str:
        """End the process and all that it started, at once; the reason in words if it had ended by itself."""
        try:
            if hasattr(os, "killpg"):
                # Not yet waited for, so the number still means this process, dead or alive.
                os.killpg(self._process.pid, signal.SIGKILL) if self._process.returncode is None else None
        except (ProcessLookupError, PermissionError):
            pass
        self._process.kill()
        return _reason(self.close(0.0))

    def close(self, grace_s: float) -> int:
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            return self._process.wait(grace_s or None)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _reason(code: int) -> str:
    if code >= 0:
        return f"scoring process exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return f"scoring process died of {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"


class ProcessExecutor:
    """Runs tasks in ``workers`` processes that stay alive between calls and never import torch.

    A process that dies is replaced. Its molecules are run again one at a time, and one that kills a fresh process alone
    is a failed evaluation. With ``timeout`` (seconds) the molecules are sent one at a time, and one that takes longer is a
    failed evaluation; loading the component does not count. A process has at most one task, and gets the next when the caller
    has taken the result of the last: after a kill -9, at most ``workers`` tasks are lost. Processes whose parent is gone exit.

    Raises the component's own ChemmaraError if it cannot be built, and RunError if processes cannot be started.
    """

    def __init__(self, workers: int | None = None, timeout: float | None = None, module: str = WORK) -> None:
        self.workers = workers or _available_cores()
        self.timeout = timeout
        self._module = module
        self._pool: list[_Worker] = []
        self._events: queue.SimpleQueue[tuple[_Worker, Any]] = queue.SimpleQueue()
        self._failed_starts = 0

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, list[Evaluation]]]:
        if any(worker.job for worker in self._pool):
            raise RuntimeError("the executor is still running other tasks")
        waiting = deque(_Job(i, task, self.timeout is not None) for i, task in enumerate(tasks) if task.smiles)
        yield from ((i, []) for i, task in enumerate(tasks) if not task.smiles)
        try:
            while waiting or any(worker.job for worker in self._pool):
                self._assign(waiting)
                finished = self._next()
                if finished is not None:
                    yield finished.index, finished.results
        finally:  # also when the caller stops listening: nobody wants what is still in flight
            for worker in [worker for worker in self._pool if worker.job]:
                self._remove(worker)

    def _assign(self, waiting: deque[_Job]) -> None:
        for worker in self._pool:
            if waiting and worker.job is None:
                self._begin(worker, waiting.popleft())
        while waiting and len(self._pool) < self.workers:
            self._begin(self._start(), waiting.popleft())

    def _start(self) -> _Worker:
        worker = _Worker(self._module, self._events)
        self._pool.append(worker)
        return worker

    def _begin(self, worker: _Worker, job: _Job) -> None:
        worker.job = job
        worker.send(self.timeout)

    def _remove(self, worker: _Worker) -> str:
        self._pool.remove(worker)
        return worker.kill()

    def _next(self) -> _Job | None:
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
        elif kind == "started" and self.timeout is not None:
            worker.deadline = time.monotonic() + self.timeout
        elif kind == "refused":
            raise content
        elif kind == "done" and worker.job is not None:
            worker.job.settle(content)
            return self._go_on(worker, worker.job)
        return None

    def _go_on(self, worker: _Worker | None, job: _Job) -> _Job | None:
        if worker is not None:
            worker.job, worker.deadline = None, math.inf
        if not job.units:
            return job
        self._begin(worker or self._start(), job)
        return None

    def _died(self, worker: _Worker) -> _Job | None:
        job, reason = worker.job, self._remove(worker)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _STARTS:
                raise RunError(f"scoring processes cannot be started: {reason}")
        if job is None:
            return None
        if worker.ready:
            job.crashed(reason, fresh=worker.sent == 1)
        return self._go_on(None, job)

    def _too_late(self, worker: _Worker) -> _Job | None:
        job = worker.job
        self._remove(worker)
        if job is None or self.timeout is None:
            return None
        job.fail(f"timed out after {self.timeout:g} s")
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


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

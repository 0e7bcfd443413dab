"""Scoring on a Dask cluster: an existing scheduler, jobs of SLURM, or workers within this process.

What a worker does is in :mod:`chemmara.scoring.remote`. Dask hands the tasks of a worker that was lost to another one.
"""

from __future__ import annotations

import logging
import math
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from chemmara import __version__
from chemmara.errors import ChemmaraError, RunError, UserError
from chemmara.scoring import remote
from chemmara.scoring.cluster_settings import DaskParameters, SlurmSettings, check_installed, check_reachable
from chemmara.scoring.evaluation import Evaluation, Task
from chemmara.scoring.executors import available_cores

_LOG = logging.getLogger("distributed")
_HERE = "127.0.0.1:0"
_POLL_S = 1.0
_CONNECT_S = 30.0
_MEND_S = 30.0  # how often lost jobs are looked for


class _Lost(RunError):
    """The scheduler is gone, and with it all that is out."""

    def __init__(self) -> None:
        super().__init__("the connection to the Dask scheduler was lost; see to it, then go on with --resume")


class _Answer:
    """The evaluations of a task that come in part by part, if its workers died under the whole."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.values: dict[int, Evaluation] = {}

    @property
    def complete(self) -> bool:
        return len(self.values) == len(self.task.smiles)

    def list(self) -> list[Evaluation]:
        return [self.values[place] for place in range(len(self.task.smiles))]


@dataclass(frozen=True)
class _Part:
    """Molecules of one task, by their place in it, that travel together; a ``suspect`` travels alone."""

    index: int
    places: tuple[int, ...]
    suspect: bool = False


@dataclass
class Cluster:
    """A connected client, and the cluster that was started for it, if any. ``mend`` replaces jobs that were lost."""

    client: Any
    own: Any = None
    mend: Callable[[], None] = field(default=lambda: None)

    def close(self) -> None:
        """Leave: an own cluster ends, another one goes on without our scoring processes.

        An interruption leaves out what it comes in; what follows is closed all the same.
        """
        with ExitStack() as rest:
            for part in (self.own, self.client):  # the last comes first
                if part is not None:
                    rest.callback(_close, part)
            with suppress(Exception):
                if self.client.status == "running" and self.client.nthreads():
                    self.client.run(remote.close, self.client.id, on_error="ignore")


def _close(part: Any) -> None:
    with suppress(Exception):  # what is gone already needs no closing
        part.close()


class DaskExecutor:
    """Runs tasks on the workers of a Dask cluster; connects at the first task, and again after :meth:`close`.

    No more tasks are out than the cluster has threads, so that a kill -9 loses at most one task each. Tasks of a worker
    that dies run elsewhere. One under which workers die again and again (Dask's ``allowed-failures``, 3) is taken apart
    molecule by molecule; a molecule that does the same is sent again once nothing else is out, since Dask also blames
    what waited on a worker beside it, and is a failed evaluation if it does it then. Crashes and time-outs of a
    component are no business of Dask's: see :func:`chemmara.scoring.remote.evaluate`.

    Raises the component's own ChemmaraError if it cannot be built on a worker, after what the other workers were at,
    and RunError where the scheduler is lost or there has been no worker for ``wait_seconds``.
    """

    def __init__(
        self,
        connect: Callable[[], Cluster],
        timeout: float | None = None,
        wait_seconds: float = math.inf,
        module: str = "chemmara.scoring.work",
    ) -> None:
        self._connect = connect
        self.timeout = timeout
        self._wait_seconds = wait_seconds
        self._module = module
        self._cluster: Cluster | None = None
        self._threads = 0
        self._level = logging.NOTSET
        self._looked = self._last_worker = self._mended = -math.inf

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[int, list[Evaluation]]]:
        numbered = enumerate(tasks)
        first = next(numbered, None)
        if first is None:
            return
        coming, over = chain([first], numbered), False
        answers: dict[int, _Answer] = {}
        waiting: deque[_Part] = deque()
        suspects: deque[_Part] = deque()
        cluster = self._cluster or self._join()
        self._last_worker = time.monotonic()
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        out: dict[str, tuple[Any, _Part]] = {}
        fault: ChemmaraError | None = None
        try:
            while True:
                while (waiting or not over) and len(out) < self._available():
                    if not waiting:
                        index, task = next(coming, (0, None))
                        if task is None:
                            over = True
                            break
                        if not task.smiles:
                            yield index, []
                            continue
                        answers[index] = _Answer(task)
                        waiting.append(_Part(index, tuple(range(len(task.smiles)))))
                    self._send(waiting.popleft(), answers, out, events)
                if over and not waiting and not out:
                    if fault is not None or not suspects:
                        break
                    if self._available():  # one at a time, and nothing else: whoever's worker dies now has killed it
                        self._send(suspects.popleft(), answers, out, events)
                try:
                    future = events.get(timeout=_POLL_S)
                except queue.Empty:
                    if not self._available() and fault is not None:  # it also tells when they have been gone for long
                        break  # nobody is at anything
                    continue
                _, part = out.pop(future.key)
                try:
                    left = self._take(future, part, answers[part.index])
                    suspects.extend(each for each in left if each.suspect)
                    waiting.extendleft(each for each in left if not each.suspect)
                except _Lost:
                    raise
                except ChemmaraError as error:  # once what others are at, which is paid for, has been handed over
                    fault, over = fault or error, True
                if answers[part.index].complete:
                    yield part.index, answers[part.index].list()
        finally:  # also when the caller stops listening: nobody wants what is still out
            if out:
                with suppress(Exception):
                    cluster.client.cancel([future for future, _ in out.values()], force=True)
        if fault is not None:
            raise fault

    def _join(self) -> Cluster:
        level = _LOG.level
        _LOG.setLevel(logging.CRITICAL)  # what Dask logs with a traceback reaches the user as one RunError
        try:
            cluster = self._connect()
        except BaseException:
            _LOG.setLevel(level)
            raise
        self._cluster, self._level, self._mended = cluster, level, time.monotonic()
        return cluster

    def _send(self, part: _Part, answers: dict[int, _Answer], out: dict[str, tuple[Any, _Part]], events: Any) -> None:
        future = self._submit(part, answers[part.index].task)
        out[future.key] = future, part
        future.add_done_callback(events.put)

    def _submit(self, part: _Part, task: Task) -> Any:
        assert self._cluster is not None
        smiles = tuple(task.smiles[place] for place in part.places)
        client = self._cluster.client
        return client.submit(
            remote.evaluate, self._module, __version__, task.spec, smiles, self.timeout, client.id, pure=False
        )

    def _available(self) -> int:
        """Threads of all workers, looked up once a second. Raises RunError where there has been none for too long."""
        now = time.monotonic()
        assert self._cluster is not None
        if now - self._looked >= _POLL_S or not self._threads:
            client = self._cluster.client
            if client.status in ("closed", "closing"):
                raise _Lost
            if client.status == "running":
                self._threads = sum(self._ask(client.nthreads).values())
            self._looked = now
            if now - self._mended >= _MEND_S:
                self._cluster.mend()
                self._mended = now
        if self._threads:
            self._last_worker = now
        elif now - self._last_worker > self._wait_seconds:
            raise RunError(
                f"the Dask cluster has had no worker for {self._wait_seconds:g} s; "
                "look at its queue and its logs, or raise execution.dask.wait_seconds, then go on with --resume"
            )
        return self._threads

    def _take(self, future: Any, part: _Part, answer: _Answer) -> list[_Part]:
        """Put a finished part's evaluations into the answer; returns the parts to send anew if its workers died."""
        try:
            values = future.result(timeout=None)
        except ChemmaraError:
            raise
        except Exception as error:
            if type(error).__name__ != "KilledWorker":
                if future.status == "cancelled" or isinstance(error, OSError):
                    raise _Lost from None
                reason = " ".join(str(error).split())[:200]
                raise RunError(
                    f"a Dask worker could not run a task: {type(error).__name__}: {reason}; "
                    "is the same chemmara installed on the workers?"
                ) from None
            if len(part.places) > 1:
                return [_Part(part.index, (place,)) for place in reversed(part.places)]
            if not part.suspect:  # Dask blames whatever was on a worker, also what waited there beside the guilty one
                return [_Part(part.index, part.places, suspect=True)]
            reason = "every Dask worker that ran it died (out of memory, or out of time?)"
            values = [Evaluation(math.nan, reason)]
        answer.values.update(zip(part.places, values, strict=True))
        return []

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except OSError:
            raise _Lost from None

    def close(self) -> None:
        """Leave the cluster. The executor can be used again: it connects anew."""
        cluster, self._cluster, self._threads = self._cluster, None, 0
        if cluster is not None:
            try:
                cluster.close()
            finally:
                _LOG.setLevel(self._level)


def build(parameters: DaskParameters) -> DaskExecutor:
    """The executor of a config. Raises ConfigError where the packages are missing."""
    check_installed(parameters)
    return DaskExecutor(lambda: connect(parameters), parameters.timeout, parameters.wait_seconds)


def connect(parameters: DaskParameters) -> Cluster:
    """A client of the cluster that the config names, started first if it is an own one. Raises UserError."""
    check_reachable(parameters)
    if parameters.slurm is not None:
        return _queued(parameters.slurm)
    if parameters.scheduler is None and parameters.scheduler_file is None:
        own = _local(parameters.workers or available_cores())
        return Cluster(_client(own), own)
    place = parameters.scheduler or f"file '{parameters.scheduler_file}'"
    try:
        if parameters.scheduler is not None:
            return Cluster(_client(parameters.scheduler, timeout=_CONNECT_S))
        return Cluster(_client(scheduler_file=str(parameters.scheduler_file), timeout=_CONNECT_S))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"execution.dask: no Dask scheduler answers at {place} ({reason})") from None


def _client(*place: Any, **options: Any) -> Any:
    from distributed import Client

    make: Any = Client  # its types stop here
    return make(*place, **options)


def _local(workers: int) -> Any:
    """Scheduler and workers as threads of this process: each worker has a process for its scoring, and a second layer
    of processes would import the user's main module again. Dask's page of figures, which cannot be switched off, is for
    this machine alone. No limit on memory: it would count ours."""
    from distributed import LocalCluster

    make: Any = LocalCluster
    return make(
        n_workers=1,
        threads_per_worker=workers,
        processes=False,
        protocol="inproc://",
        dashboard_address=None,
        scheduler_kwargs={"dashboard": False, "dashboard_address": _HERE},
        worker_dashboard_address=_HERE,
        memory_limit=0,
    )


def _queued(settings: SlurmSettings) -> Cluster:
    own = slurm_cluster(settings)

    def mend() -> None:
        own.scale(jobs=settings.jobs)  # submits what is missing of the wanted number, also after a job was lost

    try:
        mend()
        return Cluster(_client(own), own, mend)
    except BaseException:
        own.close()
        raise


def slurm_cluster(settings: SlurmSettings) -> Any:
    """dask-jobqueue's cluster, with no job submitted yet; its ``job_script()`` is what sbatch will get.

    One Dask worker a job, with a thread for each core: a thread only waits for its scoring process. Raises UserError.
    """
    from dask_jobqueue import slurm

    optional = {
        "walltime": settings.walltime,
        "queue": settings.queue,
        "account": settings.account,
        "interface": settings.interface,
        "python": settings.python,
        "log_directory": None if settings.log_directory is None else str(settings.log_directory),
        "job_extra_directives": settings.directives,
        "job_script_prologue": settings.prologue,
        "worker_extra_args": settings.worker_arguments,
    }
    given = {name: value for name, value in optional.items() if value not in (None, [])}
    try:
        make: Any = slurm.SLURMCluster
        return make(cores=settings.cores, processes=1, memory=settings.memory, job_name="chemmara", **given)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"execution.dask.slurm: {reason}") from None

"""What a :class:`~chemmara.scoring.executors.ProcessExecutor` consists of: jobs that can split, and processes."""

from __future__ import annotations

import contextlib
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
from collections.abc import Sequence
from typing import Any

from chemmara.scoring.evaluation import ComponentSpec, Evaluation, Task

_LOADING_S = 300.0  # how long a component may load in a worker where there is a time-out


def loading_s(spec: ComponentSpec) -> float:
    """How many seconds a component may load; one with a limit of its own is to say itself that it was late."""
    return _LOADING_S + float(spec.parameters.get("start_timeout", 0.0))


class Job:
    """A task on its way through one worker slot, whole or, after a crash or under a time-out, molecule by molecule."""

    def __init__(self, index: int, task: Task, one_by_one: bool) -> None:
        self.index = index
        self.spec = task.spec
        self.smiles = task.smiles
        self.results: list[Evaluation] = [Evaluation(math.nan, "not evaluated")] * len(task.smiles)
        places = range(len(task.smiles))
        self.units = deque([place] for place in places) if one_by_one else deque([list(places)])
        self._suspects: set[int] = set()

    def settle(self, values: Sequence[Evaluation]) -> None:
        for place, value in zip(self.units.popleft(), values, strict=True):
            self.results[place] = value

    def fail(self, reason: str) -> None:
        self.settle([Evaluation(math.nan, reason)])

    def crashed(self, reason: str, fresh: bool) -> None:
        """A worker died on the first unit: blame a molecule that does it again, alone in a fresh one, else split."""
        if len(self.units[0]) == 1 and fresh and self.units[0][0] in self._suspects:
            self.fail(reason)
        else:
            self._suspects.update(self.units[0])
            self.units.extendleft([place] for place in reversed(self.units.popleft()))


class WorkerProcess:
    """One worker process and the thread that brings in its replies as events (worker, (kind, content) | None)."""

    def __init__(self, module: str, events: queue.SimpleQueue[tuple[WorkerProcess, Any]]) -> None:
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            f"from chemmara.scoring.worker import main; main({module!r}, {os.getpid()})"
        )
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
        self.loading = False
        self.job: Job | None = None
        try:
            threading.Thread(target=self._listen, args=(events,), daemon=True).start()
        except BaseException:  # no room for a thread: nobody would ever hear of the process
            self.kill()
            if self._process.stdout is not None:
                self._process.stdout.close()
            raise

    def _listen(self, events: queue.SimpleQueue[tuple[WorkerProcess, Any]]) -> None:
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
        self.loading = True
        self.deadline = math.inf if timeout is None else time.monotonic() + loading_s(self.job.spec)
        request = (self.job.spec, tuple(self.job.smiles[place] for place in self.job.units[0]))
        with contextlib.suppress(OSError):  # a dead worker is reported by its reader
            assert self._process.stdin is not None
            self._process.stdin.write(pickle.dumps(request))
            self._process.stdin.flush()

    def kill(self, patience: float = 0.0) -> str:
        """End the process and all that it started; the reason in words if it had ended by itself.

        ``patience``: seconds that it has for that. Its pipe is closed a moment before it has ended.
        """
        try:
            until = time.monotonic() + patience
            while time.monotonic() < until and not self._ended():
                time.sleep(0.005)
        finally:  # interrupted or not
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if hasattr(os, "killpg") and self._process.returncode is None:
                    # Not yet waited for, so the number still means this process, dead or alive.
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            code = self.close(None)
        return _reason(code)

    def _ended(self) -> bool:
        """Whether it has ended. It is not waited for, so that its number, and its children's group, stay taken."""
        if not hasattr(os, "waitid"):  # an older Python on macOS; on Windows there are no groups
            return not hasattr(os, "killpg") and self._process.poll() is not None
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        except ChildProcessError:
            return True

    def close(self, grace_s: float | None) -> int:
        """Let the process end by itself, within ``grace_s`` seconds if given; its exit code."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            return self._process.wait(grace_s)
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

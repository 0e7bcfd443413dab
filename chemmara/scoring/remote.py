"""What a Dask worker runs: a task in a scoring process of its own, as on one machine.

A component's crash, its time-out and what it loads stay in that process, so the Dask worker lives on, and only the
guilty molecule fails. Imported by the workers: nothing heavy here.
"""

from __future__ import annotations

import threading

from chemmara import __version__
from chemmara.errors import RunError
from chemmara.scoring.evaluation import ComponentSpec, Evaluation, Task
from chemmara.scoring.executors import ProcessExecutor

_idle: dict[tuple[str, float | None], list[ProcessExecutor]] = {}
_busy: dict[str, list[ProcessExecutor]] = {}  # by who asked
_lock = threading.Lock()


def evaluate(
    module: str, version: str, spec: ComponentSpec, smiles: tuple[str, ...], timeout: float | None, client: str
) -> list[Evaluation]:
    """One evaluation per molecule. ``version``: of the chemmara that asks; raises RunError where this is another one.
    ``client``: who asks, a name of its own for each run.

    Several threads of a worker may call it at once; each gets a process for itself, kept for the next call.
    """
    if version != __version__:
        raise RunError(f"a Dask worker has chemmara {__version__}, this is {version}: install the same version on both")
    kind = (module, timeout)
    with _lock:
        waiting = _idle.setdefault(kind, [])
        executor = waiting.pop() if waiting else ProcessExecutor(1, timeout, module)
        _busy.setdefault(client, []).append(executor)
    try:
        found = dict(executor.run([Task(spec, smiles)]))
    finally:
        with _lock:
            if executor in _busy.get(client, ()):
                _busy[client].remove(executor)
            _idle.setdefault(kind, []).append(executor)
    if not found:
        raise RunError("the run that has asked is over")
    return found[0]


def close(client: str) -> None:
    """End the scoring processes that have nothing to do, and those that work for ``client``, which has left.

    Idle ones of other runs come back when they are needed.
    """
    with _lock:
        executors = [*_busy.pop(client, ()), *(executor for executors in _idle.values() for executor in executors)]
        _idle.clear()
    for executor in executors:
        executor.close()

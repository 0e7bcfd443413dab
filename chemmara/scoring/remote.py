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
_lock = threading.Lock()


def evaluate(
    module: str, version: str, spec: ComponentSpec, smiles: tuple[str, ...], timeout: float | None
) -> list[Evaluation]:
    """One evaluation per molecule. ``version``: of the chemmara that asks; raises RunError where this is another one.

    Several threads of a worker may call it at once; each gets a process for itself, kept for the next call.
    """
    if version != __version__:
        raise RunError(f"a Dask worker has chemmara {__version__}, this is {version}: install the same version on both")
    kind = (module, timeout)
    with _lock:
        waiting = _idle.setdefault(kind, [])
        executor = waiting.pop() if waiting else ProcessExecutor(1, timeout, module)
    try:
        ((_, values),) = executor.run([Task(spec, smiles)])
    finally:
        with _lock:
            _idle.setdefault(kind, []).append(executor)
    return values


def close() -> None:
    """End the scoring processes that have nothing to do; those of other runs come back when they are needed."""
    with _lock:
        idle = [executor for executors in _idle.values() for executor in executors]
        _idle.clear()
    for executor in idle:
        executor.close()

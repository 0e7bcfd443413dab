"""The far side of :class:`~chemmara.scoring.executors.ProcessExecutor`: reads requests, replies, dies with its parent.

The process is started as a plain Python that runs :func:`main`, not through multiprocessing: the user's own main module
is never imported again, so a worker loads no torch whatever that module loads.
"""

from __future__ import annotations

import importlib
import math
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

from chemmara.errors import ChemmaraError
from chemmara.scoring import programs
from chemmara.scoring.evaluation import ComponentSpec, Evaluation

_GRACE_S = 0.5


def answer(
    evaluate: Callable[[ComponentSpec, Sequence[str]], Sequence[Evaluation]], spec: ComponentSpec, smiles: Sequence[str]
) -> list[Evaluation]:
    """One evaluation per molecule, whatever ``evaluate`` does short of ending the process.

    A :class:`ChemmaraError` passes through: it is the user's to repair (a file that is gone), not the molecules' fault.
    """
    try:
        values = list(evaluate(spec, smiles))
    except ChemmaraError:
        raise
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())[:300]
        return [Evaluation(math.nan, f"{type(error).__name__}: {text}")] * len(smiles)
    if len(values) != len(smiles):
        return [Evaluation(math.nan, f"{len(values)} values for {len(smiles)} molecules")] * len(smiles)
    return values


def main(module: str, parent: int) -> None:
    """Serve until standard input ends or ``parent`` (a process id) is gone.

    ``module`` has ``prepare(spec)``, which loads a component, and ``evaluate(spec, smiles)``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if hasattr(signal, "pthread_sigmask"):  # RDKit would put its own handler there for the length of a search
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    requests, replies = _take_pipes()
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, tasks), daemon=True).start()
    if hasattr(os, "fork"):
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    programs.stay_in_group()
    work = importlib.import_module(module)
    _reply(replies, "ready")

    def evaluate(spec: ComponentSpec, smiles: Sequence[str]) -> Sequence[Evaluation]:
        work.prepare(spec)
        _reply(replies, "started")  # the clock of a time-out starts here: loading is not the molecule's time
        found: Sequence[Evaluation] = work.evaluate(spec, smiles)
        return found

    while (task := tasks.get()) is not None:
        try:
            _reply(replies, "done", answer(evaluate, *task))
        except ChemmaraError as error:
            _reply(replies, "refused", error)


def _take_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Keep the two pipes for the protocol, out of reach of prints in a component and of the programs that it starts."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def _reply(replies: IO[bytes], kind: str, content: Any = None) -> None:
    try:
        pickle.dump((kind, content), replies)
        replies.flush()
    except BrokenPipeError:
        _die()


def _read(requests: IO[bytes], tasks: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            tasks.put(pickle.load(requests))
    except (EOFError, OSError, pickle.UnpicklingError):
        # The parent closed the pipe or is dead. An idle worker leaves in order, a busy one is of no use any more.
        tasks.put(None)
        time.sleep(_GRACE_S)
        _die()


def _watch(parent: int) -> None:
    # The pipe may outlive the parent: a process that was forked from it holds a copy.
    while os.getppid() == parent:
        time.sleep(_GRACE_S)
    _die()


def _die() -> None:
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with the programs that a component has started
    os._exit(1)

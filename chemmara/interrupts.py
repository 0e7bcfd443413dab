"""Ctrl-C, and SIGTERM from a cluster: finish the step and save; if the step is long, leave it where it is."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

GRACE_SECONDS = 3.0
_active: list[Interrupts] = []
_listeners: list[threading.Thread] = []
"""The thread that hears of Ctrl-C in place of all others, once there is one."""


def pending() -> bool:
    """Whether this process was asked to stop and has not stopped yet."""
    return any(each.requested for each in _active)


def keep_to_python() -> None:
    """Let Ctrl-C reach Python's handlers alone, for the rest of this process. Call it before other threads start.

    RDKit answers a SIGINT in the middle of a substructure search: it ends the search with what it has found by then,
    says nothing, and Python never hears of it. The value would be wrong, and kept. So the signal is blocked in all
    threads but one of ours, which passes it on. On Windows, and where SIGINT is ignored, nothing is done.
    """
    if not hasattr(signal, "pthread_sigmask") or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGURG, lambda *_: None)
    _listeners.append(threading.Thread(target=_listen, daemon=True))
    _listeners[-1].start()


def _listen() -> None:
    while True:
        signal.sigwait({signal.SIGINT})
        _wake()


def _wake() -> None:
    """Have the main thread run its handler of SIGINT, in a wait as well, which only a true signal ends."""
    _thread.interrupt_main()
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGURG)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Inside the block SIGTERM, as a cluster sends it, raises KeyboardInterrupt; in other threads nothing is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


class Interrupted(BaseException):
    """The user asked to stop; what was done is on disk. Exit code 130.

    No ``Exception``, as KeyboardInterrupt is none: it may be raised anywhere, and where whatever RDKit, a model or a
    component raises is taken for one molecule's fault, the run would go on with another molecule and no one would know.
    """

    exit_code = 130


class Interrupts:
    """While entered, a first signal sets ``requested``; a second one, or ``grace`` seconds, raise :class:`Interrupted`.

    The loop asks ``requested`` where its state is whole, saves and leaves. Lightning would answer KeyboardInterrupt by
    ending the process, so that exception is not used. Outside the main thread this does nothing.
    """

    def __init__(self, grace: float = GRACE_SECONDS) -> None:
        self.grace = grace
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
            _active.append(self)
        return self

    def take_back(self) -> None:
        """Install the handlers again, where a library has put its own over them since."""
        for number in self._before:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise Interrupted("interrupted; what was done is saved, go on with --resume")
        self.requested = True
        self._timer = threading.Timer(self.grace, self._insist)
        self._timer.daemon = True
        self._timer.start()

    def _insist(self) -> None:
        if not self._before:
            return
        if _listeners:
            _wake()
        elif hasattr(signal, "pthread_kill"):  # a true signal also wakes the main thread from a wait for an oracle
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            _thread.interrupt_main()

    def check(self) -> None:
        """Raise :class:`Interrupted` if a signal came. Call it where the state has just been saved."""
        if self.requested:
            raise Interrupted("interrupted; what was done is saved, go on with --resume")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self in _active:
            _active.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

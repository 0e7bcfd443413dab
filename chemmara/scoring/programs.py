"""A program that is started once and answers lines on its standard input with lines on its standard output."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from chemmara import interrupts

MAX_LINE = 1 << 20
"""Longest line that is read as an answer, in bytes; what is longer is thrown away without being kept."""

_WAITING = 1000  # lines that wait to be read; a program that writes faster is stopped by its full pipe
_POLL_S = 0.2
_KEPT_ERRORS = 4096  # bytes of standard error


class ProgramEnded(Exception):
    """The program is gone; the message says how it ended, with the last line of its standard error.

    ``well``: with code 0. ``said``: that last line, '' where there is none.
    """

    def __init__(self, ending: str, said: str = "", well: bool = False) -> None:
        super().__init__(f"{ending}: {said}" if said else ending)
        self.said = said
        self.well = well


class ProgramLate(Exception):
    """No line in time."""


class Program:
    """One run of a program. Raises OSError where it cannot be started.

    It leads a process group, so that a Ctrl-C in the terminal does not reach it: the step that is to be finished needs
    its answers. In a scoring worker it stays in the worker's group, which Ctrl-C does not reach either, and which is
    killed as a whole. Of its standard error no more than the end is kept: the last line is the reason of its death.
    Where it fails while this process is asked to stop, as by a cluster's SIGTERM to all of a job, what it
    would have answered is unknown, and :class:`chemmara.interrupts.Interrupted` is raised.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            **_group(),
        )
        self._lines: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._closed = threading.Event()
        self._end = weakref.finalize(self, _end, self._process, self._closed)
        stdout, stderr = self._process.stdout, self._process.stderr
        assert stdout is not None
        assert stderr is not None
        threading.Thread(target=_read, args=(stdout, self._lines, self._closed), daemon=True).start()
        self._errors = bytearray()
        self._listener = threading.Thread(target=_keep_end, args=(stderr, self._errors), daemon=True)
        self._listener.start()

    def send(self, text: str) -> None:
        """Send one line. Never waits: a program that does not read is met by :meth:`line`'s time limit."""
        data = text.encode() + b"\n"
        threading.Thread(target=_write, args=(self._process.stdin, data), daemon=True).start()

    def line(self, deadline: float, patient: bool = False) -> bytes:
        """The next line without its end. ``deadline`` is a time of the monotonic clock, in seconds.

        ``patient``: a program that has closed its standard output has until then to end. Raises
        :class:`ProgramEnded` and :class:`ProgramLate`.
        """
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise ProgramLate from None
        if line is None:
            if patient:
                self.wait(deadline)
            raise self._end_of_it()
        return line

    def wait(self, deadline: float) -> None:
        """Wait for its end, until ``deadline``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))

    def _end_of_it(self) -> ProgramEnded:
        try:
            code: int | None = self._process.wait(_POLL_S * 5)
        except subprocess.TimeoutExpired:
            code = None  # it closed its standard output and lives on
        self.kill()
        self._listener.join(_POLL_S / 2)  # not for ever: a program that it has left behind may hold the pipe
        if code != 0 and interrupts.pending():  # by a signal, or by a wrapper's own way to say so
            raise interrupts.Interrupted("interrupted; what was done is saved, go on with --resume")
        return ProgramEnded(_ending(code), _last_line(self._errors), code == 0)

    def kill(self) -> None:
        """End the program, and where the system tells them (Linux) the programs that it has started."""
        self._end()
        self._process.wait()


_in_worker = False


def stay_in_group() -> None:
    """From now on programs join this process's group: it is a scoring worker."""
    global _in_worker
    _in_worker = True


def _group() -> dict[str, Any]:
    """The arguments of Popen that say which process group a program is in."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {} if _in_worker else {"process_group": 0}


def _write(stdin: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):  # a dead program is reported by its reader
        stdin.write(data)
        stdin.flush()


def _read(stdout: IO[bytes], lines: queue.Queue[bytes | None], closed: threading.Event) -> None:
    whole = True  # whether the last piece ended its line
    # Nobody else may close it: that waits for this thread, which waits for whoever else still holds the pipe.
    with contextlib.suppress(OSError, ValueError), stdout:
        while piece := stdout.readline(MAX_LINE):
            ends = piece.endswith(b"\n")
            if whole and (ends or len(piece) < MAX_LINE):
                _put(lines, piece.rstrip(b"\r\n"), closed)
            whole = ends
    _put(lines, None, closed)


def _keep_end(stderr: IO[bytes], kept: bytearray) -> None:
    with contextlib.suppress(OSError, ValueError), stderr:
        while piece := os.read(stderr.fileno(), 1 << 16):
            kept += piece
            del kept[:-_KEPT_ERRORS]


def _put(lines: queue.Queue[bytes | None], line: bytes | None, closed: threading.Event) -> None:
    while not closed.is_set():
        with contextlib.suppress(queue.Full):
            lines.put(line, timeout=_POLL_S)
            return


def _end(process: subprocess.Popen[bytes], closed: threading.Event) -> None:
    closed.set()
    try:
        for child in _descendants(process.pid) if process.poll() is None else ():
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        if not _in_worker and sys.platform != "win32" and process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)  # where there is no /proc: what has stayed in its group
    finally:
        process.kill()


def _descendants(pid: int) -> list[int]:
    """The process ids of all that a process has started, where /proc tells them."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):  # no /proc, or a program that has ended meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError, ValueError):  # a thread that has
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return [*found, *(other for child in found for other in _descendants(child))]


def _ending(code: int | None) -> str:
    if code is None:
        return "closed its standard output"
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"


def printable(line: str) -> str:
    """A program's words on one line, short and fit for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in line.strip())[:200]


def _last_line(errors: bytearray) -> str:
    lines = bytes(errors).decode("utf-8", "replace").split("\n")
    return printable(next((line for line in reversed(lines) if line.strip()), ""))

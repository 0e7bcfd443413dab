"""A Python process of our own that answers lines of JSON: what crashes or hangs in it costs one molecule."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from chemmara.errors import ConfigError
from chemmara.scoring.programs import Program, ProgramEnded, ProgramLate

_LOADING_S = 300.0  # grid maps take seconds


def running(function: str) -> str:
    """The code of a process that runs a function of :mod:`chemmara.scoring.docking.server`."""
    return (
        f"import sys; sys.path[:] = {sys.path!r}; from chemmara.scoring.docking.server import {function}; {function}()"
    )


class Child:
    """The process, started when it is needed, with ``first`` as its first request, which may take its time.

    One that dies or is late is replaced; a request is blamed when a fresh one dies of it. Raises ConfigError where
    ``name`` does not start.
    """

    def __init__(self, code: str, first: Mapping[str, Any], timeout: float, name: str, where: str) -> None:
        self._code, self._first, self._timeout = code, first, timeout
        self._name, self._where = name, where
        self._program: Program | None = None
        self._proved = False  # whether the running one has answered a request

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer. Raises ProgramEnded, and ProgramLate after ``timeout`` seconds."""
        fresh = not self._proved
        try:
            return self._ask(request)
        except ProgramEnded:
            if fresh:
                raise
        return self._ask(request)

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        program = self.start()
        try:
            program.send(json.dumps(request))
            answer: dict[str, Any] = json.loads(program.line(time.monotonic() + self._timeout))
        except BaseException:  # Ctrl-C, too: the answer on its way would be taken for that of the next request
            self.stop()
            raise
        self._proved = True
        return answer

    def start(self) -> Program:
        """The running process, a new one if there is none."""
        if self._program is not None:
            return self._program
        self._program = program = Program([sys.executable, "-c", self._code])
        try:
            program.send(json.dumps(self._first))
            fault = json.loads(program.line(time.monotonic() + _LOADING_S)).get("error")
        except ProgramEnded as error:
            fault = str(error)
        except ProgramLate:
            fault = f"it was not ready within {_LOADING_S:g} s"
        except BaseException:
            self.stop()
            raise
        if fault is not None:
            self.stop()
            raise ConfigError(f"{self._where}: {self._name} does not start: {fault}")
        return program

    def stop(self) -> None:
        """End the process; the next request gets a fresh one."""
        if self._program is not None:
            self._program.kill()
        self._program, self._proved = None, False

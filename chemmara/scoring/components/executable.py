"""Any program as a component, by lines of JSON on its standard input and output."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from chemmara.chemistry.molecules import Molecule
from chemmara.config import Parameters
from chemmara.errors import ConfigError, RunError
from chemmara.scoring import protocol
from chemmara.scoring.arguments import (
    OWN_FILE,
    UNWATCHED,
    WATCHED,
    check_unwatched,
    check_watched,
    content,
    contents,
    located,
    located_files,
    to_be_written,
)
from chemmara.scoring.component import COMPONENTS, Component
from chemmara.scoring.evaluation import Evaluation
from chemmara.scoring.programs import Program, ProgramEnded, ProgramLate

_FAULTS = (ProgramEnded, ProgramLate)


class ExecutableParameters(Parameters):
    """Parameters of an outside program."""

    command: list[str] = Field(
        min_length=1, description="the program and its arguments; a file beside the config is found"
    )
    endpoint: str = Field("score", description="which of the program's values this component takes")
    timeout: float = Field(60.0, gt=0, description="seconds for each molecule of a batch; what takes longer fails")
    start_timeout: float = Field(120.0, gt=0, description="seconds until the program has answered the first line")
    revision: str = Field("", description="a text of yours, to be changed when the program's values change")
    unwatched: list[str] | None = Field(None, description=UNWATCHED)
    watched: list[Path] | None = Field(None, description=WATCHED)


@COMPONENTS.register("executable", ExecutableParameters)
class Executable(Component):
    """Any program that reads batches of SMILES as JSON lines and writes values or reasons; docs/oracles.md.

    The program is started once for each scoring process. Components that differ in nothing but `endpoint` share it, and
    each molecule is sent once for all of them. A molecule on which the program dies or is late fails alone; the others
    of its batch are asked again.
    """

    parameters: ExecutableParameters
    bounds = (None, None)
    cost_us = 1e6
    example = "{ name = 'clip', low = 0, high = 10 }"

    def __init__(self, parameters: ExecutableParameters, where: str) -> None:
        super().__init__(parameters, where)
        self.endpoint = parameters.endpoint
        self._program: Program | None = None
        self._number = 0
        self._odd = ""  # what to say of answers that belong to no batch
        self._proved = False  # whether the running program has answered a batch
        if not parameters.endpoint:
            raise ConfigError(f"{where}.endpoint: should not be empty")
        if shutil.which(parameters.command[0]) is None:
            what = "is not executable" if Path(parameters.command[0]).is_file() else "is no program that can be found"
            raise ConfigError(f"{where}.command: '{parameters.command[0]}' {what}")
        check_unwatched(parameters.command[1:], parameters.unwatched, where)
        check_watched(parameters.watched, where)
        self._contents, self._watched = self._read_command(), contents(parameters.watched)

    @classmethod
    def resolve(cls, parameters: ExecutableParameters, folder: Path) -> ExecutableParameters:
        """Arguments that are files, beside the config or in the working directory, become absolute.

        The program itself does so where it is given with its folder: a bare name is looked for on the PATH.
        """
        program, *arguments = parameters.command
        here = folder if Path(program).name == program else Path.cwd()
        found = [located(part, parameters.unwatched, folder, Path.cwd()) for part in arguments]
        unwatched = to_be_written(found, parameters.unwatched)
        return parameters.model_copy(
            update={
                "command": [located(program, None, folder, here), *found],
                "unwatched": unwatched,
                "watched": located_files(parameters.watched, folder),
            }
        )

    def identity(self) -> dict[str, Any]:
        """The command, files in it and watched ones by name and content, the endpoint and the user's revision; no time
        limit."""
        more = {"watched": self._watched} if self._watched else {}
        return {"command": self._contents, "endpoint": self.endpoint, "revision": self.parameters.revision, **more}

    def prepare(self) -> None:
        self._running()

    def _score(self, molecules: Sequence[Molecule]) -> list[Evaluation]:
        smiles = [molecule.smiles for molecule in molecules]
        if len(smiles) == 1:
            return [self._one(smiles[0])]
        results, fault = self._ask(smiles)
        for place in range(len(smiles)):
            if place not in results:  # after a fault the guilty one is found by asking one at a time
                results[place] = self._one(smiles[place]) if fault else self._failed(None)
        return [results[place] for place in range(len(smiles))]

    def _one(self, smiles: str) -> Evaluation:
        fresh = not self._proved
        results, fault = self._ask([smiles])
        if isinstance(fault, ProgramEnded) and not fresh:  # what came before may have broken it
            results, fault = self._ask([smiles])
        return results[0] if results else self._failed(fault)

    def _failed(self, fault: Exception | None) -> Evaluation:
        if isinstance(fault, ProgramLate):
            return Evaluation(math.nan, f"timed out after {self.parameters.timeout:g} s{self._odd}")
        return Evaluation(math.nan, f"the program {fault}" if fault else "no answer")

    def _ask(self, smiles: list[str]) -> tuple[dict[int, Evaluation], Exception | None]:
        """What the program answered, by place, and what ended it before it had answered all."""
        program = self._running()
        self._number += 1
        program.send(protocol.request(self._number, smiles))
        deadline = time.monotonic() + self.parameters.timeout * len(smiles)
        results: dict[int, Evaluation] = {}
        self._odd = ""
        try:
            while len(results) < len(smiles):
                table = protocol.parse(program.line(deadline))
                if table is None or isinstance(table.get("id"), bool) or table.get("id") != self._number:
                    if table is not None and "index" in table and table.get("id") not in range(1, self._number):
                        self._odd = f"; it answered with the id {json.dumps(table.get('id')):.40}, not {self._number}"
                    _in_time(deadline)
                    continue  # chatter, or a late word on another batch
                if table.get("done") is True:
                    break
                index = table.get("index")
                if type(index) is int and 0 <= index < len(smiles) and index not in results:
                    results[index] = protocol.answer(table, self.endpoint)
        except _FAULTS as fault:
            self._stop()
            return results, fault
        except BaseException:  # an interruption: a program that has ended would be waited for
            self._stop()
            raise
        self._proved = True
        return results, None

    def _running(self) -> Program:
        """The program, started and greeted if need be. Raises ConfigError where that fails."""
        if self._program is not None:
            return self._program
        self._check_unchanged()
        name = self.parameters.command[0]
        try:
            self._program = program = Program(self.parameters.command)
            program.send(protocol.hello())
            deadline = time.monotonic() + self.parameters.start_timeout
            while "protocol" not in (table := protocol.parse(program.line(deadline)) or {}):
                _in_time(deadline)  # chatter
        except OSError as error:
            raise ConfigError(f"{self.where}.command: '{name}' cannot be started: {error.strerror or error}") from None
        except ProgramEnded as error:
            self._stop()
            raise ConfigError(f"{self.where}.command: '{name}' {error}, before it answered the first line") from None
        except ProgramLate:
            self._stop()
            limit = f"{self.parameters.start_timeout:g} s (start_timeout)"
            raise ConfigError(f"{self.where}.command: '{name}' did not answer the first line within {limit}") from None
        fault = protocol.hello_fault(table, self.asked or (self.endpoint,))
        if fault:
            self._stop()
            raise ConfigError(f"{self.where}.command: '{name}' {fault}")
        return program

    def _read_command(self) -> list[str | list[str]]:
        return [content(part, self.parameters.unwatched) for part in self.parameters.command]

    def _check_unchanged(self) -> None:
        """Raise RunError where a program to be started is not the one that the values are stored under."""
        watched = self.parameters.watched or []
        parts = [*self.parameters.command, *map(str, watched)]
        then = [*self._contents, *self._watched]
        for part, before, now in zip(parts, then, [*self._read_command(), *contents(watched)], strict=True):
            if now != before:
                raise RunError(
                    f"{self.where}.command: '{Path(part).name}' has changed since the run began, and is another oracle "
                    f"now; put it back and go on, or begin anew; {OWN_FILE}"
                )

    def _stop(self) -> None:
        if self._program is not None:
            self._program.kill()
        self._program, self._proved = None, False


def _in_time(deadline: float) -> None:
    """Raise ProgramLate for a program that writes and writes, but no answer."""
    if time.monotonic() > deadline:
        raise ProgramLate

"""The two ways to Vina: its Python package in a process of its own, and any program with Vina's command line."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chemmara.errors import ConfigError
from chemmara.scoring.docking.box import Box
from chemmara.scoring.docking.child import Child, running
from chemmara.scoring.docking.server import POSES
from chemmara.scoring.programs import Program, ProgramEnded, ProgramLate, printable

CHILD = running("dock")


class DockingFailed(Exception):
    """No pose; the message says why."""


@dataclass(frozen=True)
class Search:
    """What is docked into, and how hard is searched."""

    receptor: str
    box: Box
    scoring: str
    exhaustiveness: int
    seed: int


class Engine(Protocol):
    """Docks one ligand (PDBQT) and returns the PDBQT of its poses, the best first. Raises DockingFailed."""

    def dock(self, ligand: str) -> str: ...

    def prepare(self) -> None:
        """Load what is needed for the first ligand. Raises ConfigError."""


class PackageEngine:
    """The package `vina` in a child process that keeps the grid maps from ligand to ligand.

    Raises ConfigError where the child cannot load the receptor.
    """

    def __init__(self, search: Search, timeout: float, where: str) -> None:
        self._timeout = timeout
        self._folder = tempfile.TemporaryDirectory(prefix="chemmara-vina-")
        receptor = Path(self._folder.name) / "receptor.pdbqt"
        receptor.write_text(search.receptor, encoding="utf-8")
        first = {
            "receptor": str(receptor), "center": search.box.center, "size": search.box.size, "scoring": search.scoring,
            "exhaustiveness": search.exhaustiveness, "seed": search.seed,
        }  # fmt: skip
        self._child = Child(CHILD, first, timeout, "vina", where)

    def dock(self, ligand: str) -> str:
        try:
            answer = self._child.ask({"ligand": ligand})
        except ProgramEnded as error:
            raise DockingFailed(f"vina {error}") from None
        except ProgramLate:
            raise DockingFailed(f"timed out after {self._timeout:g} s") from None
        if "error" in answer:
            # An object that has thrown may be half set up: the next ligand gets a fresh one.
            self._child.stop()
            raise DockingFailed(f"vina: {answer['error']}")
        return str(answer["pose"])

    def prepare(self) -> None:
        self._child.start()


class ExecutableEngine:
    """A program with Vina's command line, started for each ligand. Raises ConfigError where it cannot be started."""

    def __init__(self, executable: str, arguments: Sequence[str], search: Search, timeout: float, where: str) -> None:
        self._executable = executable
        self._arguments = list(arguments)
        self._search = search
        self._timeout = timeout
        self._where = where
        self._folder = tempfile.TemporaryDirectory(prefix="chemmara-vina-")

    def prepare(self) -> None:
        """Nothing: it is started anew for each ligand."""

    def dock(self, ligand: str) -> str:
        folder = Path(self._folder.name)
        paths = {name: folder / f"{name}.pdbqt" for name in ("receptor", "ligand", "out")}
        if not paths["receptor"].exists():
            paths["receptor"].write_text(self._search.receptor, encoding="utf-8")
        paths["ligand"].write_text(ligand, encoding="utf-8")
        paths["out"].unlink(missing_ok=True)
        try:
            program = Program([self._executable, *self._options(), *(f"--{n}={path}" for n, path in paths.items())])
        except OSError as error:
            place = f"{self._where}.executable: '{self._executable}'"
            raise ConfigError(f"{place} cannot be started: {error.strerror or error}") from None
        end, said = self._wait(program)
        name = Path(self._executable).name
        if not end.well:  # whatever it had written by then may be half of it
            raise DockingFailed(f"'{name}' {end}" if end.said or not said else f"'{name}' {end}: {said}")
        if not paths["out"].is_file():
            raise DockingFailed(f"'{name}' {end} and wrote no pose")
        return paths["out"].read_text(encoding="utf-8", errors="replace")

    def _wait(self, program: Program) -> tuple[ProgramEnded, str]:
        """How it ended, and the last line that it printed."""
        deadline = time.monotonic() + self._timeout
        said = b""
        try:
            while True:
                said = program.line(deadline, patient=True).strip() or said
                if time.monotonic() > deadline:
                    raise ProgramLate
        except ProgramEnded as error:
            return error, printable(said.decode("utf-8", "replace"))
        except ProgramLate:
            program.kill()
            raise DockingFailed(f"timed out after {self._timeout:g} s") from None
        except BaseException:  # Ctrl-C: it would write into the next ligand's files
            program.kill()
            raise

    def _options(self) -> list[str]:
        search = self._search
        numbers: dict[str, float] = {
            **{f"center_{axis}": value for axis, value in zip("xyz", search.box.center, strict=True)},
            **{f"size_{axis}": value for axis, value in zip("xyz", search.box.size, strict=True)},
            "exhaustiveness": search.exhaustiveness, "num_modes": POSES, "seed": search.seed, "cpu": 1,
        }  # fmt: skip
        scoring = [] if search.scoring == "vina" else [f"--scoring={search.scoring}"]
        return [*(f"--{name}={value}" for name, value in numbers.items()), *scoring, *self._arguments]

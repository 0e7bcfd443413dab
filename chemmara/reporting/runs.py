"""Finding runs and reading their rows: output directories, run directories, ledgers, any CSV of scored SMILES."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from chemmara.errors import UserError
from chemmara.reporting import tables
from chemmara.scoring.ledger import Ledger, RunRow

LEDGER = "ledger.sqlite"
MOLECULES = "molecules.csv"
MANIFEST = "manifest.json"
_SEED_FOLDER = re.compile(r"seed-(\d+)")


@dataclass(frozen=True)
class Run:
    """One run of one method: who made it, and where its rows come from. ``rows()`` streams and can be called again."""

    method: str
    seed: int | None
    labels: tuple[str, ...]  # of the components, in the order of the columns
    threshold: float | None
    source: Path  # the file that the rows are read from
    directory: Path | None  # the run directory, if it has one
    reader: Callable[[], Iterator[RunRow]]

    def rows(self) -> Iterator[RunRow]:
        """The sampled rows in order of (step, index)."""
        return self.reader()

    @property
    def name(self) -> str:
        return self.method if self.seed is None else f"{self.method}/seed-{self.seed}"


def find_runs(path: str | Path) -> list[Run]:
    """The runs at ``path``, sorted by method and seed.

    ``path`` is an output directory (with ``<method>/seed-<n>/`` and the ledger), one of these run directories, a
    ledger, or a table with a column of SMILES and one of scores. Raises :class:`UserError` if it is none of them.
    """
    path = Path(path)
    if path.name == MOLECULES and (path.parent / MANIFEST).is_file():
        return [_of_directory(path.parent)]
    if path.is_file():
        return _of_ledger(path) if path.suffix in (".sqlite", ".db") else tables.runs_of_table(path, Run)
    if not path.is_dir():
        raise UserError(f"no run at '{path}': it does not exist")
    if _is_run(path):
        return [_of_directory(path)]
    folders = [*path.glob("seed-*"), *path.glob("*/seed-*")]
    runs = [_of_directory(f) for f in folders if f.is_dir() and _SEED_FOLDER.fullmatch(f.name) and _has_rows(f)]
    if not runs and (path / LEDGER).is_file():
        runs = _of_ledger(path / LEDGER)
    if not runs:
        what = "it is empty" if not any(path.iterdir()) else "there is no <method>/seed-<n>/ with molecules in it"
        raise UserError(f"no run at '{path}': {what}")
    return sorted(runs, key=lambda run: (run.method, run.seed if run.seed is not None else -1))


def find_run(path: str | Path) -> Run:
    """The one run at ``path``; raises :class:`UserError` if there are several."""
    runs = find_runs(path)
    if len(runs) > 1:
        raise UserError(f"'{path}' holds {len(runs)} runs; name one of them: {', '.join(run.name for run in runs[:5])}")
    return runs[0]


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a run directory, empty if there is none yet. Raises :class:`UserError` if it is not JSON."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"'{directory / MANIFEST}' cannot be read: {error}") from None
    return manifest if isinstance(manifest, dict) else {}


def _is_run(path: Path) -> bool:
    """Whether ``path`` itself is a run directory, begun or finished."""
    path = path.resolve()
    marked = (path / MANIFEST).is_file() or (path / MOLECULES).is_file()
    return marked or (_SEED_FOLDER.fullmatch(path.name) is not None and _has_rows(path))


def _has_rows(folder: Path) -> bool:
    if (folder / MOLECULES).is_file():
        return True
    ledger = _ledger_of(folder)
    return ledger.is_file() and _key(folder) in _ledger_runs(ledger)


def _ledger_of(folder: Path) -> Path:
    """The ledger of a run directory: the one that the runs of ``optimize`` share, or a benchmark run's own."""
    own = folder / LEDGER
    return own if own.is_file() else folder.resolve().parent.parent / LEDGER


def _ledger_runs(path: Path) -> list[str]:
    try:
        with Ledger(path, read_only=True) as ledger:
            return ledger.runs()
    except UserError as error:
        if "no run has begun" in str(error):
            return []
        raise


def _key(folder: Path) -> str:
    folder = folder.resolve()
    return f"{folder.parent.name}/{folder.name}"


def _of_directory(folder: Path) -> Run:
    manifest = read_manifest(folder)
    method, seed = _split(_key(folder))
    method, seed = str(manifest.get("method", method)), manifest.get("seed", seed)
    labels = tuple(str(label) for label in manifest.get("labels", ()))
    molecules, ledger = folder / MOLECULES, _ledger_of(folder)
    going_on = bool(manifest) and not manifest.get("end")  # molecules.csv is then of a shorter run
    if (going_on or not molecules.is_file()) and ledger.is_file() and _key(folder) in _ledger_runs(ledger):
        source, rows = ledger, partial(_ledger_rows, ledger, _key(folder))
        labels = labels or _first_labels(rows)
    elif molecules.is_file():
        source, rows = molecules, partial(tables.read_rows, molecules)
        labels = labels or tables.labels_of(molecules)
    else:
        raise UserError(f"no run at '{folder}': it has no {MOLECULES}, and no molecules in '{ledger}' yet")
    return Run(method, seed, labels, manifest.get("threshold"), source, folder, rows)


def _of_ledger(path: Path) -> list[Run]:
    runs = [
        _of_directory(path.parent / key) if (path.parent / key).is_dir() else _of_key(path, key)
        for key in _ledger_runs(path)
    ]
    if not runs:
        raise UserError(f"no run at '{path}': the ledger holds no molecules yet")
    return runs


def _of_key(path: Path, key: str) -> Run:
    """A run that only a ledger knows of."""
    method, seed = _split(key)
    rows = partial(_ledger_rows, path, key)
    return Run(method, seed, _first_labels(rows), None, path, None, rows)


def _split(key: str) -> tuple[str, int | None]:
    method, _, folder = key.rpartition("/")
    match = _SEED_FOLDER.fullmatch(folder)
    return (method, int(match[1])) if match else (folder, None)


def _ledger_rows(path: Path, key: str) -> Iterator[RunRow]:
    with Ledger(path, read_only=True) as ledger:
        yield from ledger.rows(key)


def _first_labels(rows: Callable[[], Iterator[RunRow]]) -> tuple[str, ...]:
    return next((tuple(row.raw) for row in rows() if row.raw), ())

"""The ledger: every oracle result, committed as it returns, and every sampled row of every run, in one SQLite file."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from chemmara.errors import ChemmaraError, RunError, UserError
from chemmara.scoring.database import acquire_lock, connect_reader, connect_writer, decode, encode, explained
from chemmara.scoring.evaluation import ComponentSpec, Evaluation
from chemmara.scoring.rows import COLUMNS, SAMPLED, RunRow, cell, from_cells, number, to_cells

__all__ = ["ComponentInfo", "Ledger", "RunInfo", "RunRow"]

APPLICATION_ID = 0x63686D61  # "chma", in the file's header: tells a ledger from any other database
SCHEMA_VERSION = 1

# Columns of numbers have no declared type: SQLite's REAL turns -0.0 into 0.0. NaN is NULL. The values of a molecule lie
# side by side, so that a batch touches a page a molecule and not one a value. Ledgers of before have (key, smiles).
_ORIGIN = f"origin TEXT NOT NULL DEFAULT '{SAMPLED}'"  # ledgers of before have none; a writer adds it
_SCHEMA = f"""
CREATE TABLE evaluations (key TEXT NOT NULL, smiles NOT NULL, value, error, PRIMARY KEY (smiles, key)) WITHOUT ROWID;
CREATE TABLE runs (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE rows (
    run INTEGER NOT NULL, step INTEGER NOT NULL, idx INTEGER NOT NULL, smiles NOT NULL, sampled NOT NULL,
    valid INTEGER NOT NULL, score, raw TEXT NOT NULL, transformed TEXT NOT NULL, scaffold NOT NULL, error,
    agent_log_prob, prior_log_prob, {_ORIGIN}, PRIMARY KEY (run, step, idx)) WITHOUT ROWID;
"""
# What a key stands for. Ledgers of before have no such table; a writer adds it.
_COMPONENTS = (
    "CREATE TABLE IF NOT EXISTS components (key TEXT PRIMARY KEY, name TEXT NOT NULL, parameters TEXT NOT NULL)"
)
_LOOKUP = 500  # SMILES a query: below SQLite's oldest limit on variables
_PAGE = 1000  # rows a query: a reader of a long run never holds a transaction that a writer waits for


class RunInfo(NamedTuple):
    """How far a run has come: number of rows, and the last step that has any (-1 for none)."""

    run: str
    rows: int
    last_step: int


class ComponentInfo(NamedTuple):
    """What a ledger has of one component with its settings: ``name`` and ``parameters`` are empty where it was written
    by a version that did not note them; ``reason`` is the commonest of the failures."""

    key: str
    name: str
    parameters: dict[str, Any]
    evaluations: int
    failed: int
    reason: str


class Ledger:
    """An :class:`~chemmara.scoring.evaluation.EvaluationStore` on disk, and the rows of the runs that share it.

    One process writes; any number read, also while it writes and after it was killed. A write is on the disk when its
    method returns. Raises :class:`UserError` when ``path`` cannot be opened as a ledger, and :class:`RunError` when
    another process is writing to it, the disk is full, or the file turns out to be damaged.
    """

    def __init__(self, path: str | Path, read_only: bool = False) -> None:
        self.path = Path(path)
        self.read_only = read_only
        self._lock: sqlite3.Connection | None = None
        self._copy: Path | None = None
        self._open: sqlite3.Connection | None = None
        self._run_ids: dict[str, int] = {}
        try:
            with explained(self.path, UserError):
                if read_only:
                    self._open, self._copy = connect_reader(self.path)
                else:
                    there = self.path.resolve()  # by whatever links it is reached, a ledger has one writer
                    self._lock = acquire_lock(there)
                    self._open = connect_writer(there)
                self._check_schema()
        except BaseException:
            self.close()
            raise

    @property
    def _db(self) -> sqlite3.Connection:
        if self._open is None:
            raise ValueError(f"ledger '{self.path}' is closed")
        return self._open

    def _check_schema(self) -> None:
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application == 0 and version == 0 and tables == 0:
            if self.read_only:
                raise UserError(f"ledger '{self.path}' is empty: no run has begun")
            with self._transaction(UserError):
                for statement in (*_SCHEMA.split(";"), _COMPONENTS):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        elif application != APPLICATION_ID:
            raise UserError(f"'{self.path}' is a database, but not a ledger")
        elif version > SCHEMA_VERSION:
            raise UserError(
                f"ledger '{self.path}' was written by a newer version of chemmara (its format is {version}, this "
                f"version reads up to {SCHEMA_VERSION}); upgrade chemmara"
            )
        elif not self.read_only:
            with explained(self.path, UserError):
                self._db.execute(_COMPONENTS)
                if not self._has_origins():
                    self._db.execute(f"ALTER TABLE rows ADD COLUMN {_ORIGIN}")

    def _has_origins(self) -> bool:
        return any(column[1] == "origin" for column in self._db.execute("PRAGMA table_info(rows)"))

    @contextmanager
    def _transaction(self, error_type: type[ChemmaraError] = RunError) -> Iterator[None]:
        if self.read_only:
            raise ValueError(f"ledger '{self.path}' was opened for reading only")
        with explained(self.path, error_type):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._run_ids.clear()  # an id that this transaction made is void
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def describe(self, specs: Iterable[ComponentSpec]) -> None:
        """Note what the keys of components stand for. Values under a former key are from now on under the new one."""
        specs = list(specs)
        values = [(spec.key, spec.name, json.dumps(spec.parameters, sort_keys=True)) for spec in specs]
        with self._transaction():
            for spec in specs:
                if spec.former and self._db.execute("DELETE FROM components WHERE key = ?", (spec.former,)).rowcount:
                    self._db.execute("UPDATE OR IGNORE evaluations SET key = ? WHERE key = ?", (spec.key, spec.former))
                    self._db.execute("DELETE FROM evaluations WHERE key = ?", (spec.former,))
            self._db.executemany("INSERT OR IGNORE INTO components VALUES (?, ?, ?)", values)

    def lookup(self, key: str, smiles: Sequence[str]) -> dict[str, Evaluation]:
        """The known evaluations among ``smiles``, failed ones with their reason."""
        found: dict[str, Evaluation] = {}
        distinct = list(dict.fromkeys(smiles))
        with explained(self.path):
            for start in range(0, len(distinct), _LOOKUP):
                part = [encode(s) for s in distinct[start : start + _LOOKUP]]
                query = (
                    "SELECT smiles, value, error FROM evaluations "
                    f"WHERE key = ? AND smiles IN ({','.join('?' * len(part))})"
                )
                for text, value, error in self._db.execute(query, (key, *part)):
                    found[decode(text)] = Evaluation(number(value), error if error is None else decode(error))
        return found

    def record(self, key: str, evaluations: Sequence[tuple[str, Evaluation]]) -> None:
        """Store; on the disk when this returns. A later value for the same molecule replaces the earlier."""
        self.record_all([(key, evaluations)])

    def record_all(self, batches: Sequence[tuple[str, Sequence[tuple[str, Evaluation]]]]) -> None:
        """:meth:`record` for several components, each with its key, in one transaction: the disk is waited for once."""
        values = [
            (key, encode(smiles), cell(value), None if error is None else encode(error))
            for key, evaluations in batches
            for smiles, (value, error) in evaluations
        ]
        if not values:
            return
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?, ?)", values)

    def forget_failures(self) -> int:
        """Drop the evaluations that failed, so that they are tried anew; returns how many there were."""
        with self._transaction():
            return int(self._db.execute("DELETE FROM evaluations WHERE value IS NULL").rowcount)

    def components(self) -> list[ComponentInfo]:
        """What there is of each component, by name and key."""
        counts = "SELECT key, count(*), sum(value IS NULL) FROM evaluations GROUP BY key"
        reasons = (
            "SELECT key, error, count(*) FROM evaluations WHERE value IS NULL GROUP BY key, error ORDER BY 3 DESC, 2"
        )
        with explained(self.path):
            commonest: dict[str, str] = {}
            for key, error, _ in self._db.execute(reasons):
                commonest.setdefault(key, "no value" if error is None else decode(error))
            named = self._named()
            rows = self._db.execute(counts).fetchall()
        found = [ComponentInfo(k, *named.get(k, ("", {})), n, int(bad), commonest.get(k, "")) for k, n, bad in rows]
        return sorted(found, key=lambda info: (info.name, info.key))

    def _named(self) -> dict[str, tuple[str, dict[str, Any]]]:
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'components'").fetchone():
            return {}
        rows = self._db.execute("SELECT key, name, parameters FROM components")
        return {key: (name, json.loads(parameters)) for key, name, parameters in rows}

    def evaluations(self) -> Iterator[list[tuple[str, str, Evaluation]]]:
        """All evaluations as (key, SMILES, evaluation), in the order in which they lie, a page at a time."""
        with explained(self.path):
            (table,) = self._db.execute("SELECT sql FROM sqlite_master WHERE name = 'evaluations'").fetchone()
        first, second = ("key", "smiles") if "(key, smiles)" in table else ("smiles", "key")
        query = (
            f"SELECT key, smiles, value, error FROM evaluations WHERE ({first}, {second}) > (?, ?) "
            f"ORDER BY {first}, {second} LIMIT {_PAGE}"
        )
        last: tuple[str | bytes, str | bytes] = ("", "")
        while True:
            with explained(self.path):
                page = self._db.execute(query, last).fetchall()
            if not page:
                return
            yield [
                (key, decode(smiles), Evaluation(number(value), error if error is None else decode(error)))
                for key, smiles, value, error in page
            ]
            key, smiles = page[-1][:2]
            last = (key, smiles) if first == "key" else (smiles, key)

    def write_step(self, run: str, step: int, rows: Sequence[RunRow]) -> None:
        """Put ``rows`` in the place of whatever the run has for this step."""
        if any(row.step != step for row in rows):
            raise ValueError(f"rows of another step than {step}")
        with self._transaction():
            self._db.execute("INSERT OR IGNORE INTO runs (name) VALUES (?)", (run,))
            run_id = self._run_id(run)
            self._db.execute("DELETE FROM rows WHERE run = ? AND step = ?", (run_id, int(step)))
            self._db.executemany(
                f"INSERT INTO rows (run, {', '.join(COLUMNS)}) VALUES (?{', ?' * len(COLUMNS)})",
                [(run_id, *to_cells(row)) for row in rows],
            )

    def truncate(self, run: str, after_step: int) -> None:
        """Forget the run's rows of the steps after ``after_step``. Evaluations stay: they were paid for."""
        with self._transaction():
            self._db.execute("DELETE FROM rows WHERE run = ? AND step > ?", (self._run_id(run), int(after_step)))

    def rows(self, run: str) -> Iterator[RunRow]:
        """The rows of a run in the order of (step, index), a page at a time; none for an unknown run."""
        columns = ", ".join(COLUMNS if self._has_origins() else (*COLUMNS[:-1], f"'{SAMPLED}'"))
        query = f"SELECT {columns} FROM rows WHERE run = ? AND (step, idx) > (?, ?) ORDER BY step, idx LIMIT {_PAGE}"
        last = (-(2**63), 0)
        while True:
            with explained(self.path):
                page = self._db.execute(query, (self._run_id(run), *last)).fetchall()
            yield from map(from_cells, page)
            if len(page) < _PAGE:
                return
            last = page[-1][0], page[-1][1]

    def runs(self) -> list[str]:
        """The names of the runs that have written rows, sorted."""
        with explained(self.path):
            return sorted(name for (name,) in self._db.execute("SELECT name FROM runs"))

    def run_info(self, run: str) -> RunInfo:
        """How far a run has come; an unknown run has no rows."""
        query = "SELECT count(*), coalesce(max(step), -1) FROM rows WHERE run = ?"
        with explained(self.path):
            return RunInfo(run, *self._db.execute(query, (self._run_id(run),)).fetchone())

    def _run_id(self, run: str) -> int:
        if run not in self._run_ids:
            found = self._db.execute("SELECT id FROM runs WHERE name = ?", (run,)).fetchone()
            if found is None:
                return -1
            self._run_ids[run] = found[0]
        return self._run_ids[run]

    def close(self) -> None:
        """Close the file and let another process write. Closing twice does nothing."""
        for connection in (self._open, self._lock):
            if connection is not None:
                connection.close()
        self._open = self._lock = None
        if self._copy is not None:
            shutil.rmtree(self._copy, ignore_errors=True)
            self._copy = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

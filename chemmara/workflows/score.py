"""What `chemmara score` does: a file of molecules of any size to a table of scores, a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from chemmara.chemistry.files import Record, is_list, read_records
from chemmara.chemistry.molecules import Molecule, quiet, read
from chemmara.config import check, read_table
from chemmara.errors import ChemmaraError, ConfigError, RunError, UserError
from chemmara.interrupts import Interrupted, sigterm_as_ctrl_c
from chemmara.optimization.execution import check_execution, check_workers_know, executor_table
from chemmara.optimization.settings import check_keys
from chemmara.optimization.tables import ExecutionSettings
from chemmara.places import replacing_text
from chemmara.reporting.tables import number, quote
from chemmara.scoring import work
from chemmara.scoring.component import Component
from chemmara.scoring.evaluation import EvaluationStore
from chemmara.scoring.failure import FailureSettings
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.scores import Scores
from chemmara.scoring.settings import ComponentSettings, ScoringSettings
from chemmara.workflows.kept import KeptStore, RecentStore
from chemmara.workflows.optimize import make_executor

CHUNK = 1000


@dataclass
class Scored:
    """Rows written, and how many of them have no score: no molecule, or a component failed.

    ``kept``: the ledger of what the others cost, where failures are worth another attempt by the same command.
    """

    rows: int = 0
    invalid: int = 0
    failed: int = 0
    kept: Path | None = None


def score_file(
    config: str | Path | Mapping[str, Any],
    molecules: str | Path,
    out: str | Path,
    *,
    column: str | None = None,
    name: str | None = None,
    progress: Callable[[int], None] = lambda rows: None,
    notes: bool = False,
) -> Scored:
    """Write one row per input molecule to the CSV file ``out``, in order, with the reason where there is no score.

    A row of a table without a SMILES is one, too. ``column`` and ``name`` are a table's columns of SMILES and names.
    Columns: SMILES (as in the input), name, ``<label>`` (raw), ``<label>_score`` (transformed), score, error.
    With ``notes`` a column ``<label>_note`` follows for each component that has any: alerts that match, and so on.
    ``config`` is a file or a table; besides [scoring], [execution] and [failure] (retry, on_failure) are heeded.
    ``out`` appears whole or not at all. The values of dear components are kept in a ledger beside it until then: after
    an accident the same call goes on where it was. Raises :class:`ConfigError` / :class:`UserError` for a mistake, also
    where not one line is a molecule, :class:`RunError` where a component stops it, and :class:`Interrupted`.
    """
    out = Path(out)
    store = KeptStore(out)
    with scoring_of(config, store) as scoring:
        if out.suffix.lower() != ".csv":
            raise UserError(f"scores are written as .csv (got '{out}')")
        if out.resolve() == Path(molecules).resolve():
            raise UserError(f"'{out}' is the input itself; choose another file with -o")
        if (column or name) and is_list(Path(molecules)):
            raise UserError(f"'{molecules}' is no table: leave out --column and --name, or name it .csv or .tsv")
        records = iter(read_records(molecules, column, name, blanks=True))
        first = list(islice(records, CHUNK))
        if not first:
            raise UserError(f"file '{molecules}' has no molecules")
        store.keep(scoring.settings.components)
        with _gone_on_with(store):
            done = _write(scoring, first, records, Path(molecules), out, progress, notes)
            if done.failed and store.used:
                done.kept = store.path
            else:
                store.discard()
        return done


@contextmanager
def _gone_on_with(store: KeptStore) -> Iterator[None]:
    """Say with what ends the block that nothing which was computed is lost."""
    hint = f"what was computed is kept in '{store.path}', and the same command goes on from there"
    try:
        with sigterm_as_ctrl_c():
            yield
    except (KeyboardInterrupt, Interrupted):
        raise Interrupted(f"interrupted; {hint}" if store.used else "interrupted") from None
    except ChemmaraError as error:
        if not store.used:
            raise
        kind = RunError if store.wrote else type(error)  # where something is written it is no mere UserError
        raise kind(f"{error}; {hint}") from None
    finally:
        store.close()


@contextmanager
def scoring_of(
    config: str | Path | Mapping[str, Any], store: EvaluationStore | None = None
) -> Iterator[ScoringFunction]:
    """The score of a config, run as its [execution] and [failure] have it. Raises :class:`ConfigError`."""
    table = dict(config) if isinstance(config, Mapping) else read_table(config)
    check_keys(table)
    if "scoring" not in table:
        name = "config" if isinstance(config, Mapping) else f"config file '{config}'"
        raise ConfigError(f"{name} has no [scoring] table")
    folder = Path(".") if isinstance(config, Mapping) else Path(config).parent
    settings = ScoringSettings.parse(table["scoring"], folder=folder)
    execution = check(ExecutionSettings, table.get("execution", {}), "execution")
    check_execution(execution)
    check_workers_know(settings, execution)
    failure = check(FailureSettings, table.get("failure", {}), "failure")
    executor = make_executor(executor_table(execution))
    try:
        store = RecentStore() if store is None else store
        yield ScoringFunction(settings, executor, store, execution.chunk, failure.retry, failure.on_failure)
    finally:
        if executor is not None:
            executor.close()


def note(component: ComponentSettings, molecule: Molecule) -> str:
    """What a component has to say of a molecule beside its value; a note is never worth an error."""
    try:
        with quiet():
            return work.component(component.spec).note(molecule)
    except Exception:
        return ""


def has_notes(component: ComponentSettings) -> bool:
    """Whether a component ever says anything beside its values."""
    return type(work.component(component.spec)).note is not Component.note


def _write(
    scoring: ScoringFunction,
    first: list[Record],
    rest: Iterator[Record],
    source: Path,
    out: Path,
    progress: Callable[[int], None],
    notes: bool,
) -> Scored:
    done = Scored()
    labels = [column for label in scoring.labels for column in (label, f"{label}_score")]
    noted = [component for component in scoring.settings.components if has_notes(component)] if notes else []
    note_labels = [f"{component.label}_note" for component in noted]
    if taken := {name.lower() for name in labels} & {name.lower() for name in note_labels}:
        raise UserError(f"--notes: the column '{min(taken)}' is a component's own; give it another label")
    with replacing_text(out) as stream:
        stream.write(",".join(map(quote, ["SMILES", "name", *labels, *note_labels, "score", "error"])) + "\n")
        chunk, reason = first, ""
        while chunk:
            scores = scoring([record.smiles for record in chunk])
            stream.writelines(_rows(chunk, scores, noted))
            done.rows += len(chunk)
            done.invalid += int((~scores.valid).sum())
            done.failed += int(scores.failed.sum())
            reason = reason or next((error for error in scores.errors if error), "")
            progress(len(chunk))
            chunk = list(islice(rest, CHUNK))
        if done.invalid == done.rows:
            raise UserError(f"file '{source}' has no molecules: line {first[0].line} is {reason}")
    return done


def _rows(chunk: Sequence[Record], scores: Scores, noted: Sequence[ComponentSettings]) -> Iterator[str]:
    for row, record in enumerate(chunk):
        values = [
            float(column[row]) for label in scores.raw for column in (scores.raw[label], scores.transformed[label])
        ]
        cells = [quote(record.smiles), quote(record.name), *map(number, values)]
        if noted:
            molecule = read(record.smiles).molecule
            cells += [quote(note(component, molecule)) if molecule else "" for component in noted]
        yield ",".join([*cells, number(float(scores.total[row])), quote(scores.errors[row] or "")]) + "\n"

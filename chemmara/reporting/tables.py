"""Tables of molecules: our own molecules.csv, read exactly as written, and anybody's with SMILES and a score."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from chemmara.chemistry.files import NAME_COLUMNS, SMILES_COLUMNS, decimal, find_column, refuse_workbook, table_rows
from chemmara.chemistry.molecules import read
from chemmara.chemistry.text import open_text
from chemmara.errors import UserError
from chemmara.scoring.rows import SAMPLED, RunRow

if TYPE_CHECKING:
    from chemmara.reporting.runs import Run

BEFORE_LABELS = ("SMILES", "InChIKey", "name", "step", "score")
AFTER_LABELS = (
    *("scaffold", "valid", "error", "method", "seed", "sampled", "agent_log_prob", "prior_log_prob", "origin"),
)  # fmt: skip
_AFTER_BEFORE = AFTER_LABELS[:-1]  # of a version that did not say where a row comes from
SCORE_COLUMNS = ("score", "total_score", "total", "reward")
_SEED_IN_NAME = re.compile(r"(.*?)[-_. ]?seed[-_ ]?(\d+)", re.IGNORECASE)
_PLACE_IN_NAME = re.compile(r"-(\d+)-(\d+)$")


def columns(labels: Sequence[str]) -> list[str]:
    """The columns of molecules.csv for components with these labels."""
    return [*BEFORE_LABELS, *(c for label in labels for c in (label, f"{label}_score")), *AFTER_LABELS]


def _after_labels(header: Sequence[str]) -> tuple[str, ...]:
    """The last columns of a molecules.csv, of this version or of one before; () for another table."""
    if header[: len(BEFORE_LABELS)] == list(BEFORE_LABELS):
        for labels in (AFTER_LABELS, _AFTER_BEFORE):
            if header[-len(labels) :] == list(labels):
                return labels
    return ()


def quote(text: str) -> str:
    """A cell of a CSV file. Unlike Python's own writer on 3.11, a lone carriage return is quoted too."""
    if any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def number(value: float) -> str:
    """The shortest text that reads back as the same number; blank for NaN."""
    return "" if math.isnan(value) else repr(float(value))


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    """The text of a table, with the errors of reading it (also inside the block) as :class:`UserError`."""
    refuse_workbook(path)
    try:
        # Surrogates: whatever the export has written comes back as it was.
        with open_text(path, errors="chemmara.surrogates") as stream:
            yield stream
    except FileNotFoundError:
        raise UserError(f"file '{path}' does not exist") from None
    except (csv.Error, EOFError) as error:
        raise UserError(f"file '{path}' is not a proper table: {error}") from None
    except OSError as error:
        raise UserError(f"file '{path}' cannot be read: {error.strerror or error}") from None


def _records(path: Path) -> Iterator[list[str]]:
    """The header and the rows, as cells."""
    with _opened(path) as stream:
        yield from table_rows(stream, path)


def delimiter_of(path: Path) -> str:
    """What parts the columns of a table."""
    with _opened(path) as stream:
        return str(table_rows(stream, path).delimiter)


def header_of(path: Path) -> list[str]:
    """The column names of a table, [] for an empty file."""
    return next(_records(path), [])


def is_ours(header: Sequence[str]) -> bool:
    """Whether a table is a molecules.csv of chemmara, whose SMILES are canonical already."""
    return bool(_after_labels(header))


def labels_of(path: Path) -> tuple[str, ...]:
    """The component labels in the header of a molecules.csv or of a table of `chemmara score`, () for another."""
    header = header_of(path)
    after = _after_labels(header)
    return tuple(header[len(BEFORE_LABELS) : -len(after)][::2]) if after else tuple(_scored_labels(header))


def _scored_labels(header: Sequence[str]) -> dict[str, int]:
    """The labels in a table of `chemmara score`, each with the place of its raw value, the score's beside it."""
    if list(header[:2]) != ["SMILES", "name"] or list(header[-2:]) != ["score", "error"]:
        return {}
    places = range(2, len(header) - 3, 2)
    return {header[at]: at for at in takewhile(lambda at: header[at + 1] == f"{header[at]}_score", places)}


def runs_of_table(path: Path, make: Callable[..., Run]) -> list[Run]:
    """The runs in a table: one for each pair in the columns method and seed of ours, else one named after the file.

    Raises :class:`UserError` with the columns found if one of SMILES or of scores is missing.
    """
    header = header_of(path)
    labels = labels_of(path)
    if is_ours(header):
        at = header.index("method"), header.index("seed")
        pairs = dict.fromkeys((row[at[0]], row[at[1]]) for row in list_rows(path))
        return [
            make(m, int(s) if s else None, labels, None, path, None, partial(read_rows, path, (m, s))) for m, s in pairs
        ]
    _find_columns(path, header)
    stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    match = _SEED_IN_NAME.fullmatch(stem)
    method, seed = (match[1] or path.resolve().parent.name, int(match[2])) if match else (stem, None)
    return [make(method, seed, labels, None, path, None, partial(read_rows, path))]


def list_rows(path: Path) -> Iterator[list[str]]:
    """The rows below the header. Missing cells at the end of a row are blank, except in our own tables: a
    :class:`UserError`, because the file was cut."""
    records = _records(path)
    header = next(records, [])
    for line, cells in enumerate(records, 2):
        if not any(map(str.strip, cells)):
            continue  # an empty line is no row
        if len(cells) < len(header) and is_ours(header):
            raise UserError(f"file '{path}', row {line}: {len(cells)} cells for {len(header)} columns")
        yield cells + [""] * (len(header) - len(cells))


def read_rows(path: Path, only: tuple[str, str] | None = None) -> Iterator[RunRow]:
    """The rows of a table in order, none left out: what is no molecule is a row with ``valid`` false and a reason.

    ``only`` is a (method, seed) of our own columns. A foreign table's SMILES are parsed and made canonical.
    """
    header = header_of(path)
    if is_ours(header):
        yield from _own_rows(path, header, only)
        return
    smiles_at, score_at, step_at = _find_columns(path, header)
    delimiter = delimiter_of(path)
    name_at, labels = find_column(header, NAME_COLUMNS), _scored_labels(header)
    refused, scored = "", False
    for index, cells in enumerate(list_rows(path)):
        score, step = decimal(cells[score_at], delimiter), cells[step_at] if step_at is not None else ""
        score = score if math.isfinite(score) else math.nan
        scored = scored or not math.isnan(score)
        refused = refused or (cells[score_at] if math.isnan(score) and not _blank(cells[score_at]) else "")
        row = _foreign_row(index, cells[smiles_at], cells[score_at], score, step)
        row = row if name_at is None else replace(row, name=cells[name_at].strip())
        yield _with_components(row, cells[: len(header)], labels) if labels else row
    if not scored and refused:
        raise UserError(
            f"table '{path}' has no number in the column '{header[score_at].strip()}', but such as '{refused[:40]}'; "
            "write decimals with a point"
        )


def _find_columns(path: Path, header: list[str]) -> tuple[int, int, int | None]:
    smiles, score = find_column(header, SMILES_COLUMNS), find_column(header, SCORE_COLUMNS)
    if smiles is None or score is None:
        missing = " and ".join(n for n, at in (("SMILES", smiles), ("score", score)) if at is None)
        found = ", ".join(header)[:300] or "none, the file is empty"
        raise UserError(f"table '{path}' has no column {missing}; its columns are: {found}")
    return smiles, score, find_column(header, ("step",))


def _blank(score: str) -> bool:
    """Whether a cell says that there is no score."""
    return score.strip().lower() in ("", "nan", "none", "na", "n/a")


def _foreign_row(index: int, sampled: str, score: str, value: float, step: str) -> RunRow:
    molecule, error = read(sampled.strip())
    if molecule is not None and math.isnan(value) and not _blank(score):
        error = f"score '{score[:40]}' is not a number"
    return RunRow(
        step=int(_number(step)) if math.isfinite(_number(step)) else 0,
        index=index,
        smiles=molecule.smiles if molecule else sampled,
        sampled=sampled,
        valid=molecule is not None,
        score=value if molecule else math.nan,
        raw={},
        transformed={},
        scaffold=molecule.scaffold if molecule else "",
        error=error,
        agent_log_prob=math.nan,
        prior_log_prob=math.nan,
    )


def _with_components(row: RunRow, cells: Sequence[str], labels: Mapping[str, int]) -> RunRow:
    """A row of a table of `chemmara score`, whose last column says why there is no score."""
    raw, transformed = ({label: _number(cells[at + n]) for label, at in labels.items()} for n in (0, 1))
    return replace(row, raw=raw, transformed=transformed, error=row.error or cells[-1] or None)


def _own_rows(path: Path, header: list[str], only: tuple[str, str] | None) -> Iterator[RunRow]:
    after_labels = _after_labels(header)
    count = (len(header) - len(BEFORE_LABELS) - len(after_labels)) // 2
    labels = header[len(BEFORE_LABELS) :: 2][:count]
    number_of = partial(decimal, delimiter=delimiter_of(path))  # a spreadsheet may have saved it
    for cells in list_rows(path):
        before = cells[: len(BEFORE_LABELS)]
        values = [number_of(cell) for cell in cells[len(before) : len(before) + 2 * count]]
        after = dict(zip(after_labels, cells[len(before) + 2 * count :], strict=False))
        if only is not None and (after["method"], after["seed"]) != only:
            continue
        place = _PLACE_IN_NAME.search(before[2])
        yield RunRow(
            step=int(before[3]),
            index=int(place[2]) if place else 0,
            smiles=before[0],
            sampled=after["sampled"],
            valid=_is_true(after["valid"], before[0]),
            score=number_of(before[4]),
            raw=dict(zip(labels, values[::2])),
            transformed=dict(zip(labels, values[1::2])),
            scaffold=after["scaffold"],
            error=after["error"] or None,
            agent_log_prob=number_of(after["agent_log_prob"]),
            prior_log_prob=number_of(after["prior_log_prob"]),
            origin=after.get("origin", SAMPLED),
            name=before[2],
        )


def _is_true(cell: str, smiles: str) -> bool:
    """What a cell of the column ``valid`` says: a spreadsheet writes it as its language has it, TRUE or WAHR."""
    word = cell.strip().lower()
    return word == "true" or (word != "false" and read(smiles).molecule is not None)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan

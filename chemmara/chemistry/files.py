"""Reading files of molecules line by line: .smi, .csv, .tsv (each also .gz) and .sdf."""

from __future__ import annotations

import csv
import gzip
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

from chemmara.chemistry.text import MARKS, open_text
from chemmara.errors import UserError

SMILES_COLUMNS = ("smiles", "canonical_smiles", "smi", "structure", "canonicalsmiles")
NAME_COLUMNS = ("name", "id", "title", "compound_id", "molecule_id", "inchikey")


class Record(NamedTuple):
    """One molecule of a file: its SMILES as written, a name (may be empty) and the line it begins on (from 1).

    A record of an .sdf that RDKit cannot read has an empty SMILES.
    """

    smiles: str
    name: str
    line: int


def read_records(path: str | Path, column: str | None = None) -> Iterator[Record]:
    """The molecules of a file in order, blank lines left out, without holding the file in memory.

    Raises :class:`UserError` if the file cannot be read, or a table has no column of SMILES. Nothing is parsed: a line
    that is no molecule is the caller's to report, with its number.
    """
    path = Path(path)
    suffix = _suffix(path)
    refuse_workbook(path)
    readers = {"csv": _read_table, "tsv": _read_table, "sdf": _read_sdf}
    try:
        yield from readers.get(suffix, _read_smi)(path, column)
    except FileNotFoundError:
        raise UserError(f"file '{path}' does not exist") from None
    except IsADirectoryError:
        raise UserError(f"'{path}' is a directory, not a file of molecules") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"file '{path}' is damaged: {error}") from None
    except OSError as error:
        raise UserError(f"file '{path}' cannot be read: {error.strerror or error}") from None
    except csv.Error as error:
        raise UserError(f"file '{path}' is not a proper table: {error}") from None


def refuse_workbook(path: Path) -> None:
    """Raise :class:`UserError` for a spreadsheet program's own file, or another that is no text. One that cannot be
    read is others' to report."""
    if not os.path.isfile(path):  # what is read from a pipe is gone
        return
    try:
        with open(path, "rb") as stream:
            start = stream.read(1024)
    except OSError:
        return
    if start.startswith(b"PK\x03\x04"):
        raise UserError(f"file '{path}' is an Excel workbook (or a zip archive), not text; save it as CSV")
    if b"\0" in start and not (start.startswith(MARKS) or path.name.lower().endswith(".gz")):
        raise UserError(f"file '{path}' is not text; save it as CSV")


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return name.rpartition(".")[2] if "." in name else ""


def _read_smi(path: Path, column: str | None) -> Iterator[Record]:
    with open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            smiles, _, name = line.strip().replace("\t", " ").partition(" ")
            if not smiles or (number == 1 and smiles.lower() in SMILES_COLUMNS):
                continue
            yield Record(smiles, name.strip(), number)


def _read_table(path: Path, column: str | None) -> Iterator[Record]:
    with open_text(path) as stream:
        rows = table_rows(stream, path, (column.lower(),) if column else SMILES_COLUMNS)
        header = next(rows, None)
        if header is None:
            return
        smiles_at = _find_column(path, header, column)
        lowered = [cell.strip().lower() for cell in header]
        name_at = next((lowered.index(name) for name in NAME_COLUMNS if name in lowered), None)
        begins = rows.line_num + 1
        while (row := _next_row(path, rows, begins)) is not None:
            begins = rows.line_num + 1
            smiles = row[smiles_at].strip() if len(row) > smiles_at else ""
            if smiles:
                name = row[name_at].strip() if name_at is not None and len(row) > name_at else ""
                yield Record(smiles, name, rows.line_num)


class TableRows:
    """The rows of a table as cells. Raises csv.Error where a quotation mark that is not closed, or closed within a
    text, has taken the lines that follow into one cell: the molecules on them would be lost."""

    def __init__(self, lines: Iterable[str], delimiter: str) -> None:
        self.delimiter = delimiter
        self._taken: list[str] = []
        self._ended = False
        self._reader = csv.reader(self._taking(lines), delimiter=delimiter)

    def _taking(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self._taken.append(line)
            yield line
        self._ended = True

    @property
    def line_num(self) -> int:
        """The line that the last row ends on, from 1."""
        return self._reader.line_num

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        self._taken.clear()
        row = next(self._reader)
        # A row of several lines, or one that was not at its end when the file was: where a text has line breaks, all
        # its marks are in order.
        if len(self._taken) > 1 or (self._ended and self._taken):
            list(csv.reader(self._taken, delimiter=self.delimiter, strict=True))
        return row


def table_rows(stream: IO[str], path: Path, wanted: Sequence[str] = SMILES_COLUMNS) -> TableRows:
    """The rows of a table, its header included.

    The columns of .tsv are parted by tabs, those of others by whatever of comma, semicolon (as spreadsheets write them
    where the comma is the decimal sign) and tab gives a column of one of the names ``wanted``, in lower case.
    """
    first = stream.readline()
    part = next((part for part in ",;\t" if _has_column(first, part, wanted)), ",")
    return TableRows(chain([first] if first else [], stream), "\t" if _suffix(path) == "tsv" else part)


def _has_column(header: str, delimiter: str, wanted: Sequence[str]) -> bool:
    cells = next(csv.reader([header], delimiter=delimiter), [])
    return any(cell.strip().lower() in wanted for cell in cells)


def decimal(text: str, delimiter: str) -> float:
    """The number of a cell; NaN for what is none. Where semicolons part the columns a comma may part the decimals.

    >>> decimal("0.5", ","), decimal("0,5", ";"), decimal("0,5", ",")
    (0.5, 0.5, nan)
    """
    try:
        return float(text.replace(",", ".") if delimiter == ";" else text)
    except ValueError:
        return math.nan


def _next_row(path: Path, rows: TableRows, begins: int) -> list[str] | None:
    try:
        return next(rows, None)
    except csv.Error as error:
        raise UserError(
            f"file '{path}' is not a proper table: {error} in the row that begins on line {begins}; close each "
            "quotation mark, and double one that is part of a text"
        ) from None


def _find_column(path: Path, header: list[str], column: str | None) -> int:
    lowered = [cell.strip().lower() for cell in header]
    for wanted in (column.lower(),) if column else SMILES_COLUMNS:
        if wanted in lowered:
            return lowered.index(wanted)
    wanted = column or "SMILES"
    raise UserError(f"table '{path}' has no column '{wanted}'; its columns are: {', '.join(header)[:300]}")


def _read_sdf(path: Path, column: str | None) -> Iterator[Record]:
    # RDKit's own supplier reads on past the end of a damaged record and takes the next molecule with it.
    for number, lines in _sdf_blocks(path):
        yield Record(_smiles_of("".join(lines)), lines[0].strip(), number)


def _sdf_blocks(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The records of an .sdf, each with the line that it begins on."""
    lines: list[str] = []
    number = 0
    with open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            if line.startswith("$$$$"):
                yield number - len(lines), lines or ["\n"]
                lines = []
            else:
                lines.append(line.rstrip("\r\n") + "\n")
    if any(line.strip() for line in lines):
        yield number - len(lines) + 1, lines


def _smiles_of(block: str) -> str:
    from rdkit import Chem

    from chemmara.chemistry.molecules import quiet

    with quiet():
        try:
            mol = Chem.MolFromMolBlock(block)
            return str(Chem.MolToSmiles(mol)) if mol is not None else ""
        except Exception:  # RDKit raises many kinds; one damaged record must not end the file
            return ""

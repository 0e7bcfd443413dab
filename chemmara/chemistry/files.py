"""Reading files of molecules line by line: .smi, .csv, .tsv, .txt (each also .gz) and .sdf."""

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

SMILES_COLUMNS = ("smiles", "canonical_smiles", "isomeric_smiles", "smi", "structure")
# ChEMBL's tables have names of a few molecules only, but every identifier.
NAME_COLUMNS = (
    *("name", "id", "title", "compound_id", "molecule_id", "molecule_chembl_id", "chembl_id", "cpd_id"),
    *("compound_name", "molecule_name", "compound", "cpd", "inchikey"),
)
DELIMITERS = ",;\t"


class Record(NamedTuple):
    """One molecule of a file: its SMILES as written, a name (may be empty) and the line it begins on (from 1).

    A record of an .sdf that RDKit cannot read has an empty SMILES, and so has a row of a table without one.
    """

    smiles: str
    name: str
    line: int


def read_records(
    path: str | Path, column: str | None = None, name: str | None = None, *, blanks: bool = False
) -> Iterator[Record]:
    """The molecules of a file in order, blank lines left out, without holding the file in memory.

    ``column`` and ``name`` are the columns of SMILES and names in a table, found by their usual titles if None. Rows of
    a table without a SMILES are left out unless ``blanks``. A text of another suffix whose first line is the header of
    a table is one. Raises :class:`UserError` if the file cannot be read, or a table has no column of SMILES. Nothing is
    parsed: a line that is no molecule is the caller's to report, with its number.
    """
    path = Path(path)
    refuse_workbook(path)
    try:
        if _suffix(path) in ("sdf", "sd"):
            yield from _read_sdf(path)
            return
        with open_text(path) as stream:
            first = stream.readline()
            if _suffix(path) in ("csv", "tsv") or (_suffix(path) != "smi" and _is_header(first, _titles(column))):
                rows = table_rows(stream, path, _titles(column), first)
                yield from (record for record in _table(rows, path, column, name) if record.smiles or blanks)
            else:
                yield from _smi(chain([first], stream))
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


def is_list(path: Path) -> bool:
    """Whether a file is one of molecules without columns, by its name."""
    return _suffix(path) in ("smi", "sdf", "sd")


def refuse_workbook(path: Path) -> None:
    """Raise :class:`UserError` for a spreadsheet program's own file, or another that is no text. One that cannot be
    read is others' to report."""
    if not os.path.isfile(path):  # what is read from a pipe is gone
        return
    try:
        with open(path, "rb") as stream:
            start = stream.read(16)  # further on an odd text of our own molecules.csv may hold anything
    except OSError:
        return
    if start.startswith(b"PK\x03\x04"):
        raise UserError(f"file '{path}' is an Excel workbook (or a zip archive), not text; save it as CSV")
    if b"\0" in start and not (start.startswith(MARKS) or path.name.lower().endswith(".gz")):
        raise UserError(f"file '{path}' is not text; save it as CSV")


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return name.rpartition(".")[2] if "." in name else ""


def _smi(lines: Iterable[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        smiles, _, name = line.strip().replace("\t", " ").partition(" ")
        if smiles and not (number == 1 and find_column([smiles], SMILES_COLUMNS) is not None):
            yield Record(smiles, name.strip(), number)


def _table(rows: TableRows, path: Path, column: str | None, name: str | None) -> Iterator[Record]:
    header = next(rows, None)
    if header is None:
        return
    smiles_at = _column(path, header, column or "SMILES", _titles(column))
    name_at = find_column(header, NAME_COLUMNS) if name is None else _column(path, header, name, (name,))
    begins = rows.line_num + 1
    while (row := _next_row(path, rows, begins)) is not None:
        begins = rows.line_num + 1
        if (smiles_at < len(row) and row[smiles_at]) or any(map(str.strip, row)):
            smiles = row[smiles_at].strip() if len(row) > smiles_at else ""
            yield Record(
                smiles, row[name_at].strip() if name_at is not None and len(row) > name_at else "", rows.line_num
            )


def _titles(column: str | None) -> Sequence[str]:
    return SMILES_COLUMNS if column is None else (column,)


def find_column(header: Sequence[str], titles: Iterable[str]) -> int | None:
    """Where the first of ``titles`` that a header has stands in it; case, spaces, hyphens and underscores are ignored.

    >>> find_column(["Molecule ChEMBL ID", "Canonical SMILES"], ("smiles", "canonical_smiles"))
    1
    """
    plain = [_plain(cell) for cell in header]
    return next((plain.index(_plain(title)) for title in titles if _plain(title) in plain), None)


def _plain(title: str) -> str:
    return "".join(character for character in title.lower() if character not in " _-\t\r\n")


class TableRows:
    """The rows of a table as cells. Raises csv.Error where a quotation mark that is not closed, or closed within a
    text, has taken the lines that follow into one cell: the molecules on them would be lost."""

    def __init__(self, lines: Iterable[str], delimiter: str, skipped: int = 0) -> None:
        self.delimiter = delimiter
        self._skipped = skipped
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
        return self._reader.line_num + self._skipped

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


def table_rows(
    stream: IO[str], path: Path, wanted: Sequence[str] = SMILES_COLUMNS, first: str | None = None
) -> TableRows:
    """The rows of a table, its header included. ``first`` is the first line, where it has been read.

    The columns of .tsv are parted by tabs, those of others by whatever of comma, semicolon (as spreadsheets write them
    where the comma is the decimal sign) and tab gives a column of one of the titles ``wanted``, else the most columns.
    A first line ``sep=;``, by which Excel is told the sign, is no row.
    """
    first = stream.readline() if first is None else first
    told = first.strip('\r\n"')
    if len(told) == 5 and told.lower().startswith("sep="):
        return TableRows(stream, told[4], skipped=1)
    best = max(DELIMITERS, key=lambda part: (find_column(_cells(first, part), wanted) is not None, first.count(part)))
    return TableRows(chain([first] if first else [], stream), "\t" if _suffix(path) == "tsv" else best)


def _cells(header: str, delimiter: str) -> list[str]:
    return next(csv.reader([header], delimiter=delimiter), [])


def _is_header(line: str, wanted: Sequence[str]) -> bool:
    """Whether a line is the header of a table of several columns, one of them of the titles ``wanted``."""
    try:
        rows = [_cells(line, part) for part in DELIMITERS]
    except csv.Error:  # a field too long for a title
        return False
    return any(len(cells) > 1 and find_column(cells, wanted) is not None for cells in rows)


def decimal(text: str, delimiter: str) -> float:
    """The number of a cell; NaN for what is none. A comma may part the decimals where it parts no columns.

    >>> decimal("0.5", ","), decimal("0,5", ";"), decimal("0,5", ",")
    (0.5, 0.5, nan)
    """
    try:
        return float(text.replace(",", ".") if delimiter in ";\t" else text)
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


def _column(path: Path, header: list[str], name: str, titles: Sequence[str]) -> int:
    at = find_column(header, titles)
    if at is None:
        raise UserError(f"table '{path}' has no column '{name}'; its columns are: {', '.join(header)[:300]}")
    return at


def _read_sdf(path: Path) -> Iterator[Record]:
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

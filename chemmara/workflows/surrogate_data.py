"""The molecules and values that a surrogate learns from: columns found by name, odd rows counted and left out."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chemmara.chemistry.files import NAME_COLUMNS, SMILES_COLUMNS, decimal, find_column, refuse_workbook, table_rows
from chemmara.chemistry.fingerprints import FingerprintName, function
from chemmara.chemistry.molecules import read
from chemmara.chemistry.text import open_text
from chemmara.errors import UserError, nearest
from chemmara.scoring.forests import features
from chemmara.wording import counted

Task = Literal["classification", "regression"]
VALUE_COLUMNS = (
    *("label", "value", "activity", "active", "y", "target", "score", "docking_score", "affinity", "pic50", "pki"),
    "pchembl_value",
)
_LEAST = 20  # molecules below which a model is no model


class _Molecule(NamedTuple):
    row: NDArray[np.uint8]
    scaffold: str
    numbers: list[float]


@dataclass
class Data:
    """Distinct molecules: fingerprint rows (n, size), values (n,), scaffolds, and the part that each belongs to.

    ``unread`` values are text that is no number, as ``example`` is.
    """

    rows: NDArray[np.uint8]
    values: NDArray[np.float64]
    scaffolds: list[str]
    parts: NDArray[np.str_]
    task: Task
    columns: dict[str, str]
    left_out: dict[str, int] = field(default_factory=dict)
    unread: int = 0
    example: str = ""

    def part(self, name: str) -> NDArray[np.int64]:
        """The places of one part."""
        return np.flatnonzero(self.parts == name)


def read_surrogate_data(
    path: str | Path,
    *,
    smiles: str | None = None,
    value: str | None = None,
    split: str | None = None,
    task: Task | None = None,
    fingerprint: FingerprintName = "ecfp4",
    size: int = 2048,
) -> Data:
    """Read a CSV or TSV (also .gz). Columns that are not named are found by their usual names.

    A column ``split`` has the words train and test; without one everything is to train on. Rows without a molecule or
    without a number are left out and counted; of a molecule that comes repeatedly in one part the mean is taken. The
    task is classification where all values are 0 or 1. Raises :class:`UserError`.
    """
    header, table, delimiter, ragged = _table(Path(path), smiles)
    _refuse_several_oracles(path, header, table)
    columns = _columns(path, header, table, {"smiles": smiles, "value": value, "split": split}, delimiter)
    at = {kind: header.index(name) for kind, name in columns.items()}
    make = function(fingerprint, size=size, folded_counts=True)
    found: dict[tuple[str, str], _Molecule] = {}
    left_out: Counter[str] = Counter({"of more cells than the header has": ragged})
    unread: list[str] = []
    for line in table:
        part = line[at["split"]].strip().lower() if "split" in at else "train"
        number = _number(line[at["value"]], delimiter)
        unread += [line[at["value"]].strip()] if number is None and not _blank(line[at["value"]]) else []
        molecule = read(line[at["smiles"]].strip()).molecule
        reason = (
            "not a molecule" if molecule is None
            else "without a number" if number is None
            else f"in neither train nor test ('{part}')" if part not in ("train", "test") else None
        )  # fmt: skip
        if reason or molecule is None or number is None:
            left_out[str(reason)] += 1
            continue
        key = part, molecule.smiles
        if key not in found:
            row = features(make(molecule.mol), size, counts=True)
            found[key] = _Molecule(row, molecule.scaffold or molecule.smiles, [])  # acyclic: a scaffold of its own
        left_out["repeated (the mean is taken)"] += bool(found[key].numbers)
        found[key].numbers.append(number)
    values = np.array([float(np.mean(molecule.numbers)) for molecule in found.values()])
    # Of the numbers as they stand in the file: repeats that contradict one another have a mean in between.
    labels = all(number in (0.0, 1.0) for molecule in found.values() for number in molecule.numbers)
    data = Data(
        rows=np.array([molecule.row for molecule in found.values()], dtype=np.uint8).reshape(-1, size),
        values=values,
        scaffolds=[molecule.scaffold for molecule in found.values()],
        parts=np.array([part for part, _ in found], dtype=str),
        task=task or ("classification" if labels else "regression"),
        columns=columns,
        left_out={reason: number for reason, number in left_out.items() if number},
        unread=len(unread),
        example=unread[0][:40] if unread else "",
    )
    return _checked(data, path, task)


def _checked(data: Data, path: str | Path, task: Task | None) -> Data:
    train = data.values[data.part("train")]
    if len(train) < _LEAST:
        reasons = "; ".join(f"{number:,} {reason}" for reason, number in data.left_out.items())
        example = f", such as '{data.example}'" if data.example else ""
        raise UserError(
            f"file '{path}' has {counted(len(train), 'molecule')} with a number in '{data.columns['value']}' to train "
            f"on; at least {_LEAST} are needed" + (f" (rows left out: {reasons}{example})" if reasons else "")
        )
    if data.task == "classification":
        if task and ((data.values < 0) | (data.values > 1)).any():
            raise UserError(f"file '{path}': a classification needs values of 0 and 1 in '{data.columns['value']}'")
        data.values = (data.values > 0.5).astype(float)  # repeats that contradict one another: the majority
        train = data.values[data.part("train")]
    if len(set(train.tolist())) < 2:
        raise UserError(
            f"file '{path}': all values in '{data.columns['value']}' are {train[0]:g}; nothing can be learned"
        )
    return data


def _table(path: Path, smiles: str | None) -> tuple[list[str], list[list[str]], str, int]:
    """Header, rows filled up to its length, what parts the columns, and how many rows had more of them."""
    refuse_workbook(path)
    try:
        with open_text(path) as stream:
            rows = table_rows(stream, path, (smiles,) if smiles else SMILES_COLUMNS)
            header = [cell.strip() for cell in next(rows, [])]
            n = len(header)
            table = [row + [""] * (n - len(row)) for row in rows if any(map(str.strip, row))]
            kept = [row[:n] for row in table if not any(map(str.strip, row[n:]))]
            return header, kept, str(rows.delimiter), len(table) - len(kept)
    except FileNotFoundError:
        raise UserError(f"file '{path}' does not exist") from None
    except (OSError, EOFError, csv.Error) as error:
        raise UserError(f"file '{path}' cannot be read as a table: {error}") from None


def _refuse_several_oracles(path: str | Path, header: list[str], table: Sequence[list[str]]) -> None:
    """Raise :class:`UserError` for values of several components, as a ledger's export has them: their mean means
    nothing. A column with another text in most rows names molecules instead."""
    if not {"key", "component"} <= {name.lower() for name in header}:
        return
    for at, name in enumerate(header):
        if name.lower() in ("key", "component"):
            found = Counter(row[at].strip() for row in table)
            if 1 < len(found) <= len(table) / 2:
                shown = ", ".join(
                    f"{value[:12] or 'blank'} ({counted(number, 'row')})" for value, number in found.most_common(5)
                )
                raise UserError(
                    f"file '{path}' has the values of {len(found)} components in its column '{name}': {shown}; train "
                    "on the rows of one of them: `chemmara ledger export` writes those by --component"
                )


def _columns(
    path: str | Path, header: list[str], table: Sequence[list[str]], given: dict[str, str | None], delimiter: str
) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for kind, name in given.items():
        if name is None:
            continue
        at = header.index(name) if name in header else find_column(header, (name,))
        if at is None:
            raise UserError(f"--{kind}: file '{path}' has no column '{name}'{nearest(name, header)}")
        chosen[kind] = header[at]
    usual = {"smiles": SMILES_COLUMNS, "value": VALUE_COLUMNS, "split": ("split",)}
    for kind, names in usual.items():
        there = [header[at] for name in names if (at := find_column(header, (name,))) is not None]
        if kind == "value":  # "Target" may as well be the name of a protein
            there = [name for name in there if _like_numbers(header.index(name), table)]
        found = next(iter(there), None)
        if kind not in chosen and found is not None and found not in chosen.values():
            chosen[kind] = found
    if "value" not in chosen:
        taken = {
            *chosen.values(),
            *(header[at] for name in NAME_COLUMNS if (at := find_column(header, (name,))) is not None),
        }
        numeric = [name for name in header if name not in taken and _numeric(header.index(name), table, delimiter)]
        if len(numeric) == 1:
            chosen["value"] = numeric[0]
    for kind in ("smiles", "value"):
        if kind not in chosen:
            shown = ", ".join(header)[:300] or "none"
            raise UserError(f"file '{path}': which column is the {kind}? Say it by --{kind}; its columns are: {shown}")
    return chosen


def _numeric(at: int, table: Sequence[list[str]], delimiter: str) -> bool:
    numbers = [_number(row[at], delimiter) for row in table[:100]]
    return sum(number is not None for number in numbers) > len(numbers) / 2


def _like_numbers(at: int, table: Sequence[list[str]]) -> bool:
    """Whether most cells that are not blank would be numbers to a person, "<5.3" and "0,5" among them."""
    cells = list(islice((row[at].strip() for row in table if not _blank(row[at])), 100))
    return not cells or sum(_number(cell.lstrip("<>=~ "), ";") is not None for cell in cells) > len(cells) / 2


def _blank(cell: str) -> bool:
    """Whether a cell says that there is no value."""
    return cell.strip().lower() in ("", "nan", "none", "na", "n/a")


def _number(text: str, delimiter: str) -> float | None:
    words = {"active": 1.0, "inactive": 0.0, "true": 1.0, "false": 0.0}
    number = words.get(text.strip().lower(), decimal(text, delimiter))
    return number if math.isfinite(number) else None

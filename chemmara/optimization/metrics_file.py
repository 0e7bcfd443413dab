"""metrics.csv, which grows by a row a step and is never left with half of one."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chemmara.errors import RunError
from chemmara.optimization.columns import COLUMNS, LOG, REFUSED
from chemmara.places import write_whole


class MetricsFile:
    """metrics.csv: a row a step, appended; on resume the rows past the checkpoint are cut off.

    A figure beyond COLUMNS gets a column of its own in the step that brings it; an objective logs what it likes.
    """

    def __init__(self, path: Path, keep_up_to: int) -> None:
        self.path = path
        self.columns = list(COLUMNS)
        rows = []
        if path.is_file() and keep_up_to > 0:
            text = path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]  # a full disk may have cut the last row, even within its step number
            reader = csv.DictReader(whole.splitlines())
            names = reader.fieldnames or ()
            self.columns += [n for n in names if n.startswith((LOG, REFUSED)) and n not in COLUMNS]
            rows = [row for row in reader if _step(row) <= keep_up_to]
        self._write(rows)

    def _write(self, rows: Sequence[Mapping[str, str]]) -> None:
        lines = [self.columns, *([row.get(name) or "" for name in self.columns] for row in rows)]
        write_whole(self.path, "".join(map(_line, lines)))

    def append(self, metrics: Mapping[str, float]) -> None:
        """One more row; NaN is blank. Raises :class:`RunError` if the disk refuses."""
        new = [name for name in metrics if name not in self.columns]
        self.columns += new
        cells = [_cell(metrics.get(name)) for name in self.columns]
        try:
            if new:
                with open(self.path, newline="", encoding="utf-8") as stream:
                    rows = list(csv.DictReader(stream))
                self._write(rows)
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(_line(cells))
                stream.flush()
                os.fsync(stream.fileno())  # the checkpoint, which says how many rows there are, is on the disk as well
        except OSError as error:
            raise RunError(f"'{self.path}' could not be written: {error.strerror}") from None


def _line(cells: Sequence[str]) -> str:
    """A line of CSV: the name of a log may have a comma."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def _step(row: Mapping[str, Any]) -> int:
    text = row.get("step") or ""
    return int(text) if text.isdigit() else sys.maxsize


def _cell(value: float | None) -> str:
    if value is None or value != value:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"

"""Opening text as other programs write it: UTF-8, UTF-16 with its byte order mark, or Windows' older code page."""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
Errors = Literal["chemmara.windows", "chemmara.surrogates"]


@contextmanager
def open_text(path: Path, errors: Errors = "chemmara.windows") -> Iterator[IO[str]]:
    """The lines of a file, .gz or not, their ends as they are. Raises what ``open`` and ``gzip.open`` do.

    A byte that is no UTF-8 is taken as Windows-1252, in which spreadsheet programs save CSV in much of Europe: names
    stay readable, and SMILES are ASCII in either. With ``chemmara.surrogates`` lone surrogates are read as such first.
    """
    packed = path.name.lower().endswith(".gz")
    with gzip.open(path, "rb") if packed else open(path, "rb") as raw:
        binary: Any = raw
        marked = binary.peek(2)[:2] in MARKS
        with io.TextIOWrapper(binary, "utf-16" if marked else "utf-8-sig", errors, newline="") as stream:
            yield stream


def _windows(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


def _surrogates(error: UnicodeError) -> tuple[str, int]:
    try:
        text, end = codecs.lookup_error("surrogatepass")(error)
    except UnicodeError:
        return _windows(error)
    return str(text), end


codecs.register_error("chemmara.windows", _windows)
codecs.register_error("chemmara.surrogates", _surrogates)

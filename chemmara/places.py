"""Places for results: whether there is one, asked before the work, and text put there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from chemmara.errors import RunError, UserError


def check_directory(out: str | Path) -> None:
    """Raise :class:`UserError` unless ``out`` is a directory to write in, or can be made. Nothing is written."""
    out = Path(out)
    nearest = next(folder for folder in (out, *out.parents) if folder.exists())
    if not nearest.is_dir():
        raise UserError(f"'{nearest}' is a file; choose a directory for the results")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"directory '{nearest}' is not writable")


def make_directory(out: str | Path) -> None:
    """Make a directory, and those above it. Raises :class:`UserError`."""
    check_directory(out)
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"directory '{out}' cannot be made: {error.strerror}") from None


def write_whole(path: Path, text: str) -> None:
    """Write a text file through a temporary one. Raises :class:`RunError` if the disk refuses."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"'{path}' could not be written: {error.strerror}") from None

"""Whether there is a place for results, asked before the work and not after it."""

from __future__ import annotations

import os
from pathlib import Path

from chemmara.errors import UserError


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

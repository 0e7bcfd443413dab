"""What the commands share in talking to the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160


def console() -> Console:
    """A console on the standard output; wider than a screen where nobody is looking, so that tables stay whole."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def columns(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in plain text, each column as wide as its widest cell. For commands that cannot wait for rich's."""
    import typer

    widths = [max(map(len, cells)) for cells in zip(head, *rows)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in (head, *rows)]
    lines[0] = typer.style(lines[0], bold=True)
    return "\n".join([title, *(f"  {line}" for line in lines), ""])


def counts(left_out: dict[str, int]) -> str:
    """What was left out, for the end of a sentence: ``; left out: 3 invalid, 1 repeated``."""
    parts = [f"{number:,} {reason}" for reason, number in left_out.items() if number]
    return f"; left out: {', '.join(parts)}" if parts else ""


def described(table: Mapping[str, object]) -> str:
    """A table ``{name, ...}`` of a config in short: ``sigmoid(low 2, high 5)``."""
    inner = ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in table.items()
        if key != "name"
    )
    return f"{table['name']}({inner})"

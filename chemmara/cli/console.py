"""What the commands share in talking to the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160


def console() -> Console:
    """A console on the standard output; wider than a screen where nobody is looking, so that tables stay whole."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def counts(left_out: dict[str, int]) -> str:
    """What was left out, for the end of a sentence: ``; left out: 3 invalid, 1 repeated``."""
    parts = [f"{number:,} {reason}" for reason, number in left_out.items() if number]
    return f"; left out: {', '.join(parts)}" if parts else ""

"""chemmara score: score a file of molecules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(score)


def score(
    config: Annotated[Path, typer.Argument(help="config file; only [scoring] is needed, [execution] is heeded")],
    molecules: Annotated[Path, typer.Argument(help=".smi, .csv, .tsv (also .gz) or .sdf file of any size")],
    out: Annotated[Path, typer.Option("-o", "--out", help=".csv file; an existing one is replaced")],
) -> None:
    """Score molecules, one row each, in the order of the file."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from chemmara.workflows.score import score_file

    columns = (TextColumn("{task.completed:,.0f} molecules scored"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None)
        done = score_file(config, molecules, out, progress=lambda rows: bar.advance(task, rows))
    failed = [f"{done.invalid:,} are no molecules"] if done.invalid else []
    failed += [f"{done.failed:,} could not be scored"] if done.failed else []
    note = f"; {' and '.join(failed)} (column error)" if failed else ""
    typer.echo(f"{done.rows:,} rows written to {out}{note}")

"""chemmara compare: methods against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(compare)


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="output directories, run directories, or any CSV of SMILES and scores"),
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="directory for compare.csv and compare.png")] = None,
    threshold: Annotated[
        list[float] | None, typer.Option(help="score of a hit; may be repeated [default: the runs' own]")
    ] = None,
) -> None:
    """Compare methods over their seeds: hits, distinct scaffolds, diversity, and an exact test between them."""
    from chemmara.cli.console import console
    from chemmara.reporting.compare import compare as run

    comparison = run(list(runs), threshold or ())
    screen = console()
    for table in comparison.render():
        screen.print(table)
    for remark in comparison.remarks:
        screen.print(f"note: {remark}", markup=False, soft_wrap=True)
    if out is not None:
        for path in comparison.save(out):
            typer.echo(f"written: {path}")

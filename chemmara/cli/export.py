"""chemmara export: take the molecules of a run away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chemmara.wording import counted

OWN = ("molecules.csv", "metrics.csv")  # of a run directory


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(export)


def export(
    run: Annotated[Path, typer.Argument(help="output directory of optimize, or one run directory")],
    out: Annotated[Path, typer.Option("-o", "--out", help=".csv, .smi or .sdf file; an existing one is replaced")],
    min_score: Annotated[float | None, typer.Option(help="only molecules that score at least this")] = None,
    one_per_scaffold: Annotated[
        bool, typer.Option("--one-per-scaffold", help="only the best molecule of each Bemis-Murcko scaffold")
    ] = False,
    min_distance: Annotated[
        float | None,
        typer.Option(
            help="only molecules farther than this (Tanimoto, ECFP4, 0 to 1) from every better one that stays"
        ),
    ] = None,
    top: Annotated[int | None, typer.Option(help="only the best N")] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="only clean chemistry: no radicals, large rings, alerts or odd environments")
    ] = False,
) -> None:
    """Write a run's molecules as CSV, SMILES or SD file: all sampled rows, or distinct molecules by score."""
    from chemmara.cli.console import counts
    from chemmara.errors import UserError
    from chemmara.reporting.compare import FILES
    from chemmara.reporting.export import export as write
    from chemmara.reporting.runs import MANIFEST, find_runs

    runs = find_runs(run)
    if any(found.source.resolve() == out.resolve() for found in runs):
        raise UserError(f"'{out}' is what the run itself is read from; choose another file with -o")
    own = OWN if (out.parent / MANIFEST).is_file() else FILES if _holds_runs(out.parent) else ()
    if out.name in own:
        raise UserError(f"'{out}' is a run's own file; choose another with -o")
    done = write(
        runs, out, min_score=min_score, one_per_scaffold=one_per_scaffold, top=top, clean=clean,
        min_distance=min_distance,
    )  # fmt: skip
    typer.echo(
        f"{counted(done.written, 'molecule' if done.selected else 'row')} written to {out}{counts(done.left_out)}"
    )


def _holds_runs(folder: Path) -> bool:
    """Whether a directory is one of `optimize -o`."""
    from chemmara.reporting.runs import LEDGER, MANIFEST

    return (folder / LEDGER).is_file() or any(folder.glob(f"*/seed-*/{MANIFEST}"))

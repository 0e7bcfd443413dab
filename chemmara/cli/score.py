"""chemmara score: score a file of molecules, or tell how the score of one comes about."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chemmara.wording import counted, no_molecules

if TYPE_CHECKING:
    from chemmara.workflows.explain import Explanation, Part


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(score)


def score(
    config: Annotated[Path, typer.Argument(help="config file; only [scoring] is needed, [execution] is heeded")],
    molecules: Annotated[
        Path | None, typer.Argument(help=".smi, .csv, .tsv (also .gz) or .sdf file of any size")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help=".csv file; an existing one is replaced")] = None,
    column: Annotated[str | None, typer.Option(help="column of SMILES in a table [default: found by name]")] = None,
    name: Annotated[str | None, typer.Option(help="column of names in a table [default: found by name]")] = None,
    notes: Annotated[
        bool, typer.Option("--notes", help="columns with the names of matched alerts, the nearest reference, ...")
    ] = False,
    explained: Annotated[
        list[str] | None,
        typer.Option(
            "--explain", metavar="SMILES", help="instead of a file: how the score of this molecule comes about"
        ),
    ] = None,
) -> None:
    """Score molecules, one row each, in the order of the file."""
    from chemmara.errors import UserError

    if explained:
        if molecules is not None or out is not None or notes or column or name:
            raise UserError("--explain takes the place of a file of molecules, -o, --column, --name and --notes")
        return _explain(config, explained)
    if molecules is None or out is None:
        raise UserError("a file of molecules and -o FILE.csv are needed, or --explain SMILES")
    return _score(config, molecules, out, column=column, name=name, notes=notes)


def _score(config: Path, molecules: Path, out: Path, **options: Any) -> None:
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from chemmara.workflows.score import score_file

    columns = (TextColumn("{task.completed:,.0f} molecules scored"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None)
        done = score_file(config, molecules, out, progress=lambda rows: bar.advance(task, rows), **options)
    failed = [no_molecules(done.invalid)] if done.invalid else []
    failed += [f"{done.failed:,} could not be scored"] if done.failed else []
    note = f"; {' and '.join(failed)} (column error)" if failed else ""
    typer.echo(f"{counted(done.rows, 'row')} written to {out}{note}")
    if done.kept:
        typer.echo(f"the values of the others are kept in {done.kept}: the same command tries the failed ones again")


def _explain(config: Path, smiles: list[str]) -> None:
    from chemmara.workflows.explain import explain_by
    from chemmara.workflows.score import scoring_of

    with scoring_of(config) as scoring:
        for text in smiles:
            typer.echo(_told(explain_by(scoring, text)))


def _told(explanation: Explanation) -> str:
    from chemmara.cli.console import columns

    heading = f"{explanation.smiles}\nscore {_number(explanation.total)}: {explanation.aggregation}"
    weights = sum(part.weight for part in explanation.parts if part.weight is not None)
    head = ("label", "component", "raw value", "transform", "score", "weight", "in the total", "lost here")
    text = columns(f"{heading}, weights add up to {weights:g}", head, [_cells(part) for part in explanation.parts])
    lines = [f"{part.label}: {part.note}" for part in explanation.parts if part.note]
    lines += [f"failed: {explanation.error}"] if explanation.error else []
    return "\n".join([text, *lines, ""]) if lines else text


def _cells(part: Part) -> tuple[str, ...]:
    from chemmara.cli.console import described

    return (
        part.label,
        part.component,
        f"{_number(part.raw)} {part.unit}".strip(),
        "none" if part.transform is None else described(part.transform),
        _number(part.score),
        "filter" if part.weight is None else f"{part.weight:g}",
        f"{part.sign} {_number(part.part)}".strip(),
        _number(part.lost),
    )


def _number(value: float) -> str:
    """Four digits: 151.2, 0.5951; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.4g}"

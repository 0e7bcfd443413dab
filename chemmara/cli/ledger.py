"""chemmara ledger: what a ledger holds, one out of many, and its evaluations as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chemmara.wording import counted

if TYPE_CHECKING:
    from chemmara.scoring.ledger import ComponentInfo
    from chemmara.workflows.ledgers import Merged

app = typer.Typer(help="Look into ledgers of oracle results, merge them, and export them.", no_args_is_help=True)
SHOWN = 5

Place = Annotated[Path, typer.Argument(help="ledger.sqlite, or the directory that `optimize -o` made")]


def register(parent: typer.Typer) -> None:
    """Add the commands to the application."""
    parent.add_typer(app, name="ledger")


def _file(place: Path) -> Path:
    return place / "ledger.sqlite" if place.is_dir() else place


@app.command("info")
def info(ledger: Place) -> None:
    """Components, evaluations, failures, runs and size. A run may be writing meanwhile."""
    from chemmara.cli.console import columns
    from chemmara.scoring.ledger import Ledger
    from chemmara.workflows.ledgers import endpoint_of, labels_of

    path = _file(ledger)
    with Ledger(path, read_only=True) as found:
        components, labels = found.components(), labels_of(found)
        runs = [found.run_info(run) for run in found.runs()]
    size = sum(file.stat().st_size for end in ("", "-wal") if (file := Path(f"{path}{end}")).exists())
    total, failed = sum(c.evaluations for c in components), sum(c.failed for c in components)
    typer.echo(f"{path}: {size / 1e6:.1f} MB, {counted(total, 'evaluation')}, {failed:,} of them failed")
    head = ("component", "label", "endpoint", "key", "evaluations", "failed", "most often", "settings")
    table = [_row(each, " ".join(labels.get(each.key, ())), endpoint_of(each), components) for each in components]
    typer.echo(columns("components", head, table))
    rows = [(run.run, f"{run.rows:,}", str(run.last_step)) for run in runs]
    typer.echo(columns("runs", ("run", "rows", "last step"), rows))


def _row(component: ComponentInfo, label: str, endpoint: str, among: Sequence[ComponentInfo]) -> tuple[str, ...]:
    """A line of the table; by the settings that differ it is told from others of its name, so they come first."""
    others = [other.parameters for other in among if other.name == component.name]
    alike = {key for key, value in component.parameters.items() if all(other.get(key) == value for other in others)}
    ordered = sorted(component.parameters.items(), key=lambda item: item[0] in alike)
    settings = ", ".join(f"{key} {value}" for key, value in ordered if key != "endpoint")
    return (
        component.name or "unknown",
        label,
        endpoint,
        component.key[:12],
        f"{component.evaluations:,}",
        f"{component.failed:,}",
        component.reason[:60],
        settings[:80],
    )


@app.command("merge")
def merge_ledgers(
    out: Annotated[
        Path, typer.Argument(help="ledger (.sqlite, .db), or directory of one, that is merged into; made if not there")
    ],
    ledgers: Annotated[list[Path], typer.Argument(help="ledgers, or directories of `optimize -o`, that are only read")],
    conflicts: Annotated[Path | None, typer.Option(help=".csv file for all conflicts")] = None,
) -> None:
    """Put several ledgers into one. A value that is there is never replaced; where another differs, it is told."""
    from chemmara.errors import UserError
    from chemmara.workflows.ledgers import merge

    if conflicts is not None and conflicts.suffix.lower() != ".csv":
        raise UserError(f"conflicts are written as .csv (got '{conflicts}')")
    if out.suffix.lower() not in (".sqlite", ".db") and not out.exists():
        out = out / "ledger.sqlite"  # as `optimize -o` has it
    done = merge(_file(out), [_file(ledger) for ledger in ledgers])
    typer.echo(
        f"{counted(done.evaluations, 'evaluation')} and {counted(len(done.runs), 'run')} added to {_file(out)}; "
        f"{counted(done.replaced, 'failure')} replaced by values; {done.same:,} known already"
    )
    if done.runs:
        typer.echo(f"they have no directory: chemmara compare {_file(out)} and export show them")
    for run in done.runs_left:
        typer.echo(f"left out: another run '{run}' is there already", err=True)
    _tell_conflicts(done, conflicts)


def _tell_conflicts(done: Merged, file: Path | None) -> None:
    if done.conflicts:
        typer.echo(f"{counted(len(done.conflicts), 'conflict')}: the value that was there is kept", err=True)
    for c in done.conflicts[:SHOWN]:
        typer.echo(f"  {c.component or c.key[:12]} of {c.smiles}: {c.kept:g} kept, {c.other:g} in {c.source}", err=True)
    if len(done.conflicts) > SHOWN and file is None:
        typer.echo("  --conflicts FILE.csv writes all of them", err=True)
    if file is not None:
        from chemmara.places import replacing_text
        from chemmara.reporting.tables import number, quote

        with replacing_text(file) as stream:
            stream.write("SMILES,component,key,kept,other,ledger\n")
            for c in done.conflicts:
                cells = (quote(c.smiles), c.component, c.key, number(c.kept), number(c.other), quote(str(c.source)))
                stream.write(",".join(cells) + "\n")
        typer.echo(f"conflicts written to {file}")


@app.command("export")
def export_evaluations(
    ledger: Place,
    out: Annotated[Path, typer.Option("-o", "--out", help=".csv file; an existing one is replaced")],
    component: Annotated[
        str | None, typer.Option(help="only this one, by name, label, endpoint or key [default: all]")
    ] = None,
) -> None:
    """Write the evaluations as a table: SMILES, component, label, endpoint, key, value, error."""
    from chemmara.workflows.ledgers import export

    typer.echo(f"{counted(export(_file(ledger), out, component), 'row')} written to {out}")

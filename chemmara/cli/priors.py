"""chemmara priors: the models that one can start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List, describe, import and export priors.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add the commands to the application."""
    parent.add_typer(app, name="priors")


@app.command("list")
def list_priors() -> None:
    """The priors that came with chemmara."""
    from rich.table import Table

    from chemmara.cli.console import console
    from chemmara.policies.catalog import bundled

    found = bundled()
    if not found:
        typer.echo("no bundled priors: this installation came without them; `chemmara train` makes one")
        return
    table = Table("name", "size", "parameters", "tokens", "path")
    for prior in found:
        size = prior.path.stat().st_size / 1e6
        tokens = len(prior.vocabulary())
        table.add_row(prior.name, f"{size:.1f} MB", f"{prior.parameter_count():,}", str(tokens), str(prior.path))
    console().print(table)


@app.command("info")
def info(
    name: Annotated[str, typer.Argument(help="a bundled name, a run directory, a directory or file of weights")],
) -> None:
    """Everything about one prior, its model card included."""
    from chemmara.policies.catalog import find_prior

    prior = find_prior(name)
    header = prior.header()
    vocabulary = prior.vocabulary()
    shape = ", ".join(f"{key} {value}" for key, value in header.get("parameters", {}).items())
    typer.echo(f"name: {prior.name}\npath: {prior.path}\nsize: {prior.path.stat().st_size / 1e6:.1f} MB")
    typer.echo(f"architecture: {header['architecture']} ({shape})\nparameters: {prior.parameter_count():,}")
    typer.echo(f"tokens: {len(vocabulary)} ({vocabulary.tokenizer_name}): {' '.join(vocabulary.tokens)}")
    typer.echo(f"sha256: {prior.sha256()}")
    card = prior.card()
    typer.echo(f"\n{card}" if card else "no model card beside the weights")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="a .prior of REINVENT 4 (classic model, LSTM or GRU)")],
    out: Annotated[Path, typer.Option("-o", "--out", help="directory for the prior; usable wherever a prior is")],
    check: Annotated[
        Path | None, typer.Option(help="CSV with SMILES and log_prob (nats) from REINVENT: says how far they agree")
    ] = None,
) -> None:
    """Convert a prior of REINVENT 4. The file is read without running any code of it."""
    from chemmara.workflows.exchange import import_prior

    done = import_prior(file, out, check)
    typer.echo(f"{done.architecture}, {done.tokens} tokens, written to {done.path}")
    typer.echo(f"REINVENT cuts its sequences at {done.max_sequence_length} tokens")
    found = done.agreement
    if found is not None:
        typer.echo(
            f"{found.molecules} log-probabilities: largest difference {found.plain:.1e} nats, "
            f"{found.padded:.1e} with the padding that REINVENT counts"
        )


@app.command("export")
def export(
    name: Annotated[str, typer.Argument(help="a bundled name, a run directory, a directory or file of weights")],
    out: Annotated[Path, typer.Option("-o", "--out", help="file to write, such as my.prior")],
    format: Annotated[str, typer.Option("--format", help="reinvent4")] = "reinvent4",
) -> None:
    """Write an LSTM or GRU prior, or a tuned agent, as a prior of REINVENT 4."""
    from chemmara.workflows.exchange import export_prior

    typer.echo(f"written: {export_prior(name, out, format)}")

"""chemmara sample: draw sequences from a prior or a tuned agent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(sample)


def sample(
    prior: Annotated[str, typer.Argument(help="a bundled name, a run directory, a directory or file of weights")],
    n: Annotated[int, typer.Option("-n", "--number", help="raw sequences drawn, invalid ones included")],
    out: Annotated[Path, typer.Option("-o", "--out", help=".smi, or .csv with SMILES, log_prob (nats) and valid")],
    valid_only: Annotated[
        bool, typer.Option("--valid-only", help="drop what is no molecule: fewer than N are written")
    ] = False,
    unique: Annotated[
        bool, typer.Option("--unique", help="drop repeats of a molecule: fewer than N are written")
    ] = False,
    seed: Annotated[int, typer.Option(help="seed of the draw")] = 0,
    temperature: Annotated[float, typer.Option(help="above 1 more varied, below 1 more typical")] = 1.0,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
) -> None:
    """Write N raw sequences, exactly as the model draws them."""
    from rich.console import Console
    from rich.progress import Progress

    from chemmara.workflows.sample import sample_file

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("sampling", total=n)
        done = sample_file(
            prior, out, n=n, valid_only=valid_only, unique=unique, seed=seed, temperature=temperature,
            precision=precision, device=device, progress=lambda rows: bar.advance(task, rows),
        )  # fmt: skip
    dropped = [f"{done.dropped_invalid:,} invalid"] if valid_only else []
    dropped += [f"{done.dropped_repeated:,} repeated"] if unique else []
    note = f"; dropped {' and '.join(dropped)}" if dropped else ""
    typer.echo(f"{done.written:,} of {done.drawn:,} drawn written to {out} ({done.valid:,} drawn are valid){note}")

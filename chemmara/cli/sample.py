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
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help=".smi, .csv with SMILES, log_prob (nats) and valid, or .sdf (valid only)"),
    ],
    valid_only: Annotated[
        bool, typer.Option("--valid-only", help="drop what is no molecule: fewer than N are written")
    ] = False,
    unique: Annotated[
        bool, typer.Option("--unique", help="drop repeats of a molecule: fewer than N are written")
    ] = False,
    seed: Annotated[int, typer.Option(help="seed of the draw")] = 0,
    temperature: Annotated[float, typer.Option(help="above 1 more varied, below 1 more typical")] = 1.0,
    top_k: Annotated[int, typer.Option(help="draw among the k likeliest tokens alone; 0: among all")] = 0,
    top_p: Annotated[float, typer.Option(help="draw among the fewest likeliest tokens whose sum reaches p")] = 1.0,
    max_tokens: Annotated[int, typer.Option(help="longest sequence; one that is not at its end by then is cut")] = 160,
    prefix: Annotated[str, typer.Option(help="SMILES text that every sequence begins with")] = "",
    scaffold: Annotated[
        str,
        typer.Option(
            help="molecule that every sequence begins with and goes on from: at its *, else at each open atom"
        ),
    ] = "",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    workers: Annotated[
        int, typer.Option(min=1, help="processes that look at what was sampled: with a GPU, as many as there are cores")
    ] = 1,
) -> None:
    """Write N raw sequences, exactly as the model draws them; the options change what it draws or what is kept."""
    from rich.console import Console
    from rich.progress import Progress

    from chemmara.workflows.sample import sample_file

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("sampling", total=n)
        done = sample_file(
            prior, out, n=n, valid_only=valid_only, unique=unique, seed=seed, temperature=temperature, top_k=top_k,
            top_p=top_p, max_tokens=max_tokens, prefix=prefix, scaffold=scaffold, precision=precision,
            device=device, workers=workers, progress=lambda rows: bar.advance(task, rows),
        )  # fmt: skip
    dropped = [f"{done.dropped_invalid:,} invalid"] if valid_only or out.suffix.lower() == ".sdf" else []
    dropped += [f"{done.dropped_repeated:,} repeated"] if unique else []
    note = f"; dropped {' and '.join(dropped)}" if dropped else ""
    if done.cut:
        note += f"; {done.cut:,} drawn {'was' if done.cut == 1 else 'were'} cut at {max_tokens} tokens, before the end"
    typer.echo(f"{done.written:,} of {done.drawn:,} drawn written to {out} ({done.valid:,} drawn are valid){note}")

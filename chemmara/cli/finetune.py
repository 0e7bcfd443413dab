"""chemmara finetune: bring a prior close to a set of molecules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(finetune)


def finetune(
    prior: Annotated[str, typer.Argument(help="a bundled name, a run directory, a directory or file of weights")],
    data: Annotated[list[Path], typer.Argument(help=".smi, .csv, .tsv or .sdf files, also .gz")],
    out: Annotated[Path, typer.Option("-o", "--out", help="directory for checkpoints, the prior and the report")],
    validation: Annotated[
        Path | None, typer.Option(help="molecules for the validation loss [default: those held out]")
    ] = None,
    holdout: Annotated[float, typer.Option(help="share of the molecules held out for the validation loss")] = 0.1,
    epochs: Annotated[int, typer.Option(help="passes over the data at most")] = 50,
    patience: Annotated[
        int, typer.Option(help="end after so many epochs without a lower validation loss; 0: run all")
    ] = 3,
    batch_size: Annotated[int, typer.Option(help="molecules a step")] = 32,
    learning_rate: Annotated[float, typer.Option(help="highest learning rate")] = 5e-4,
    dropout: Annotated[float | None, typer.Option(help="dropout between layers [default: the prior's]")] = None,
    randomize: Annotated[
        bool, typer.Option("--randomize", help="write each molecule in a random spelling, another one each epoch")
    ] = False,
    max_tokens: Annotated[int, typer.Option(help="longer molecules are left out")] = 128,
    samples: Annotated[int, typer.Option(help="molecules sampled after each epoch and for the report")] = 1000,
    column: Annotated[str | None, typer.Option(help="column of SMILES in a table [default: found by name]")] = None,
    seed: Annotated[int, typer.Option(help="seed of order and spellings")] = 0,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16")] = "auto",
    checkpoint_seconds: Annotated[float, typer.Option(help="time between checkpoints")] = 300.0,
    resume: Annotated[bool, typer.Option("--resume", help="go on where a stopped one was")] = False,
) -> None:
    """Transfer learning: train a prior on a few dozen to thousands of molecules, until it stops getting better."""
    from chemmara.cli.train import command_line
    from chemmara.config import check
    from chemmara.training.settings import FinetuneSettings

    given = {name: value for name, value in locals().items() if name in FinetuneSettings.model_fields}
    policy = {} if dropout is None else {"dropout": dropout}
    settings = check(FinetuneSettings, {**given, "initial": prior, "policy": policy}, "finetune")
    from chemmara.training.finetune import finetune as run

    run(
        data, out, settings, validation=validation, resume=resume, say=typer.echo,
        progress=sys.stderr.isatty(), command=command_line(),
    )  # fmt: skip

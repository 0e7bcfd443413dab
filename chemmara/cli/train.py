"""chemmara train: fit a prior to molecules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(train)


def command_line() -> str:
    """This command as a model card has it: files by name, without their directories."""
    return "chemmara " + " ".join(Path(a).name if Path(a).exists() else a for a in sys.argv[1:])


def train(
    data: Annotated[list[Path], typer.Argument(help=".smi, .csv, .tsv or .sdf files, also .gz")],
    out: Annotated[Path, typer.Option("-o", "--out", help="directory for corpus, checkpoints and the prior")],
    validation: Annotated[
        Path | None, typer.Option(help="molecules for the validation loss [default: those held out]")
    ] = None,
    holdout: Annotated[float, typer.Option(help="share of the molecules held out for the validation loss")] = 0.02,
    epochs: Annotated[int, typer.Option(help="passes over the data")] = 10,
    batch_size: Annotated[int, typer.Option(help="molecules a step")] = 128,
    learning_rate: Annotated[float, typer.Option(help="highest learning rate")] = 2e-3,
    weight_decay: Annotated[float, typer.Option(help="AdamW's weight decay")] = 0.0,
    validity_weight: Annotated[
        float, typer.Option(help="nats that P(valid) = 1 is worth in the last quarter of the steps")
    ] = 0.0,
    patience: Annotated[
        int, typer.Option(help="end after so many epochs without a lower validation loss and keep the best; 0: run all")
    ] = 0,
    initial: Annotated[
        str | None,
        typer.Option("--from", help="prior to begin from, its tokens and shape [default: random]"),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="lstm, gru or transformer [default: lstm, or what --from is]")
    ] = None,
    size: Annotated[str | None, typer.Option(help="small or base: the shape where no option below names it")] = None,
    dropout: Annotated[float | None, typer.Option(help="dropout between layers [default: 0]")] = None,
    embedding_size: Annotated[
        int | None, typer.Option(help="size of the embedding, lstm and gru [default: 256]")
    ] = None,
    hidden_size: Annotated[int | None, typer.Option(help="units of each layer, lstm and gru [default: 512]")] = None,
    layers: Annotated[int | None, typer.Option(help="number of layers [default: 3; transformer: 8]")] = None,
    width: Annotated[int | None, typer.Option(help="width of a transformer [default: 256]")] = None,
    heads: Annotated[int | None, typer.Option(help="attention heads of a transformer [default: 4]")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="smiles or selfies [default: smiles, or what --from has]")
    ] = None,
    randomize: Annotated[
        bool, typer.Option(help="write each molecule in a random spelling, another one each epoch")
    ] = False,
    max_tokens: Annotated[int, typer.Option(help="longer molecules are left out")] = 128,
    samples: Annotated[
        int, typer.Option(help="molecules sampled after each epoch to measure validity and novelty")
    ] = 1000,
    column: Annotated[str | None, typer.Option(help="column of SMILES in a table [default: found by name]")] = None,
    seed: Annotated[int, typer.Option(help="seed of weights, order and spellings")] = 0,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16")] = "auto",
    workers: Annotated[int, typer.Option(help="processes that read the files")] = 1,
    devices: Annotated[int, typer.Option(help="GPUs, or processes on the CPU, that share each step")] = 1,
    checkpoint_seconds: Annotated[float, typer.Option(help="time between checkpoints")] = 300.0,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="any key of docs/config.md, such as policy.tied=false or clip=0.5"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on where a stopped training was")] = False,
) -> None:
    """Train a prior on molecules: a file of any size, without holding it in memory."""
    from chemmara.config import check, set_keys
    from chemmara.language.tokenizers import TOKENIZERS
    from chemmara.policies.policy import expand_size
    from chemmara.training.settings import TrainSettings

    shape = {
        "name": policy, "size": size, "embedding_size": embedding_size, "hidden_size": hidden_size, "layers": layers,
        "width": width, "heads": heads, "dropout": dropout,
    }  # fmt: skip
    names = TrainSettings.model_fields.keys() - {"policy"}
    given = {name: value for name, value in locals().items() if name in names}
    if tokenizer is None:
        del given["tokenizer"]
    else:
        TOKENIZERS[tokenizer]
    given["policy"] = {name: value for name, value in shape.items() if value is not None}
    given = set_keys(given, assignments or ())
    if isinstance(given["policy"], dict) and not given["initial"]:
        given["policy"] = expand_size({"name": "lstm", **given["policy"]})
    settings = check(TrainSettings, given, "train")
    from chemmara.training.fit import train as run

    run(
        data, out, settings, validation=validation, resume=resume, say=typer.echo,
        progress=sys.stderr.isatty(), command=command_line(),
    )  # fmt: skip

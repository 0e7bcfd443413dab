"""chemmara surrogate: a cheap model of your own docking scores or activities, as a component of the score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the group of commands to the application."""
    group = typer.Typer(help="Cheap models of your own docking scores or activities.", no_args_is_help=True)
    group.command()(train)
    group.callback()(lambda: None)
    app.add_typer(group, name="surrogate")


def train(
    data: Annotated[Path, typer.Argument(help=".csv or .tsv (also .gz) with a column of SMILES and one of values")],
    out: Annotated[Path, typer.Option("-o", "--out", help="folder for forest.npz and the figures, forest.json")],
    smiles: Annotated[str | None, typer.Option(help="column of SMILES [default: found by name]")] = None,
    value: Annotated[str | None, typer.Option(help="column of values [default: found]")] = None,
    split: Annotated[str | None, typer.Option(help="column with train and test [default: Split, if there]")] = None,
    task: Annotated[
        str | None, typer.Option(help="classification or regression [default: classification if all are 0 or 1]")
    ] = None,
    model: Annotated[str, typer.Option(help="forest, or boosting: repeated on bootstrap samples")] = "forest",
    trees: Annotated[int, typer.Option(help="trees of the forest, or of each repetition of boosting")] = 200,
    repeats: Annotated[int, typer.Option(help="repetitions of boosting")] = 5,
    folds: Annotated[int, typer.Option(help="folds of the cross-validation, 0 for none")] = 5,
    fingerprint: Annotated[str, typer.Option(help="ecfp4, ecfp6 or fcfp4; counts of them")] = "ecfp4",
    size: Annotated[int, typer.Option(help="bins of the fingerprint")] = 2048,
    target: Annotated[str, typer.Option(help="what the values are, for the file's own record")] = "",
    unit: Annotated[str, typer.Option(help="unit of the values, for tables")] = "",
    seed: Annotated[int, typer.Option(help="seed of the trees and splits")] = 0,
    jobs: Annotated[int, typer.Option(help="processor cores for a forest")] = 1,
) -> None:
    """Train a random forest or gradient boosting on Morgan counts, and say how far to trust it."""
    from chemmara.errors import UserError
    from chemmara.workflows.surrogate import train_surrogate
    from chemmara.workflows.surrogate_models import SurrogateSettings

    if task not in (None, "classification", "regression"):
        raise UserError(f"--task: should be classification or regression (got '{task}')")
    chosen: dict[str, Any] = {
        "model": model, "trees": trees, "repeats": repeats, "folds": folds, "fingerprint": fingerprint, "size": size,
        "seed": seed, "jobs": jobs,
    }  # fmt: skip
    columns: dict[str, Any] = {"smiles": smiles, "value": value, "split": split, "task": task}
    figures = train_surrogate(
        data, out, SurrogateSettings(**chosen), target=target, unit=unit, **columns,
        say=lambda text: typer.echo(text, err=True),
    )  # fmt: skip
    typer.echo(_table(figures))
    typer.echo(f'model written to {out}; as a component: name = "forest", model = "{out}"')


def _table(figures: dict[str, Any]) -> str:
    from chemmara.cli.console import columns, counts

    train = figures["train"]
    head = (
        f"{figures['task']} of '{figures['target']}' on {train['molecules']:,} molecules{counts(figures['left_out'])}"
    )
    measures = ("roc_auc", "brier") if figures["task"] == "classification" else ("rmse", "r2", "spearman")
    rows = []
    for part in ("random_splits", "scaffold_splits", "test"):
        if part in figures:
            found = figures[part]
            cells = [_cell(found, name) for name in measures]
            rows.append((part.replace("_", " "), *cells, f"{found['error_vs_uncertainty_spearman']:.2f}",
                         *(_domain(found["domain"][name], measures[0]) for name in ("near", "far"))))  # fmt: skip
    titles = ("", *measures, "error vs uncertainty", f"{measures[0]} near (share)", f"{measures[0]} far (share)")
    return columns(head, titles, rows) if rows else head


def _cell(found: dict[str, Any], name: str) -> str:
    deviation = found.get(f"{name}_deviation")
    if name not in found:
        return "-"
    return _brief(found[name]) + (f" +- {_brief(deviation)}" if deviation is not None else "")


def _brief(value: float) -> str:
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def _domain(part: dict[str, float], measure: str) -> str:
    value = _brief(part[measure]) if measure in part else "-"
    return f"{value} ({part['share']:.0%})"

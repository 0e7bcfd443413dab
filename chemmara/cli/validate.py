"""chemmara validate: everything that optimize would check, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chemmara.cli.console import columns, described
from chemmara.cli.optimize import Assignments, Methods
from chemmara.wording import counted

if TYPE_CHECKING:
    from chemmara.optimization.settings import RunSettings


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(validate)


def validate(
    config: Annotated[Path, typer.Argument(help="config file (.toml, .yaml, .json)")],
    method: Methods = None,
    seeds: Annotated[str | None, typer.Option(help="3, 0-4 or 1,5,9 [default: the config's seed]")] = None,
    assignments: Assignments = None,
) -> None:
    """Check a config, every method of it, and print what `optimize` would run."""
    from chemmara.cli.optimize import parse_seeds, split_names
    from chemmara.workflows.optimize import plan

    chosen = None if seeds is None else parse_seeds(seeds)
    runs = plan(config, split_names(method), chosen, assignments or ()).runs
    first = runs[0][2]
    typer.echo(_methods({name: settings for name, _, settings in runs}))
    typer.echo(_score(first))
    calls = sum(settings.head.oracle_budget for _, _, settings in runs)
    numbers = ", ".join(str(seed) for seed in dict.fromkeys(seed for _, seed, _ in runs))
    typer.echo(f"prior: {first.head.prior} ({first.prior.path})")
    if first.head.agent:
        typer.echo(f"agent: {first.head.agent} ({first.agent.path})")
    for scaffold in dict.fromkeys(settings.head.scaffold for _, _, settings in runs):
        if scaffold:
            typer.echo(f"scaffold: {scaffold}, on which every molecule is built")
    for line in _seeds([settings for _, _, settings in runs]):
        typer.echo(line)
    typer.echo(f"{config} is valid: {counted(len(runs), 'run')} (seeds {numbers}), {calls:,} oracle calls in all")


def _seeds(runs: Sequence[RunSettings]) -> Iterator[str]:
    """What is to be said of the files of seed molecules, each once."""
    from chemmara.optimization.seeds import read_seeds

    for path, run in {run.seed_molecules: run for run in runs}.items():
        if path is not None:
            seeds, notes = read_seeds(path, run.vocabulary)
            yield f"seed molecules: {len(seeds):,} of {path}, scored first, of {run.head.oracle_budget:,} calls"
            yield from notes


def _methods(methods: dict[str, RunSettings]) -> str:
    head = ("method", "objective", "beta (sigma)", "augmentation", "diversity filter", "screen", "replay updates",
            "oracle budget", "threshold")  # fmt: skip
    return columns("methods", head, [_method(name, settings) for name, settings in methods.items()])


def _method(name: str, settings: RunSettings) -> tuple[str, ...]:
    head, beta = settings.head, settings.objective[1].beta
    return (
        name, settings.objective[0].name, f"{beta:g} ({1 / beta:g})" if beta else "0",
        settings.augmentation_name, settings.diversity_filter[0].name,
        ", ".join(str(rule["name"]) for rule in settings.screen.rule) or "none",
        f"{head.replay.updates}{' + seed molecules' if settings.seed_molecules else ''}{_bred(settings)}",
        f"{head.oracle_budget:,}{_last(head.exploit.share * head.oracle_budget)}", f"{head.threshold:g}",
    )  # fmt: skip


def _bred(settings: RunSettings) -> str:
    """Beside the batch, as many oracle calls a step."""
    genetic = settings.head.genetic
    if not genetic.offspring:
        return ""
    ahead = max(genetic.ahead, settings.head.exploit.ahead) if settings.screen.looks_ahead else 1
    foreseen = f", up to {ahead} generations ahead" if ahead > 1 else ""
    return f" + {genetic.offspring * genetic.generations} offspring{foreseen}"


def _last(calls: float) -> str:
    return f" (last {calls:,.0f}: exploit)" if calls else ""


def _score(settings: RunSettings) -> str:
    scoring = settings.scoring
    rows = [
        (
            component.label, component.spec.name, component.unit,
            "filter" if component.filter else f"{component.weight:g}",
            described(component.transform.to_table()) if component.transform else "",
        )
        for component in scoring.components
    ]  # fmt: skip
    return columns(f"score: {scoring.aggregation}", ("label", "component", "unit", "weight", "transform"), rows)

"""chemmara validate: everything that optimize would check, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chemmara.cli.optimize import Assignments, Methods

if TYPE_CHECKING:
    from rich.table import Table

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
    from rich.markup import escape

    from chemmara.cli.console import console
    from chemmara.cli.optimize import parse_seeds
    from chemmara.workflows.optimize import plan

    chosen = None if seeds is None else parse_seeds(seeds)
    runs = plan(config, method or (), chosen, assignments or ()).runs
    screen = console()
    methods = {name: settings for name, _, settings in runs}
    first = runs[0][2]
    screen.print(_methods(methods))
    screen.print(_score(first))
    calls = sum(settings.head.oracle_budget for _, _, settings in runs)
    numbers = ", ".join(str(seed) for seed in dict.fromkeys(seed for _, seed, _ in runs))
    prior = escape(f"{first.head.prior} ({first.prior.path})")
    screen.print(f"prior: {prior}", soft_wrap=True)
    screen.print(f"{escape(str(config))} is valid: {len(runs)} runs (seeds {numbers}), {calls:,} oracle calls in all")


def _methods(methods: dict[str, RunSettings]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("method", "objective", "beta (sigma)", "augmentation", "diversity filter", "replay updates",
                  "oracle budget", "threshold", title="methods", title_justify="left")  # fmt: skip
    for name, settings in methods.items():
        head, beta = settings.head, settings.objective[1].beta
        table.add_row(
            escape(name), settings.objective[0].name, f"{beta:g} ({1 / beta:g})" if beta else "0",
            settings.augmentation_name, settings.diversity_filter[0].name,
            f"{head.replay.updates}{' + seed molecules' if settings.seed_molecules else ''}",
            f"{head.oracle_budget:,}", f"{head.threshold:g}",
        )  # fmt: skip
    return table


def _score(settings: RunSettings) -> Table:
    from rich.markup import escape
    from rich.table import Table

    scoring = settings.scoring
    table = Table("label", "component", "unit", "weight", "transform", title=f"score: {scoring.aggregation}",
                  title_justify="left")  # fmt: skip
    for component in scoring.components:
        transform = component.transform
        table.add_row(
            escape(component.label), component.spec.name, component.unit,
            "filter" if component.filter else f"{component.weight:g}",
            _transform(transform.to_table()) if transform else "",
        )  # fmt: skip
    return table


def _transform(table: dict[str, object]) -> str:
    from rich.markup import escape

    inner = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                      for key, value in table.items() if key != "name")  # fmt: skip
    return escape(f"{table['name']}({inner})")

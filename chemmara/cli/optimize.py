"""chemmara optimize: tune a prior on a scoring config, all methods and seeds, then the comparison."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

MOST_SEEDS = 1000
RESULTS = Path("results")

Methods = Annotated[
    list[str] | None,
    typer.Option("--method", help="a method of the config, or a preset; may be repeated [default: all of the config]"),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="lay a value over every method's, such as objective.beta=0.01"),
]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(optimize)


def optimize(
    config: Annotated[Path, typer.Argument(help="config file (.toml, .yaml, .json), such as configs/quickstart.toml")],
    out: Annotated[Path, typer.Option("-o", "--out", help="directory for METHOD/seed-N/ and the comparison")] = RESULTS,
    method: Methods = None,
    seeds: Annotated[str | None, typer.Option(help="3, 0-4 or 1,5,9 [default: the config's seed]")] = None,
    assignments: Assignments = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on where a stopped run was")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="with --resume: try again what failed; for an oracle that was mended")
    ] = False,
) -> None:
    """Tune a language model until it writes molecules that score well, in many distinct scaffolds."""
    from chemmara.cli.console import console
    from chemmara.cli.display import Display
    from chemmara.cli.tensorboard import TensorBoard, installed
    from chemmara.optimization.watcher import Watcher, Watchers
    from chemmara.workflows.optimize import optimize as run

    chosen = None if seeds is None else parse_seeds(seeds)
    screen = console()
    with ExitStack() as stack:
        watchers: list[Watcher] = [stack.enter_context(Display(screen))]
        if installed():
            watchers.append(stack.enter_context(TensorBoard()))
        run(
            config, out, methods=split_names(method), seeds=chosen, assignments=assignments or (), resume=resume,
            retry_failed=retry_failed, watcher=Watchers(watchers), report=False,
        )  # fmt: skip
    _conclude(out, screen)


def split_names(given: list[str] | None) -> list[str]:
    """The names of an option that may be repeated, and may hold several names with commas between them."""
    from chemmara.errors import UserError

    names = list(dict.fromkeys(part.strip() for text in given or () for part in text.split(",") if part.strip()))
    if given and not names:
        raise UserError("--method: no name is given")
    return names


def parse_seeds(text: str) -> list[int]:
    """``3``, ``0-4`` or ``1,5,9``, also mixed, as a list without repeats.

    >>> parse_seeds("0-2,7")
    [0, 1, 2, 7]
    """
    from chemmara.errors import UserError

    seeds: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(f"--seeds takes 3, 0-4 or 1,5,9 (got '{text}')")
        low, high = int(first), int(last or first)
        if high < low or high >= 2**31 or high - low >= MOST_SEEDS:
            raise UserError(f"--seeds: '{part.strip()}' should be up to {MOST_SEEDS} seeds in rising order, below 2^31")
        seeds |= dict.fromkeys(range(low, high + 1))
    return list(seeds)


def _conclude(out: Path, screen: Console) -> None:
    """The comparison, where everything is, and what to do next."""
    import shlex

    from chemmara.reporting.compare import compare

    comparison = compare(out)
    files = comparison.save(out)
    for table in comparison.render():
        screen.print(table)
    for remark in comparison.remarks:
        screen.print(f"note: {remark}", markup=False, soft_wrap=True)
    folders = sorted(path.parent for path in out.glob("*/seed-*/molecules.csv"))
    for folder in folders:
        screen.print(f"molecules: {folder / 'molecules.csv'}", markup=False, soft_wrap=True)
    screen.print(f"comparison: {', '.join(map(str, files))}", markup=False, soft_wrap=True)
    command, threshold = f"chemmara export {shlex.quote(str(out))}", comparison.thresholds[0]
    if comparison.runs.hits.any():
        following = f"next: {command} -o hits.csv --min-score {threshold:g} --one-per-scaffold"
    elif not comparison.runs.top_10.notna().any():
        following = "no molecule has a score: the column `error` of molecules.csv has the reasons"
    else:
        following = f"no molecule scored {threshold:g} or more; the best that there are: {command} -o best.csv --top 50"
    screen.print(following, markup=False, soft_wrap=True)

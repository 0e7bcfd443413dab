"""chemmara benchmark: suites of tasks over methods and seeds, resumable, with a table and a plot at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class Benchmarks(TyperGroup):
    """`chemmara benchmark NAME`: a command of its own where there is one of that name, else the suite NAME."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `suite` before the name of a suite."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["suite", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=Benchmarks, no_args_is_help=True,
    help="Suites of tasks over methods and seeds (pmo, diverse-hits, saturn, scaffolds), and tables of priors.",
)  # fmt: skip


def register(parent: typer.Typer) -> None:
    """Add the commands to the application."""
    parent.add_typer(app, name="benchmark")


@app.command("suite")
def benchmark(
    suite: Annotated[str, typer.Argument(help="pmo, diverse-hits, saturn or scaffolds")],
    out: Annotated[Path, typer.Option("-o", "--out", help="directory for results.csv, table.md, plot.png, runs")],
    methods: Annotated[
        str, typer.Option(help="presets, or methods of --config, separated by commas")
    ] = "default,mara,vanilla",
    seeds: Annotated[str, typer.Option(help="3, 0-4 or 1,5,9")] = "0-4",
    tasks: Annotated[
        str | None, typer.Option(help="some of the suite's tasks, separated by commas [default: all]")
    ] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="oracle calls a run [default: the suite's own]")] = None,
    prior: Annotated[
        str | None, typer.Option(help="bundled name, directory or file [default: the suite's own]")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="runs side by side; each gets its share of the cores")] = 1,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="lay a value over every method's, such as batch_size=128"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="file with [methods.NAME] and other settings of a run, without [scoring]")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="method that the others are compared with [default: vanilla, else the first]")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="keep checkpoints, agents and ledgers of finished runs as well")
    ] = False,
    table_only: Annotated[
        bool, typer.Option("--table-only", help="run nothing: table.md and plot.png of what is there")
    ] = False,
) -> None:
    """Run a suite of tasks over methods and seeds. The same command goes on where it stopped, and repeats nothing."""
    from chemmara.cli.optimize import parse_seeds
    from chemmara.errors import RunError, UserError
    from chemmara.workflows.benchmarks.plan import Request, plan
    from chemmara.workflows.benchmarks.runner import run

    request = Request(
        suite, out, methods=_names(methods), seeds=tuple(parse_seeds(seeds)), tasks=_names(tasks or ""), budget=budget,
        prior=prior, processes=processes, assignments=tuple(assignments or ()), config=config, against=against,
        keep=keep,
    )  # fmt: skip
    todo = plan(request)
    if table_only:
        todo.waiting()  # refuses rows of another config, of which the table would say that they are of this one
    failed = {} if table_only else run(todo, typer.echo)
    from chemmara.workflows.benchmarks.report import write_report

    written = write_report(todo)
    if not written and table_only:
        raise UserError(f"'{todo.file}' has no results of these methods, tasks, seeds and budget{todo.what_is_there()}")
    for path in (*([] if table_only else [todo.file]), *written) if written else ():
        typer.echo(f"written: {path}")
    if failed:
        names = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise RunError(f"{len(failed)} of {len(todo.jobs)} runs failed, the same command tries them again: {names}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


@app.command("priors")
def priors(
    out: Annotated[Path, typer.Option("-o", "--out", help="directory for priors.md and priors.csv")],
    prior: Annotated[
        list[str] | None, typer.Option(help="bundled name, directory or file; once for each [default: all bundled]")
    ] = None,
    train: Annotated[
        list[Path] | None, typer.Option(help="molecules that do not count as novel; once for each file")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="molecules that distributions and likelihood are of")] = None,
    n: Annotated[int, typer.Option("-n", "--number", help="raw samples of each prior")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="seed of the draw")] = 0,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16")] = "auto",
) -> None:
    """Validity, uniqueness, novelty, diversity, distances and likelihood of priors, as one table."""
    from chemmara.errors import UserError, nearest
    from chemmara.workflows.benchmarks.priors import Request, run

    known = ("auto", "float32", "bfloat16")
    if precision not in known:
        raise UserError(f"unknown precision '{precision}'{nearest(precision, known)}")
    request = Request(out, tuple(prior or ()), tuple(train or ()), test, n, seed, precision)
    for path in run(request, typer.echo):
        typer.echo(f"written: {path}")


@app.command("speed")
def speed(
    out: Annotated[Path, typer.Option("-o", "--out", help="directory for speed.csv and speed.md")],
    policy: Annotated[
        list[str] | None,
        typer.Option(help="architecture with fresh weights, or a prior; once for each [default: every architecture]"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="repeats of which the median counts")] = 5,
    sampling: Annotated[str, typer.Option(help="sampling batches, separated by commas")] = "64,128,512",
    training: Annotated[str, typer.Option(help="training batches, separated by commas")] = "64,128,256",
) -> None:
    """Sampling, training and optimisation steps, in ratios to a plain float32 baseline of the same network."""
    from chemmara.places import check_directory
    from chemmara.policies.policy import POLICIES
    from chemmara.workflows.benchmarks.speed import Speed, measure

    check_directory(out)
    request = Speed(
        tuple(policy or POLICIES.names()),
        device,
        repeats,
        _sizes("--sampling", sampling),
        _sizes("--training", training),
    )
    for path in measure(request, out, typer.echo):
        typer.echo(f"written: {path}")


@app.command("scaling")
def scaling(
    out: Annotated[Path, typer.Option("-o", "--out", help="directory for scaling.csv, scaling.md and scaling.png")],
    prior: Annotated[str, typer.Option(help="bundled name, directory or file that is sampled")] = "chembl",
    policy: Annotated[str, typer.Option(help="architecture that is trained")] = "lstm",
    size: Annotated[str, typer.Option(help="its size: small or base")] = "small",
    numbers: Annotated[
        str, typer.Option(help="numbers of molecules, separated by commas")
    ] = "1000,10000,100000,1000000",
    workers: Annotated[int, typer.Option(min=1, help="processes that parse molecules")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="molecules a step of the training")] = 128,
) -> None:
    """Time and memory of sampling and training, by the number of molecules. Finished numbers are not repeated."""
    from chemmara.workflows.benchmarks.scaling import Scaling, run

    request = Scaling(out, prior, policy, size, workers, batch_size, _sizes("--numbers", numbers))
    for path in run(request, typer.echo):
        typer.echo(f"written: {path}")


def _sizes(option: str, text: str) -> tuple[int, ...]:
    from chemmara.errors import UserError

    parts = _names(text)
    if not parts or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"{option}: '{text}' is no list of numbers such as 64,128")
    return tuple(map(int, parts))

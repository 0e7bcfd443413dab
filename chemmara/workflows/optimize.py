"""What `chemmara optimize` does: every method with every seed, one after the other, then the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chemmara.config import Table, read_table, refuse_non_finite, set_keys
from chemmara.errors import UserError
from chemmara.interrupts import Interrupts
from chemmara.optimization.directory import LEDGER, RunDirectory
from chemmara.optimization.methods import method_names, resolve_method
from chemmara.optimization.settings import RunSettings, check_keys
from chemmara.places import check_directory, make_directory
from chemmara.scoring.cluster_settings import check_reachable
from chemmara.scoring.executors import EXECUTORS
from chemmara.wording import counted

if TYPE_CHECKING:
    from chemmara.optimization.watcher import Watcher

DEFAULT_OUT = "results"


@dataclass(frozen=True)
class Plan:
    """What a config asks for, checked: (method, seed, settings) in the order in which they run."""

    runs: tuple[tuple[str, int, RunSettings], ...]


def plan(
    config: str | Path | Mapping[str, Any],
    methods: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    assignments: Sequence[str] = (),
) -> Plan:
    """Read and check a config without writing anything. Raises :class:`ConfigError` or :class:`UserError`."""
    if seeds is not None and not len(seeds):
        raise UserError("no seed to run: name at least one")
    table: Table = dict(config) if isinstance(config, Mapping) else read_table(config)
    refuse_non_finite(table, "")
    folder = Path(".") if isinstance(config, Mapping) else Path(config).parent
    laid = set_keys(table, assignments)
    check_keys(laid)
    names = method_names(laid, methods)
    runs: list[tuple[str, int, RunSettings]] = []
    for name in names:
        resolved = resolve_method(table, name, assignments)
        for seed in dict.fromkeys(seeds) if seeds is not None else [resolved.get("seed", 0)]:
            # Methods share one score, so it is built once.
            scoring = runs[0][2].scoring if runs else None
            runs.append((name, seed, RunSettings.parse({**resolved, "seed": seed}, folder, scoring)))
    return Plan(tuple(runs))


def optimize(
    config: str | Path | Mapping[str, Any],
    out: str | Path = DEFAULT_OUT,
    *,
    methods: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    assignments: Sequence[str] = (),
    resume: bool = False,
    retry_failed: bool = False,
    watcher: Watcher | None = None,
    report: bool = True,
) -> Path:
    """Run every method of a config with every seed in ``out`` and compare them; returns ``out``.

    ``config`` is a file or a table. The whole config is checked before anything is written. ``retry_failed``, with
    ``resume``, forgets the failed evaluations in the ledger first: for an oracle that has been mended. Raises
    :class:`ConfigError` / :class:`UserError` for a mistake, :class:`RunError` when a run has to stop (resumable), and
    :class:`chemmara.interrupts.Interrupted` on Ctrl-C.
    """
    todo = plan(config, methods, seeds, assignments)
    if retry_failed and not resume:
        raise UserError("--retry-failed goes with --resume: only a run that was begun has failures to try again")
    out = Path(out)
    directories = [RunDirectory(out, method, seed) for method, seed, _ in todo.runs]
    _check_out(out, directories, todo, resume, retry_failed)
    from chemmara.optimization.run import optimize_one
    from chemmara.policies.device import pick_device
    from chemmara.policies.storage import load_policy
    from chemmara.scoring.ledger import Ledger

    for _, _, settings in todo.runs:
        pick_device(settings.head.execution.device)
        if settings.head.execution.executor == "dask" and settings.head.execution.dask is not None:
            check_reachable(settings.head.execution.dask)
    for weights in dict.fromkeys(each for _, _, run in todo.runs for each in (run.prior, run.agent)):
        load_policy(weights)  # weights that do not fit their header are found before anything is written
    if retry_failed and not any(
        not directory.finished or directory.goes_on(settings.to_table())
        for directory, (_, _, settings) in zip(directories, todo.runs)
    ):
        raise UserError(
            f"--retry-failed: the runs in '{out}' are finished and ask for no molecule again; with a larger "
            "oracle_budget they go on, and try what failed when it is sampled again"
        )
    if resume and watcher is not None and not any(directory.begun for directory in directories):
        watcher.say(f"there is nothing to go on with in '{out}': {counted(len(directories), 'run')} to begin")
    make_directory(out)
    with Interrupts() as interrupts, Ledger(out / LEDGER) as ledger:
        executor, made_from = None, None
        if retry_failed:
            ledger.forget_failures()
        try:
            for directory, (_, _, settings) in zip(directories, todo.runs):
                wanted = settings.executor_table()
                if wanted != made_from:
                    if executor is not None:
                        executor.close()
                    executor, made_from = make_executor(wanted), wanted
                optimize_one(
                    settings,
                    directory,
                    ledger,
                    executor,
                    resume=resume,
                    retry_failed=retry_failed,
                    watcher=watcher,
                    interrupts=interrupts,
                )
                interrupts.check()
        finally:
            if executor is not None:
                executor.close()
    if report:
        _compare(out, todo.runs[0][2].head.threshold)
    return out


def make_executor(table: Table) -> Any:
    """The executor of a table ``{name, ...}``; none for serial work, which needs none."""
    entry, parameters = EXECUTORS.build_parameters(table, "execution")
    return None if entry.name == "serial" else entry.item(parameters)


def _compare(out: Path, threshold: float) -> None:
    from chemmara.reporting.compare import compare

    compare([out], thresholds=[threshold]).save(out)


def _check_out(out: Path, directories: Sequence[RunDirectory], todo: Plan, resume: bool, mended: bool) -> None:
    check_directory(out)
    for directory, (_, _, settings) in zip(directories, todo.runs, strict=True):
        if directory.begun and not resume:
            raise UserError(
                f"'{directory.path}' holds a run already; go on with --resume, or choose another directory with -o"
            )
        directory.check_same_config(settings, mended)
        if not directory.finished or directory.goes_on(settings.to_table()):
            directory.check_not_shorter(settings.to_table())
    if directories:
        directories[0].check_same_goal(todo.runs[0][2], mended)

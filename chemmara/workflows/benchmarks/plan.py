"""Planning a suite: the jobs of every task with every method and seed, checked before anything is written."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chemmara.config import Table, merge, read_table, set_key
from chemmara.errors import ConfigError, UserError
from chemmara.optimization.files import hashes
from chemmara.optimization.methods import own_methods, refuse_new_methods, resolve_method
from chemmara.optimization.settings import RunSettings, check_keys
from chemmara.reporting.config_file import without_later
from chemmara.scoring.component import file_hash, placeless
from chemmara.scoring.settings import ScoringSettings
from chemmara.workflows.benchmarks import results
from chemmara.workflows.benchmarks.job import Job
from chemmara.workflows.benchmarks.results import Row
from chemmara.workflows.benchmarks.suite import Suite, Task, find_suite

RUNS = "runs"
WITH_INVALID_TEXT = ("ips", "unlikeliness", "differential_smoothing", "uniqueness")
"""Augmentations whose rewards were once of the valid rows alone."""
FIXED = ("scoring", "threshold", "oracle_budget", "prior", "seed", "preset")
METHODS = ("default", "mara", "vanilla")
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Request:
    """What a benchmark is asked for. ``config`` is a file of methods and settings beside the suite's own."""

    suite: str
    out: Path
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = SEEDS
    tasks: tuple[str, ...] = ()
    budget: int | None = None
    prior: str | None = None
    processes: int = 1
    assignments: tuple[str, ...] = ()
    config: Path | None = None
    against: str | None = None
    keep: bool = False


@dataclass(frozen=True)
class Plan:
    """A request as checked: the suite, the jobs in the order in which they run, and where their rows go."""

    request: Request
    suite: Suite
    tasks: tuple[Task, ...]
    calls: tuple[int, ...]
    jobs: tuple[Job, ...]

    @property
    def file(self) -> Path:
        return self.request.out / results.FILE

    def rows(self) -> list[Row]:
        """The rows of this plan's runs that are there."""
        keys = {(*job.key, calls) for job in self.jobs for calls in self.calls}
        return [row for row in results.read_results(self.file) if results.key_of(row) in keys]

    def what_is_there(self) -> str:
        """What the file has instead, for a message; '' for nothing."""
        rows = results.read_results(self.file)
        if not rows:
            return ""
        found = {name: ", ".join(map(str, sorted({row[name] for row in rows}))) for name in ("method", "seed", "calls")}
        return f"; it has {found['method']}, seeds {found['seed']}, after {found['calls']} calls"

    def waiting(self) -> list[Job]:
        """The jobs that have no row yet, or one that lacks a metric which the run's molecules can still give.

        Raises :class:`UserError` where rows were made with another config.
        """
        rows = {results.key_of(row): row for row in results.read_results(self.file)}
        waiting = []
        for job in self.jobs:
            found = [rows.get((*job.key, calls)) for calls in job.calls]
            known = [row for row in found if row is not None]
            if any(row["config"] != job.config for row in known):
                raise UserError(
                    f"{job.name} in '{self.file}' was run with another config, prior or budget; choose another "
                    "directory with -o, or remove its rows and its run directory"
                )
            old = any(math.isnan(row.get(name, math.nan)) for row in known for name in results.ALWAYS)
            longer = any(row["oracle_calls"] < row["calls"] for row in known) and job.can_go_on
            if len(known) < len(found) or longer or (old and (job.directory.path / "molecules.csv").is_file()):
                waiting.append(job)
        return waiting


def plan(request: Request) -> Plan:
    """Check a request without writing anything. Raises :class:`UserError` or :class:`ConfigError`."""
    suite = find_suite(request.suite)
    tasks = suite.take(request.tasks)
    methods, seeds = tuple(dict.fromkeys(request.methods)), tuple(dict.fromkeys(request.seeds))
    if not methods or not seeds or request.processes < 1:
        raise UserError("a benchmark needs at least one method, one seed and one process")
    if request.against is not None and request.against not in methods:
        raise UserError(f"--against '{request.against}' is not among the methods {', '.join(methods)}")
    budget = suite.budget if request.budget is None else request.budget
    base = _base(request, suite, budget)
    folder = request.config.parent if request.config is not None else Path(".")
    calls = suite.checkpoints(budget)
    threads = threads_each(request.processes)
    jobs: list[Job] = []
    for task in tasks:
        scoring = ScoringSettings.parse(task.scoring)
        root = request.out / RUNS / task.name
        for method in methods:
            resolved = resolve_method({**base, "scoring": task.scoring}, method, request.assignments)
            settings = RunSettings.parse({**resolved, "seed": seeds[0]}, folder, scoring)
            config = _config_hash(resolved, settings)
            table = {**settings.to_table(), "execution": resolved.get("execution", {})}
            for seed in seeds:
                jobs.append(
                    Job(
                        suite=suite.name, task=task.name, method=method, seed=seed, root=str(root),
                        table={**table, "seed": seed}, calls=calls, threshold=suite.threshold,
                        prior=settings.head.prior, config=config, threads=threads, keep=request.keep,
                    )
                )  # fmt: skip
    # Seed by seed, so that an interrupted benchmark has something of everything.
    order = {seed: number for number, seed in enumerate(seeds)}
    return Plan(request, suite, tasks, calls, tuple(sorted(jobs, key=lambda job: order[job.seed])))


def _base(request: Request, suite: Suite, budget: int) -> Table:
    """The config of every run but its scoring."""
    given: Table = read_table(request.config) if request.config is not None else {}
    for key in FIXED:
        if key in given:
            raise ConfigError(f"config file '{request.config}': {key} is the benchmark's own; remove it")
    refuse_new_methods(given, request.assignments)
    for assignment in request.assignments:
        key = assignment.partition("=")[0].strip().partition(".")[0]
        if key in FIXED:
            raise ConfigError(f"--set {key}: the benchmark has its own; see --budget, --prior, --seeds and --methods")
        given = set_key(given, assignment)
    check_keys(given)
    for name, table in own_methods(given).items():
        for key in FIXED:
            if key in table and key != "preset":
                raise ConfigError(f"methods.{name}.{key} is the benchmark's own; remove it")
    prior = request.prior if request.prior is not None else suite.prior
    return merge(given, {"prior": prior, "oracle_budget": budget, "threshold": suite.threshold})


def _config_hash(resolved: Mapping[str, Any], settings: RunSettings) -> str:
    """What rows depend on: method, score and prior; not the seed, the length, nor where things are computed."""
    without = ("execution", "failure", "seed", "prior", "agent", "scoring", "oracle_budget", "max_steps")
    parts = {k: v for k, v in without_later(dict(resolved)).items() if k not in without}
    parts.pop("exploit", None)
    if settings.head.exploit.used:  # without it as before there was such a table
        parts["exploit"] = settings.head.exploit.model_dump(exclude_defaults=True)
    content: list[Any] = [parts, *settings.scoring.essence(), settings.prior.sha256()]
    if settings.diversity_filter[0].name != "none":  # its defaults have changed once
        content.append(placeless(settings.to_table()["diversity_filter"], lambda path: path.name))
    if settings.augmentation_name in WITH_INVALID_TEXT:
        content.append("of the batch with its invalid text")
    files = hashes(settings.files())
    if settings.agent != settings.prior:
        files["agent"] = settings.agent.sha256()
    if settings.seed_molecules is not None:
        files["replay.seed_molecules"] = file_hash(settings.seed_molecules)
    if files:
        content.append(files)
    if settings.follows_budget:
        content.append(settings.head.oracle_budget)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def threads_each(processes: int) -> int:
    """The threads of one of several processes; OMP_NUM_THREADS bounds them as it does elsewhere."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    bound = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, cores // processes)
    return min(share, int(bound)) if bound.isdecimal() and int(bound) > 0 else share

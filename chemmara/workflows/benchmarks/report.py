"""The table and the plot of a benchmark, made from its results.csv alone."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chemmara.places import write_whole
from chemmara.reporting.compare import mean_and_sd
from chemmara.reporting.statistics import LEAST_SEEDS, holm, mann_whitney
from chemmara.workflows.benchmarks.plan import Plan, Request
from chemmara.workflows.benchmarks.results import KEY, Row, describe
from chemmara.workflows.benchmarks.significance import COUNT_OFFSET, SCORE_OFFSET, Ratio, compare_pairs, log_ratios
from chemmara.workflows.benchmarks.suite import Suite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TABLE, PLOT = "table.md", "plot.png"
SUM = "sum over tasks"

Values = dict[str, dict[int, float]]  # by task and seed


@dataclass(frozen=True)
class Results:
    """The rows of a plan, and what they are compared with."""

    plan: Plan
    rows: list[Row]

    @property
    def suite(self) -> Suite:
        return self.plan.suite

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(job.method for job in self.plan.jobs))

    @property
    def against(self) -> str:
        """The method that the others are compared with: the one asked for, else vanilla, else the first."""
        asked = self.plan.request.against
        return asked if asked is not None else "vanilla" if "vanilla" in self.methods else self.methods[0]

    @property
    def others(self) -> list[str]:
        return [method for method in self.methods if method != self.against]

    @property
    def metrics(self) -> list[str]:
        """The suite's headline, with the same counts on clean molecules where the rows have them."""
        known = {name for row in self.rows for name in row}
        names = [part for name in self.suite.headline for part in (name, f"{name}_clean")]
        return [name for name in names if name in known]

    def values(self, method: str, metric: str, calls: int) -> Values:
        found: Values = {}
        for row in self.rows:
            if row["method"] == method and row["calls"] == calls:
                found.setdefault(row["task"], {})[row["seed"]] = float(row.get(metric, math.nan))
        return found

    def missing(self) -> int:
        have = {tuple(row[name] for name in KEY) for row in self.rows}
        return sum(any((*job.key, calls) not in have for calls in job.calls) for job in self.plan.jobs)


def write_report(plan: Plan) -> list[Path]:
    """Write table.md and plot.png of the rows that are there; the paths, none without a row."""
    found = Results(plan, plan.rows())
    if not found.rows:
        return []
    paths = [plan.request.out / TABLE, plan.request.out / PLOT]
    write_whole(paths[0], markdown(found))
    figure(found).savefig(paths[1], dpi=150)
    return paths


def command(request: Request, suite: Suite) -> str:
    """The command line that runs what is missing and writes the table anew."""
    words = ["chemmara", "benchmark", suite.name, "-o", str(request.out), "--methods", ",".join(request.methods)]
    words += ["--seeds", spans(request.seeds)]
    words += ["--tasks", ",".join(request.tasks)] if request.tasks else []
    words += ["--budget", str(request.budget)] if request.budget is not None else []
    words += ["--prior", request.prior] if request.prior is not None else []
    words += ["--config", str(request.config)] if request.config is not None else []
    words += [part for assignment in request.assignments for part in ("--set", assignment)]
    words += ["--against", request.against] if request.against is not None else []
    return shlex.join(words)


def spans(seeds: Sequence[int]) -> str:
    """Seeds as the command line takes them.

    >>> spans([0, 1, 2, 5])
    '0-2,5'
    """
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and parts[-1][-1] == seed - 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)


# The table ------------------------------------------------------------------------------------------------------------


def markdown(found: Results) -> str:
    """The whole page: the command, then for each number of calls the values, and the methods over all tasks."""
    suite, parts = found.suite, []
    seeds = sorted({row["seed"] for row in found.rows})
    priors = ", ".join(sorted({f"`{row['prior']}`" for row in found.rows}))
    hit = f"hit: score >= {suite.threshold:g}"
    parts.append(f"# {suite.summary}\n")
    parts.append(f"```sh\n{command(found.plan.request, suite)}\n```\n")
    parts.append(f"{suite.source}. Prior {priors}; {hit}; seeds {spans(seeds)}; mean ± sd over seeds.\n")
    if found.missing():
        parts.append(f"**{found.missing()} of {len(found.plan.jobs)} runs are missing.**\n")
    for calls in reversed(found.plan.calls):
        parts.append(f"## After {calls:,} oracle calls\n")
        parts.append(_values_table(found, calls))
        if found.others:
            parts.append(_ratio_table(found, calls))
    parts.append(_notes(found))
    return "\n".join(parts)


def _values_table(found: Results, calls: int) -> str:
    header = ["task", "metric", found.against]
    for method in found.others:
        header += [method, "p (Holm)"]
    p_values = {name: _p_values(found, name, calls) for name in found.metrics}
    lines = []
    for task in [task.name for task in found.plan.tasks]:
        for name in found.metrics:
            line = [f"`{task}`", describe(name).label, cell(name, found.values(found.against, name, calls).get(task))]
            for method in found.others:
                line += [cell(name, found.values(method, name, calls).get(task)), p_values[name][task, method]]
            lines.append(line)
    if found.suite.sums and len(found.plan.tasks) > 1:
        lines.append(_sum_line(found, calls))
    return _markdown(header, lines)


def _p_values(found: Results, name: str, calls: int) -> dict[tuple[str, str], str]:
    """p and corrected p by (task, method) as text: one family over tasks and methods."""
    base = found.values(found.against, name, calls)
    tested: dict[tuple[str, str], float] = {}
    texts: dict[tuple[str, str], str] = {}
    for method in found.others:
        values = found.values(method, name, calls)
        for task in [task.name for task in found.plan.tasks]:
            pair = [list(side.get(task, {}).values()) for side in (values, base)]
            texts[task, method] = "-"
            if min(map(len, pair)) >= LEAST_SEEDS and not any(map(math.isnan, pair[0] + pair[1])):
                tested[task, method] = mann_whitney(*pair)[1]
    for (key, p), corrected in zip(tested.items(), holm(list(tested.values())), strict=True):
        texts[key] = f"{p:.2g} ({corrected:.2g})"
    return texts


def _sum_line(found: Results, calls: int) -> list[str]:
    """The sum of the first metric over tasks, for the seeds that have them all."""
    name = found.suite.headline[0]
    line = [f"**{SUM}**", describe(name).label]
    for method in (found.against, *found.others):
        sums = _sums(found.values(method, name, calls), len(found.plan.tasks))
        line += [f"**{cell(name, sums)}**"] + (["-"] if method != found.against else [])
    return line


def _sums(values: Values, tasks: int) -> dict[int, float]:
    seeds = set.intersection(*(set(by_seed) for by_seed in values.values())) if len(values) == tasks else set()
    return {seed: math.fsum(by_seed[seed] for by_seed in values.values()) for seed in sorted(seeds)}


def cell(name: str, values: Mapping[int, float] | None) -> str:
    """``mean ± sd`` of the seeds; for a burden that some seeds never reached, how many did."""
    known = list((values or {}).values())
    mean, sd = mean_and_sd(known)
    if math.isnan(mean):
        return "-"
    if math.isinf(mean):
        return f"reached by {sum(map(math.isfinite, known))} of {len(known)}"
    digits = 3 if _is_score(name) else 1
    return f"{mean:,.{digits}f}" + ("" if math.isnan(sd) else f" ± {sd:,.{digits}f}")


def _is_score(name: str) -> bool:
    return describe(name).unit in ("0 to 1", "score")


def _ratio_table(found: Results, calls: int) -> str:
    header = ["over all tasks", "metric", "ratio", "95 % interval", "pairs", "p (Holm)"]
    lines = []
    for name in found.metrics:
        ratios = dict(_ratios(found, name, calls))
        corrected = dict(zip(ratios, holm([ratio.p for ratio in ratios.values()]), strict=True))
        for method, r in ratios.items():
            interval = "-" if math.isnan(r.low) else f"{r.low:.3g} to {r.high:.3g}"
            p = f"{r.p:.2g} ({corrected[method]:.2g})"
            title = f"{method} / {found.against}"
            lines.append(
                [
                    title,
                    describe(name).label,
                    "-" if math.isnan(r.ratio) else f"{r.ratio:.3g}",
                    interval,
                    str(r.pairs),
                    p,
                ]
            )
    return _markdown(header, lines) if lines else ""


def _ratios(found: Results, name: str, calls: int) -> Iterator[tuple[str, Ratio]]:
    base = found.values(found.against, name, calls)
    for method in found.others:
        offset = SCORE_OFFSET if _is_score(name) else COUNT_OFFSET
        pairs = log_ratios(found.values(method, name, calls), base, offset)
        if sum(map(len, pairs.values())) >= LEAST_SEEDS:
            yield method, compare_pairs(pairs)


def _notes(found: Results) -> str:
    meanings = "".join(f"- {describe(name).label}: {describe(name).meaning}\n" for name in found.metrics)
    tests = (
        f"- p beside a task: exact two-sided Mann-Whitney test against {found.against}, from {LEAST_SEEDS} seeds on "
        "(five against five give 0.0079 at least); in brackets after Holm's correction over tasks and methods\n"
        f"- over all tasks: geometric mean ratio, pairs of equal task and seed, {COUNT_OFFSET:g} added to counts and "
        f"{SCORE_OFFSET:g} to scores; the interval is a bootstrap of the seeds within tasks, as wide as Student's t "
        "has it for that few; p is Wilcoxon's exact signed-rank test over the pairs, in brackets after Holm's "
        "correction over the methods; a burden that one side of a pair never reached is the largest difference there "
        "is, and leaves no ratio\n"
    )
    published = f"- {found.suite.published}\n" if found.suite.published else ""
    return meanings + (tests if found.others else "") + published


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---", "---", *("---:" for _ in header[2:])], *lines]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


# The plot -------------------------------------------------------------------------------------------------------------


def figure(found: Results) -> Figure:
    """The first two metrics: a panel per task over the calls where there are several, else bars of tasks by method."""
    from matplotlib.figure import Figure

    names = found.suite.headline[:2]
    tasks = [task.name for task in found.plan.tasks]
    if len(found.plan.calls) > 1:
        drawn = Figure(figsize=(3.4 * len(tasks), 3.0 * len(names)), layout="constrained")
        axes = drawn.subplots(len(names), len(tasks), squeeze=False)
        for row, name in zip(axes, names, strict=True):
            for axis, task in zip(row, tasks, strict=True):
                _lines(axis, found, name, task)
        axes[0][0].legend(frameon=False, fontsize=8)
        return drawn
    width = max(4.0, 0.3 * len(tasks) * (len(found.methods) + 1))
    drawn = Figure(figsize=(width, 3.4 * len(names)), layout="constrained")
    for axis, name in zip(drawn.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
        _bars(axis, found, name, tasks)
        axis.legend(frameon=False, fontsize=8)
    return drawn


def _lines(axis: Axes, found: Results, name: str, task: str) -> None:
    for method in found.methods:
        points = [
            (calls, *mean_and_sd(list(found.values(method, name, calls).get(task, {}).values())))
            for calls in found.plan.calls
        ]
        calls, means, sds = zip(*points, strict=True)
        errors = [0.0 if math.isnan(sd) else sd for sd in sds]
        axis.errorbar(calls, means, yerr=errors, marker="o", markersize=3, capsize=2, label=method)
    axis.set_title(task, fontsize=9)
    axis.set_xlabel("oracle calls")
    axis.set_ylabel(describe(name).label)


def _bars(axis: Axes, found: Results, name: str, tasks: Sequence[str]) -> None:
    calls, share = found.plan.calls[-1], 0.8 / len(found.methods)
    for number, method in enumerate(found.methods):
        values = found.values(method, name, calls)
        stats = [mean_and_sd(list(values.get(task, {}).values())) for task in tasks]
        places = [place + (number - (len(found.methods) - 1) / 2) * share for place in range(len(tasks))]
        errors = [0.0 if math.isnan(sd) else sd for _, sd in stats]
        axis.bar(places, [mean for mean, _ in stats], share, yerr=errors, label=method, capsize=2)
    axis.set_xticks(range(len(tasks)), tasks, rotation=60 if len(tasks) > 3 else 0, fontsize=8)
    axis.set_ylabel(describe(name).label)

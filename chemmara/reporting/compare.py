"""Methods against each other: mean and spread over seeds, and an exact test between them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chemmara.errors import RunError, UserError
from chemmara.metrics.table import metric
from chemmara.reporting.measures import COMPARED, Digest, digest, measure
from chemmara.reporting.origins import collect, mixed, score_of
from chemmara.reporting.runs import Run, read_manifest
from chemmara.reporting.statistics import LEAST_SEEDS, holm, mann_whitney

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

DEFAULT_THRESHOLD = 0.7
TOO_FEW = "too few seeds"
ALIKE = 1.1
"""Runs whose oracle calls differ by no more than this factor are of one length: a step may overshoot."""
BEST = 100
"""Molecules that the metric top_100 is over, where a run has them."""
BURDENS = tuple(name for name in COMPARED if name.startswith("burden_"))
FILES = ("compare.csv", "compare_tests.csv", "compare.png")


@dataclass(frozen=True)
class Comparison:
    """The outcome of :func:`compare`.

    ``table`` has a row per (threshold, method) with the number of seeds and ``<metric>_mean`` and ``<metric>_sd``
    (sample standard deviation; blank for one seed); ``tests`` a row per (threshold, metric, pair of methods), corrected
    over the pairs; ``runs`` a row per (threshold, run) with the values themselves. A burden that was not reached is
    infinite.
    """

    thresholds: tuple[float, ...]
    table: pd.DataFrame
    tests: pd.DataFrame
    runs: pd.DataFrame
    digests: tuple[Digest, ...]
    remarks: tuple[str, ...] = ()
    """What a reader must know before the figures are believed, a line each."""

    def render(self) -> list[Table]:
        """Tables for the terminal: per threshold the metrics by method, and the tests between methods."""
        from rich.markup import escape
        from rich.table import Table

        tables = []
        for threshold in self.thresholds:
            part = self.table[self.table.threshold == threshold]
            table = Table(title=f"mean ± sd over seeds, hit = score ≥ {threshold:g}", title_justify="left")
            table.add_column("")
            for row in part.itertuples():
                table.add_column(escape(f"{row.method} ({row.seeds})"), justify="right")
            pair = len(part) == 2
            if pair:
                table.add_column("p (Holm)", justify="right")
            for name in ("oracle_calls", *COMPARED):
                cells = [self._cell(row, name) for _, row in part.iterrows()]
                verdict = self._verdict(threshold, name) if pair and name in COMPARED else ""
                table.add_row(metric(name).label, *cells, *([verdict] if pair else []))
            tables.append(table)
        if self.table.method.nunique() > 2 and not self.too_few_seeds:
            tables.append(self._tests_table())
        return tables

    @property
    def too_few_seeds(self) -> bool:
        """Whether no two methods have the seeds that a test takes."""
        return bool(len(self.tests)) and bool((self.tests.note == TOO_FEW).all())

    def _cell(self, row: Any, name: str) -> str:
        mean, sd = row[f"{name}_mean"], row[f"{name}_sd"]
        if math.isnan(mean):
            return "-"
        values = self.runs[(self.runs.threshold == row.threshold) & (self.runs.method == row.method)][name]
        if math.isinf(mean):
            return f"reached by {sum(map(math.isfinite, values))} of {len(values)}"
        counted = math.isnan(sd) and float(mean).is_integer()  # of a single run
        digits = 3 if metric(name).unit in ("0 to 1", "score") else 0 if counted else 1
        undefined = sum(map(math.isnan, values))
        part = f" ({len(values) - undefined} of {len(values)})" if undefined else ""
        return f"{mean:,.{digits}f}" + ("" if math.isnan(sd) else f" ± {sd:,.{digits}f}") + part

    def _verdict(self, threshold: float, name: str) -> str:
        found = self.tests[(self.tests.threshold == threshold) & (self.tests.metric == name)]
        return _p_text(found.iloc[0])

    def _tests_table(self) -> Table:
        from rich.markup import escape
        from rich.table import Table

        table = Table("threshold", "metric", "methods", "p (Holm)", title="exact two-sided Mann-Whitney tests")
        for _, row in self.tests.iterrows():
            pair = escape(f"{row.method_a} : {row.method_b}")
            table.add_row(f"{row.threshold:g}", metric(row.metric).label, pair, _p_text(row))
        return table

    def save(self, directory: str | Path) -> list[Path]:
        """Write compare.csv, compare_tests.csv and compare.png; the paths. Raises :class:`UserError` or RunError."""
        from chemmara.reporting.plots import comparison_figure

        directory = Path(directory)
        paths = [directory / name for name in FILES]
        with _writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            self.table.to_csv(paths[0], index=False)
            self.tests.to_csv(paths[1], index=False)
            comparison_figure(self.digests, self.thresholds).savefig(paths[2], dpi=150)
        return paths


def compare(
    paths: str | Path | Run | Sequence[str | Path | Run],
    thresholds: Sequence[float] | float = (),
    progress: Callable[[Run], None] | None = None,
) -> Comparison:
    """Compare the methods of runs, output directories or tables.

    ``thresholds`` (default: those of the runs' own configs, else 0.7) say what a hit is. ``progress`` is called with
    each run before it is read. Raises :class:`UserError` where a path holds no run, or a threshold is not finite.
    """
    runs = collect([paths] if isinstance(paths, (str, Path, Run)) else list(paths))
    thresholds = [thresholds] if isinstance(thresholds, (int, float)) else thresholds
    wanted = thresholds or [run.threshold for run in runs if run.threshold is not None] or [DEFAULT_THRESHOLD]
    chosen = tuple(sorted(set(map(float, wanted))))
    if not all(map(math.isfinite, chosen)):
        raise UserError(f"--threshold must be a finite number (got {', '.join(map(str, chosen))})")
    digests, records = [], []
    for run in runs:
        if progress is not None:
            progress(run)
        digests.append(digest(run))
        for threshold, values in zip(chosen, measure(digests[-1], chosen), strict=True):
            records.append({"threshold": threshold, "method": run.method, "seed": run.seed, **values})
    found = _summarise(chosen, records, tuple(digests))
    few = (f"no test between methods: that takes {LEAST_SEEDS} seeds of each",) if found.too_few_seeds else ()
    assumed = () if thresholds else _assumed(runs, chosen)
    unlike = tuple(f"the runs of '{method}' differ in {what}" for method, what in mixed(runs).items())
    return replace(found, remarks=(*_remarks(digests), *unlike, *assumed, *few))


def _assumed(runs: Sequence[Run], thresholds: Sequence[float]) -> tuple[str, ...]:
    unknown = [f"'{run.name}'" for run in runs if run.threshold is None]
    shown = " and ".join(f"{threshold:g}" for threshold in thresholds)
    return (f"the threshold of {_listed(unknown)} is not known: taken to be {shown}",) if unknown else ()


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _remarks(digests: Sequence[Digest]) -> tuple[str, ...]:
    remarks = []
    calls = [len(each.scores) for each in digests]
    if max(calls) > ALIKE * min(calls):
        remarks.append(
            f"the runs have {min(calls):,} to {max(calls):,} oracle calls: whoever has more of them finds more, and "
            "only burdens and validity can be compared; a burden above the calls of the shortest run of two "
            "methods is tested as one that was not reached"
        )
    scored = {each.run.name: sum(not math.isnan(score) for score in each.scores) for each in digests}
    if short := [f"'{name}' ({number})" for name, number in scored.items() if number < BEST]:
        remarks.append(
            f"fewer than {BEST} molecules have a score in {_listed(short)}: their mean top-{BEST} is over those"
        )
    folders = [each.run.directory for each in digests if each.run.directory is not None]
    manifests = [read_manifest(folder) for folder in folders]
    kept = all("score" in manifest for manifest in manifests)
    scores: dict[str, str] = {}
    for folder, manifest in zip(folders, manifests, strict=True):
        if score := json.dumps(manifest["score"]) if kept else score_of(folder):
            scores.setdefault(score, f"{folder}")
    mended = [
        f"'{folder}'" for folder, manifest in zip(folders, manifests, strict=True) if manifest.get("score_before")
    ]
    if mended:
        remarks.append(
            f"{_listed(mended)} went on with a mended oracle: earlier molecules keep the score of the old one"
        )
    if len(scores) > 1:
        first, second, *_ = scores.values()
        remarks.append(
            f"[scoring], or what it reads and runs, differs between '{first}' and '{second}': their figures are not of "
            "one goal"
        )
    return tuple(remarks)


def _summarise(thresholds: tuple[float, ...], records: list[dict[str, Any]], digests: tuple[Digest, ...]) -> Comparison:
    import pandas as pd

    methods = list(dict.fromkeys(record["method"] for record in records))
    table: list[dict[str, Any]] = []
    tests: list[dict[str, Any]] = []
    for threshold in thresholds:
        values = {
            name: {m: [r[name] for r in records if r["method"] == m and r["threshold"] == threshold] for m in methods}
            for name in ("oracle_calls", *COMPARED)
        }
        for method in methods:
            row: dict[str, Any] = {"threshold": threshold, "method": method, "seeds": len(values["hits"][method])}
            for name, by_method in values.items():
                row[f"{name}_mean"], row[f"{name}_sd"] = mean_and_sd(by_method[method])
            table.append(row)
        for name in COMPARED:
            tests += _tests(threshold, name, values[name], values["oracle_calls"])
    columns = ["threshold", "metric", "method_a", "method_b", "seeds_a", "seeds_b", "u", "p", "p_holm", "note"]
    return Comparison(
        thresholds, pd.DataFrame(table), pd.DataFrame(tests, columns=columns), pd.DataFrame(records), digests
    )


def _reached(burdens: Sequence[float], calls: Sequence[float]) -> list[float]:
    """Burdens as far as every run could have reached them: a longer run is not better for having had the calls."""
    limit = min(calls) if max(calls) > ALIKE * min(calls) else math.inf
    return [each if each <= limit else math.inf for each in burdens]


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation, NaN included nowhere; sd NaN for fewer than two values or infinite ones."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    mean = math.fsum(known) / len(known)
    if len(known) < 2 or math.isinf(mean):
        return mean, math.nan
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1))


def _tests(
    threshold: float, name: str, values: dict[str, list[float]], calls: dict[str, list[float]]
) -> Iterator[dict[str, Any]]:
    """The tests of one metric between all pairs of methods: one family for Holm's correction."""
    rows: list[dict[str, Any]] = []
    for a, b in combinations(values, 2):
        row = {"threshold": threshold, "metric": name, "method_a": a, "method_b": b}
        row |= {"seeds_a": len(values[a]), "seeds_b": len(values[b]), "u": math.nan, "p": math.nan, "p_holm": math.nan}
        row["note"] = ""
        if min(len(values[a]), len(values[b])) < LEAST_SEEDS:
            row["note"] = TOO_FEW
        elif any(map(math.isnan, values[a] + values[b])):
            row["note"] = "undefined for some seeds"
        else:
            one, other = values[a], values[b]
            if name in BURDENS:
                both = [*calls[a], *calls[b]]
                one, other = _reached(one, both), _reached(other, both)
            row["u"], row["p"] = mann_whitney(one, other)
        rows.append(row)
    tested = [row for row in rows if not row["note"]]
    for row, corrected in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = corrected
    yield from rows


def _p_text(row: Any) -> str:
    return str(row.note) if row.note else f"{row.p_holm:.3g}"


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"cannot write to '{directory}': {error.strerror}") from None
    except OSError as error:
        raise RunError(f"cannot write to '{directory}': {error.strerror or error}") from None

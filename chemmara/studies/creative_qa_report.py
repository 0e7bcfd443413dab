"""What `chemmara study creative-qa` writes and shows: tables, generations, plots, progress, the summary."""

from __future__ import annotations

import csv
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from chemmara.studies.creative_qa_settings import BASE, METRIC_COLUMNS, SUMMARY_COLUMNS, CreativeQASettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table

    from chemmara.studies.creative_qa_measure import Answers

Row = Mapping[str, Any]
LINE_SECONDS = 10.0
SHOWN = {
    "reward": "reward",
    "ead": "EAD",
    "semantic_diversity": "semantic diversity",
    "distinct": "mean distinct",
    "value": "truly liked",
    "length": "tokens",
}


class Writer:
    """The study's files, each line on its way to the disk as it comes: an interrupted study keeps what it has."""

    def __init__(self, directory: Path, settings: CreativeQASettings) -> None:
        import tomli_w

        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.summary: list[Row] = []
        self.steps: list[Row] = []
        table = settings.model_dump(mode="json", exclude_none=True)
        (directory / "settings.toml").write_text(tomli_w.dumps(table), encoding="utf-8")
        self._write("metrics.csv", "w", list(METRIC_COLUMNS))
        self._write("summary.csv", "w", list(SUMMARY_COLUMNS))
        (directory / "generations.jsonl").write_text("", encoding="utf-8")

    def _write(self, name: str, mode: str, cells: Sequence[Any]) -> None:
        with (self.directory / name).open(mode, newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(cells)

    def step(self, row: Row) -> None:
        """A step of a run."""
        self.steps.append(row)
        self._write("metrics.csv", "a", [_cell(row.get(name)) for name in METRIC_COLUMNS])

    def end(self, row: Row, answers: Answers) -> None:
        """The evaluation at the end of a run, or of the base."""
        self.summary.append(row)
        self._write("summary.csv", "a", [_cell(row.get(name)) for name in SUMMARY_COLUMNS])
        with (self.directory / "generations.jsonl").open("a", encoding="utf-8") as file:
            for record in answers.records():
                whose = {"augmentation": row["augmentation"], "seed": row["seed"]}
                file.write(json.dumps({**whose, **record}, ensure_ascii=False) + "\n")

    def plots(self) -> list[Path]:
        """training.png (over the steps) and diversity.png (against the reward, at the end)."""
        figures = {"training.png": training_figure(self.steps), "diversity.png": diversity_figure(self.summary)}
        for name, figure in figures.items():
            figure.savefig(self.directory / name, dpi=130)
        return [self.directory / name for name in figures]


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


class Follow:
    """Live progress: bars on a terminal, elsewhere a line every few seconds and at the end of each run."""

    def __init__(self, console: Console, runs: int, steps: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console, self.total, self.live, self._last = console, steps, sys.stdout.isatty(), time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=console, transient=True, disable=not self.live)
        self._all = self._bars.add_task("steps of all runs", total=runs * steps)
        self._one = self._bars.add_task("", total=steps)

    def step(self, row: Row) -> None:
        """A step of a run."""
        figures = f"reward {row['reward']:.3f}, distinct share {row['distinct_share']:.2f}"
        text = f"{row['augmentation']}, seed {row['seed']}: {figures}"
        self._bars.advance(self._all)
        self._bars.update(self._one, completed=row["step"] + 1, description=text)
        if not self.live and time.monotonic() - self._last >= LINE_SECONDS:
            self._last = time.monotonic()
            self.say(f"{text}, step {row['step'] + 1} of {self.total}")

    def end(self, row: Row) -> None:
        """An evaluation."""
        shown = [f"{label} {row[name]:.3f}" for name, label in SHOWN.items() if not math.isnan(row[name])]
        self.say(f"{row['augmentation']}, seed {row['seed']}: {', '.join(shown)}")

    def say(self, text: str) -> None:
        """A line above the bars."""
        self.console.print(text, markup=False, soft_wrap=True)

    def __enter__(self) -> Follow:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()


# Summary --------------------------------------------------------------------------------------------------------------


def by_method(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each augmentation, in order of first appearance."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["augmentation"], []).append(row)
    return found


def summary_table(summary: Sequence[Row]) -> Table:
    """A line a method: mean and standard deviation over seeds."""
    from rich.table import Table

    table = Table("augmentation", title="after tuning, mean ± sd over seeds", title_justify="left")
    shown = {name: label for name, label in SHOWN.items() if any(not math.isnan(row[name]) for row in summary)}
    for label in ("seeds", *shown.values()):
        table.add_column(label, justify="right")
    for method, rows in by_method(summary).items():
        table.add_row(method, str(len(rows)), *(_mean_and_sd([row[name] for row in rows]) for name in shown))
    return table


def verdict(summary: Sequence[Row]) -> str:
    """MARA against plain reinforcement learning in one sentence, if both were run on the same seeds."""
    plain, mara = ({row["seed"]: row for row in by_method(summary).get(name, [])} for name in ("none", "mara"))
    seeds = [seed for seed in plain if seed in mara]
    if not seeds:
        return ""
    mine, other = (math.fsum(rows[seed]["reward"] for seed in seeds) / len(seeds) for rows in (mara, plain))
    parts = [
        f"{SHOWN[name]} higher in {sum(mara[s][name] > plain[s][name] for s in seeds)} of {len(seeds)} seeds"
        for name in ("ead", "semantic_diversity", "distinct")
    ]
    return f"mara against none: reward {mine:.3f} against {other:.3f}; {'; '.join(parts)}"


def _mean_and_sd(values: Sequence[float]) -> str:
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)):.3f}"


# Plots ----------------------------------------------------------------------------------------------------------------


def _panels(width: float, n: int) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * n, 3.2), layout="constrained")
    return figure, figure.subplots(1, n, squeeze=False)[0]


def training_figure(steps: Sequence[Row]) -> Figure:
    """Reward, log(agent/reference) and distinct share over the steps: a line a run, a colour an augmentation."""
    panels = {"reward": "reward", "kl": "log(agent/reference), nats", "distinct_share": "distinct share of its answers"}
    figure, axes = _panels(3.6, len(panels))
    for number, (method, rows) in enumerate(by_method(steps).items()):
        for place, seed in enumerate(dict.fromkeys(row["seed"] for row in rows)):
            run = [row for row in rows if row["seed"] == seed]
            for axis, name in zip(axes, panels):
                values, label = [row[name] for row in run], "" if place else method
                axis.plot([row["step"] for row in run], values, f"C{number}", linewidth=0.8, alpha=0.7, label=label)
    for axis, text in zip(axes, panels.values()):
        axis.set(xlabel="step", ylabel=text)
    axes[0].legend(frameon=False)
    return figure


def diversity_figure(summary: Sequence[Row]) -> Figure:
    """Each measure of diversity against the reward at the end: a point a run."""
    panels = ("ead", "semantic_diversity", "distinct")
    figure, axes = _panels(3.4, len(panels))
    for method, rows in by_method(summary).items():
        for axis, name in zip(axes, panels):
            colour = "0.6" if method == BASE else None
            axis.scatter([r["reward"] for r in rows], [r[name] for r in rows], alpha=0.8, label=method, color=colour)
    for axis, name in zip(axes, panels):
        axis.set(xlabel="reward", ylabel=SHOWN[name])
    axes[0].legend(frameon=False)
    return figure

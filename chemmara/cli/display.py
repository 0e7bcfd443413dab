"""Following `chemmara optimize`: a live table on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from chemmara.optimization.watcher import Watcher

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from chemmara.optimization.directory import RunDirectory
    from chemmara.optimization.settings import RunSettings

LINE_SECONDS = 10.0
MOST_ROWS = 20

# Column of metrics.csv: (heading on a terminal, words in a plain line, format)
FIGURES: dict[str, tuple[str, str, str]] = {
    "step": ("step", "step", ",.0f"),
    "oracle_calls": ("oracle calls", "oracle calls", ",.0f"),
    "mean_score": ("mean score", "mean score", ".3f"),
    "hits": ("hits", "hits", ",.0f"),
    "scaffolds": ("scaffolds", "scaffolds", ",.0f"),
    "validity": ("validity", "validity", ".2f"),
    "unique": ("unique", "unique share", ".2f"),
    "kl": ("KL, nats", "KL to the prior (nats)", ".1f"),
    "molecules_per_second": ("molecules/s", "molecules per second", ",.0f"),
}


@dataclass
class _Shown:
    """One run as displayed."""

    name: str
    budget: int
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""

    def cells(self) -> dict[str, str]:
        return {name: self._cell(name, form) for name, (_, _, form) in FIGURES.items()}

    def _cell(self, name: str, form: str) -> str:
        value = self.metrics.get(name, math.nan)
        text = "-" if math.isnan(value) else format(value, form)
        return f"{text} / {self.budget:,}" if name == "oracle_calls" else text

    def line(self) -> str:
        return f"{self.name}: " + ", ".join(f"{FIGURES[name][1]} {text}" for name, text in self.cells().items())


class Display(Watcher):
    """Shows each run of an optimization; a context manager, so that the terminal is whole again after an error."""

    def __init__(self, console: Console, every: float = LINE_SECONDS, clock: Callable[[], float] = time.monotonic):
        self.console, self.every, self.clock = console, every, clock
        self.runs: list[_Shown] = []
        self._live: Live | None = None
        self._last_line = -math.inf
        self._said = ""

    def start(self, directory: RunDirectory, settings: RunSettings) -> None:
        self.runs.append(_Shown(directory.key, settings.head.oracle_budget))
        self._last_line = -math.inf
        if self.console.is_terminal and self._live is None:
            from rich.live import Live

            self._live = Live(self._table(), console=self.console, refresh_per_second=4)
            self._live.start()

    def step(self, metrics: Mapping[str, float]) -> None:
        self.runs[-1].metrics = dict(metrics)
        if self._live is not None:
            self._live.update(self._table())
        elif self.clock() - self._last_line >= self.every:
            self._last_line = self.clock()
            self._say_line()

    def _say_line(self) -> None:
        self._said = self.runs[-1].line()
        self.say(self._said)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def end(self, reason: str) -> None:
        run = self.runs[-1]
        run.reason = reason
        if self._live is not None:
            self._live.update(self._table())
        elif run.line() != self._said:
            self._say_line()
        self.say(f"{run.name} is finished: {reason}")

    def _table(self) -> Table:
        from rich.markup import escape
        from rich.table import Table

        table = Table("run", title_justify="left")
        for heading, _, _ in FIGURES.values():
            table.add_column(heading, justify="right")
        for run in self.runs[-MOST_ROWS:]:
            table.add_row(escape(run.name), *run.cells().values(), style="dim" if run.reason else None)
        return table

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

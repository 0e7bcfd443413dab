"""Following a run from outside: what a display or a log overrides. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chemmara.optimization.directory import RunDirectory
    from chemmara.optimization.settings import RunSettings


class Watcher:
    """Does nothing; override what you need. Every call comes from the main process, after the ledger has the row."""

    def start(self, directory: RunDirectory, settings: RunSettings) -> None:
        """A run begins, or goes on."""

    def step(self, metrics: Mapping[str, float]) -> None:
        """A step is done; ``metrics`` by the names of :data:`chemmara.optimization.columns.COLUMNS`."""

    def say(self, text: str) -> None:
        """Something that the user should know."""

    def end(self, reason: str) -> None:
        """The run is finished, for this reason."""


class Watchers(Watcher):
    """Several watchers as one."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self.watchers = tuple(watchers)

    def start(self, directory: RunDirectory, settings: RunSettings) -> None:
        for watcher in self.watchers:
            watcher.start(directory, settings)

    def step(self, metrics: Mapping[str, float]) -> None:
        for watcher in self.watchers:
            watcher.step(metrics)

    def say(self, text: str) -> None:
        for watcher in self.watchers:
            watcher.say(text)

    def end(self, reason: str) -> None:
        for watcher in self.watchers:
            watcher.end(reason)

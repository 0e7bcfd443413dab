"""What `chemmara score` has paid for stays on the disk until its table is whole, so that no accident costs it again."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from chemmara.scoring.evaluation import ComponentSpec, Evaluation, MemoryStore
from chemmara.scoring.ledger import Ledger
from chemmara.scoring.settings import ComponentSettings
from chemmara.workflows.outdated import outdated

DEAR_US = 1000.0
"""Microseconds a molecule from which the values of a component are kept."""

AT_ONCE_US = 10_000.0
"""From here on a value is on the disk before it is used, and so is that of a cheaper component, a user's own function
for one, which may take its time all the same."""
MANY = 50
"""Writes of a second from which on values wait for one another, a second at most, and kill -9 takes what waits: the
disk would take longer than the function."""

REMEMBERED = 200_000
ENDINGS = ("", "-wal", "-shm", "-journal", ".lock", ".lock-journal")
Pairs = Sequence[tuple[str, Evaluation]]


class RecentStore(MemoryStore):
    """Remembers the last evaluations only, so that a file of any size fits."""

    def record(self, key: str, evaluations: Pairs) -> None:
        if len(self._values) > REMEMBERED:
            self._values.clear()
        super().record(key, evaluations)


class KeptStore:
    """An evaluation store in two parts: a ledger beside the table for dear components, the memory for the others.

    The ledger is made with the first value; one that an earlier attempt has left is gone on with, but for its failures,
    which are tried again. Values that do not count any more because a file has changed are a warning, before they are
    paid for again. :meth:`keep` says which components are dear.
    """

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(f"{out.name}.ledger.sqlite")
        self._recent = RecentStore()
        self._dear: list[ComponentSettings] = []
        self._specs: dict[str, ComponentSpec] = {}
        self._at_once: set[str] = set()
        self._waiting: list[tuple[str, Pairs]] = []
        self._written = 0.0
        self._came: deque[float] = deque(maxlen=MANY)
        self.wrote = False
        self._open: Ledger | None = None

    def keep(self, components: Sequence[ComponentSettings]) -> None:
        """From now on keep the values of those components that are dear."""
        self._dear = [each for each in components if each.cost_us >= DEAR_US]
        self._specs = {each.spec.key: each.spec for each in self._dear}
        self._at_once = {each.spec.key for each in components if each.cost_us >= AT_ONCE_US}

    @property
    def used(self) -> bool:
        """Whether there is anything to go on with."""
        return self._open is not None or bool(self._waiting)

    def _ledger(self) -> Ledger:
        if self._open is None:
            found = self.path.exists()
            self._open = Ledger(self.path)
            self._open.describe(self._specs.values())
            if found:
                self._open.forget_failures()
                for line in outdated(self.path, self._open.components(), self._dear):
                    warnings.warn(line, stacklevel=2)
        return self._open

    def describe(self, specs: Iterable[ComponentSpec]) -> None:
        """The ledger is told when it is made."""

    def lookup(self, key: str, smiles: Sequence[str]) -> dict[str, Evaluation]:
        if key not in self._specs:
            return self._recent.lookup(key, smiles)
        self._write()
        return self._ledger().lookup(key, smiles) if self.used or self.path.exists() else {}

    def record(self, key: str, evaluations: Pairs) -> None:
        self.record_all([(key, evaluations)])

    def record_all(self, batches: Sequence[tuple[str, Pairs]]) -> None:
        dear = [(key, pairs) for key, pairs in batches if key in self._specs and pairs]
        self._waiting += dear
        self.wrote = self.wrote or bool(dear)
        now = time.monotonic()
        if dear:
            self._came.append(now)
        fast = len(self._came) == MANY and now - self._came[0] < 1.0
        if not fast or now - self._written >= 1.0 or any(key in self._at_once for key, _ in dear):
            self._write()
            self._written = now
        self._recent.record_all([batch for batch in batches if batch[0] not in self._specs])

    def _write(self) -> None:
        if self._waiting:
            self._ledger().record_all(self._waiting)
        self._waiting = []

    def close(self) -> None:
        """Leave the ledger, for the next attempt."""
        self._write()
        if self._open is not None:
            self._open.close()
        self._open = None

    def discard(self) -> None:
        """The table has all of it. A ledger that has values of other components as well is left as it is."""
        self._waiting = []
        if self._open is None:
            return
        own = all(info.key in self._specs for info in self._open.components())
        self.close()
        for ending in ENDINGS if own else ():
            Path(f"{self.path}{ending}").unlink(missing_ok=True)

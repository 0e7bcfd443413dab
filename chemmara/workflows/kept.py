"""What `chemmara score` has paid for stays on the disk until its table is whole, so that no accident costs it again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from chemmara.scoring.evaluation import ComponentSpec, Evaluation, MemoryStore
from chemmara.scoring.ledger import Ledger

DEAR_US = 1000.0
"""Microseconds a molecule from which the values of a component are kept."""

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
    which are tried again. :meth:`keep` says which components are dear.
    """

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(f"{out.name}.ledger.sqlite")
        self._recent = RecentStore()
        self._specs: dict[str, ComponentSpec] = {}
        self._open: Ledger | None = None

    def keep(self, specs: Iterable[ComponentSpec]) -> None:
        """From now on keep the values of these components."""
        self._specs = {spec.key: spec for spec in specs}

    @property
    def used(self) -> bool:
        """Whether there is anything to go on with."""
        return self._open is not None

    def _ledger(self) -> Ledger:
        if self._open is None:
            found = self.path.exists()
            self._open = Ledger(self.path)
            self._open.describe(self._specs.values())
            if found:
                self._open.forget_failures()
        return self._open

    def describe(self, specs: Iterable[ComponentSpec]) -> None:
        """The ledger is told when it is made."""

    def lookup(self, key: str, smiles: Sequence[str]) -> dict[str, Evaluation]:
        if key not in self._specs:
            return self._recent.lookup(key, smiles)
        return self._ledger().lookup(key, smiles) if self.used or self.path.exists() else {}

    def record(self, key: str, evaluations: Pairs) -> None:
        self.record_all([(key, evaluations)])

    def record_all(self, batches: Sequence[tuple[str, Pairs]]) -> None:
        dear = [(key, pairs) for key, pairs in batches if key in self._specs and pairs]
        if dear:
            self._ledger().record_all(dear)
        self._recent.record_all([batch for batch in batches if batch[0] not in self._specs])

    def close(self) -> None:
        """Leave the ledger, for the next attempt."""
        if self._open is not None:
            self._open.close()
        self._open = None

    def discard(self) -> None:
        """The table has all of it. A ledger that has values of other components as well is left as it is."""
        if self._open is None:
            return
        own = all(info.key in self._specs for info in self._open.components())
        self.close()
        for ending in ENDINGS if own else ():
            Path(f"{self.path}{ending}").unlink(missing_ok=True)

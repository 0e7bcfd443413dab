"""The replay buffer: the best molecules of the run, each once, to learn from again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from chemmara.chemistry.molecules import randomize
from chemmara.language.tokenizers import UnreadableText
from chemmara.language.vocabulary import Vocabulary
from chemmara.optimization.settings import ReplaySettings


@dataclass(frozen=True)
class Remembered:
    """One molecule of the buffer; ``ids`` are its tokens as first sampled, ``prior_log_prob`` belongs to them."""

    smiles: str
    ids: tuple[int, ...]
    scaffold: str
    reward: float
    prior_log_prob: float


class ReplayBuffer:
    """At most ``size`` molecules of highest reward; among equals the earlier one stays.

    Molecules that earned nothing are not kept. Its draws come from the generator it is given, so that a resumed run
    draws the same.
    """

    def __init__(self, settings: ReplaySettings) -> None:
        self.settings = settings
        self.entries: list[Remembered] = []

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entries: Sequence[Remembered]) -> None:
        """Take in molecules that the buffer may or may not hold already; the first spelling stays."""
        known = {entry.smiles for entry in self.entries}
        for entry in entries:
            if entry.smiles not in known and entry.reward > 0:
                known.add(entry.smiles)
                self.entries.append(entry)
        self.entries.sort(key=lambda entry: -entry.reward)  # stable: earlier first among equals
        self._crowd()
        del self.entries[self.settings.size :]

    def _crowd(self) -> None:
        limit = self.settings.per_scaffold
        if limit is None:
            return
        held: Counter[str] = Counter()
        kept = []
        for entry in self.entries:
            key = entry.scaffold or entry.smiles
            held[key] += 1
            if held[key] <= limit:
                kept.append(entry)
        self.entries = kept

    def draw(self, rng: np.random.Generator) -> list[Remembered]:
        """Up to ``batch_size`` distinct molecules, uniformly."""
        size = min(self.settings.batch_size, len(self.entries))
        return [self.entries[k] for k in rng.choice(len(self.entries), size, replace=False)]

    def spell(self, entry: Remembered, vocabulary: Vocabulary, rng: np.random.Generator) -> Sequence[int]:
        """The ids to learn: as sampled, or of a fresh random spelling where the vocabulary has one."""
        if not self.settings.randomize:
            return entry.ids
        try:
            return vocabulary.encode(randomize(entry.smiles, int(rng.integers(2**31 - 1))))
        except UnreadableText:
            return entry.ids

    def state_dict(self) -> dict[str, Any]:
        return {"entries": [asdict(entry) for entry in self.entries]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.entries = [Remembered(**{**entry, "ids": tuple(entry["ids"])}) for entry in state["entries"]]

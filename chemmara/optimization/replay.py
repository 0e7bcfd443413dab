"""The replay buffer: the best molecules of the run, each once, to learn from again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from chemmara.chemistry.molecules import randomize
from chemmara.klrl.augmentation import ModeParameters
from chemmara.language.tokenizers import UnreadableText
from chemmara.language.vocabulary import Vocabulary
from chemmara.optimization.draws import DRAWS, uniform
from chemmara.optimization.labels import ModeLabels
from chemmara.optimization.tables import ReplaySettings


@dataclass(frozen=True)
class Remembered:
    """One molecule of the buffer; ``ids`` are its tokens as first sampled, or of its canonical spelling where replay is
    to have that, and ``prior_log_prob`` belongs to them."""

    smiles: str
    ids: tuple[int, ...]
    scaffold: str
    reward: float
    prior_log_prob: float


class ReplayBuffer:
    """At most ``size`` molecules of highest reward; among equals the earlier one stays.

    Molecules that earned nothing are not kept. Its draws come from the generator it is given, so that a resumed run
    draws the same. Clusters are those of :class:`ModeLabels`: a molecule's cluster never changes.
    """

    def __init__(self, settings: ReplaySettings) -> None:
        self.settings = settings
        self.entries: list[Remembered] = []
        self._clusters = ModeLabels(ModeParameters(mode="cluster", similarity=settings.similarity))

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
        self._crowd(self.settings.per_scaffold, lambda entry: entry.scaffold or entry.smiles)
        self._crowd(self.settings.per_cluster, self.cluster)
        del self.entries[self.settings.size :]

    def _crowd(self, limit: int | None, group: Callable[[Remembered], Hashable]) -> None:
        """Keep the best ``limit`` of each group."""
        if limit is None:
            return
        held: Counter[Hashable] = Counter()
        kept = []
        for entry in self.entries:
            key = group(entry)
            held[key] += 1
            if held[key] <= limit:
                kept.append(entry)
        self.entries = kept

    def cluster(self, entry: Remembered) -> int:
        """The label of its similarity cluster."""
        return self._clusters([entry.smiles])[0]

    def purge(self, full: Callable[[str], bool]) -> None:
        """Forget the molecules (canonical SMILES) whose bucket of the diversity filter is full."""
        self.entries = [entry for entry in self.entries if not full(entry.smiles)]

    def draw(self, rng: np.random.Generator) -> list[Remembered]:
        """Up to ``batch_size`` molecules, by the rule that the settings name."""
        return [self.entries[k] for k in DRAWS[self.settings.draw](self, self.settings.batch_size, rng)]

    def joining(self, rng: np.random.Generator) -> list[Remembered]:
        """Up to ``join`` distinct molecules, uniformly."""
        return [self.entries[k] for k in uniform(self, self.settings.join, rng)] if self.settings.join else []

    def spell(self, entry: Remembered, vocabulary: Vocabulary, rng: np.random.Generator) -> Sequence[int]:
        """The ids to learn: as remembered, or of a fresh random spelling, where the vocabulary has it."""
        if not self.settings.randomize:
            return entry.ids
        try:
            return vocabulary.encode(randomize(entry.smiles, int(rng.integers(2**31 - 1))))
        except UnreadableText:
            return entry.ids

    def state_dict(self) -> dict[str, Any]:
        return {"entries": [asdict(entry) for entry in self.entries], "clusters": self._clusters.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.entries = [Remembered(**{**entry, "ids": tuple(entry["ids"])}) for entry in state["entries"]]
        self._clusters.load_state_dict(state["clusters"])

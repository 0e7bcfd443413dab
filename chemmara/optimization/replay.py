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

    ``keep_best``: beside them it keeps the best of all that it was offered, for the part of the run in which its limits
    are lifted.
    """

    def __init__(self, settings: ReplaySettings, keep_best: bool = False) -> None:
        self.settings, self.keep_best = settings, keep_best
        self._limited: list[Remembered] = []
        self._best: list[Remembered] = []
        self.lifted = False
        self._clusters = ModeLabels(ModeParameters(mode="cluster", similarity=settings.similarity))

    @property
    def entries(self) -> list[Remembered]:
        """What is drawn from, the best first."""
        return self._best if self.lifted else self._limited

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entries: Sequence[Remembered]) -> None:
        """Take in molecules that the buffer may or may not hold already; the first spelling stays."""
        if self.keep_best:
            self._best = _merged(self._best, entries)[: self.settings.size]
        found = _merged(self._limited, entries)
        found = _uncrowded(found, self.settings.per_scaffold, lambda entry: entry.scaffold or entry.smiles)
        self._limited = _uncrowded(found, self.settings.per_cluster, self.cluster)[: self.settings.size]

    def lift(self, lifted: bool) -> None:
        """Draw from the best of the run from now on, however crowded they are; or from what the limits leave."""
        self.lifted = lifted and self.keep_best

    def respell(self, spelled: Callable[[list[Remembered]], list[Remembered]]) -> None:
        """Take other spellings for those of the molecules that it holds."""
        self._limited, self._best = spelled(self._limited), spelled(self._best)

    def cluster(self, entry: Remembered) -> int:
        """The label of its similarity cluster."""
        return self._clusters([entry.smiles])[0]

    def purge(self, full: Callable[[str], bool], closed: Callable[[str], bool] = lambda _: False) -> None:
        """Forget the molecules (canonical SMILES) whose bucket of the diversity filter is full: they earn nothing any
        more. What lies in a closed cluster is left, not forgotten: it stays among the best of the run."""
        self._best = [entry for entry in self._best if not full(entry.smiles)]
        self._limited = [entry for entry in self._limited if not (full(entry.smiles) or closed(entry.smiles))]

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
        state: dict[str, Any] = {"entries": [asdict(entry) for entry in self._limited]}
        if self.keep_best:
            state["best"] = [asdict(entry) for entry in self._best]
        return {**state, "clusters": self._clusters.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._limited = _restored(state["entries"])
        self._best = _restored(state.get("best", state["entries"] if self.keep_best else []))
        self._clusters.load_state_dict(state["clusters"])


def _merged(entries: Sequence[Remembered], others: Sequence[Remembered]) -> list[Remembered]:
    """Both, the best first; of two of one molecule the earlier stays, and what earned nothing is left out."""
    known = {entry.smiles: entry for entry in entries}
    for entry in others:
        if entry.reward > 0:
            known.setdefault(entry.smiles, entry)
    return sorted(known.values(), key=lambda entry: -entry.reward)  # stable: earlier first among equals


def _uncrowded(
    entries: list[Remembered], limit: int | None, group: Callable[[Remembered], Hashable]
) -> list[Remembered]:
    """The first ``limit`` of each group."""
    if limit is None:
        return entries
    held: Counter[Hashable] = Counter()
    kept = []
    for entry in entries:
        key = group(entry)
        held[key] += 1
        if held[key] <= limit:
            kept.append(entry)
    return kept


def _restored(entries: Sequence[dict[str, Any]]) -> list[Remembered]:
    return [Remembered(**{**entry, "ids": tuple(entry["ids"])}) for entry in entries]

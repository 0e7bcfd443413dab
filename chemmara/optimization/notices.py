"""What a run tells its user on the way, each once."""

from __future__ import annotations

from collections.abc import Sequence

from chemmara.optimization.rollout import CUT
from chemmara.optimization.watcher import Watcher
from chemmara.scoring.rows import SAMPLED, RunRow

MOST_CUT = 0.1
"""Share of a step's sequences without their end from which it is said."""


class CutNotice:
    """Says that many sequences are cut at ``max_tokens``, once a run: they count as invalid, which looks like a bad
    prior."""

    def __init__(self, max_tokens: int, watcher: Watcher) -> None:
        self.max_tokens, self.watcher, self._said = max_tokens, watcher, False

    def look(self, step: int, rows: Sequence[RunRow]) -> None:
        """Look at the rows of a step."""
        sampled = [row for row in rows if row.origin == SAMPLED]
        cut = sum(row.error == CUT.error for row in sampled)
        if not self._said and cut > MOST_CUT * len(sampled):
            self._said = True
            self.watcher.say(
                f"step {step}: {cut:,} of {len(sampled):,} sequences had no end within max_tokens = {self.max_tokens} "
                "and count as invalid; where that goes on, give more"
            )

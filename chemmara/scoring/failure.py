"""When failed oracles end a run: the one place where that policy lives."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from chemmara.config import Parameters
from chemmara.errors import RunError
from chemmara.lazy import lazy
from chemmara.scoring.scores import Scores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy("numpy")

WINDOW = 200
"""The failure rate is taken over so many last valid molecules, so that an oracle that breaks late is noticed soon."""

_MINIMUM = 50  # below this a rate means nothing


OnFailure = Literal["blank", "stop"]


class FailureSettings(Parameters):
    """The ``[failure]`` table. A component's own ``retry`` and ``on_failure`` go before."""

    retry: int = Field(0, ge=0, le=100, description="how often a failed evaluation is tried again before it counts")
    on_failure: OnFailure = Field(
        "blank", description="what a failure means then: a blank score with its reason, or the end of the run"
    )
    stop_above: float = Field(
        0.2,
        ge=0,
        le=1,
        description=f"share of the last {WINDOW} distinct valid molecules that may fail before the run stops",
    )


class FailureCounter:
    """Counts failed molecules and says when there are too many. Its state belongs into the checkpoint."""

    def __init__(self, settings: FailureSettings) -> None:
        self._stop_above = settings.stop_above
        self._recent: deque[str | None] = deque(maxlen=WINDOW)

    def add(self, scores: Scores, rows: NDArray[np.bool_] | None = None) -> None:
        """Count the valid molecules of a batch, in order; invalid text is no failure.

        ``rows`` (B,) picks the rows that count: a run counts each molecule once, or one failing molecule that a
        collapsed agent writes again and again would stop it.
        """
        failed = scores.failed
        self._recent.extend(
            (scores.errors[row] or "no value") if failed[row] else None
            for row in range(len(scores))
            if scores.valid[row] and (rows is None or rows[row])
        )

    @property
    def rate(self) -> float:
        """Share of failed ones among the last valid molecules, 0 before any."""
        return sum(reason is not None for reason in self._recent) / max(len(self._recent), 1)

    def message(self) -> str | None:
        """Why the run must stop, or None while it may go on."""
        if len(self._recent) < _MINIMUM or self.rate <= self._stop_above:
            return None
        reasons = Counter(reason for reason in self._recent if reason is not None)
        reason, times = reasons.most_common(1)[0]
        return (
            f"scoring failed for {sum(reasons.values())} of the last {len(self._recent)} valid molecules "
            f"(failure.stop_above = {self._stop_above:g}); most often ({times} times): {reason}. "
            "Mend the oracle and go on with --resume --retry-failed, or raise failure.stop_above"
        )

    def check(self) -> None:
        """Raise :class:`RunError` with :meth:`message` where there is one."""
        message = self.message()
        if message is not None:
            raise RunError(message)

    def state_dict(self) -> dict[str, Any]:
        """A plain table for the checkpoint."""
        return {"recent": list(self._recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self._recent = deque(state["recent"], maxlen=WINDOW)

"""How much an oracle budget bought. ``scores`` is one total score per oracle call (distinct valid molecule), in order.

A failed call has the score NaN: it counts as a call and as nothing else.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence


def hits(scores: Sequence[float], threshold: float) -> int:
    """Yield(t): number of molecules with score >= ``threshold``.

    >>> hits([0.2, 0.7, float("nan"), 0.9], 0.7)
    2
    """
    return sum(score >= threshold for score in scores)


def oracle_burden(scores: Sequence[float], threshold: float, count: int) -> float:
    """OB_count(t): oracle calls until ``count`` molecules had a score >= ``threshold``; infinite if that never came.

    >>> oracle_burden([0.2, 0.7, 0.1, 0.9], 0.7, 2)
    4.0
    """
    found = 0
    for calls, score in enumerate(scores, 1):
        found += score >= threshold
        if found >= count:
            return float(calls)
    return math.inf


def mean_top(scores: Sequence[float], k: int) -> float:
    """Mean of the ``k`` best scores; of all, if there are fewer; NaN if there is none.

    >>> mean_top([0.25, 0.75, float("nan"), 0.5], 2)
    0.625
    """
    best = heapq.nlargest(k, (score for score in scores if not math.isnan(score)))
    return math.fsum(best) / len(best) if best else math.nan


def auc_top(scores: Sequence[float], k: int, budget: int, every: int = 100) -> float:
    """AUC top-k of the PMO benchmark, in [0, 1]: area under the mean of the ``k`` best over the oracle calls.

    Evaluated every ``every`` calls, trapezoid rule from 0, the last value held up to ``budget``, divided by ``budget``.
    [Gao et al., NeurIPS 2022, and its published code]
    """
    scores = scores[:budget]
    best: list[float] = []  # a heap of the k best so far
    area = previous = 0.0
    called = 0
    for calls, score in enumerate(scores, 1):
        if not math.isnan(score):
            heapq.heappush(best, score) if len(best) < k else heapq.heappushpop(best, score)
        if calls % every == 0 or calls == len(scores):
            mean = math.fsum(best) / len(best) if best else 0.0
            area += (calls - called) * (mean + previous) / 2
            previous, called = mean, calls
    return (area + (budget - called) * previous) / budget

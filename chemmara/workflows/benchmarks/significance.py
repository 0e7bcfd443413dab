"""Two methods compared over all tasks and seeds at once: paired log-ratios, their bootstrap interval, an exact test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RESAMPLES = 10_000
COUNT_OFFSET, SCORE_OFFSET = 0.5, 0.001


@dataclass(frozen=True)
class Ratio:
    """Geometric mean ratio of one method to another over tasks, its 95 % bootstrap interval, and the exact p.

    The first three are NaN where one side of a pair is infinite: a burden that was never reached.
    """

    ratio: float
    low: float
    high: float
    pairs: int
    p: float


def log_ratios(
    one: Mapping[str, Mapping[int, float]], other: Mapping[str, Mapping[int, float]], offset: float
) -> dict[str, list[float]]:
    """ln((a + offset) / (b + offset)) by task, for the seeds that both have; undefined values (NaN) are left out.

    ``one`` and ``other`` hold values by task and seed. The offset keeps a count or score of 0 in the comparison. Where
    one side alone is infinite so is the ratio's logarithm; where both are, the pair says nothing and is left out.
    """
    found: dict[str, list[float]] = {}
    for task in one:
        for seed in sorted(one[task].keys() & other.get(task, {}).keys()):
            a, b = one[task][seed], other[task][seed]
            if not (math.isnan(a) or math.isnan(b) or (math.isinf(a) and math.isinf(b))):
                found.setdefault(task, []).append(_log(a, offset) - _log(b, offset))
    return found


def _log(value: float, offset: float) -> float:
    return math.inf if math.isinf(value) else math.log(value + offset)


def compare_pairs(by_task: Mapping[str, Sequence[float]], resamples: int = RESAMPLES) -> Ratio:
    """The mean over tasks of the mean log-ratio, as a ratio. ValueError without a pair.

    The interval is the percentile bootstrap with seeds resampled within each task: it says what other seeds would have
    given on these tasks. p is of :func:`signed_rank` over all pairs. [Efron and Tibshirani 1993, chapter 13]
    """
    import numpy as np

    if not by_task:
        raise ValueError("no task has a pair of runs")
    flat = [value for values in by_task.values() for value in values]
    if not all(map(math.isfinite, flat)):
        return Ratio(math.nan, math.nan, math.nan, len(flat), signed_rank(flat))
    draws = np.zeros(resamples)
    rng = np.random.default_rng(0)
    for values in by_task.values():
        array = np.asarray(values)
        draws += array[rng.integers(len(array), size=(resamples, len(array)))].mean(axis=1)
    low, high = np.exp(np.quantile(draws / len(by_task), [0.025, 0.975]))
    mean = math.fsum(math.fsum(values) / len(values) for values in by_task.values()) / len(by_task)
    return Ratio(math.exp(mean), float(low), float(high), len(flat), signed_rank(flat))


def signed_rank(differences: Sequence[float]) -> float:
    """Exact two-sided p of Wilcoxon's signed-rank test; zeros are dropped, ties get midranks. 1 if nothing is left.

    The share of all assignments of signs whose rank sum is at least as far from its mean. [Wilcoxon 1945; Lehmann,
    Nonparametrics, section 3.2]

    >>> signed_rank([1.0, 2.0, 3.0, 4.0, 5.0])  # 2 of 2^5 assignments
    0.0625
    """
    from scipy.stats import rankdata

    left = [value for value in differences if value != 0]
    if not left:
        return 1.0
    doubled = [round(2 * float(rank)) for rank in rankdata([abs(value) for value in left])]
    ways = {0: 1}  # number of assignments by the (doubled) sum of the positive ranks
    for rank in doubled:
        grown = dict(ways)
        for total, count in ways.items():
            grown[total + rank] = grown.get(total + rank, 0) + count
        ways = grown
    whole = sum(doubled)
    observed = abs(2 * sum(rank for rank, value in zip(doubled, left, strict=True) if value > 0) - whole)
    extreme = sum(count for total, count in ways.items() if abs(2 * total - whole) >= observed)
    return float(extreme / 2 ** len(doubled))

"""Two methods compared over all tasks and seeds at once: paired log-ratios, their bootstrap interval, an exact test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RESAMPLES = 10_000
COUNT_OFFSET, SCORE_OFFSET = 0.5, 0.001
LEAST_PAIRS = 2
"""Pairs of a task from which its spread can be told."""
DIGITS = 12
"""Decimals of a log-ratio that are more than rounding: equal ratios of other numbers are ties."""


@dataclass(frozen=True)
class Ratio:
    """Geometric mean ratio of one method to another over tasks, its 95 % bootstrap interval, and the exact p.

    The first three are NaN where one side of a pair is infinite: a burden that was never reached. The interval is NaN
    where a task has one pair alone, which says nothing of other seeds.
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
                found.setdefault(task, []).append(round(_log(a, offset) - _log(b, offset), DIGITS))
    return found


def _log(value: float, offset: float) -> float:
    return math.inf if math.isinf(value) else math.log(value + offset)


def compare_pairs(by_task: Mapping[str, Sequence[float]], resamples: int = RESAMPLES) -> Ratio:
    """The mean over tasks of the mean log-ratio, as a ratio. ValueError without a pair.

    The interval says what other seeds would have given on these tasks. It is a percentile bootstrap with seeds
    resampled within each task; for samples as small as these the deviations are those of an unbiased variance (n/(n-1)
    times that of the resampled means) and of Student's t (each over the root of a random chi2/df, with Satterthwaite's
    degrees of freedom). Without that a nominal 95 % are 76 to 90 %. p is of :func:`signed_rank` over all pairs. [Efron
    and Tibshirani 1993, chapters 12 and 13]
    """
    if not by_task:
        raise ValueError("no task has a pair of runs")
    flat = [value for values in by_task.values() for value in values]
    if not all(map(math.isfinite, flat)):
        return Ratio(math.nan, math.nan, math.nan, len(flat), signed_rank(flat))
    mean = math.fsum(math.fsum(values) / len(values) for values in by_task.values()) / len(by_task)
    low, high = (mean + edge for edge in _interval(list(by_task.values()), resamples))
    return Ratio(math.exp(mean), math.exp(low), math.exp(high), len(flat), signed_rank(flat))


def _interval(tasks: Sequence[Sequence[float]], resamples: int) -> tuple[float, float]:
    """The edges of the interval about the mean over tasks of their means, as deviations from it."""
    import numpy as np

    if any(len(values) < LEAST_PAIRS for values in tasks):
        return math.nan, math.nan
    draws, parts, rng = np.zeros(resamples), [], np.random.default_rng(0)
    for values in tasks:
        array = np.asarray(values)
        n, deviations = len(array), array - array.mean()
        draws += deviations[rng.integers(n, size=(resamples, n))].mean(axis=1) * math.sqrt(n / (n - 1))
        parts.append((float(array.var(ddof=1)) / n, n - 1))
    total = math.fsum(part for part, _ in parts)
    if not total:
        return 0.0, 0.0
    freedom = total**2 / math.fsum(part**2 / each for part, each in parts)
    low, high = np.quantile(draws / len(tasks) / np.sqrt(rng.chisquare(freedom, resamples) / freedom), [0.025, 0.975])
    return float(low), float(high)


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

"""The test between methods: exact two-sided Mann-Whitney, corrected after Holm."""

from __future__ import annotations

import math
from collections.abc import Sequence

LEAST_SEEDS = 5
"""Runs that a method needs before a test says anything: with four against four, p cannot fall below 0.029."""


def mann_whitney(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """(U of ``one``, exact two-sided p). Infinities rank as such; NaN is a ValueError.

    Without ties scipy's exact distribution; with ties the exact permutation distribution of U over midranks, p being
    the share of splits at least as far from its mean. [Mann and Whitney 1947; Lehmann, Nonparametrics, section 1.4]
    """
    values = [*one, *other]
    if not one or not other or any(math.isnan(value) for value in values):
        raise ValueError("Mann-Whitney needs two samples without NaN")
    from scipy.stats import mannwhitneyu, rankdata

    doubled = [round(2 * rank) for rank in rankdata(values)]  # infinities rank fine; twice a midrank is whole
    u = (sum(doubled[: len(one)]) - len(one) * (len(one) + 1)) / 2
    if len(set(values)) == len(values):
        return u, float(mannwhitneyu(rankdata(values)[: len(one)], rankdata(values)[len(one) :], method="exact").pvalue)
    return u, _permutation_p(doubled, len(one))


def _permutation_p(doubled: Sequence[int], size: int) -> float:
    """Share of the subsets of ``size`` ranks whose sum is at least as far from the mean as that of the first."""
    # ways[k][s]: number of subsets of k ranks with (doubled) sum s, over the ranks seen so far.
    ways: list[dict[int, int]] = [{0: 1}, *({} for _ in range(size))]
    for rank in doubled:
        for k in range(size, 0, -1):
            for total, count in ways[k - 1].items():
                ways[k][total + rank] = ways[k].get(total + rank, 0) + count
    mean = size * (len(doubled) + 1)
    observed = abs(sum(doubled[:size]) - mean)
    extreme = sum(count for total, count in ways[size].items() if abs(total - mean) >= observed)
    return extreme / sum(ways[size].values())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of a family of p-values, in the order given. [Holm, Scand. J. Stat. 1979]

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    least = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = least
    return corrected

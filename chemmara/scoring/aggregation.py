"""Aggregation: the transformed scores of one molecule become its total in [0, 1].

Each is a function ``(scores (m, n), weights (m,)) -> (n,)`` for m components and n molecules. NaN in any row makes the
column NaN: a failed oracle is never averaged away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chemmara.lazy import lazy
from chemmara.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Aggregation = Callable[[Array, Array], Array]
else:
    np = lazy("numpy")

DIGITS, SMALL = 12, 1e-3
"""A total above the second is rounded to so many decimals: three components at 0.7 are 0.7, and not below a threshold
of 0.7 by what the products left. A smaller one is no hit of anybody's, and what it is still tells molecules apart."""

AGGREGATIONS: Registry[Aggregation] = Registry("aggregation", ("chemmara.scoring.aggregation",))


@AGGREGATIONS.register("geometric_mean")
def geometric_mean(scores: Array, weights: Array) -> Array:
    """(prod_i s_i^w_i)^(1 / sum w): one component at 0 makes the total 0."""
    return product(scores, weights / weights.sum())


@AGGREGATIONS.register("arithmetic_mean")
def arithmetic_mean(scores: Array, weights: Array) -> Array:
    """sum_i w_i s_i / sum w: a strong component makes up for a weak one."""
    total = np.zeros(scores.shape[1])
    # Row by row: a matrix product rounds differently with the number of columns, and a score depends on no neighbour.
    for weight, row in zip(weights / weights.sum(), scores, strict=True):
        total += weight * row
    return total


@AGGREGATIONS.register("product")
def product(scores: Array, weights: Array) -> Array:
    """prod_i s_i^w_i: falls with every further component."""
    total = np.ones(scores.shape[1])
    for weight, row in zip(weights, scores, strict=True):
        total *= row**weight
    return total


PARTS: dict[str, tuple[str, Callable[[float, float, float], float]]] = {
    "geometric_mean": ("x", lambda score, weight, weights: score ** (weight / weights)),
    "arithmetic_mean": ("+", lambda score, weight, weights: score * weight / weights),
    "product": ("x", lambda score, weight, weights: score**weight),
}
"""What one component brings into the total, by aggregation: whether parts are multiplied or added, and the part from
a component's score, its weight and the sum of all weights."""


def aggregate(name: str, scores: Array, weights: Array, filters: Array) -> Array:
    """Totals (n,) of ``scores`` (m, n) with ``weights`` (m,), multiplied by every row of ``filters`` (f, n).

    With no scores (m = 0) the filters alone make the total.
    """
    total = AGGREGATIONS[name].item(scores, weights) if len(scores) else np.ones(filters.shape[1])
    for row in filters:
        total = total * row
    # NaN ** 0 is 1, so a failed component of weight 0 has to be put back.
    failed = np.isnan(scores).any(axis=0) | np.isnan(filters).any(axis=0)
    total = np.where(total > SMALL, total.round(DIGITS), total)
    return np.where(failed, np.nan, np.clip(total, 0.0, 1.0))

"""The paired comparison of two methods: exact, invariant, and unmoved by what it should not see."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from chemmara.workflows.benchmarks.significance import compare_pairs, log_ratios, signed_rank

DIFFERENCES = st.lists(st.floats(-5, 5).map(lambda x: round(x, 6)), min_size=1, max_size=12)


@given(DIFFERENCES.filter(lambda d: 0 not in d and len({abs(x) for x in d}) == len(d)))
@settings(max_examples=50, deadline=None)
def test_signed_rank_equals_scipys_exact_one(differences: list[float]) -> None:
    assert signed_rank(differences) == pytest.approx(wilcoxon(differences, method="exact").pvalue)


@given(DIFFERENCES)
@settings(max_examples=50, deadline=None)
def test_signed_rank_has_no_side(differences: list[float]) -> None:
    p = signed_rank(differences)
    assert 0 < p <= 1
    assert p == signed_rank([-x for x in differences]) == signed_rank(differences[::-1])
    assert p == signed_rank([*differences, 0.0])


def test_signed_rank_by_hand() -> None:
    assert signed_rank([1.0] * 20) == 2 / 2**20
    assert signed_rank([1.0, -1.0]) == 1.0
    assert signed_rank([0.0]) == 1.0
    assert signed_rank([1.0, 2.0, -3.0]) == 1.0  # rank sums 3 and 3


def test_pairs_are_of_one_task_and_seed() -> None:
    one = {"a": {0: 9.5, 1: 1.5, 2: math.nan}, "b": {0: 4.5}}
    other = {"a": {1: 0.5, 2: 1.0, 3: 7.0}, "c": {0: 1.0}}
    assert log_ratios(one, other, 0.5) == {"a": [pytest.approx(math.log(2.0 / 1.0))]}


def test_who_never_gets_there_does_not_leave_the_comparison() -> None:
    """Half of the runs twice as fast, the others never: that is no method of twice the speed."""
    one = {"a": dict(enumerate([300.0] * 5 + [math.inf] * 5))}
    other = {"a": dict.fromkeys(range(10), 600.0)}
    found = compare_pairs(log_ratios(one, other, 0.5))
    assert math.isnan(found.ratio)
    assert math.isnan(found.low)
    assert found.pairs == 10
    assert 0.05 < found.p < 1
    both = {"a": dict.fromkeys(range(5), math.inf)}
    assert log_ratios(both, both, 0.5) == {}


@given(st.floats(0.1, 10), st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_a_constant_ratio_is_found_exactly(ratio: float, seeds: int) -> None:
    found = compare_pairs({task: [math.log(ratio)] * seeds for task in "abc"}, resamples=200)
    assert (found.ratio, found.low, found.high) == pytest.approx((ratio,) * 3)
    assert found.pairs == 3 * seeds


def test_one_pair_of_a_task_says_nothing_of_other_seeds() -> None:
    found = compare_pairs({task: [0.1 * number] for number, task in enumerate("abcdef")})
    assert found.ratio == pytest.approx(math.exp(0.25))
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize(("tasks", "seeds"), [(4, 5), (4, 2), (1, 5)])
def test_ninety_five_percent_are_about_that_many(tasks: int, seeds: int) -> None:
    """Without the corrections for small samples it were 76 to 89 % (standard error here 1.5)."""
    rng, held = np.random.default_rng(5), 0
    for _ in range(200):
        pairs = {str(task): list(rng.normal(0.3, 1.0, seeds)) for task in range(tasks)}
        found = compare_pairs(pairs, resamples=500)
        held += found.low <= math.exp(0.3) <= found.high
    assert 0.91 <= held / 200 <= 0.995


def test_equal_ratios_of_other_numbers_are_ties() -> None:
    one = {"a": dict(enumerate([4.0, 0.0, 30.0, 30.0, 30.0]))}
    other = {"a": dict(enumerate([1.0, 1.0, 0.0, 1.0, 2.0]))}
    pairs = log_ratios(one, other, 0.5)
    assert abs(pairs["a"][0]) == abs(pairs["a"][1])  # 4.5/1.5 and 0.5/1.5
    assert compare_pairs(pairs).p == 0.1875  # by all signs of the midranks 1.5, 1.5, 3, 4, 5


def test_interval_holds_the_ratio_and_every_task_counts_the_same() -> None:
    found = compare_pairs({"a": [0.1, 0.3], "b": [1.0, 1.2, 1.4, 1.6]})
    assert found.ratio == pytest.approx(math.exp((0.2 + 1.3) / 2))
    assert found.low < found.ratio < found.high
    assert found == compare_pairs({"a": [0.1, 0.3], "b": [1.0, 1.2, 1.4, 1.6]})
    with pytest.raises(ValueError, match="no task"):
        compare_pairs({})

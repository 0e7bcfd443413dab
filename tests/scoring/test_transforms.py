"""Transforms map into [0, 1] and keep NaN; aggregation never averages a failure away."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chemmara.config import check
from chemmara.errors import ConfigError
from chemmara.scoring.aggregation import AGGREGATIONS, aggregate
from chemmara.scoring.transforms import TRANSFORMS, apply

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "sigmoid": [{"low": -3.0, "high": 4.5}, {"low": 0.0, "high": 1e-300, "k": 5.0}],
    "reverse_sigmoid": [{"low": 200.0, "high": 500.0}, {"low": -1e308, "high": 1e308}],
    "double_sigmoid": [{"low": 200.0, "high": 500.0}, {"low": 0.0, "high": 350.0, "coef_div": 1e-9}],
    "step": [{"low": 0.0, "high": 2.0}],
    "left_step": [{"low": 1.0}],
    "right_step": [{"high": 1.0}],
    "exponential_decay": [{"k": 0.5}],
    "value_mapping": [{"mapping": {"0": 1.0, "1.5": 0.25}, "default": 0.1}],
    "gaussian": [{"mean": 2.0, "sd": 0.5, "plateau": side} for side in ("none", "below", "above")],
    "clip": [{}, {"low": -1.0, "high": 3.0, "reverse": True}],
}
CASES = [(name, table) for name, tables in EXAMPLES.items() for table in tables]


def run(name: str, table: dict[str, Any], values: list[float]) -> np.ndarray:
    return apply(name, check(TRANSFORMS[name].parameters, table), np.array(values, dtype=float))


def test_every_transform_is_tested() -> None:
    assert sorted(EXAMPLES) == TRANSFORMS.names()
    assert all(entry.summary for entry in TRANSFORMS)
    assert all(field.description for entry in TRANSFORMS for field in entry.parameters.model_fields.values())


@pytest.mark.parametrize(("name", "table"), CASES)
@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(allow_infinity=False), max_size=8))
def test_transforms_map_into_the_unit_interval_and_keep_nan(
    name: str, table: dict[str, Any], values: list[float]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = run(name, table, values)
    nan = np.isnan(values) if values else np.zeros(0, dtype=bool)
    assert scores.shape == (len(values),)
    assert np.array_equal(np.isnan(scores), nan)
    assert ((scores[~nan] >= 0) & (scores[~nan] <= 1)).all()


def test_formulas() -> None:
    """The formulas of REINVENT, computed the plain way."""
    x = np.array([-1.0, 0.3, 2.0, 3.7])
    low, high, k = 0.0, 3.0, 0.25
    plain = 1 / (1 + 10 ** (-10 * k * (x - (low + high) / 2) / (high - low)))
    assert run("sigmoid", {"low": low, "high": high}, list(x)) == pytest.approx(plain)
    assert run("reverse_sigmoid", {"low": low, "high": high}, list(x)) == pytest.approx(1 - plain)
    assert run("sigmoid", {"low": low, "high": high}, [1.5]) == 0.5
    left, right = 1 / (1 + 10 ** (-1.5 * (x - low))), 1 - 1 / (1 + 10 ** (-0.5 * (x - high)))
    table = {"low": low, "high": high, "coef_div": 10.0, "coef_si": 15.0, "coef_se": 5.0}
    assert run("double_sigmoid", table, list(x)) == pytest.approx(np.where(x < 1.5, left, right))
    assert run("double_sigmoid", {"low": 200, "high": 500}, [200, 350, 500]) == pytest.approx([0.5, 1, 0.5])
    assert run("exponential_decay", {"k": 2.0}, [-1, 0, 1]) == pytest.approx([1, 1, math.exp(-2)])
    assert run("gaussian", {"mean": 1.0, "sd": 2.0}, [3.0]) == pytest.approx(math.exp(-0.5))


@pytest.mark.parametrize(
    ("name", "table", "values", "scores"),
    [
        ("step", {"low": 0, "high": 2}, [-0.1, 0, 1, 2, 2.1], [0, 1, 1, 1, 0]),
        ("step", {"low": 1, "high": 1}, [0, 1, 2], [0, 1, 0]),
        ("left_step", {"low": 1}, [0.9, 1, 1.1], [1, 1, 0]),
        ("right_step", {"high": 1}, [0.9, 1, 1.1], [0, 1, 1]),
        ("value_mapping", {"mapping": {"0": 1.0, "2.0": 0.5}}, [0, 1, 2], [1, 0, 0.5]),
        ("clip", {"high": 0.5}, [-1, 0.25, 1], [0, 0.5, 1]),
        ("clip", {"low": 1, "high": 3, "reverse": True}, [0, 2, 4], [1, 0.5, 0]),
    ],
)
def test_exact_values(name: str, table: dict[str, Any], values: list[float], scores: list[float]) -> None:
    assert run(name, table, values).tolist() == scores


def test_plateaus() -> None:
    assert run("gaussian", {"mean": 1, "sd": 1, "plateau": "below"}, [-5, 1, 2]) == pytest.approx(
        [1, 1, math.exp(-0.5)]
    )
    assert run("gaussian", {"mean": 1, "sd": 1, "plateau": "above"}, [0, 1, 9]) == pytest.approx([math.exp(-0.5), 1, 1])


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("sigmoid", {"low": 3, "high": 1}),
        ("sigmoid", {"low": 1, "high": 1}),
        ("sigmoid", {"low": 1, "high": 2, "k": 0}),
        ("value_mapping", {"mapping": {"a": 1.0}}),
        ("value_mapping", {"mapping": {"0": 1.5}}),
        ("value_mapping", {"mapping": {}}),
        ("gaussian", {"mean": 0, "sd": 0}),
        ("exponential_decay", {"k": -1}),
        ("step", {"low": 1}),
    ],
)
def test_parameters_without_sense_are_refused(name: str, table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        check(TRANSFORMS[name].parameters, table, "transform")


UNIT = st.floats(0, 1)


@pytest.mark.parametrize("name", AGGREGATIONS.names())
@settings(max_examples=60, deadline=None)
@given(
    columns=st.lists(st.tuples(UNIT, UNIT, UNIT), min_size=1, max_size=5),
    weights=st.tuples(st.floats(0.1, 5), st.floats(0, 5), st.floats(0, 5)),
)
def test_totals_stay_in_the_unit_interval(
    name: str, columns: list[tuple[float, ...]], weights: tuple[float, ...]
) -> None:
    scores = np.array(columns).T
    nothing = np.ones((0, scores.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        total = aggregate(name, scores, np.array(weights), nothing)
    assert ((total >= 0) & (total <= 1)).all()
    better = aggregate(name, np.minimum(scores + 0.1, 1), np.array(weights), nothing)
    assert (better >= total - 1e-12).all()
    assert aggregate(name, np.ones_like(scores), np.array(weights), nothing) == pytest.approx(1)
    for row in range(3):
        broken = scores.copy()
        broken[row, 0] = np.nan
        assert np.isnan(aggregate(name, broken, np.array(weights), nothing)[0])
        assert np.array_equal(aggregate(name, broken, np.array(weights), nothing)[1:], total[1:])


@pytest.mark.parametrize("name", ["geometric_mean", "arithmetic_mean"])
@pytest.mark.parametrize("score", [0.5, 0.6, 0.7, 0.8, 0.9])
@pytest.mark.parametrize("number", [2, 3, 4, 7])
def test_equal_scores_reach_a_threshold_that_is_equal_to_them(name: str, score: float, number: int) -> None:
    total = aggregate(name, np.full((number, 1), score), np.ones(number), np.empty((0, 1)))
    assert total[0] == score


def test_the_smallest_totals_are_kept_apart() -> None:
    scores = np.array([[1e-15, 3e-15, 1e-300, 0.0]])
    assert aggregate("geometric_mean", scores, np.ones(1), np.empty((0, 4))).tolist() == scores[0].tolist()


def test_aggregation_by_hand() -> None:
    scores, weights, none = np.array([[0.25], [1.0]]), np.array([1.0, 3.0]), np.ones((0, 1))
    assert aggregate("geometric_mean", scores, weights, none) == pytest.approx([0.25**0.25])
    assert aggregate("arithmetic_mean", scores, weights, none) == pytest.approx([(0.25 + 3) / 4])
    assert aggregate("product", scores, weights, none) == pytest.approx([0.25])
    assert aggregate("geometric_mean", np.array([[0.0], [1.0]]), weights, none) == [0]
    assert aggregate("arithmetic_mean", scores, weights, np.array([[0.5]])) == pytest.approx([0.40625])
    assert aggregate("product", np.ones((0, 2)), np.ones(0), np.array([[0.5, np.nan]]))[0] == 0.5
    assert np.isnan(aggregate("product", scores, weights, np.array([[np.nan]]))).all()

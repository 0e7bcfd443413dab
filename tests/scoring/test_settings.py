"""The [scoring] table: every mistake has one line that names the place; what is right comes back unchanged."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chemmara.errors import ConfigError
from chemmara.scoring.settings import RESERVED, ScoringSettings

QED = {"name": "qed"}
STEP = {"name": "step", "low": 0, "high": 1}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "scoring: no components"),
        ({"component": []}, "scoring: no components"),
        ({"component": "qed"}, "scoring.component: should be a list"),
        ({"component": ["qed"]}, "scoring.component[0]: expected a table"),
        ({"component": [{}]}, "scoring.component[0]: name is missing"),
        ({"components": [QED]}, "scoring.components: unknown key; did you mean 'component'?"),
        (
            {"aggregation": "geometric", "component": [QED]},
            "scoring.aggregation: unknown aggregation 'geometric'; did you mean",
        ),
        (
            {"component": [QED, {"name": "qedd"}]},
            "scoring.component[1].name: unknown component 'qedd'; did you mean 'qed'?",
        ),
        (
            {"component": [{"name": "qed", "wieght": 1}]},
            "scoring.component[0].wieght: unknown key; did you mean 'weight'?",
        ),
        ({"component": [{"name": "qed", "weight": -1}]}, "scoring.component[0].weight"),
        ({"component": [{"name": "qed", "weight": "1"}]}, "scoring.component[0].weight"),
        ({"component": [{"name": "qed", "weight": float("nan")}]}, "scoring.component[0].weight"),
        ({"component": [{"name": "qed", "weight": 0}]}, "all weights are 0"),
        ({"component": [{"name": "qed", "weight": 2, "filter": True}]}, "scoring.component[0].weight: a filter"),
        ({"component": [{"name": "qed", "filter": 1}]}, "scoring.component[0].filter"),
        ({"component": [QED, QED]}, "scoring.component[1].label: 'qed' is taken by scoring.component[0]"),
        (
            {"component": [{"name": "qed", "label": "a"}, {"name": "rings", "label": "A_score", "transform": STEP}]},
            "is taken by",
        ),
        ({"component": [{"name": "qed", "label": "a,b"}]}, "scoring.component[0].label: 'a,b' cannot name a column"),
        ({"component": [{"name": "qed", "label": "=1+1"}]}, "cannot name a column"),
        ({"component": [{"name": "qed", "label": ""}]}, "cannot name a column"),
        ({"component": [{"name": "logp"}]}, "scoring.component[0].transform: 'logp' has raw values from -inf to inf"),
        ({"component": [{"name": "sa_score"}]}, "from 1 to 10 and needs a transform"),
        (
            {"component": [{"name": "qed", "transform": {"name": "sigmod"}}]},
            "transform.name: unknown transform 'sigmod'; did you",
        ),
        (
            {"component": [{"name": "qed", "transform": {**STEP, "hgih": 1}}]},
            "transform.hgih: unknown key; did you mean 'high'?",
        ),
        ({"component": [{"name": "qed", "transform": "step"}]}, "scoring.component[0].transform"),
        ({"component": [{"name": "qed", "transform": {}}]}, "scoring.component[0].transform: name is missing"),
        ({"component": [{"name": "substructure"}]}, "scoring.component[0].smarts: this key is required"),
        ({"component": [{"name": "substructure", "smarts": "C", "mode": "count"}]}, "needs a transform"),
    ],
)
def test_mistakes(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        ScoringSettings.parse(table)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("column", RESERVED)
def test_labels_leave_the_columns_of_molecules_csv_alone(column: str) -> None:
    for label in (column, column.lower(), column.upper()):
        with pytest.raises(ConfigError, match=r"molecules\.csv"):
            ScoringSettings.parse({"component": [{"name": "qed", "label": label}]})


def test_round_trip() -> None:
    table = {
        "aggregation": "arithmetic_mean",
        "component": [
            {"name": "qed", "weight": 0.5, "retry": 2, "on_failure": "stop"},
            {"name": "logp", "label": "lipo", "transform": {"name": "gaussian", "mean": 2, "sd": 1}},
            {"name": "tanimoto", "references": ["CCO"], "counts": True},
            {"name": "alerts", "catalogues": ["PAINS"], "filter": True},
            {"name": "property_windows", "windows": {"tpsa": {"high": 90}}},
        ],
    }
    settings = ScoringSettings.parse(table)
    assert settings.labels == ("qed", "lipo", "tanimoto", "alerts", "property_windows")
    plain = settings.to_table()
    assert ScoringSettings.parse(plain) == settings
    assert ScoringSettings.parse(plain).to_table() == plain
    assert None not in plain["component"][4]["windows"]["tpsa"].values(), "TOML knows no None"


def test_key_depends_on_what_changes_the_raw_value_alone() -> None:
    def key(**more: Any) -> str:
        return (
            ScoringSettings.parse({"component": [{"name": "tanimoto", "references": ["CCO"], **more}]})
            .components[0]
            .spec.key
        )

    assert key() == key(label="x", weight=3, transform=STEP, retry=1) == key(fingerprint="ecfp4")
    assert key() != key(fingerprint="ecfp6")
    assert len(key()) == 64


FLAT: list[tuple[dict[str, Any], str]] = [
    (
        {"name": "tanimoto", "references": ["CCO"], "transform": {"name": "clip", "low": 30, "high": 70}},
        r"component\[0\].transform: 'clip' \(low = 30.0, .*scores 0 whatever .* of 'tanimoto' are from 0 to 1",
    ),
    (
        {"name": "qed", "transform": {"name": "step", "low": 40, "high": 90}},
        "'step' .* scores 0 .*'qed' are from 0 to 1",
    ),
    (
        {"name": "sa_score", "transform": {"name": "reverse_sigmoid", "low": 20, "high": 50}},
        "scores 0.992 to 0.999 .*'sa_score' are from 1 to 10",
    ),
    ({"name": "qed", "transform": {"name": "exponential_decay", "k": 0.001}}, "scores 0.999 to 1 "),
]


@pytest.mark.parametrize(("component", "message"), FLAT)
def test_a_transform_that_tells_no_molecules_apart_is_told(component: dict[str, Any], message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        ScoringSettings.parse({"component": [component]})


@given(
    low=st.floats(0, 0.9),
    width=st.floats(1e-6, 0.1),
    name=st.sampled_from(["step", "clip", "sigmoid", "double_sigmoid"]),
)
def test_a_window_within_the_raw_values_is_no_mistake(low: float, width: float, name: str) -> None:
    """However narrow, at whatever end; and of what has no end nothing is said."""
    steep = {"coef_div": width, "coef_si": 20, "coef_se": 20} if name == "double_sigmoid" else {}
    transform = {"name": name, "low": low, "high": low + width, **steep}
    wide = {"name": "step", "low": 500, "high": 501}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ScoringSettings.parse({"component": [{"name": "qed", "transform": transform}]})
        ScoringSettings.parse({"component": [{"name": "logp", "transform": wide}]})


@pytest.mark.parametrize(
    "transform",
    [
        {"name": "value_mapping", "mapping": {"0.12345": 1}},
        {"name": "gaussian", "mean": 0.54321, "sd": 1e-6},
        {"name": "left_step", "low": 0},
        {"name": "right_step", "high": 1},
    ],
)
def test_a_point_within_the_raw_values_is_no_mistake(transform: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ScoringSettings.parse({"component": [{"name": "qed", "transform": transform}]})

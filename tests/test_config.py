"""Reading configs: what is wrong, where, and the nearest right thing, in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from chemmara.config import NoParameters, Parameters, check, merge, read_table, set_key
from chemmara.errors import REINVENT_NAMES, ConfigError, nearest


class Inner(Parameters):
    weight: float = Field(1.0, gt=0)
    kind: Literal["bits", "counts"] = "bits"


class Outer(Parameters):
    name: str
    count: int = 3
    share: float = 0.5
    wide: tuple[float, float] = (0.0, 1.0)
    path: Path | None = None
    flag: bool = False
    component: tuple[Inner, ...] = ()
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "place.name: this key is required"),
        ({"nmae": "a"}, "place.nmae: unknown key; did you mean 'name'?"),
        ({"name": "a", "zzz": 1}, "place.zzz: unknown key; valid: component, count, "),
        (
            {"name": "a", "component": [{}, {"wieght": 1}]},
            "place.component[1].wieght: unknown key; did you mean 'weight'?",
        ),
        (
            {"name": "a", "inner": {"kind": "bit"}},
            "place.inner.kind: should be 'bits' or 'counts' (got 'bit'); did you",
        ),
        ({"name": "a", "count": "3"}, "place.count: should be a valid integer (got '3')"),
        ({"name": "a", "count": 3.5}, "place.count: should be a valid integer"),
        ({"name": "a", "count": True}, "place.count: should be a valid integer (got True)"),
        ({"name": "a", "share": "0.5"}, "place.share: should be a valid number (got '0.5')"),
        ({"name": "a", "flag": 1}, "place.flag: should be a valid boolean (got 1)"),
        ({"name": 5}, "place.name: should be a valid string (got 5)"),
        ({"name": "a", "share": math.nan}, "place.share: should be a finite number"),
        ({"name": "a", "share": math.inf}, "place.share: should be a finite number"),
        ({"name": "a", "inner": {"weight": 0}}, "place.inner.weight: should be greater than 0 (got 0)"),
        ({"name": "a", "inner": [1]}, "place.inner: "),
        ({"name": "a", "wide": [1]}, "place.wide"),
        ([], "place: expected a table of keys, got a list"),
        ("text", "place: expected a table of keys, got text"),
        (None, "place: expected a table of keys, got nothing"),
    ],
)
def test_a_fault_is_one_line_with_its_place(table: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(Outer, table, "place")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_lists_fill_tuples_integers_fill_numbers_and_text_fills_paths() -> None:
    made = check(Outer, {"name": "a", "wide": [1, 2], "share": 1, "path": "x/y"})
    assert made.wide == (1.0, 2.0)
    assert made.path == Path("x/y")
    assert made.share == 1.0


def test_parameters_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        check(Outer, {"name": "a"}).name = "b"  # type: ignore[misc]
    assert check(NoParameters, {}) == NoParameters()


TABLE = {"name": "a", "share": 5e-4, "component": [{"weight": 2}], "inner": {"kind": "counts"}}
FORMS = {
    "a.toml": 'name = "a"\nshare = 5e-4\ninner = { kind = "counts" }\n[[component]]\nweight = 2\n',
    "a.yaml": "name: a\nshare: 5e-4\ninner: {kind: counts}\ncomponent:\n- weight: 2\n",
    "a.yml": "name: a\nshare: 5.0e-4\ninner:\n  kind: counts\ncomponent: [{weight: 2}]\n",
    "a.json": json.dumps(TABLE),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_format_reads_the_same(tmp_path: Path, name: str, mark: str) -> None:
    (tmp_path / name).write_text(mark + FORMS[name], encoding="utf-8")
    assert read_table(tmp_path / name) == TABLE
    check(Outer, read_table(tmp_path / name))


@pytest.mark.parametrize(("text", "value"), [("1e3", 1000.0), ("-2E-2", -0.02), ("1.5e+1", 15.0), (".5e1", 5.0)])
def test_yaml_numbers_with_an_exponent_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    (tmp_path / "a.yaml").write_text(f"x: {text}\ny: '{text}'\nz: c1e3\n")
    assert read_table(tmp_path / "a.yaml") == {"x": value, "y": text, "z": "c1e3"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "x = nan", "a.toml'?.x: nan is not a finite number"),
        ("a.toml", "x = [1.0, inf]", r"x\[1\]: inf is not a finite number"),
        ("a.toml", "[t]\nx = -inf", r"t\.x: -inf is not a finite number"),
        ("a.yaml", "x: .nan", "nan is not a finite number"),
        ("a.json", '{"x": NaN}', "nan is not a finite number"),
        ("a.json", '{"x": 1e999}', "inf is not a finite number"),
        ("a.toml", "x = = 1", "is not valid TOML: "),
        ("a.yaml", "x: [1", "is not valid YAML: "),
        ("a.json", "{", "is not valid JSON: "),
        ("a.json", "[1]", "holds a list, not a table of keys"),
        ("a.yaml", "text", "holds text, not a table of keys"),
        ("a.yaml", "1: 2", "the key 1 is not text"),
        ("a.yaml", "t:\n- 2020-01-01: 2", r"t\[0\]: the key 2020-01-01 is not text"),
        ("a.yaml", "x: &a [*a]", "nested too deeply"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "is not valid YAML"),
        ("a.toml", "", "is empty"),
        ("a.toml", " \n", "is empty"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_table(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "quickstart.toml").write_text("a = 1")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"does not exist; did you mean 'quickstart\.toml'"):
        read_table(tmp_path / "quickstat.toml")
    with pytest.raises(ConfigError, match=r"missing.toml' does not exist$"):
        read_table(tmp_path / "nowhere" / "missing.toml")
    with pytest.raises(ConfigError, match="is a directory"):
        read_table(tmp_path)
    with pytest.raises(ConfigError, match="is not text"):
        read_table(tmp_path / "binary.toml")


def test_merge_lays_tables_over_each_other() -> None:
    base = {"a": 1, "t": {"x": 1, "y": 2}, "list": [1]}
    assert merge(base, {"t": {"y": 3}}, {"a": 2, "list": [2]}) == {"a": 2, "t": {"x": 1, "y": 3}, "list": [2]}
    assert base == {"a": 1, "t": {"x": 1, "y": 2}, "list": [1]}


def test_merge_replaces_a_table_of_another_name() -> None:
    base = {"objective": {"name": "reinvent", "sigma": 128}}
    assert merge(base, {"objective": {"name": "reverse_kl"}}) == {"objective": {"name": "reverse_kl"}}
    assert merge(base, {"objective": {"name": "reinvent", "lr": 1}})["objective"] == {
        "name": "reinvent", "sigma": 128, "lr": 1,
    }  # fmt: skip
    assert merge(base, {"objective": {"lr": 1}})["objective"] == {"name": "reinvent", "sigma": 128, "lr": 1}


def test_beta_and_sigma_replace_each_other() -> None:
    assert merge({"o": {"sigma": 128}}, {"o": {"beta": 0.1}}) == {"o": {"beta": 0.1}}
    assert merge({"o": {"beta": 0.1}}, {"o": {"sigma": 128}}) == {"o": {"sigma": 128}}
    assert set_key({"o": {"beta": 0.1}}, "o.sigma=2") == {"o": {"sigma": 2}}
    # Both at once is the model's to refuse.
    assert merge({}, {"o": {"sigma": 128, "beta": 0.1}}) == {"o": {"sigma": 128, "beta": 0.1}}


@given(st.dictionaries(st.sampled_from("abc"), st.integers() | st.dictionaries(st.sampled_from("xy"), st.integers())))
def test_merge_with_nothing_and_with_itself_changes_nothing(table: dict[str, object]) -> None:
    assert merge(table) == merge(table, {}) == merge({}, table) == merge(table, table) == table


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("0.5", 0.5), ("5e-4", 5e-4), ("true", True), ('"1"', "1"), ("[1, 2]", [1, 2]), ("chembl", "chembl"),
        ("{ name = 'mara' }", {"name": "mara"}), ("10_000", 10_000), ("C1=CC", "C1=CC"), ("", ""), (" x ", "x"),
        ('{"name": "mara", "levels": [0.5]}', {"name": "mara", "levels": [0.5]}), ("[C]", "[C]"), ("{x", "{x"),
    ],
)  # fmt: skip
def test_set_key_reads_values_as_toml_or_json_else_as_text(text: str, value: object) -> None:
    result = set_key({"a": {"c": 1}}, f"a.b={text}")
    assert result == {"a": {"c": 1, "b": value}}
    assert type(result["a"]["b"]) is type(value)


def test_set_key_leaves_its_input_alone_and_makes_tables() -> None:
    table = {"a": {"b": 1}}
    assert set_key(table, "a.b=2") == {"a": {"b": 2}}
    assert set_key(table, "x.y.z=1") == {"a": {"b": 1}, "x": {"y": {"z": 1}}}
    assert table == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("a.b", "takes key=value, got 'a.b'"),
        ("=1", "takes key=value"),
        ("n.b=1", "'n' is not a table"),
        ("a.b=nan", "a.b: nan is not a finite number"),
        ("a.b=[1.0, inf]", r"a.b\[1\]: inf is not"),
    ],
)
def test_set_key_refuses(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        set_key({"n": 1}, assignment)


def test_nearest() -> None:
    assert nearest("qedd", ["qed", "logp"]) == "; did you mean 'qed'?"
    assert nearest("MARA", ["mara"]) == "; did you mean 'mara'?"
    assert nearest("zzz", ["qed", "logp"]) == "; valid: logp, qed"
    assert nearest("x", []) == ""
    assert nearest("IdenticalMurckoScaffold", ["murcko", "none"]) == "; what REINVENT calls so is 'murcko' here"
    assert nearest("similarity", ["similarity"]) == "; did you mean 'similarity'?"


def test_what_reinvents_names_lead_to_is_there() -> None:
    from chemmara.optimization.filters import DIVERSITY_FILTERS, BucketParameters
    from chemmara.optimization.settings import _Head
    from chemmara.scoring.component import COMPONENTS

    known = {*COMPONENTS.names(), *DIVERSITY_FILTERS.names(), *_Head.model_fields, "methods", "reinvent"}
    known |= {*BucketParameters.model_fields, "similarity"}
    assert set(REINVENT_NAMES.values()) <= known

"""How a score comes about: the parts make the total, failures and alerts have names, every transform has a curve."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from chemmara.cli.main import app
from chemmara.config import Parameters
from chemmara.errors import UserError
from chemmara.reporting.transform_plots import SKETCHES, plot_transforms
from chemmara.scoring.aggregation import AGGREGATIONS, PARTS
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.transforms import TRANSFORMS
from chemmara.workflows.explain import explain

PARACETAMOL, QUINONE = "CC(=O)Nc1ccc(O)cc1", "O=C1C=CC(=O)C=C1"
TABLE: dict[str, Any] = {
    "component": [
        {"name": "qed"},
        {"name": "molecular_weight", "weight": 2.5, "transform": {"name": "clip", "low": 0, "high": 400}},
        {"name": "alerts", "catalogues": ["PAINS"], "filter": True},
        {"name": "property_windows", "windows": {"tpsa": {"high": 10.0}}, "weight": 0.25, "label": "polar"},
    ]
}


@pytest.mark.parametrize("aggregation", AGGREGATIONS.names())
def test_the_parts_make_the_total(aggregation: str) -> None:
    assert set(PARTS) == set(AGGREGATIONS.names())
    table = {**TABLE, "aggregation": aggregation}
    found = explain({"scoring": table}, f" {PARACETAMOL} ")
    scores = ScoringFunction(table)([PARACETAMOL])
    assert found.total == scores.total[0]
    joined = [part.part for part in found.parts if part.weight is not None]
    total = sum(joined) if found.parts[0].sign == "+" else math.prod(joined)
    for part in found.parts:
        if part.weight is None:
            assert part.sign == "x"
            total *= part.part
    assert total == pytest.approx(found.total)
    weight = found.parts[1]
    assert (weight.raw, weight.unit, weight.weight) == (scores.raw["molecular_weight"][0], "g/mol", 2.5)
    assert weight.transform == {"name": "clip", "low": 0, "high": 400, "reverse": False}
    better = {
        **TABLE,
        "component": [*TABLE["component"][:3], {**TABLE["component"][3], "windows": {"tpsa": {"low": 0}}}],
    }
    best = ScoringFunction({**better, "aggregation": aggregation})([PARACETAMOL]).total[0]
    assert found.parts[3].lost == pytest.approx(best - found.total)


def test_what_matched_and_what_failed_is_said(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(smiles): return [None] * len(smiles)")
    broken = {"name": "python", "function": "mine:f", "path": str(tmp_path), "label": "dock"}
    found = explain({"scoring": {"component": [*TABLE["component"], broken]}}, QUINONE)
    assert math.isnan(found.total)
    assert found.error == "dock: no value"
    notes = {part.label: part.note for part in found.parts}
    assert notes["alerts"] == "PAINS_A quinone_A(370)"
    assert notes["polar"] == "outside: tpsa 34.14"
    assert math.isnan(found.parts[-1].part)
    with pytest.raises(UserError, match=r"'C1C' is no molecule: .*unclosed ring 1"):
        explain({"scoring": TABLE}, "C1C")


def test_every_transform_is_drawn(tmp_path: Path) -> None:
    assert sorted(SKETCHES) == TRANSFORMS.names(), (
        "SKETCHES (chemmara/reporting/transform_plots.py) has a line for each"
    )
    (sheet,), _ = plot_transforms(tmp_path / "all.svg")
    drawn = sheet.read_text()
    assert drawn.startswith("<?xml")
    files, _ = plot_transforms(tmp_path / "each", ["sigmoid", "clip"])
    assert [file.name for file in files] == ["sigmoid.png", "clip.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    with pytest.raises(UserError, match="neither a directory nor a file that ends in"):
        plot_transforms(tmp_path / "all.txt")
    with pytest.raises(UserError, match="cannot write"):
        plot_transforms(tmp_path / "no" / "all.png")


class Steep(Parameters):
    """Can be drawn from its defaults."""

    low: float
    power: float = 2.0


class Odd(Parameters):
    """Asks for what nobody can guess."""

    pivot: float


@pytest.fixture
def two_more(monkeypatch: pytest.MonkeyPatch) -> None:
    TRANSFORMS.names()  # so that all are there before the copy is made
    monkeypatch.setattr(TRANSFORMS, "_entries", dict(TRANSFORMS._entries))
    TRANSFORMS.register("steep", Steep)(lambda values, parameters: (values - parameters.low) ** parameters.power)
    TRANSFORMS.register("odd", Odd)(lambda values, parameters: values - parameters.pivot)


@pytest.mark.usefixtures("two_more")
def test_a_transform_without_a_sketch_is_drawn_from_its_defaults_or_left_out_and_said(tmp_path: Path) -> None:
    assert plot_transforms(tmp_path / "some", ["steep", "odd"]) == ([tmp_path / "some" / "steep.png"], ["odd"])
    with pytest.raises(UserError, match="transform 'odd' cannot be drawn: it has no line in SKETCHES"):
        plot_transforms(tmp_path / "odd.png", ["odd"])
    done = CliRunner().invoke(app, ["components", "--plot", str(tmp_path / "all.svg")])
    assert done.exit_code == 0
    assert "left out: transform 'odd' cannot be drawn" in done.stderr

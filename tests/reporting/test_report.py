"""The HTML report: one file, nothing fetched, nothing that a config or a model wrote taken for markup."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from chemmara.errors import UserError
from chemmara.reporting.report import COLUMN_MEANINGS, _by_step, _units_and_weights, render, write_report
from chemmara.reporting.runs import find_run
from chemmara.reporting.tables import AFTER_LABELS, BEFORE_LABELS

from .conftest import MakeRuns, make_row

HOSTILE = "<img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_report_is_one_file_with_drawings_and_curves(make_runs: MakeRuns) -> None:
    folder = make_runs("mara/seed-0", samples=[("c1ccccc1C", 0.75), (HOSTILE, None), ("CCO", 0.5)] * 3)
    folder = folder / "mara" / "seed-0"
    path = write_report(folder)
    assert path == folder / "report.html"
    text = path.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    names = [tag for tag, _ in tags.found]
    assert names.count("svg") == 3 + 2  # three curves, two molecules
    assert not {"script", "img", "link", "iframe", "object"} & set(names)
    for tag, attributes in tags.found:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert not re.search(r"url\((?!#)|@import", text)
    for part in ("&lt;script&gt;alert(1)", "batch_size", "molecular weight, Da", "0.750", "Cc1ccccc1", "mara/seed-0"):
        assert part in text
    assert render(find_run(folder)) == render(find_run(folder))


def test_units_are_those_of_the_components_as_they_were_built(make_runs: MakeRuns) -> None:
    """A surrogate's is that of its model, of which the component's class knows nothing."""
    folder = make_runs("mara/seed-0", samples=[("c1ccccc1C", 0.75)] * 3) / "mara" / "seed-0"
    (folder / "config.toml").write_text(
        '[[scoring.component]]\nname = "forest"\nlabel = "affinity"\nweight = 1.0\n'
        '[[scoring.component]]\nname = "molecular_weight"\nlabel = "mass"\nweight = 2.0\n'
    )
    known = _units_and_weights(find_run(folder))
    assert known == {"affinity": ("", "1"), "mass": ("g/mol", "2")}
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"labels": ["affinity", "mass"], "units": ["kcal/mol", "g/mol"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert _units_and_weights(find_run(folder)) == {"affinity": ("kcal/mol", "1"), "mass": ("g/mol", "2")}


def test_report_without_drawings_where_rdkit_cannot_draw(make_runs: MakeRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """RDKit's drawing needs libraries of X, which a bare container has not."""
    folder = make_runs("mara/seed-0", samples=[("c1ccccc1C", 0.75), ("CCO", 0.5)] * 3) / "mara" / "seed-0"
    monkeypatch.setitem(sys.modules, "rdkit.Chem.Draw", None)
    text = render(find_run(folder))
    assert text.count("<svg") == 3  # the curves
    assert "Cc1ccccc1" in text


def test_every_column_of_molecules_csv_is_explained() -> None:
    assert list(COLUMN_MEANINGS) == [*BEFORE_LABELS, "<label>", "<label>_score", *AFTER_LABELS]


def test_report_of_a_table_and_of_nothing(make_runs: MakeRuns, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("SMILES,score\nCCO,0.5\nc1,\n")
    assert write_report(table, tmp_path / "r.html").read_text().count("<svg") == 4
    table.write_text("SMILES,score\n")
    assert "No molecule has a score" in write_report(table, tmp_path / "r.html").read_text()
    with pytest.raises(UserError, match="does not exist"):
        write_report(tmp_path / "gone")
    with pytest.raises(UserError, match="cannot write"):
        write_report(table, tmp_path / "gone" / "r.html")


def test_curves_count_what_was_sent_and_what_the_agent_wrote(make_runs: MakeRuns) -> None:
    rows = [
        replace(make_row(0, 0, "CCO", 0.9), origin="seed"),
        make_row(1, 0, "CCN", 0.2),
        replace(make_row(1, 1, "CCCl", None), error="not sent: full"),
        make_row(1, 2, "c1cc", None),
        replace(make_row(1, 3, "CCF", 0.8), origin="bred"),
        make_row(2, 0, "CCF", 0.8),
        make_row(2, 1, "CCBr", 0.4),
    ]
    steps = _by_step(replace(find_run(make_runs("mara/seed-0")), reader=lambda: iter(rows)))
    assert steps.calls == [3, 4]  # after steps 1 and 2: ethanol, ethylamine, fluoroethane; bromoethane
    assert steps.score == pytest.approx([0.2, 0.6])
    assert steps.validity == pytest.approx([2 / 3, 1])
    assert steps.fresh == [1, 0.5]


def test_plots_leave_no_global_state(make_runs: MakeRuns) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    render(find_run(make_runs("mara/seed-0")))
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()

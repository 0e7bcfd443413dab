"""Ledgers merged: nothing paid for is lost or replaced, conflicts are told, and twice is the same as once."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from chemmara.cli.main import app
from chemmara.errors import RunError, UserError
from chemmara.scoring.evaluation import ComponentSpec, Evaluation
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.ledger import Ledger, RunRow
from chemmara.workflows.ledgers import COLUMNS, export, merge

ROW = RunRow(0, 0, "CCO", "OCC", True, math.nan, {"qed": 0.4}, {"qed": 0.4}, "", "dock: no pose", -3.0, -4.0)
DOCK = ComponentSpec("vina", {"seed": 1}, "d" * 64)


def ledger(path: Path, values: dict[str, float | str], runs: dict[str, list[RunRow]] | None = None) -> Path:
    with Ledger(path) as made:
        made.describe([DOCK])
        pairs = [(s, Evaluation(v) if isinstance(v, float) else Evaluation(math.nan, v)) for s, v in values.items()]
        made.record(DOCK.key, pairs)
        for run, rows in (runs or {}).items():
            for step in {row.step for row in rows}:
                made.write_step(run, step, [row for row in rows if row.step == step])
    return path


def contents(path: Path) -> list[str]:
    with Ledger(path, read_only=True) as found:
        rows = [repr(row) for run in found.runs() for row in found.rows(run)]
        return [repr(page) for page in found.evaluations()] + [repr(found.components()), *found.runs(), *rows]


def test_merge(tmp_path: Path) -> None:
    steps = [replace(ROW, step=step, index=i) for step in (0, 1) for i in range(3)]
    other = [replace(row, sampled="C(C)O") for row in steps]
    one = ledger(tmp_path / "one", {"C": -5.0, "CC": "time-out", "CCC": -7.0, "N": "no pose"}, {"a/seed-0": steps})
    two = ledger(
        tmp_path / "two",
        {"C": -5.0, "CC": -6.0, "CCC": -9.0, "CCO": 0.0, "N": "crash"},
        {"a/seed-0": steps, "b/seed-0": steps[:1]},
    )
    three = ledger(tmp_path / "three", {"CCCC": "no pose", "C": "no pose"}, {"a/seed-0": other})
    out = tmp_path / "all"
    done = merge(out, [one, two, three])
    assert (done.evaluations, done.replaced, done.same) == (6, 1, 3)
    assert [(c.component, c.smiles, c.kept, c.other, c.source) for c in done.conflicts] == [
        ("vina", "CCC", -7.0, -9.0, two)
    ]
    assert (done.runs, done.runs_left) == (["a/seed-0", "b/seed-0"], ["a/seed-0"])
    with Ledger(out, read_only=True) as found:
        values = found.lookup(DOCK.key, ["C", "CC", "CCC", "CCO", "CCCC", "N"])
        assert {s: e.value for s, e in values.items() if not e.failed} == {"C": -5, "CC": -6, "CCC": -7, "CCO": 0}
        assert (values["N"].error, values["CCCC"].error) == ("no pose", "no pose")
        assert [repr(row) for row in found.rows("a/seed-0")] == [repr(row) for row in steps]
        (info,) = found.components()
        assert (info.name, info.parameters, info.evaluations, info.failed) == ("vina", {"seed": 1}, 6, 2)
        assert info.reason == "no pose"
    before = contents(out)
    again = merge(out, [one, two, three])
    assert (again.evaluations, again.replaced, again.runs) == (0, 0, [])
    assert len(again.conflicts) == 1
    assert contents(out) == before
    for path, count in ((one, 4), (two, 5)):
        with Ledger(path, read_only=True) as source:
            assert sum(len(page) for page in source.evaluations()) == count, "sources are only read"


def test_a_merge_that_was_cut_off_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [replace(ROW, step=step, index=i) for step in range(4) for i in range(2)]
    whole, part = (ledger(tmp_path / name, {}, {"a/seed-0": rows}) for name, rows in (("w", steps), ("p", steps[:2])))
    with monkeypatch.context() as patch:
        write = Ledger.write_step

        def full(self: Ledger, run: str, step: int, rows: Any) -> None:
            if step == 2:
                raise RunError("the disk is full")
            write(self, run, step, rows)

        patch.setattr(Ledger, "write_step", full)
        with pytest.raises(RunError):
            merge(tmp_path / "out", [whole])
    for source in (whole, part):  # the second is an older copy of the same run
        done = merge(tmp_path / "out", [source])
        assert (done.runs, done.runs_left) == (["a/seed-0"] if source == whole else [], [])
    with Ledger(tmp_path / "out", read_only=True) as found:
        assert [repr(row) for row in found.rows("a/seed-0")] == [repr(row) for row in steps]


def test_merge_into_a_directory_to_be_and_not_into_a_table(tmp_path: Path) -> None:
    one = ledger(tmp_path / "one.sqlite", {"C": -5.0})
    result = CliRunner().invoke(app, ["ledger", "merge", str(tmp_path / "a" / "results"), str(one)])
    assert result.exit_code == 0, result.output
    with Ledger(tmp_path / "a" / "results" / "ledger.sqlite", read_only=True) as found:
        assert found.lookup(DOCK.key, ["C"])["C"].value == -5
    table = tmp_path / "table.csv"
    table.write_text("SMILES\nC\n" * 100)
    assert CliRunner().invoke(app, ["ledger", "merge", str(table), str(one)]).exit_code == 2
    assert not list(tmp_path.glob("table.csv.*"))


def test_many_evaluations_come_page_by_page(tmp_path: Path) -> None:
    values: dict[str, float | str] = {"C" * n: float(n) for n in range(1, 2600)}
    values["\ud800"] = 3.0  # text that SQLite holds as bytes
    merge(tmp_path / "out", [ledger(tmp_path / "in", values)])
    with Ledger(tmp_path / "out", read_only=True) as found:
        assert {s: e.value for page in found.evaluations() for _, s, e in page} == values


def test_what_cannot_be_merged_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    one = ledger(tmp_path / "one", {"C": 1.0})
    (tmp_path / "text").write_text("no ledger at all, but long enough to be read" * 20)
    for sources, message in (
        ([tmp_path / "text"], "not a ledger"),
        ([one, tmp_path / "gone"], "does not exist"),
        ([tmp_path / "new"], "name it once"),
    ):
        with pytest.raises(UserError, match=message):
            merge(tmp_path / "new", sources)
    assert not (tmp_path / "new").exists()


def test_what_a_run_scores_is_described(tmp_path: Path) -> None:
    table: dict[str, Any] = {"component": [{"name": "tanimoto", "references": ["CCO"]}, {"name": "qed"}]}
    with Ledger(tmp_path / "l") as store:
        ScoringFunction(table, store=store)(["CCO", "CCN"])
        changed = {"component": [{"name": "tanimoto", "references": ["CCN"]}]}
        ScoringFunction(changed, store=store)(["CCO"])
        found = store.components()
    assert [(info.name, info.evaluations) for info in found if info.name == "qed"] == [("qed", 2)]
    tanimoto = [info for info in found if info.name == "tanimoto"]
    assert sorted((info.parameters["references"], info.evaluations) for info in tanimoto) == [
        (["CCN"], 1),
        (["CCO"], 2),
    ]
    assert tanimoto[0].key != tanimoto[1].key, "other settings are another oracle"


def test_a_ledger_of_before_has_no_names(tmp_path: Path) -> None:
    path = ledger(tmp_path / "old", {"C": 1.0})
    with Ledger(path) as old:
        old._db.execute("DROP TABLE components")
    with Ledger(path, read_only=True) as found:
        assert [(info.name, info.parameters, info.evaluations) for info in found.components()] == [("", {}, 1)]
    with Ledger(path) as found:
        found.describe([DOCK])
        assert found.components()[0].name == "vina"


def test_export(tmp_path: Path) -> None:
    path = ledger(tmp_path / "l", {"C": -5.5, "CC": "time-out, or so"})
    assert export(path, tmp_path / "e.csv") == 2
    with open(tmp_path / "e.csv", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows == [
        list(COLUMNS),
        ["C", "vina", "", "", DOCK.key, "-5.5", ""],
        ["CC", "vina", "", "", DOCK.key, "", "time-out, or so"],
    ]
    assert export(path, tmp_path / "e.csv", "dddd") == 2
    with pytest.raises(UserError, match="no component 'vino'; did you mean 'vina'"):
        export(path, tmp_path / "e.csv", "vino")


def test_components_of_one_name_are_told_apart(tmp_path: Path) -> None:
    long = {"command": ["python", "x" * 100]}
    specs = {
        "herg": ComponentSpec("executable", {**long, "endpoint": "herg"}, "a" * 64),
        "logd": ComponentSpec("executable", {**long, "endpoint": "logd"}, "b" * 64),
        "site_1": ComponentSpec("vina", {"ligand": "y" * 100, "box": 1}, "c" * 64),
        "site_2": ComponentSpec("vina", {"ligand": "y" * 100, "box": 2}, "d" * 64),
        "vina": ComponentSpec("alerts", {}, "e" * 64),  # the same values as the next
        "alerts": ComponentSpec("alerts", {"more": 1}, "f" * 64),
    }
    values = {"herg": 0.1, "logd": 2.5, "site_1": -7.0, "site_2": -8.0, "alerts": 1.0, "vina": 1.0}
    path = tmp_path / "l.sqlite"
    with Ledger(path) as made:
        made.describe(specs.values())
        for label, spec in specs.items():
            made.record(spec.key, [("CCO", Evaluation(values[label])), ("CC", Evaluation(0.5))])
        made.write_step("a/seed-0", 0, [replace(ROW, raw=values)])
    found = {label: export(path, tmp_path / "e.csv", label) for label in ("herg", "site_2", "bbbb", "executable")}
    assert found == {"herg": 2, "site_2": 2, "bbbb": 2, "executable": 4}
    export(path, tmp_path / "e.csv")
    with open(tmp_path / "e.csv", newline="") as stream:
        told = {row["key"][0]: (row["label"], row["endpoint"]) for row in csv.DictReader(stream)}
    assert told == {
        "a": ("herg", "herg"), "b": ("logd", "logd"), "c": ("site_1", ""), "d": ("site_2", ""), "e": ("", ""),
        "f": ("", ""),
    }  # fmt: skip
    lines = CliRunner().invoke(app, ["ledger", "info", str(path)]).stdout.splitlines()
    assert any(all(word in line for word in ("vina", "site_2", "dddd", "box 2")) for line in lines)
    assert any(all(word in line for word in ("executable", "herg", "aaaa")) for line in lines)
    with pytest.raises(UserError, match=r"no component 'site_3'; did you mean 'site_[12]'"):
        export(path, tmp_path / "e.csv", "site_3")


def test_commands(tmp_path: Path) -> None:
    def invoke(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["ledger", *map(str, arguments)])

    (tmp_path / "one").mkdir()
    one = ledger(tmp_path / "one" / "ledger.sqlite", {"C": -5.0, "CC": "no pose"}, {"a/seed-0": [ROW]})
    two = ledger(tmp_path / "two.sqlite", {"C": -6.0, "CCC": -7.0})
    told = invoke("info", tmp_path / "one")
    assert told.exit_code == 0, told.output
    assert "2 evaluations, 1 of them failed" in told.stdout
    for word in ("vina", "dddddddddddd", "no pose", "seed 1", "a/seed-0"):
        assert word in told.stdout
    merged = invoke("merge", tmp_path / "all.sqlite", tmp_path / "one", two, "--conflicts", tmp_path / "c.csv")
    assert merged.exit_code == 0, merged.output
    assert merged.stdout.startswith(f"3 evaluations and 1 run added to {tmp_path / 'all.sqlite'}; 0 failures replaced")
    assert "1 conflict: the value that was there is kept" in merged.stderr
    assert f"vina of C: -5 kept, -6 in {two}" in merged.stderr
    assert (tmp_path / "c.csv").read_text().splitlines()[1].startswith(f"C,vina,{DOCK.key},-5.0,-6.0,")
    assert invoke("export", one, "-o", tmp_path / "e.csv").exit_code == 0
    assert invoke("merge", tmp_path / "results.v2", one).exit_code == 0
    assert (tmp_path / "results.v2" / "ledger.sqlite").is_file()
    for wrong in (["info", tmp_path / "gone"], ["merge", one, one], ["export", one, "-o", tmp_path / "e.txt"]):
        refused = invoke(*wrong)
        assert refused.exit_code == 2
        assert len(refused.stderr.strip().splitlines()) == 1

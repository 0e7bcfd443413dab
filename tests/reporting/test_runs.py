"""Finding runs and reading tables, our own and others'."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import pytest

from chemmara.errors import UserError
from chemmara.reporting.export import export
from chemmara.reporting.runs import find_run, find_runs
from chemmara.scoring.ledger import Ledger
from chemmara.workflows.ledgers import merge

from .conftest import LABELS, SAMPLES, MakeRuns

REINVENT4 = """Agent,Prior,Target,Score,SMILES,SMILES_state,Scaffold,QED,QED (raw),step
-20.1,-21.0,50.2,0.9,c1ccccc1C,1,c1ccccc1,0.9,0.9,1
-22.0,-21.5,10.0,0.4,OCC,1,,0.4,0.4,1
-30.0,-33.5,-33.5,0.0,c1ccc,0,,0.0,0.0,2
-22.0,-21.5,10.0,,CCO,1,,,,2
"""


def test_output_directory_run_directory_and_ledger_give_the_same_rows(make_runs: MakeRuns) -> None:
    root = make_runs("mara/seed-10", "mara/seed-2", "vanilla/seed-0")
    runs = find_runs(root)
    assert [run.name for run in runs] == ["mara/seed-2", "mara/seed-10", "vanilla/seed-0"]
    assert runs[0].labels == LABELS
    assert runs[0].threshold == 0.7
    assert [row.sampled for row in runs[0].rows()] == [sampled for sampled, _ in SAMPLES]
    assert repr(list(runs[0].rows())) == repr(list(find_run(root / "mara" / "seed-2").rows()))
    assert [run.name for run in find_runs(root / "mara")] == ["mara/seed-2", "mara/seed-10"]
    assert [run.name for run in find_runs(root / "ledger.sqlite")] == ["mara/seed-10", "mara/seed-2", "vanilla/seed-0"]


def test_molecules_csv_is_preferred_and_needs_no_ledger(make_runs: MakeRuns, tmp_path: Path) -> None:
    root = make_runs("mara/seed-0")
    folder = root / "mara" / "seed-0"
    from_ledger = repr(list(find_run(folder).rows()))
    export(find_run(folder), folder / "molecules.csv")
    (root / "ledger.sqlite").unlink()
    for path in (folder, root, folder / "molecules.csv"):
        run = find_run(path)
        assert (run.name, run.labels) == ("mara/seed-0", LABELS)
    # Rows of invalid sequences have no components in the ledger, and blank ones in the table.
    from_table = repr(list(find_run(folder).rows()))
    blank = "raw={'qed': nan, 'molecular weight, Da': nan}, transformed={'qed': nan, 'molecular weight, Da': nan}"
    assert from_table.replace(blank, "raw={}, transformed={}") == from_ledger


def test_ledger_without_run_directories(make_runs: MakeRuns, tmp_path: Path) -> None:
    root = make_runs("mara/seed-0")
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "ledger.sqlite").write_bytes((root / "ledger.sqlite").read_bytes())
    (run,) = find_runs(copy)
    assert (run.method, run.seed, run.labels, run.directory) == ("mara", 0, LABELS, None)


def test_runs_that_were_merged_into_the_ledger_are_shown_from_there(make_runs: MakeRuns) -> None:
    """Not beside those of the directory: they may be of another goal, merged for the values that were paid for."""
    from chemmara.reporting.compare import compare

    root, other = make_runs("mara/seed-0"), make_runs("mara/seed-1", folder="other")
    merge(root / "ledger.sqlite", [other / "ledger.sqlite"])
    assert [run.name for run in find_runs(root)] == ["mara/seed-0"]
    runs = find_runs(root / "ledger.sqlite")
    assert [(run.name, run.labels) for run in runs] == [("mara/seed-0", LABELS), ("mara/seed-1", LABELS)]
    remarks = compare(root / "ledger.sqlite").remarks
    assert any("the threshold of 'mara/seed-1' is not known: taken to be 0.7" in line for line in remarks)
    assert not any("is not known" in line for line in compare(root / "ledger.sqlite", 0.5).remarks)


def test_reinvents_table(tmp_path: Path) -> None:
    path = tmp_path / "staged_learning_1.csv"
    path.write_text(REINVENT4)
    run = find_run(path)
    assert (run.method, run.seed) == ("staged_learning_1", None)
    rows = list(run.rows())
    assert [row.smiles for row in rows] == ["Cc1ccccc1", "CCO", "c1ccc", "CCO"]  # canonical, none left out
    assert [row.valid for row in rows] == [True, True, False, True]
    assert [row.step for row in rows] == [1, 1, 2, 2]
    assert rows[0].score == 0.9
    assert math.isnan(rows[2].score)
    assert rows[2].error
    assert math.isnan(rows[3].score)
    with gzip.open(tmp_path / "t.csv.gz", "wt") as stream:
        stream.write(REINVENT4)
    assert repr(list(find_run(tmp_path / "t.csv.gz").rows())) == repr(rows)


def test_foreign_tables_keep_odd_rows(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("\ufefftotal_score, Smiles \n0.5,C\nbad,CC\n0.5,\n\n0.7\n", encoding="utf-8")
    rows = list(find_run(path).rows())
    assert [(row.smiles, row.valid) for row in rows] == [("C", True), ("CC", True), ("", False), ("", False)]
    assert rows[1].error == "score 'bad' is not a number"
    assert rows[2].error == "empty"


def test_tables_of_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("\ufeffName;Smiles;Score\nx;C;0,5\n;;\ny;CC;0.75\n", encoding="utf-8")
    rows = list(find_run(path).rows())
    assert [(row.smiles, row.score, row.error) for row in rows] == [("C", 0.5, None), ("CC", 0.75, None)]
    path.write_text('Smiles,Score\nC,"0,5"\nCC,"0,75"\n')
    with pytest.raises(UserError, match="has no number in the column 'Score', but such as '0,5'; write decimals"):
        list(find_run(path).rows())
    path.write_text("Smiles,Score\nC,nan\nCC,\n")
    assert [row.error for row in find_run(path).rows()] == [None, None], "two molecules that have no score"
    path.write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(UserError, match="is an Excel workbook"):
        find_run(path)


@pytest.mark.parametrize(
    ("name", "method", "seed"),
    [("reinvent_seed3.csv", "reinvent", 3), ("ahc-Seed-12.csv", "ahc", 12), ("a.b.csv", "a.b", None)],
)
def test_seeds_in_file_names(tmp_path: Path, name: str, method: str, seed: int | None) -> None:
    (tmp_path / name).write_text("smiles,score\nC,1\n")
    run = find_run(tmp_path / name)
    assert (run.method, run.seed) == (method, seed)


def test_exported_table_of_several_runs_is_several_runs(make_runs: MakeRuns, tmp_path: Path) -> None:
    runs = find_runs(make_runs("mara/seed-0", "mara/seed-1", "vanilla/seed-0"))
    export(runs, tmp_path / "all.csv")
    found = find_runs(tmp_path / "all.csv")
    assert [run.name for run in found] == [run.name for run in runs]
    assert [[row.sampled for row in run.rows()] for run in found] == [[s for s, _ in SAMPLES]] * 3
    with pytest.raises(UserError, match="3 runs"):
        find_run(tmp_path / "all.csv")


def test_no_run_is_one_clear_line(tmp_path: Path, make_runs: MakeRuns) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("hello")
    (tmp_path / "columns.csv").write_text("structure_id,smiles\n1,C\n")
    (tmp_path / "nothing.csv").write_text("")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    (tmp_path / "fake.csv.gz").write_text("smiles,score\n")
    Ledger(tmp_path / "ledger.sqlite").close()
    begun = make_runs("mara/seed-0", samples=[]) / "mara" / "seed-0"
    for name, message in {
        "missing": "does not exist",
        "empty": "it is empty",
        "other": "no <method>/seed-<n>/",
        "columns.csv": "no column score; its columns are: structure_id, smiles",
        "nothing.csv": "no column SMILES and score; its columns are: none",
        "binary.csv": "not text",
        "fake.csv.gz": "cannot be read",
        "ledger.sqlite": "holds no molecules yet",
        str(begun): "no molecules.csv",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            find_runs(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_cut_molecules_csv_is_noticed(make_runs: MakeRuns, tmp_path: Path) -> None:
    path = tmp_path / "molecules.csv"
    export(find_run(make_runs("mara/seed-0")), path)
    path.write_text(path.read_text()[:-30])
    with pytest.raises(UserError, match="row 9"):
        list(find_run(path).rows())

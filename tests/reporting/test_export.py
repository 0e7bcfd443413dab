"""Export: every row, byte by byte again, and the selections that a chemist takes away."""

from __future__ import annotations

import csv
import math
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem, DataStructs

from chemmara.errors import RunError, UserError
from chemmara.metrics.diversity import ecfp4
from chemmara.reporting import export as module
from chemmara.reporting.export import export, frame, write_molecules
from chemmara.reporting.runs import Run, find_run, find_runs
from chemmara.scoring.ledger import Ledger, RunRow
from chemmara.scoring.rows import NOT_SENT

from .conftest import LABELS, SAMPLES, MakeRuns, make_row


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_molecules_csv_has_every_row_and_the_columns_of_the_design(make_runs: MakeRuns, tmp_path: Path) -> None:
    root = make_runs("mara/seed-3")
    with Ledger(root / "ledger.sqlite") as ledger:
        done = write_molecules(ledger, "mara/seed-3", tmp_path / "molecules.csv", "mara", 3, LABELS)
    assert (done.written, dict(done.left_out)) == (len(SAMPLES), {})
    header = (tmp_path / "molecules.csv").read_text().splitlines()[0]
    assert header == (
        'SMILES,InChIKey,name,step,score,qed,qed_score,"molecular weight, Da","molecular weight, Da_score",'
        "scaffold,valid,error,method,seed,sampled,agent_log_prob,prior_log_prob,origin"
    )
    rows = table(tmp_path / "molecules.csv")
    assert [row["sampled"] for row in rows] == [sampled for sampled, _ in SAMPLES]
    assert rows[1] == {
        "SMILES": "Cc1ccccc1",
        "InChIKey": "YXFVVABEGXRONW-UHFFFAOYSA-N",  # toluene
        "name": "mara-s3-00000-001",
        "step": "0",
        "score": "0.75",
        "qed": "0.75",
        "qed_score": "0.75",
        "molecular weight, Da": "-0.0",
        "molecular weight, Da_score": "1e-17",
        "scaffold": "c1ccccc1",
        "valid": "True",
        "error": "",
        "method": "mara",
        "seed": "3",
        "sampled": "c1ccccc1C",
        "agent_log_prob": "-13.345678901234567",
        "prior_log_prob": "-20.0",
        "origin": "sampled",
    }
    assert (rows[4]["score"], rows[4]["error"], rows[4]["valid"]) == ("", "qed: timed out", "True")
    assert (rows[3]["SMILES"], rows[3]["valid"], rows[3]["InChIKey"]) == ("c1cc", "False", "")
    assert float(rows[6]["score"]) == 0.1 + 0.2


def test_what_was_not_sent_has_no_inchikey(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        refused = replace(make_row(0, 1, "CCO", None), error=f"{NOT_SENT}: scaffold known")
        ledger.write_step("mara/seed-0", 0, [make_row(0, 0, "CCN", 0.5), refused])
        write_molecules(ledger, "mara/seed-0", tmp_path / "molecules.csv", "mara", 0, LABELS)
    sent, kept = table(tmp_path / "molecules.csv")
    assert sent["InChIKey"] == "QUSNBJAOOMFDIB-UHFFFAOYSA-N"
    assert (kept["SMILES"], kept["InChIKey"]) == ("CCO", "")


def test_a_table_read_and_written_again_is_the_same_file(make_runs: MakeRuns, tmp_path: Path) -> None:
    export(find_run(make_runs("mara/seed-0")), tmp_path / "one.csv")
    export(find_run(tmp_path / "one.csv"), tmp_path / "two.csv")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_a_table_from_before_origins_is_read_as_sampled(make_runs: MakeRuns, tmp_path: Path) -> None:
    export(find_run(make_runs("mara/seed-0")), tmp_path / "now.csv")
    before = re.sub(r",(origin|sampled)$", "", (tmp_path / "now.csv").read_text(), flags=re.MULTILINE)
    (tmp_path / "before.csv").write_text(before)
    now, then = find_run(tmp_path / "now.csv"), find_run(tmp_path / "before.csv")
    assert then.labels == now.labels == LABELS
    assert repr(list(then.rows())) == repr(list(now.rows()))


def test_frame_has_the_same_columns_and_numbers(make_runs: MakeRuns, tmp_path: Path) -> None:
    runs = find_runs(make_runs("mara/seed-0", "mara/seed-1"))
    export(runs, tmp_path / "o.csv")
    found = frame(runs)
    assert list(found.columns) == list(table(tmp_path / "o.csv")[0])
    assert found.score.tolist() == pytest.approx([math.nan if s is None else s for _, s in SAMPLES] * 2, nan_ok=True)
    assert found.valid.sum() == 12


odd = st.text(st.characters(exclude_categories=[]), max_size=8) | st.sampled_from(
    ['"', ",", "\r", "\n", "\r\n", '","', "\ufeff", " C ", "=1+1", "\ud800", "\0"]
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(odd, odd, st.floats()), min_size=1, max_size=4), odd)
def test_nothing_is_lost_in_odd_text(cells: list[tuple[str, str, float]], label: str) -> None:
    rows = [
        RunRow(7, i, text, text, False, value, {label: value}, {label: value}, "", error or None, value, value)
        for i, (text, error, value) in enumerate(cells)
    ]
    run = Run("mara", 0, (label,), None, Path("x"), None, lambda: iter(rows))
    with tempfile.TemporaryDirectory() as folder:
        export(run, Path(folder) / "m.csv")
        found = find_run(Path(folder) / "m.csv")
        assert found.labels == (label,)
        assert repr(list(found.rows())) == repr(rows)


def names(path: Path) -> list[str]:
    return [row["name"] for row in table(path)]


def test_selections(make_runs: MakeRuns, tmp_path: Path) -> None:
    run = find_run(make_runs("mara/seed-0"))
    out = tmp_path / "out.csv"
    done = export(run, out, min_score=0.75)  # the best first, the repeat left out
    assert names(out) == ["mara-s0-00000-002", "mara-s0-00001-001", "mara-s0-00000-000"]
    assert done.left_out == {"repeated": 1, "invalid": 2, "without a score": 1, "below the least score": 1}
    assert done.written + done.left_out.total() == len(SAMPLES)
    export(run, out, top=2)
    assert names(out) == ["mara-s0-00000-002", "mara-s0-00001-001"]
    export(run, out, top=100)
    assert [float(row["score"]) for row in table(out)] == [0.9, 0.8, 0.75, 0.1 + 0.2]
    done = export(run, out, one_per_scaffold=True)  # benzoic acid stands for benzene's, hexane has none
    assert [row["SMILES"] for row in table(out)] == ["O=C(O)c1ccccc1", "C1CCNCC1"]
    assert done.left_out["without a scaffold"] == done.left_out["of a scaffold that is there already"] == 1
    export(run, out, one_per_scaffold=True, min_score=0.5, top=5)
    assert [row["SMILES"] for row in table(out)] == ["O=C(O)c1ccccc1"]


def test_clean_molecules_alone(make_runs: MakeRuns, tmp_path: Path) -> None:
    samples = [("c1ccccc1COOC", 0.9), ("Cc1ccccc1", 0.8), ("C=N[N+]=C", 0.7), ("c1ccccc1C", 0.8), ("C1CCCCCCCC1", 0.1)]
    run = find_run(make_runs("mara/seed-0", samples=samples))
    done = export(run, tmp_path / "o.csv", clean=True)
    assert [row["SMILES"] for row in table(tmp_path / "o.csv")] == ["Cc1ccccc1"]
    assert done.left_out == {
        "not clean (alert)": 1,
        "not clean (radical)": 1,
        "repeated": 1,
        "not clean (large ring)": 1,
    }
    assert done.written + done.left_out.total() == len(samples)
    # The best of a scaffold is the best clean one; what scores too little is not looked at.
    done = export(run, tmp_path / "o.csv", clean=True, one_per_scaffold=True, min_score=0.5)
    assert [row["SMILES"] for row in table(tmp_path / "o.csv")] == ["Cc1ccccc1"]
    assert done.left_out["below the least score"] == 1
    assert export(run, tmp_path / "o.smi", clean=True).written == 1
    assert export(run, tmp_path / "all.csv").written == len(samples)


ALCOHOLS = ["CCO", "CCCO", "CCCCO", "CCCCCO", "OCCO", "c1ccccc1O", "c1ccccc1CO", "C1CCCCC1O", "Cc1ccncc1", "CCN"]


@settings(max_examples=30, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.2, 0.5, 0.5, 0.9]), min_size=len(ALCOHOLS), max_size=len(ALCOHOLS)),
    distance=st.sampled_from([0.0, 0.3, 0.6, 0.9, 0.99]),
)
def test_what_stays_is_far_from_one_another_and_what_goes_is_near_a_better_one(
    scores: list[float], distance: float
) -> None:
    rows = [make_row(0, i, smiles, score) for i, (smiles, score) in enumerate(zip(ALCOHOLS, scores))]
    with tempfile.TemporaryDirectory() as folder:
        run = Run("m", 0, LABELS, None, Path(folder), None, lambda: iter(rows))
        done = export(run, Path(folder) / "o.csv", min_distance=distance)
        kept = [(row["SMILES"], float(row["score"])) for row in table(Path(folder) / "o.csv")]
    every = sorted(((row.smiles, row.score) for row in rows), key=lambda pair: -pair[1])
    far = {a: {b: 1 - DataStructs.TanimotoSimilarity(*ecfp4([a, b])) for b, _ in every} for a, _ in every}
    assert [pair for pair in every if pair in kept] == kept, "the best first"
    for place, (smiles, _) in enumerate(every):
        better = [other for other, _ in every[:place] if other in dict(kept)]
        assert (smiles in dict(kept)) == all(far[smiles][other] > distance for other in better)
    assert done.left_out.total() + done.written == len(rows)
    assert 0 not in done.left_out.values()


def test_the_best_of_what_is_apart(make_runs: MakeRuns, tmp_path: Path) -> None:
    samples = [("CCCCO", 0.7), ("CCCO", 0.8), ("c1ccncc1", 0.75), ("CCCCCO", 0.9)]
    run = find_run(make_runs("mara/seed-0", samples=samples))
    done = export(run, tmp_path / "o.csv", min_distance=0.6, top=2)
    assert [row["SMILES"] for row in table(tmp_path / "o.csv")] == ["CCCCCO", "c1ccncc1"]
    assert done.left_out == {"near a better one": 2}
    for wrong in (1.0, -0.1, math.nan):
        with pytest.raises(UserError, match="--min-distance must be from 0"):
            export(run, tmp_path / "o.csv", min_distance=wrong)


def test_ties_go_to_the_first(tmp_path: Path) -> None:
    rows = [make_row(0, i, smiles, 0.5) for i, smiles in enumerate(["CCO", "C", "CC", "CCO"])]
    run = Run("m", 0, LABELS, None, tmp_path, None, lambda: iter(rows))
    export(run, tmp_path / "o.csv", top=3)
    assert [row["SMILES"] for row in table(tmp_path / "o.csv")] == ["CCO", "C", "CC"]


def test_several_runs_share_one_selection(make_runs: MakeRuns, tmp_path: Path) -> None:
    runs = find_runs(make_runs("a/seed-0", "b/seed-0"))
    assert export(runs, tmp_path / "o.csv").written == 2 * len(SAMPLES)
    export(runs, tmp_path / "o.csv", min_score=0.0)
    assert {row["method"] for row in table(tmp_path / "o.csv")} == {"a"}  # b found nothing new


def test_smi_and_sdf(make_runs: MakeRuns, tmp_path: Path) -> None:
    run = find_run(make_runs("mara/seed-0"))
    done = export(run, tmp_path / "o.smi")
    assert (tmp_path / "o.smi").read_text().splitlines()[:2] == [
        "Cc1ccccc1 mara-s0-00000-000",
        "Cc1ccccc1 mara-s0-00000-001",
    ]
    assert (done.written, done.left_out) == (6, {"invalid": 2})
    export(run, tmp_path / "o.sdf", top=2)
    mols = list(Chem.SDMolSupplier(str(tmp_path / "o.sdf")))
    assert [Chem.MolToSmiles(mol) for mol in mols] == ["CCCCCC", "O=C(O)c1ccccc1"]
    assert mols[1].GetProp("_Name") == "mara-s0-00001-001"
    assert mols[1].GetPropsAsDict(autoConvertStrings=False) == {
        "SMILES": "O=C(O)c1ccccc1",
        "step": "1",
        "score": "0.8",
        "qed": "0.8",
        "qed_score": "0.8",
        "molecular weight, Da": "-0.0",
        "molecular weight, Da_score": "1e-17",
        "scaffold": "c1ccccc1",
        "method": "mara",
        "seed": "0",
    }
    assert mols[1].GetConformer().GetPositions().any()


def test_mistakes_are_one_line_and_leave_no_file(make_runs: MakeRuns, tmp_path: Path) -> None:
    run = find_run(make_runs("mara/seed-0"))
    (tmp_path / "folder.csv").mkdir()
    before = sorted(tmp_path.iterdir())
    for out, options, message in (
        ("o.xlsx", {}, r"must end in \.csv, \.smi, \.sdf"),
        ("folder.csv", {}, "is a directory"),
        ("no/o.csv", {}, "cannot write"),
        ("o.csv", {"top": 0}, "--top"),
        ("o.csv", {"min_score": math.nan}, "--min-score"),
        ("o.csv", {"min_score": 1.5}, r"no molecule is left for .*o.csv', which is not written: .* below the least"),
        ("o.smi", {"min_score": 1.5, "top": 3}, "no molecule is left"),
    ):
        with pytest.raises(UserError, match=message):
            export(run, tmp_path / out, **options)  # type: ignore[arg-type]
    assert sorted(tmp_path.iterdir()) == before


def test_a_selection_of_nothing_leaves_the_old_file(make_runs: MakeRuns, tmp_path: Path) -> None:
    run = find_run(make_runs("mara/seed-0", samples=[("c1cc", None)]))
    for name, options in (("o.smi", {}), ("o.sdf", {}), ("o.csv", {"top": 1})):
        (tmp_path / name).write_text("old")
        with pytest.raises(UserError, match="no molecule is left"):
            export(run, tmp_path / name, **options)  # type: ignore[arg-type]
        assert (tmp_path / name).read_text() == "old"
    assert export(run, tmp_path / "all.csv").written == 1


def test_a_table_of_score_keeps_its_names_and_components(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(
        "SMILES,name,qed,qed_score,dock,dock_score,dock_note,score,error\n"
        "OCC,ethanol,0.4,0.5,-7.5,0.75,pose,0.6,\nCCN,,0.3,0.3,,,,,dock: no pose\nC1C,odd,,,,,,,invalid\n"
    )
    export(find_run(path), tmp_path / "o.csv")
    rows = table(tmp_path / "o.csv")
    assert [row["name"] for row in rows] == ["ethanol", "s-00000-001", "odd"]
    assert {key: rows[0][key] for key in ("SMILES", "sampled", "qed", "qed_score", "dock", "dock_score", "score")} == {
        "SMILES": "CCO", "sampled": "OCC", "qed": "0.4", "qed_score": "0.5", "dock": "-7.5", "dock_score": "0.75",
        "score": "0.6",
    }  # fmt: skip
    assert (rows[1]["dock"], rows[1]["error"], rows[2]["qed"]) == ("", "dock: no pose", "")
    export(find_run(tmp_path / "o.csv"), tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "o.csv").read_bytes()
    export(find_run(path), tmp_path / "o.sdf", top=1)
    (mol,) = Chem.SDMolSupplier(str(tmp_path / "o.sdf"))
    assert (mol.GetProp("_Name"), mol.GetProp("dock")) == ("ethanol", "-7.5")


def test_a_full_disk_leaves_the_old_file(make_runs: MakeRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = find_run(make_runs("mara/seed-0"))
    (tmp_path / "o.csv").write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        export(run, tmp_path / "o.csv")
    assert (tmp_path / "o.csv").read_text() == "old"
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".partial")]


@pytest.mark.parametrize(
    ("true", "false", "delimiter", "point"),
    [("TRUE", "FALSE", ",", "."), ("WAHR", "FALSCH", ";", ","), ("VRAI", "FAUX", "\t", ",")],
)
def test_a_table_that_a_spreadsheet_has_saved_is_read_as_before(
    make_runs: MakeRuns, tmp_path: Path, true: str, false: str, delimiter: str, point: str
) -> None:
    """It writes truth values in capitals, in its own language, and decimals and columns as that has them."""
    source = tmp_path / "ours.csv"
    export(find_run(make_runs("mara/seed-0")), source)
    with source.open(newline="", encoding="utf-8") as stream:
        header, *cells = list(csv.reader(stream))
    words = {"True": true, "False": false}
    numbers = {at for at, name in enumerate(header) if name in ("score", "qed", "qed_score", "agent_log_prob")}
    with (tmp_path / "saved.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerow(header)
        for row in cells:
            writer.writerow(
                [words.get(cell, cell.replace(".", point) if at in numbers else cell) for at, cell in enumerate(row)]
            )
    before, after = (list(find_run(path).rows()) for path in (source, tmp_path / "saved.csv"))
    assert [row.valid for row in after] == [row.valid for row in before]
    for key in ("score", "agent_log_prob"):
        assert [getattr(row, key) for row in after] == pytest.approx([getattr(row, key) for row in before], nan_ok=True)
    assert [row.raw["qed"] for row in after] == pytest.approx([row.raw["qed"] for row in before], nan_ok=True)


def test_export_loads_nothing_heavy(make_runs: MakeRuns, tmp_path: Path) -> None:
    root = make_runs("mara/seed-0")
    code = (
        "import sys; from chemmara.reporting.export import export; from chemmara.reporting.runs import find_runs; "
        "export(find_runs(sys.argv[1]), sys.argv[2]); "
        "print([m for m in ('torch', 'pandas', 'scipy', 'matplotlib', 'jinja2') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(root), str(tmp_path / "o.csv")]
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == "[]"


def test_rows_are_streamed(tmp_path: Path) -> None:
    row = make_row(0, 0, "CCO", 0.5)
    alive = 0

    def rows() -> object:
        nonlocal alive
        for index in range(3000):
            alive = index
            yield replace(row, index=index)

    run = Run("m", 0, LABELS, None, tmp_path, None, rows)  # type: ignore[arg-type]
    first = next(
        entry for entry in module._csv((module.Entry(run, r) for r in run.rows()), LABELS, module.Exported(tmp_path))
    )
    assert first.startswith("SMILES")
    assert alive == 0
    assert export(run, tmp_path / "o.csv").written == 3000

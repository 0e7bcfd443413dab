"""export, compare and score by the files they leave."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import pytest

from chemmara.chemistry.files import read_records
from chemmara.scoring.evaluation import ComponentSpec, Evaluation
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.ledger import Ledger
from chemmara.scoring.settings import ComponentSettings
from chemmara.workflows.kept import KeptStore

from .conftest import invoke, toy, write

Finished = tuple[Path, Path, Any]
SMI = "CC(=O)Nc1ccc(O)cc1 paracetamol\nOc1ccc(NC(C)=O)cc1 again\n\nc1cc broken ring\nCCO\n"


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_export_everything(finished: Finished, tmp_path: Path) -> None:
    _, out, _ = finished
    result = invoke("export", out / "mara" / "seed-0", "-o", tmp_path / "all.csv")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "all.csv").read_bytes() == (out / "mara" / "seed-0" / "molecules.csv").read_bytes()


def test_export_a_selection_of_all_runs(finished: Finished, tmp_path: Path) -> None:
    _, out, _ = finished
    where = tmp_path / "best.csv"
    result = invoke("export", out, "-o", where, "--min-score", 0.6, "--one-per-scaffold", "--top", 5)
    assert result.exit_code == 0, result.output
    found = rows(where)
    assert 0 < len(found) <= 5
    assert len({row["scaffold"] for row in found}) == len(found)
    scores = [float(row["score"]) for row in found]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] >= 0.6
    assert result.stdout.startswith(f"{len(found)} molecule{'s' * (len(found) > 1)} written to {where}; left out: ")


def test_export_of_clean_molecules_says_how_many_were_dropped(tmp_path: Path) -> None:
    (tmp_path / "any.csv").write_text("SMILES,score\nCCOOCC,0.9\nC=N[N+]=C,0.8\nCc1ccccc1,0.7\n")
    where = tmp_path / "clean.smi"
    result = invoke("export", tmp_path / "any.csv", "-o", where, "--clean")
    assert result.exit_code == 0, result.output
    expected = f"1 molecule written to {where}; left out: 1 not clean (alert), 1 not clean (radical)"
    assert result.stdout.strip() == expected
    assert where.read_text().startswith("Cc1ccccc1 ")


@pytest.mark.parametrize("suffix", [".smi", ".sdf"])
def test_export_formats(finished: Finished, tmp_path: Path, suffix: str) -> None:
    _, out, _ = finished
    where = tmp_path / f"best{suffix}"
    assert invoke("export", out, "-o", where, "--top", 3).exit_code == 0
    assert len(list(read_records(where))) == 3


def test_export_never_overwrites_its_own_source(finished: Finished) -> None:
    _, out, _ = finished
    source = out / "mara" / "seed-0" / "molecules.csv"
    before = source.read_bytes()
    result = invoke("export", source.parent, "-o", source, "--top", 1)
    assert result.exit_code == 2
    assert source.read_bytes() == before


def test_export_never_overwrites_the_comparison(finished: Finished) -> None:
    _, out, _ = finished
    before = (out / "compare.csv").read_bytes()
    for name in ("compare.csv", "compare_tests.csv"):
        result = invoke("export", out, "-o", out / name)
        assert result.exit_code == 2
        assert "is a run's own file" in result.stderr
    assert (out / "compare.csv").read_bytes() == before


def test_compare(finished: Finished, tmp_path: Path) -> None:
    _, out, _ = finished
    foreign = tmp_path / "other.csv"
    foreign.write_text("SMILES,total_score\nCCO,0.9\nc1ccccc1,0.7\n")
    options = ("--threshold", 0.6, "--threshold", 0.8)
    result = invoke("compare", out, foreign, "-o", tmp_path / "c", *options)
    assert result.exit_code == 0, result.output
    assert "no test between methods: that takes" in result.stdout
    assert "oracle calls, and" not in result.stdout
    assert "oracle calls: whoever has more" in " ".join(result.stdout.split())
    table = rows(tmp_path / "c" / "compare.csv")
    assert {(row["method"], row["threshold"]) for row in table} == {
        (method, threshold) for method in ("vanilla", "mara", "other") for threshold in ("0.6", "0.8")
    }
    assert (tmp_path / "c" / "compare.png").is_file()


def test_compare_writes_nothing_unasked(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke("compare", finished[1]).exit_code == 0
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_score(tmp_path: Path, executor: str) -> None:
    execution = {"executor": executor, **({"workers": 1, "chunk": 2} if executor == "processes" else {})}
    table = {"scoring": toy("")["scoring"], "execution": execution}
    table["scoring"]["component"].append({"name": "shape", "reference": "CCO", "conformers": 1})  # worth a process
    config = write(tmp_path / "score.toml", table)
    (tmp_path / "m.smi").write_text(SMI)
    (tmp_path / "s.csv").write_text("old")
    result = invoke("score", config, tmp_path / "m.smi", "-o", tmp_path / "s.csv")
    assert result.exit_code == 0, result.output
    found = rows(tmp_path / "s.csv")
    labels = ("qed", "molecular_weight", "shape")
    assert list(found[0]) == ["SMILES", "name", *(c for n in labels for c in (n, f"{n}_score")), "score", "error"]
    assert [(row["SMILES"], row["name"]) for row in found] == [
        ("CC(=O)Nc1ccc(O)cc1", "paracetamol"), ("Oc1ccc(NC(C)=O)cc1", "again"), ("c1cc", "broken ring"), ("CCO", ""),
    ]  # fmt: skip
    expected = ScoringFunction(table["scoring"])(["CC(=O)Nc1ccc(O)cc1", "CCO"])
    assert [float(found[n]["score"]) for n in (0, 3)] == expected.total.tolist()
    assert float(found[0]["molecular_weight"]) == expected.raw["molecular_weight"][0]
    assert found[2]["score"] == ""
    assert "invalid SMILES" in found[2]["error"]
    assert "1 is no molecule (" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.smi", "s.csv", "score.toml"]


def test_a_row_without_a_smiles_is_a_row(tmp_path: Path) -> None:
    config = write(tmp_path / "score.toml", {"scoring": {"component": [{"name": "qed"}]}})
    (tmp_path / "m.csv").write_text("SMILES;Lot No;Product\nCCO;a;CC\n;b;\nCCN;c;CCC\n")
    result = invoke("score", config, tmp_path / "m.csv", "-o", tmp_path / "s.csv", "--name", "lot no")
    assert result.exit_code == 0, result.output
    found = rows(tmp_path / "s.csv")
    assert [(row["SMILES"], row["name"]) for row in found] == [("CCO", "a"), ("", "b"), ("CCN", "c")]
    assert "empty" in found[1]["error"]
    assert "3 rows written" in result.stdout
    assert "1 is no molecule (column error)" in result.stdout
    invoke("score", config, tmp_path / "m.csv", "-o", tmp_path / "s.csv", "--column", "product")
    assert [row["SMILES"] for row in rows(tmp_path / "s.csv")] == ["CC", "", "CCC"]
    result = invoke("score", config, tmp_path / "m.csv", "-o", tmp_path / "s.csv", "--column", "educt")
    assert result.exit_code == 2
    assert "its columns are: SMILES, Lot No, Product" in " ".join(result.stderr.split())


def test_score_in_chunks_is_score_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import chemmara.workflows.score as workflow
    from chemmara.workflows import kept

    config = write(tmp_path / "score.toml", {"scoring": {"component": [{"name": "qed"}]}})
    (tmp_path / "m.smi").write_text(SMI * 3)
    invoke("score", config, tmp_path / "m.smi", "-o", tmp_path / "at_once.csv")
    monkeypatch.setattr(workflow, "CHUNK", 2)
    monkeypatch.setattr(kept, "REMEMBERED", 1)
    invoke("score", config, tmp_path / "m.smi", "-o", tmp_path / "chunks.csv")
    assert (tmp_path / "chunks.csv").read_text() == (tmp_path / "at_once.csv").read_text()
    assert len(rows(tmp_path / "chunks.csv")) == 12


COUNTED = """
import os
def f(smiles):
    with open("count", "a") as stream:
        stream.writelines(text + "\\n" for text in smiles)
    if os.path.exists("interrupt") and "CCC" in smiles:
        raise KeyboardInterrupt
    return [None if text == "CC" and not os.path.exists("mended") else len(text) / 10 for text in smiles]
"""


def test_what_score_has_paid_for_is_not_paid_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("counted.py").write_text(COUNTED)
    parts = [{"name": "python", "function": "counted:f", "filter": True}, {"name": "qed"}]
    config = write(tmp_path / "score.toml", {"scoring": {"component": parts}, "execution": {"chunk": 1}})
    lines = gzip.compress(b"".join(b"%s\n" % (b"C" * n) for n in range(1, 6)) + b"CCO noise\n" * 9000)
    Path("m.smi.gz").write_bytes(lines[:-20])

    def asked() -> list[str]:
        found = Path("count").read_text().split()
        Path("count").unlink()
        return sorted(found)

    result = invoke("score", config, "m.smi.gz", "-o", "s.csv")
    assert result.exit_code == 1
    assert "is damaged" in result.stderr
    assert "kept in 's.csv.ledger.sqlite'" in " ".join(result.stderr.split())
    assert asked() == ["C", "CC", "CCC", "CCCC", "CCCCC", "CCO"]
    assert not Path("s.csv").exists()
    Path("m.smi").write_text("CCCCCC\nCCC\nC\nCC\nN\n")
    result = invoke("score", config, "m.smi", "-o", "s.csv")
    assert result.exit_code == 0, result.output
    assert asked() == ["CC", "CCCCCC", "N"], "what failed is tried again"
    assert "the same command tries the failed ones again" in " ".join(result.stdout.split())
    Path("mended").touch()
    invoke("score", config, "m.smi", "-o", "s.csv")
    assert asked() == ["CC"]
    assert [float(row["python"]) for row in rows(Path("s.csv"))] == [0.6, 0.3, 0.1, 0.2, 0.1]
    assert not list(tmp_path.glob("s.csv.*")), "the table has all of it"


def test_what_another_score_has_paid_for_is_not_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("counted.py").write_text(COUNTED)
    Path("m.smi").write_text("CCCC\nC\n")
    Path("s.csv.ledger.sqlite.mine").write_text("of the user's own")
    part = {"name": "python", "function": "counted:f"}
    other = ComponentSpec("vina", {}, "d" * 64)
    with Ledger("s.csv.ledger.sqlite") as ledger:
        ledger.describe([other])
        ledger.record(other.key, [("C", Evaluation(-7.0))])
    config = write(tmp_path / "c.toml", {"scoring": {"component": [part]}})
    assert invoke("score", config, "m.smi", "-o", "s.csv").exit_code == 0
    with Ledger("s.csv.ledger.sqlite", read_only=True) as ledger:
        assert ledger.lookup(other.key, ["C"])["C"].value == -7
    assert Path("s.csv.ledger.sqlite.mine").is_file()


def test_a_docked_molecule_is_on_the_disk_before_it_is_used(tmp_path: Path) -> None:
    spec = ComponentSpec("vina", {}, "d" * 64)
    store = KeptStore(tmp_path / "s.csv")
    store.keep([ComponentSettings("dock", spec, "", 1e6, 1.0, False, None)])
    for number, smiles in enumerate(("C", "CC")):
        store.record(spec.key, [(smiles, Evaluation(-float(number)))])
        with Ledger(store.path, read_only=True) as seen:
            assert seen.lookup(spec.key, [smiles])[smiles].value == -number
    store.close()


def test_values_that_come_slowly_wait_for_nothing(tmp_path: Path) -> None:
    """Two at once, and the next a minute later: nobody knows how long a user's own function takes."""
    spec = ComponentSpec("python", {}, "e" * 64)
    store = KeptStore(tmp_path / "s.csv")
    store.keep([ComponentSettings("own", spec, "", 1000.0, 1.0, False, None)])
    for number, smiles in enumerate(("C", "CC", "CCC")):
        store.record(spec.key, [(smiles, Evaluation(float(number)))])
        with Ledger(store.path, read_only=True) as seen:
            assert seen.lookup(spec.key, [smiles])[smiles].value == number
    written = []
    store._write = lambda: written.append(1)  # type: ignore[method-assign]
    for number in range(500):
        store.record(spec.key, [("C" * (number + 4), Evaluation(0.5))])
    assert len(written) < 100, "a fast one is not slowed down by the disk"
    del store._write
    store.close()


def test_an_interrupted_score_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("counted.py").write_text(COUNTED)
    part = {"name": "python", "function": "counted:f"}
    config = write(tmp_path / "score.toml", {"scoring": {"component": [part]}, "execution": {"chunk": 1}})
    Path("m.smi").write_text("CCCC\nCCC\nC\n")
    Path("interrupt").touch()
    result = invoke("score", config, "m.smi", "-o", "s.csv")
    assert result.exit_code == 130
    assert "the same command goes on" in " ".join(result.stderr.split())
    Path("interrupt").unlink()
    assert invoke("score", config, "m.smi", "-o", "s.csv").exit_code == 0
    assert Path("count").read_text().split() == ["CCCC", "CCC", "CCC", "C"]


def test_score_explains_one_molecule(tmp_path: Path) -> None:
    table = {"scoring": {"component": [{"name": "qed"}, {"name": "alerts", "catalogues": ["PAINS"], "filter": True}]}}
    config = write(tmp_path / "c.toml", table)
    result = invoke("score", config, "--explain", "O=C1C=CC(=O)C=C1")
    assert result.exit_code == 0, result.output
    for word in ("score 0: geometric_mean", "raw value", "0.4167", "filter", "x 0", "alerts: PAINS_A quinone_A(370)"):
        assert word in result.stdout
    for wrong in (["--explain", "C1C"], [], ["--explain", "C", "-o", tmp_path / "x.csv"], [tmp_path / "m.smi"]):
        refused = invoke("score", config, *wrong)
        assert refused.exit_code == 2
        assert len(refused.stderr.strip().splitlines()) == 1
        assert "Traceback" not in refused.output


def test_score_notes(tmp_path: Path) -> None:
    alerts = {"name": "alerts", "catalogues": ["PAINS"], "filter": True}
    config = write(tmp_path / "c.toml", {"scoring": {"component": [{"name": "qed"}, alerts]}})
    (tmp_path / "m.smi").write_text("O=C1C=CC(=O)C=C1\nC1C\nCCO\n")
    result = invoke("score", config, tmp_path / "m.smi", "-o", tmp_path / "m.csv", "--notes")
    assert result.exit_code == 0, result.output
    assert [row["alerts_note"] for row in rows(tmp_path / "m.csv")] == ["PAINS_A quinone_A(370)", "", ""]
    clash = write(tmp_path / "d.toml", {"scoring": {"component": [alerts, {"name": "qed", "label": "Alerts_note"}]}})
    assert invoke("score", clash, tmp_path / "m.smi", "-o", tmp_path / "n.csv", "--notes").exit_code == 2


def test_components_are_plotted(tmp_path: Path) -> None:
    result = invoke("components", "--plot", tmp_path / "t.png")
    assert result.stdout == f"written: {tmp_path / 't.png'}\n"
    assert (tmp_path / "t.png").is_file()
    assert invoke("components", "qed", "--plot", tmp_path / "q.png").exit_code == 2

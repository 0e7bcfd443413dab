"""The scaling benchmark: its points are commands of ours, and a finished one is not repeated."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from chemmara.errors import RunError, UserError
from chemmara.workflows.benchmarks import scaling
from chemmara.workflows.benchmarks.scaling import Scaling, run


@pytest.mark.slow
def test_a_point_is_measured_once_and_stays(tiny_prior: Path, tmp_path: Path) -> None:
    said: list[str] = []
    request = Scaling(tmp_path / "out", str(tiny_prior), numbers=(60,))
    table, text, plot = run(request, said.append)
    rows = list(csv.DictReader(table.open()))
    assert [(row["what"], row["molecules"]) for row in rows] == [("sampling", "60"), ("training, one epoch", "60")]
    assert all(float(row["cpu_seconds"]) > 0.1 and float(row["peak_mb"]) > 50 for row in rows)
    assert len(said) == 2
    assert plot.stat().st_size > 1000
    before = table.read_bytes()
    run(request, said.append)
    assert (len(said), table.read_bytes()) == (2, before)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [table.name, text.name, plot.name]


def test_points_add_up_and_the_slope_is_of_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "_timed", lambda arguments: {"seconds": 10.0, "cpu_seconds": 9.0, "peak_mb": 300.0})
    request = Scaling(tmp_path, numbers=(1000,))
    run(request, str)
    monkeypatch.setattr(scaling, "_timed", lambda arguments: {"seconds": 28.0, "cpu_seconds": 9.0, "peak_mb": 300.0})
    _, text, _ = run(Scaling(tmp_path, numbers=(10_000,)), str)
    assert "| sampling | chembl | 1 |  | 1,000 | 10.0 | 9.0 | 300 |  |" in text.read_text()
    assert "| sampling | chembl | 1 |  | 10,000 | 28.0 | 9.0 | 300 | 2.000 |" in text.read_text()


def test_other_workers_or_batches_are_other_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "_timed", lambda arguments: {"seconds": 10.0, "cpu_seconds": 9.0, "peak_mb": 300.0})
    run(Scaling(tmp_path, numbers=(1000,)), str)
    run(Scaling(tmp_path, numbers=(1000,), workers=2), str)
    table, text, _ = run(Scaling(tmp_path, numbers=(10_000,), workers=2, batch_size=512), str)
    rows = [(row["workers"], row["batch_size"], row["molecules"]) for row in csv.DictReader(table.open())]
    assert rows == [
        *(("1", "0", "1000"), ("2", "0", "1000"), ("2", "0", "10000")),
        *(("1", "128", "1000"), ("2", "128", "1000"), ("2", "512", "10000")),
    ]
    assert text.read_text().count("|  |\n") == 5, "one slope: sampling with two workers has two points"
    run(Scaling(tmp_path, prior="zinc250k", numbers=(10_000,), workers=2, batch_size=512), str)
    assert len(list(csv.DictReader(table.open()))) == 8, "what another prior wrote is other training data"


def test_what_was_measured_before_a_failure_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def timed(arguments: list[str], broken: bool = False) -> dict[str, float]:
        asked.append(arguments[0])
        if arguments[0] == "sample":
            Path(arguments[arguments.index("-o") + 1]).write_text("CCO\n")
        elif broken:
            raise RunError("no memory")
        return {"seconds": 1.0, "cpu_seconds": 1.0, "peak_mb": 1.0}

    monkeypatch.setattr(scaling, "_timed", lambda arguments: timed(arguments, broken=True))
    with pytest.raises(RunError, match="no memory"):
        run(Scaling(tmp_path, numbers=(9,)), str)
    monkeypatch.setattr(scaling, "_timed", timed)
    run(Scaling(tmp_path, numbers=(9,)), str)
    assert asked == ["sample", "train", "train"], "the samples were kept and not drawn again"
    assert not list(tmp_path.glob("*.smi"))
    table, _, _ = run(Scaling(tmp_path, policy="gru", numbers=(9,)), str)
    assert [row["network"] for row in csv.DictReader(table.open())] == [
            "chembl", "gru small, chembl", "lstm small, chembl",
        ]  # fmt: skip


def test_mistakes_are_one_line(tiny_prior: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="chembI"):
        run(Scaling(tmp_path / "a", "chembI"), str)
    with pytest.raises(UserError, match="lstn"):
        run(Scaling(tmp_path / "a", policy="lstn"), str)
    assert not (tmp_path / "a").exists()
    (tmp_path / "scaling.csv").write_text("n,m\n1,2\n")
    with pytest.raises(UserError, match="not a table of this benchmark"):
        run(Scaling(tmp_path), str)
    with pytest.raises(RunError, match="chemmara sample"):
        scaling._timed(["sample", "no_such_prior", "-n", "1", "-o", "x.smi"])

"""The table of ring systems is made from samples alone, the same each time, or from a file of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from chemmara.chemistry.ring_systems import RingTable
from chemmara.workflows.rings import main, make_table


@pytest.mark.slow
def test_a_table_of_a_prior_and_its_card(tmp_path: Path) -> None:
    for name in ("one.tsv", "two.tsv"):
        make_table("chembl", tmp_path / name, n=60, seed=3)
    assert (tmp_path / "one.tsv").read_bytes() == (tmp_path / "two.tsv").read_bytes()
    table = RingTable.load(tmp_path / "one.tsv")
    assert table.molecules == 60
    assert 10 < table.counts["c1ccccc1"] <= 60
    card = (tmp_path / "README.md").read_text()
    assert "python -m chemmara.workflows.rings table chembl -n 60 --seed 3" in card
    assert f"Ring systems: {len(table.counts)};" in card


def test_a_table_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.smi").write_text("C1CC1\nCC1CC1\nnothing\n")
    main(["file", str(tmp_path / "m.smi"), "-o", str(tmp_path / "m.tsv")])
    assert capsys.readouterr().out.startswith("1 ring systems of 2 molecules written to ")
    with pytest.raises(SystemExit) as stopped:
        main(["file", str(tmp_path / "gone.smi"), "-o", str(tmp_path / "m.tsv")])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith("gone.smi' does not exist\n")

"""Text of other programs: how it is encoded is their matter, and names stay what they are."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from chemmara.chemistry.files import read_records
from chemmara.chemistry.text import open_text
from chemmara.reporting.runs import find_runs
from chemmara.scoring.settings import ScoringSettings
from chemmara.workflows.surrogate_data import read_surrogate_data

TABLE = "name;SMILES;score\r\nM\xfcller-1;CCO;0,5\r\nGro\xdfe \u20ac;c1ccccc1O;0,7\r\n"
NAMES = ["M\xfcller-1", "Gro\xdfe \u20ac"]
ENCODINGS = ["utf-8", "utf-8-sig", "cp1252", "utf-16"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_table_keeps_its_names(tmp_path: Path, encoding: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    data = TABLE.encode(encoding)
    path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    assert [(record.smiles, record.name) for record in read_records(path)] == [
        ("CCO", NAMES[0]),
        ("c1ccccc1O", NAMES[1]),
    ]
    assert [row.score for row in find_runs(path)[0].rows()] == [0.5, 0.7]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_measured_values_are_found_by_their_own_name(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"{'C' * number}O,{number}.5\n" for number in range(1, 25))
    path.write_bytes(f"SMILES,L\xf6slichkeit\n{rows}".encode(encoding))
    data = read_surrogate_data(path, value="L\xf6slichkeit")
    assert sorted(data.values.tolist()) == [number + 0.5 for number in range(1, 25)]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_sdf_and_alerts_keep_theirs(tmp_path: Path, encoding: str) -> None:
    mol = Chem.MolFromSmiles("CCO")
    mol.SetProp("_Name", NAMES[0])
    path = tmp_path / "a.sdf"
    path.write_bytes((Chem.MolToMolBlock(mol) + "\n$$$$\n").encode(encoding))
    assert [(record.smiles, record.name) for record in read_records(path)] == [("CCO", NAMES[0])]
    alerts = tmp_path / "alerts.txt"
    alerts.write_bytes(f"[N+](=O)[O-] {NAMES[1]}\n".encode(encoding))
    component = {"name": "alerts", "smarts_file": str(alerts)}
    assert ScoringSettings.parse({"component": [component]})


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(exclude_categories=("Cs",)), max_size=40))
def test_what_is_utf_8_is_read_as_such(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "utf-8.txt"
    path.write_text(text, encoding="utf-8", newline="")
    with open_text(path) as stream:
        assert stream.read() == text.removeprefix("\ufeff")


def test_a_lone_surrogate_is_read_as_such_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("a\udc80\xfc".encode("utf-8", "surrogatepass") + b"\xfc\x81")
    with open_text(path, errors="chemmara.surrogates") as stream:
        assert stream.read() == "a\udc80\xfc\xfc\ufffd"

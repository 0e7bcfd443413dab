"""Files of molecules, line by line, in every format."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem, rdBase

from chemmara.chemistry.files import NAME_COLUMNS, SMILES_COLUMNS, Record, find_column, read_records
from chemmara.errors import UserError

PARACETAMOL, ASPIRIN = "CC(=O)Nc1ccc(O)cc1", "CC(=O)Oc1ccccc1C(=O)O"


def write(path: Path, text: str | bytes) -> Path:
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def block(smiles: str, name: str = "") -> str:
    mol = Chem.MolFromSmiles(smiles)
    mol.SetProp("_Name", name)
    return Chem.MolToMolBlock(mol) + "\n"


@pytest.mark.parametrize("suffix", ["smi", "smi.gz", "txt"])
def test_smi_lines(tmp_path: Path, suffix: str) -> None:
    text = f"\ufeffSMILES Name\n{PARACETAMOL} paracetamol, a drug\r\n\n  {ASPIRIN}\tCHEMBL25\nnonsense\n"
    path = write(tmp_path / f"a.{suffix}", text)
    assert list(read_records(path)) == [
        Record(PARACETAMOL, "paracetamol, a drug", 2),
        Record(ASPIRIN, "CHEMBL25", 4),
        Record("nonsense", "", 5),
    ]


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv"])
@pytest.mark.parametrize("header", ["SMILES", "smiles", "canonical_smiles", "Structure"])
def test_tables(tmp_path: Path, suffix: str, header: str) -> None:
    comma = "\t" if suffix == "tsv" else ","
    rows = [["Id", header, "pIC50"], ['"a, b"', PARACETAMOL, "5"], ["x", "", "6"], ["y"], ["z", f'"{ASPIRIN}"', "7"]]
    path = write(tmp_path / f"a.{suffix}", "\n".join(comma.join(row) for row in rows))
    assert list(read_records(path)) == [Record(PARACETAMOL, "a, b", 2), Record(ASPIRIN, "z", 5)]


def test_rows_without_a_smiles_come_where_they_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "SMILES,name\nCCO,a\n,b\n\n,\n  ,c\nCCN,d\n")
    assert list(read_records(path, blanks=True)) == [
        Record("CCO", "a", 2), Record("", "b", 3), Record("", "c", 6), Record("CCN", "d", 7),
    ]  # fmt: skip
    assert [record.name for record in read_records(path)] == ["a", "d"]


@pytest.mark.parametrize(
    ("smiles", "name"),
    [
        ("Smiles", "Molecule ChEMBL ID"),
        ("Canonical SMILES", "Molecule Name"),
        ("CANONICAL-SMILES", "Compound ID"),
        ("isomeric_smiles", "Compound Name"),
        ("structure", "compound"),
        (" SMILES ", "Cpd"),
        ("SMILES", "molecule_id"),
    ],
)
def test_columns_of_common_programs_are_found(tmp_path: Path, smiles: str, name: str) -> None:
    path = write(tmp_path / "a.csv", f"{name},{smiles},pIC50\nx-1,CCO,5\n")
    assert list(read_records(path)) == [Record("CCO", "x-1", 2)]


@given(title=st.sampled_from(SMILES_COLUMNS + NAME_COLUMNS), data=st.data())
def test_how_a_title_is_written_does_not_matter(title: str, data: st.DataObject) -> None:
    signs = [data.draw(st.sampled_from(["", " ", "_", "-", "  "])) if c == "_" else c for c in title]
    written = "".join(c.upper() if data.draw(st.booleans()) else c for c in signs)
    assert find_column(["other", f" {written}"], [title]) == 1


def test_a_name_column_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "smiles,name,batch no\nC,methane,B7\n")
    assert [record.name for record in read_records(path, name="Batch_No")] == ["B7"]
    with pytest.raises(UserError, match="has no column 'lot'; its columns are: smiles, name, batch no"):
        list(read_records(path, name="lot"))


@pytest.mark.parametrize("part", [",", ";", "\t"])
def test_the_header_is_told_column_by_column(tmp_path: Path, part: str) -> None:
    path = write(tmp_path / "a.csv", part.join(["a", "b", "c"]) + "\n")
    with pytest.raises(UserError, match=r"its columns are: a, b, c$"):
        list(read_records(path))


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;\r"])
def test_the_line_that_tells_excel_the_sign_is_no_row(tmp_path: Path, first: str) -> None:
    path = write(tmp_path / "a.csv", f"{first}\nID;SMILES\nx;CCO\n")
    assert list(read_records(path)) == [Record("CCO", "x", 3)]


@pytest.mark.parametrize("part", [",", ";", "\t"])
def test_a_text_with_the_header_of_a_table_is_one(tmp_path: Path, part: str) -> None:
    path = write(tmp_path / "a.txt", f"ID{part}SMILES\nx{part}CCO\n")
    assert list(read_records(path)) == [Record("CCO", "x", 2)]
    path = write(tmp_path / "b.txt.gz", f"CCO{part}smiley\nCCN{part}x\n".replace(part, "\t"))
    assert [record.smiles for record in read_records(path)] == ["CCO", "CCN"], "no header, no table"


def test_a_column_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f"smiles,product\nC,{ASPIRIN}\n")
    assert [record.smiles for record in read_records(path, "Product")] == [ASPIRIN]
    with pytest.raises(UserError, match="has no column 'educt'; its columns are: smiles, product"):
        list(read_records(path, "educt"))


def test_a_table_without_smiles_lists_its_columns(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column 'SMILES'; its columns are: a, b"):
        list(read_records(write(tmp_path / "a.csv", "a,b\n1,2\n")))


@pytest.mark.parametrize("suffix", ["sdf", "sdf.gz", "sd", "SD"])
def test_sdf_records(tmp_path: Path, suffix: str) -> None:
    first = block(PARACETAMOL, "paracetamol") + ">  <pIC50>\n5\n\n$$$$\n"
    path = write(tmp_path / f"a.{suffix}", first + block(ASPIRIN) + "$$$$\n\n")
    lines = len(first.splitlines())
    assert list(read_records(path)) == [Record(PARACETAMOL, "paracetamol", 1), Record(ASPIRIN, "", lines + 1)]


def test_the_last_sdf_record_may_lack_its_end(tmp_path: Path) -> None:
    assert [r.smiles for r in read_records(write(tmp_path / "a.sdf", block(ASPIRIN)))] == [ASPIRIN]


@pytest.mark.parametrize("junk", ["junk\n", "", "a\nb\nc\n 99 99\n", block("C").replace("V2000", "V9000")])
def test_a_damaged_sdf_record_does_not_take_the_next_one_with_it(tmp_path: Path, junk: str, capfd) -> None:
    good = block(ASPIRIN) + "$$$$\n"
    records = list(read_records(write(tmp_path / "a.sdf", good + junk + "$$$$\n" + good)))
    assert [record.smiles for record in records] == [ASPIRIN, "", ASPIRIN]
    assert capfd.readouterr().err == ""


def test_stereo_of_an_sdf_is_kept(tmp_path: Path) -> None:
    smiles = "C[C@H](N)C(=O)O"  # L-alanine
    assert [r.smiles for r in read_records(write(tmp_path / "a.sdf", block(smiles)))] == [smiles]


def test_reading_leaves_the_log_alone_while_it_waits(tmp_path: Path, capfd) -> None:
    reader = read_records(write(tmp_path / "a.sdf", (block(ASPIRIN) + "$$$$\n") * 2))
    next(reader)
    rdBase.LogErrorMsg("still heard")
    assert "still heard" in capfd.readouterr().err


@pytest.mark.parametrize("suffix", ["smi", "csv", "tsv", "sdf", "smi.gz", "sdf.gz"])
def test_an_empty_file_has_no_molecules(tmp_path: Path, suffix: str) -> None:
    assert list(read_records(write(tmp_path / f"a.{suffix}", ""))) == []


@pytest.mark.parametrize("suffix", ["smi", "csv", "sdf", "smi.gz", "csv.gz", "sdf.gz"])
def test_a_missing_file_or_a_directory_is_one_clear_line(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UserError, match=r"file '.*' does not exist"):
        list(read_records(tmp_path / f"missing.{suffix}"))
    (tmp_path / f"folder.{suffix}").mkdir()
    with pytest.raises(UserError, match="is a directory, not a file of molecules"):
        list(read_records(tmp_path / f"folder.{suffix}"))


@pytest.mark.parametrize("suffix", ["smi", "csv", "sdf"])
def test_damaged_gzip_is_one_clear_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}.gz"
    for data in (b"not gzip at all", gzip.compress(b"SMILES\n" + b"CCO\n" * 50_000)[:-40]):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"file '.*' is damaged"):
            list(read_records(path))


def test_a_table_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "smiles\n" + "C" * 200_000 + "\n")
    with pytest.raises(UserError, match="is not a proper table"):
        list(read_records(path))


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_an_open_quotation_mark_takes_no_molecules_along(tmp_path: Path, suffix: str) -> None:
    rows = [["smiles", "name"], ["CCO", "a"], ["CCN", '"b'], ["CCC", "c"], ["CCCl", "d"]]
    path = write(tmp_path / f"a.{suffix}", "\n".join(("," if suffix == "csv" else "\t").join(row) for row in rows))
    with pytest.raises(UserError, match=r"not a proper table: .* in the row that begins on line 3; close each"):
        list(read_records(path))
    path.write_text(path.read_text().replace('"b', "b").replace("d", '"d'))
    with pytest.raises(UserError, match=r"in the row that begins on line 5"):
        list(read_records(path))
    path.write_text(path.read_text().replace('"d', "d").replace("b", '"b'))
    path.write_text(path.read_text().replace('"b', '"""b"" of\nhere"'))
    assert [record.name for record in read_records(path)] == ["a", '"b" of\nhere', "c", "d"]
    path.write_text(path.read_text().replace('"""b"" of\nhere"', '"b" of here'))
    assert [record.name for record in read_records(path)] == ["a", "b of here", "c", "d"], "no line is lost by it"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_nothing_of_a_pipe_is_lost(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.smi")
    writer = threading.Thread(target=(tmp_path / "m.smi").write_text, args=("CCO\n" * 5000,))
    writer.start()
    assert sum(1 for _ in read_records(tmp_path / "m.smi")) == 5000
    writer.join()


def test_binary_text_does_not_raise(tmp_path: Path) -> None:
    assert [record.line for record in read_records(write(tmp_path / "a.smi", b"\xff\xfd\x01C\nCCO\n"))] == [1, 2]


def test_reads_as_it_goes(tmp_path: Path) -> None:
    """The first molecule comes although the end of the file is damaged: nothing reads ahead to the end."""
    path = tmp_path / "a.smi.gz"
    path.write_bytes(gzip.compress(b"CCO\n" * 200_000)[:-20])
    assert next(iter(read_records(path))) == Record("CCO", "", 1)

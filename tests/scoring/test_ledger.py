"""The ledger: exact round trips, one writer, readers at any time, and what a kill -9 leaves behind."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chemmara.errors import ChemmaraError, RunError, UserError
from chemmara.scoring import database
from chemmara.scoring import ledger as ledger_module
from chemmara.scoring.evaluation import Evaluation
from chemmara.scoring.ledger import Ledger, RunRow

ROW = RunRow(
    step=0,
    index=0,
    smiles="CC(=O)Nc1ccc(O)cc1",
    sampled="c1cc(O)ccc1NC(C)=O",
    valid=True,
    score=0.1 + 0.2,
    raw={"qed": 0.595, "molecular weight": 151.165},
    transformed={"qed": 0.595, "molecular weight": -0.0},
    scaffold="c1ccccc1",
    error=None,
    agent_log_prob=-23.456789012345678,
    prior_log_prob=-1e-300,
)


def same(a: object, b: object) -> bool:
    return repr(a) == repr(b)  # tells -0.0 from 0.0 and 1 from 1.0, and NaN equals NaN


def test_evaluations_come_back_with_their_reasons(tmp_path: Path) -> None:
    given_values = [
        ("CCO", Evaluation(0.1 + 0.2)),
        ("CCN", Evaluation(math.nan, "timed out after 5 s")),
        ("CCC", Evaluation(-0.0)),
        ("CCCl", Evaluation(math.inf)),
    ]
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.record("dock:1", given_values)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        found = ledger.lookup("dock:1", ["CCN", "CCO", "unseen", "CCC", "CCCl", "CCO"])
        assert same(sorted(found.items()), sorted(given_values))
        assert ledger.lookup("dock:2", ["CCO"]) == {}
        ledger.record("dock:1", [("CCN", Evaluation(3.0))])
        assert ledger.lookup("dock:1", ["CCN"]) == {"CCN": Evaluation(3.0)}


def test_lookup_of_more_smiles_than_a_query_takes(tmp_path: Path) -> None:
    smiles = ["C" * n for n in range(1, 1300)]
    with Ledger(tmp_path / "l") as ledger:
        ledger.record("k", [(s, Evaluation(float(len(s)))) for s in smiles])
        assert ledger.lookup("k", smiles) == {s: Evaluation(float(len(s))) for s in smiles}


numbers = st.floats(allow_nan=True, allow_infinity=True)
texts = st.text(st.characters(exclude_categories=[]), max_size=12)  # surrogates and NUL included
rows = st.builds(
    RunRow,
    step=st.just(3),
    index=st.just(0),
    smiles=texts,
    sampled=texts,
    valid=st.booleans(),
    score=numbers,
    raw=st.dictionaries(texts, numbers, max_size=3),
    transformed=st.dictionaries(texts, numbers, max_size=3),
    scaffold=texts,
    error=st.none() | texts,
    agent_log_prob=numbers,
    prior_log_prob=numbers,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, max_size=4))
def test_rows_round_trip_exactly(given_rows: list[RunRow]) -> None:
    given_rows = [replace(row, index=i) for i, row in enumerate(given_rows)]
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        ledger.write_step("mara/seed-0", 3, given_rows)
        assert same(list(ledger.rows("mara/seed-0")), given_rows)
        ledger.record("k", [(r.sampled, Evaluation(r.score, r.error)) for r in given_rows])
        found = ledger.lookup("k", [r.sampled for r in given_rows])
        wanted = {r.sampled: Evaluation(r.score, r.error) for r in given_rows}
        assert same(sorted(found.items(), key=repr), sorted(wanted.items(), key=repr))


def test_steps_are_replaced_and_truncated(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        for step in (2, 0, 1):
            ledger.write_step("a", step, [replace(ROW, step=step, index=i) for i in (1, 0)])
        ledger.write_step("b", 0, [ROW])
        ledger.write_step("a", 1, [replace(ROW, step=1, index=0, smiles="C")])
        assert [(r.step, r.index) for r in ledger.rows("a")] == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]
        assert ledger.run_info("a") == ("a", 5, 2)
        ledger.truncate("a", 0)
        assert [(r.step, r.index) for r in ledger.rows("a")] == [(0, 0), (0, 1)]
        assert ledger.runs() == ["a", "b"]
        assert ledger.run_info("b") == ("b", 1, 0)
        assert ledger.run_info("unknown") == ("unknown", 0, -1)
        assert list(ledger.rows("unknown")) == []
        with pytest.raises(ValueError, match="another step"):
            ledger.write_step("a", 5, [ROW])


def test_many_rows_come_in_pages(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        for step in range(5):
            ledger.write_step("a", step, [replace(ROW, step=step, index=i) for i in range(450)])
        assert [(r.step, r.index) for r in ledger.rows("a")] == [(s, i) for s in range(5) for i in range(450)]


def test_a_failed_step_leaves_the_former_rows(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        ledger.write_step("a", 0, [ROW])
        with pytest.raises(ChemmaraError):
            ledger.write_step("a", 0, [ROW, ROW])  # two rows with one key
        with pytest.raises(ChemmaraError):
            ledger.write_step("new", 0, [ROW, ROW])
        ledger.write_step("other", 0, [ROW])
        ledger.write_step("new", 0, [ROW])
        assert [list(ledger.rows(run)) for run in ("a", "new", "other")] == [[ROW]] * 3


def test_second_writer_is_refused_and_readers_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_LOCK_S", 0.05)
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as writer:
        writer.write_step("a", 0, [ROW])
        with pytest.raises(RunError, match="in use by another process"):
            Ledger(path)
        with Ledger(path, read_only=True) as reader:
            assert list(reader.rows("a")) == [ROW]
            writer.record("k", [("C", Evaluation(1.0))])
            assert reader.lookup("k", ["C"]) == {"C": Evaluation(1.0)}
            with pytest.raises(ValueError, match="reading only"):
                reader.record("k", [("C", Evaluation(2.0))])
    Ledger(path).close()  # the lock is gone with its holder
    Ledger(path, read_only=True).close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ledger.sqlite", "ledger.sqlite.lock"]


@pytest.mark.skipif(sys.platform == "win32", reason="links take a privilege there")
def test_a_link_to_a_ledger_is_that_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another name it had another lock, and two runs wrote over one another's rows."""
    monkeypatch.setattr(database, "_LOCK_S", 0.05)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "b" / "ledger.sqlite").symlink_to(tmp_path / "a" / "ledger.sqlite")
    with Ledger(tmp_path / "a" / "ledger.sqlite"), pytest.raises(RunError, match="in use by another process"):
        Ledger(tmp_path / "b" / "ledger.sqlite")
    with Ledger(tmp_path / "b" / "ledger.sqlite") as ledger:
        ledger.record("k", [("C", Evaluation(1.0))])
    with Ledger(tmp_path / "a" / "ledger.sqlite", read_only=True) as ledger:
        assert ledger.lookup("k", ["C"]) == {"C": Evaluation(1.0)}


CHILD = """
import sys
from chemmara.scoring.ledger import Ledger
from chemmara.scoring.evaluation import Evaluation
ledger = Ledger(sys.argv[1])
for n in range(10**9):
    ledger.record("k", [("C" * (n + 1), Evaluation(float(n)))])
    print(n, flush=True)
"""


def test_kill_9_loses_no_committed_evaluation_and_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(20):
        child.stdout.readline()
    with pytest.raises(RunError, match="in use"):
        Ledger(path)
    os.kill(child.pid, signal.SIGKILL)
    last = [int(line) for line in child.stdout.read().split("\n")[:-1] or ["19"]][-1]
    child.wait()
    smiles = ["C" * (n + 1) for n in range(last + 1)]
    for read_only in (True, False):
        with Ledger(path, read_only=read_only) as ledger:
            assert ledger.lookup("k", smiles) == {s: Evaluation(float(n)) for n, s in enumerate(smiles)}


def count_as_someone_else(path: Path) -> str:
    """What a process that may not write to the folder reads; as root, a child takes another user's place."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            with Ledger(path, read_only=True) as ledger:
                answer = str(len(ledger.lookup("k", ["C" * (n + 1) for n in range(5)])))
        except BaseException as error:
            answer = repr(error)
        os.write(send, answer.encode())
        os._exit(0)
    os.close(send)
    with os.fdopen(receive) as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return answer


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may read, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX permissions")
@pytest.mark.parametrize("left_over", [[], ["-wal"], ["-wal", "-shm"], ["-journal"]], ids=str)
def test_reading_from_a_directory_that_cannot_be_written(
    tmp_path: Path, open_folder: Path, left_over: list[str]
) -> None:
    live = tmp_path / "live"
    path = open_folder / "ledger.sqlite"
    with Ledger(live) as ledger:
        ledger.record("k", [("C" * (n + 1), Evaluation(float(n))) for n in range(5)])
        if left_over == ["-journal"]:  # an unfinished transaction whose pages are already in the file
            ledger._db.execute("PRAGMA journal_mode=DELETE")
            ledger._db.execute("PRAGMA cache_size=1")
            ledger._db.execute("BEGIN")
            ledger._db.execute("DELETE FROM evaluations")
            junk = [("N" * 500 + str(n),) for n in range(500)]
            ledger._db.executemany("INSERT INTO evaluations VALUES ('j', ?, 0, NULL)", junk)
        if left_over:  # what a killed writer leaves
            for end in ["", *left_over]:
                Path(f"{path}{end}").write_bytes(Path(f"{live}{end}").read_bytes())
    if not left_over:
        path.write_bytes(live.read_bytes())
    for file in open_folder.iterdir():
        file.chmod(0o444)
    open_folder.chmod(0o555)
    assert count_as_someone_else(path) == "5"


def test_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        ledger.write_step("a", 0, [ROW])
        ledger._db.execute("PRAGMA max_page_count=8")
        many = [replace(ROW, step=1, index=i) for i in range(500)]
        with pytest.raises(RunError, match="disk is full") as caught:
            ledger.write_step("a", 1, many)
        assert "\n" not in str(caught.value)
        assert list(ledger.rows("a")) == [ROW]
        ledger._db.execute("PRAGMA max_page_count=1000")
        ledger.write_step("a", 1, many)
        assert ledger.run_info("a") == ("a", 501, 1)


@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_no_ledger_is_refused(tmp_path: Path, read_only: bool) -> None:
    (tmp_path / "text").write_text("SMILES,score\nC,1\n" * 100)
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE t (a)")
    other.commit()
    other.close()
    newer = tmp_path / "newer"
    with Ledger(newer) as ledger:
        ledger._db.execute("PRAGMA user_version=99")
    for path, message in (
        (tmp_path / "text", "not a ledger"),
        (tmp_path / "other", "not a ledger"),
        (newer, "newer version"),
        (tmp_path, "cannot be opened|does not exist"),
        (tmp_path / "no" / "ledger", "cannot be opened|does not exist"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            Ledger(path, read_only=read_only)
        assert "\n" not in str(caught.value)


def test_damage_inside_is_an_error_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with Ledger(path) as ledger:
        for step in range(40):
            ledger.write_step("a", step, [replace(ROW, step=step, index=i) for i in range(20)])
    content = bytearray(path.read_bytes())
    content[4096 * 5 :] = b"\xff" * (len(content) - 4096 * 5)
    path.write_bytes(content)
    with pytest.raises(RunError, match="damaged"), Ledger(path, read_only=True) as ledger:
        list(ledger.rows("a"))


def test_empty_file_is_a_ledger_that_was_never_begun(tmp_path: Path) -> None:
    path = tmp_path / "l"
    path.touch()
    with pytest.raises(UserError, match="no run has begun"):
        Ledger(path, read_only=True)
    with Ledger(path) as ledger:
        assert ledger.runs() == []


MOUNTS = """/dev/sda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb /home/local ext4 rw 0 0
server:/big /data\\040sets lustre rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"), [("/tmp/x", "ext4"), ("/home/a/b", "nfs4"), ("/home/local/x", "ext4"), ("/data sets/x", "lustre")]
)
def test_file_system_of_a_path(path: str, kind: str) -> None:
    assert database.file_system_type(Path(path), MOUNTS) == kind


def test_network_file_system_gets_the_rollback_journal_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "l"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Ledger(path) as ledger:
            ledger.write_step("a", 0, [ROW])
            assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,)
    monkeypatch.setattr(database, "file_system_type", lambda path: "nfs4")
    with pytest.warns(UserWarning, match="network file system"):
        remote = Ledger(path)
    with remote as ledger:
        assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        with Ledger(path, read_only=True) as reader:
            ledger.write_step("a", 1, [replace(ROW, step=1)])
            assert len(list(reader.rows("a"))) == 2


def test_every_field_of_a_row_is_stored(tmp_path: Path) -> None:
    changed = replace(
        ROW,
        smiles="N",
        sampled="[NH3]",
        valid=False,
        score=math.nan,
        raw={},
        transformed={},
        scaffold="",
        error="unclosed ring 1",
        agent_log_prob=math.nan,
        prior_log_prob=-math.inf,
        origin="bred",
    )
    with Ledger(tmp_path / "l") as ledger:
        ledger.write_step("a", 0, [changed])
        (found,) = ledger.rows("a")
    for field in fields(RunRow):
        assert same(getattr(found, field.name), getattr(changed, field.name)), field.name


def test_a_ledger_from_before_origins_is_read_and_written_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    former = ledger_module._SCHEMA.replace(f"{ledger_module._ORIGIN},", "")
    assert "origin" not in former
    monkeypatch.setattr(ledger_module, "_SCHEMA", former)
    path = tmp_path / "l"
    Ledger(path).close()
    with sqlite3.connect(path) as db:  # as the version of then wrote it
        db.execute("INSERT INTO runs (name) VALUES ('a')")
        names = ", ".join(ledger_module.COLUMNS[:-1])
        marks = ", ".join("?" * len(ledger_module.COLUMNS))
        db.execute(f"INSERT INTO rows (run, {names}) VALUES ({marks})", (1, *ledger_module.to_cells(ROW)[:-1]))
    db.close()
    with Ledger(path, read_only=True) as reader:
        assert list(reader.rows("a")) == [ROW]
    bred = replace(ROW, step=1, origin="bred")
    with Ledger(path) as ledger:
        ledger.write_step("a", 1, [bred])
    with Ledger(path) as ledger:  # the column is added once
        assert list(ledger.rows("a")) == [ROW, bred]


@pytest.mark.parametrize("layout", ["smiles, key", "key, smiles"])
def test_evaluations_are_paged_in_either_layout(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "_PAGE", 3)
    monkeypatch.setattr(ledger_module, "_SCHEMA", ledger_module._SCHEMA.replace("smiles, key", layout))
    values = [
        (key, f"{'C' * n}{end}", Evaluation(float(n))) for key in "cab" for n in range(1, 4) for end in ("", "\ud800")
    ]
    with Ledger(tmp_path / "l") as ledger:
        for key in "cab":
            ledger.record(key, [(smiles, value) for k, smiles, value in values if k == key])
        pages = list(ledger.evaluations())
        assert {len(page) for page in pages} == {3}
        assert sorted(row for page in pages for row in page) == sorted(values)
        assert ledger.lookup("a", ["C", "CC", "N"]) == {"C": Evaluation(1.0), "CC": Evaluation(2.0)}

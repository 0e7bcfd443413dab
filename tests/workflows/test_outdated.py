"""`score` says why values that were paid for do not count any more, before it pays for them again."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from chemmara.workflows.score import score_file

ORACLE = Path(__file__).parents[1] / "scoring" / "example_oracle.py"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With an oracle that fails on iron, so that the values of the others are kept, and writes a log."""
    (tmp_path / "oracle.py").write_text(ORACLE.read_text())
    (tmp_path / "m.smi").write_text("CCO\nCC\n[Fe]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def score(log: object, **changes: Any) -> list[str]:
    """The warnings of a call."""
    clip = {"name": "clip", "low": 0, "high": 10}
    command = [sys.executable, "oracle.py", "null", str(log)]
    part = {"name": "executable", "label": "mine", "endpoint": "length", "command": command, "transform": clip}
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        score_file({"scoring": {"component": [{**part, **changes}]}}, "m.smi", "s.csv")
    return [str(each.message) for each in found]


@pytest.mark.parametrize("absolute", [True, False])
def test_a_log_that_the_program_has_begun_to_write(folder: Path, absolute: bool) -> None:
    log = str(folder / "log") if absolute else "log"
    assert score(log) == []
    asked = (folder / "log").read_text()
    (line,) = score(log)
    assert line == (
        f"mine: 2 values kept in 's.csv.ledger.sqlite' cannot be used: '{log}' did not exist when they were made; a "
        f"file that a program itself writes belongs into unwatched: with unwatched = ['{log}'] they count again"
    )
    again = (folder / "log").read_text()
    assert again == asked * 2, "all is asked anew"
    assert score(log, unwatched=[log]) == []
    assert (folder / "log").read_text() == f"{again}start\n[Fe]\n"


def test_a_file_whose_content_has_changed(folder: Path) -> None:
    (folder / "log").write_text("of yesterday\n")
    assert score(folder / "log") == []
    for _ in range(2):
        (line,) = score(folder / "log")
        assert f"'{folder / 'oracle.py'}' or '{folder / 'log'}', or the program's version, has changed since" in line
        assert line.endswith("; a file that a program itself writes belongs into unwatched")
    (folder / "log").unlink()
    (line,) = score(folder / "log")
    assert line.endswith(f"what was in '{folder / 'log'}' counted when they were made, and does not now")


def test_other_settings_are_no_news(folder: Path) -> None:
    assert score("/dev/null") == []
    assert score("/dev/null", revision="2") == []
    assert score("/dev/null", timeout=9.0) == [], "the values are there"


def test_another_component_with_files(folder: Path) -> None:
    (folder / "own.py").write_text("def f(smiles): return [None if 'Fe' in text else 0.5 for text in smiles]\n")
    table = {"name": "python", "function": "own:f"}
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        for text in ("", "# and a remark\n"):
            with (folder / "own.py").open("a") as stream:
                stream.write(text)
            score_file({"scoring": {"component": [table]}}, "m.smi", "s.csv")
    (line,) = (str(each.message) for each in found)
    assert line.startswith("python: 2 values kept")
    assert line.endswith("a file that it reads, or the program's version, has changed since they were made")

"""Files in a program's command: which of them are part of the oracle, and what follows where one changes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from chemmara.errors import ConfigError, RunError
from chemmara.scoring import component, work
from chemmara.scoring.executors import ProcessExecutor
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.settings import ScoringSettings

ORACLE = Path(__file__).with_name("example_oracle.py")


def scoring(*command: object, **changes: Any) -> dict[str, Any]:
    clip = {"name": "clip", "low": 0, "high": 10}
    words = [sys.executable, *map(str, command)]
    return {"component": [{"name": "executable", "endpoint": "length", "command": words, "transform": clip, **changes}]}


def key(folder: Path, *command: object, **changes: Any) -> str:
    return ScoringSettings.parse(scoring(*command, **changes), folder=folder).components[0].spec.key


def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, **texts: str) -> None:
    (folder / "oracle.py").write_text(ORACLE.read_text())
    for name, text in texts.items():
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)


def test_a_program_may_write_a_file_of_its_command(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("start\n")
    with ProcessExecutor(1) as executor:
        function = ScoringFunction(scoring(ORACLE, "exit", log, unwatched=[str(log)]), executor)
        log.write_text("start\nand more\n")
        assert function(["CCO"]).raw["executable"].tolist() == [3.0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_log_that_was_not_there_is_the_programs_own(tmp_path: Path, workers: int) -> None:
    executor = ProcessExecutor(workers) if workers else None
    score = ScoringFunction(scoring(ORACLE, "exit", tmp_path / "log"), executor, chunk=1)
    scores = score(["CCO", "[Fe]", "CC", "[Fe].C", "CCC"])  # with starts while the log is there
    if executor:
        executor.close()
    assert (tmp_path / "log").exists()
    assert "ended with code 3" in str(scores.errors[1])
    assert scores.raw["executable"][[0, 2, 4]].tolist() == [3, 2, 3]


def test_what_is_unwatched_is_the_same_oracle_with_and_without_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_folder(tmp_path, monkeypatch)
    words = ("oracle.py", "--log=mine.log", "other.log")
    first = key(tmp_path, *words)
    for name in ("mine.log", "other.log"):
        (tmp_path / name).write_text("one line\n")
    assert key(tmp_path, *words) != first
    unwatched = ["mine.log", "other.log"]
    assert key(tmp_path, *words, unwatched=unwatched) == first
    settings = ScoringSettings.parse(scoring(*words, unwatched=unwatched), folder=tmp_path)
    assert ScoringSettings.parse(settings.to_table()) == settings
    with pytest.raises(
        ConfigError, match=r"unwatched\[0\]: 'mine.lgo' is none of the arguments; did you mean 'mine.log'"
    ):
        key(tmp_path, *words, unwatched=["mine.lgo"])


def test_a_file_behind_an_option_counts_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_folder(tmp_path, monkeypatch, model="one")
    before = key(tmp_path, "oracle.py", "--model=model")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    parsed = ScoringSettings.parse(scoring("oracle.py", "--model=model"), folder=tmp_path).components[0].spec
    assert parsed.parameters["command"][2] == f"--model={tmp_path / 'model'}"
    assert parsed.key == before
    (tmp_path / "model").write_text("two")
    assert key(tmp_path, "oracle.py", "--model=model") != before


def test_a_large_file_counts_by_content_and_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_folder(tmp_path, monkeypatch, model="a" * 100)
    small = key(tmp_path, "oracle.py", "model")
    monkeypatch.setattr(component, "_LARGE", 50)
    component._kept_hash.cache_clear()
    assert key(tmp_path, "oracle.py", "model") == small, "the size at which a hash is kept is of no account"
    assert key(tmp_path, "oracle.py", "model") == small
    assert component._kept_hash.cache_info()[:2] == (3, 3)  # the script and the interpreter, too
    (tmp_path / "model").write_text("b" * 100)
    os.utime(tmp_path / "model", (1, 1))
    assert key(tmp_path, "oracle.py", "model") != small


@pytest.mark.parametrize("workers", [0, 1])
def test_a_script_that_changes_in_mid_run_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    in_folder(tmp_path, monkeypatch)
    executor = ProcessExecutor(workers, timeout=30.0) if workers else None
    score = ScoringFunction(scoring(tmp_path / "oracle.py", "exit"), executor)
    assert score(["CCO"]).raw["executable"].tolist() == [3]
    with (tmp_path / "oracle.py").open("a") as stream:
        stream.write("# other values\n")
    assert score(["CC"]).raw["executable"].tolist() == [2], "the one that is running is the old one"
    with pytest.raises(RunError, match=r"'oracle\.py' has changed since the run began"):
        score(["[Fe]"])
    if executor:
        executor.close()


def test_a_new_worker_refuses_a_script_that_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_folder(tmp_path, monkeypatch)
    with ProcessExecutor(1) as executor:
        score = ScoringFunction(scoring(tmp_path / "oracle.py"), executor)
        with (tmp_path / "oracle.py").open("a") as stream:
            stream.write("# other values\n")
        with pytest.raises(RunError, match=r"not here what it was where the run began.* belongs into unwatched"):
            score(["CCO"])


def test_keys_of_what_has_no_such_file_stay_what_they_were(tmp_path: Path) -> None:
    (tmp_path / "oracle.sh").write_text("exit 0\n")
    (tmp_path / "oracle.sh").chmod(0o755)
    command = [str(tmp_path / "oracle.sh"), "-x", "--level=2"]
    assert work.spec_of("executable", work.build("executable", {"command": command}, "here")).key == KEY


KEY = "6281c02fabbae70b02625656de2c4bda4be3d581fd3ad394747503dbcc701a35"


def test_a_watched_file_is_part_of_the_oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that a script opens by itself, found beside the config from anywhere."""
    in_folder(tmp_path, monkeypatch, model="one")
    without = key(tmp_path, "oracle.py")
    before = key(tmp_path, "oracle.py", watched=["model"])
    assert before != without
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    settings = ScoringSettings.parse(scoring("oracle.py", watched=["model"]), folder=tmp_path)
    assert settings.components[0].spec.key == before
    assert ScoringSettings.parse(settings.to_table()) == settings
    (tmp_path / "model").write_text("two")
    assert key(tmp_path, "oracle.py", watched=["model"]) != before
    for wrong, message in (("modle", "does not exist"), (".", "is a folder; name the files in it")):
        with pytest.raises(ConfigError, match=rf"watched\[0\]: file '.*' {message}"):
            key(tmp_path, "oracle.py", watched=[wrong])


def test_a_watched_file_that_changes_in_mid_run_ends_it_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_folder(tmp_path, monkeypatch, model="one")
    score = ScoringFunction(scoring(tmp_path / "oracle.py", "exit", watched=[str(tmp_path / "model")]))
    assert score(["CCO"]).raw["executable"].tolist() == [3]
    (tmp_path / "model").write_text("two")
    with pytest.raises(RunError, match=r"'model' has changed since the run began"):
        score(["[Fe]"])

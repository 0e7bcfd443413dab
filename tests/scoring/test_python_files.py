"""What a user's own function depends on: its module, what that imports, the files it is told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chemmara.errors import ConfigError
from chemmara.scoring import work
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.settings import ScoringSettings

MODULE = """
import helper

def score(smiles, model="", deep=None):
    return [helper.FACTOR * float(open(model).read()) for _ in smiles]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project: a module, one that it imports, a model. The working directory is another one."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    (project / "mine.py").write_text(MODULE)
    (project / "helper.py").write_text("FACTOR = 1.0\n")
    (project / "model.txt").write_text("0.25")
    monkeypatch.chdir(elsewhere)
    return project


def settings(folder: Path, **more: Any) -> ScoringSettings:
    component = {"name": "python", "function": "mine:score", "kwargs": {"model": "model.txt"}, **more}
    return ScoringSettings.parse({"component": [component]}, folder=folder)


def key(folder: Path, **more: Any) -> str:
    return settings(folder, **more).components[0].spec.key


@pytest.mark.parametrize(("file", "text"), [("helper.py", "FACTOR = 2.0\n"), ("model.txt", "0.5"), ("mine.py", "")])
def test_a_change_is_another_oracle(folder: Path, file: str, text: str) -> None:
    before = key(folder)
    assert key(folder) == before
    (folder / file).write_text(text or MODULE + "\n# another\n")
    assert key(folder) != before


def test_a_file_in_kwargs_is_found_beside_the_config(folder: Path) -> None:
    parsed = settings(folder)
    assert ScoringFunction(parsed)(["CCO"]).total.tolist() == [0.25]
    again = ScoringSettings.parse(parsed.to_table())
    assert again == parsed
    assert again.components[0].spec.key == parsed.components[0].spec.key
    nested = settings(folder, kwargs={"model": "model.txt", "deep": {"of": ["model.txt", "no file", 3]}})
    assert nested.components[0].spec.parameters["kwargs"]["deep"]["of"] == [str(folder / "model.txt"), "no file", 3]


def test_a_log_of_the_functions_own_may_be_named(folder: Path) -> None:
    (folder / "log").write_text("one")
    log = {"model": "model.txt", "deep": "log"}
    before, watched = key(folder, kwargs=log, unwatched=["log"]), key(folder, kwargs=log)
    (folder / "log").write_text("two")
    assert key(folder, kwargs=log, unwatched=["log"]) == before
    assert key(folder, kwargs=log) != watched
    with pytest.raises(ConfigError, match=r"unwatched\[0\]: 'lgo' is none of the arguments; did you mean 'log'"):
        key(folder, kwargs=log, unwatched=["lgo"])


def test_a_file_that_the_module_opens_by_itself_is_watched_where_it_is_named(folder: Path) -> None:
    (folder / "other.pkl").write_text("one")
    before = key(folder, watched=["other.pkl"])
    assert before != key(folder)
    (folder / "other.pkl").write_text("two")
    assert key(folder, watched=["other.pkl"]) != before
    with pytest.raises(ConfigError, match=r"watched\[0\]: file '.*other.pkk' does not exist"):
        key(folder, watched=["other.pkk"])


def test_keys_of_a_module_alone_stay_what_they_were(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text("def score(smiles, a, b):\n    return [0.5] * len(smiles)\n")
    table = {"function": "alone:score", "path": str(tmp_path), "kwargs": {"a": 1, "b": ["x", "y"]}}
    assert work.spec_of("python", work.build("python", table, "here")).key == KEY


KEY = "23c94410276bdefbba22e2ccbe96803d8b6c69850578a98dc217a3b8c3f5a68a"

"""What a user's own function depends on: its module, what that imports, the files it is told of."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chemmara.errors import ConfigError
from chemmara.optimization.goal import SAME, score_change, score_record
from chemmara.scoring import work
from chemmara.scoring.evaluation import Evaluation
from chemmara.scoring.ledger import Ledger
from chemmara.scoring.settings import ScoringSettings

MODULE = """
import helper

def score(smiles, model="", deep=None):
    return [helper.FACTOR * float(open(model).read()) for _ in smiles]
"""


pytestmark = pytest.mark.filterwarnings("ignore:.*is not watched:UserWarning")


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


@pytest.mark.parametrize(("file", "text"), [("helper.py", "FACTOR = 2.0\n"), ("mine.py", MODULE + "\n# another\n")])
def test_a_change_is_another_oracle(folder: Path, file: str, text: str) -> None:
    before = key(folder)
    assert key(folder) == before
    (folder / file).write_text(text)
    assert key(folder) != before


def test_a_file_in_kwargs_that_is_not_watched_is_told_of(folder: Path) -> None:
    """The text is the function's business: it may name a model, a log, or be no name at all."""
    with pytest.warns(
        UserWarning, match=r"kwargs: what is in 'model.txt' is not watched; .* watched = \['model.txt'\]"
    ):
        before = settings(folder)
    assert before.components[0].spec.parameters["kwargs"] == {"model": "model.txt"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watched = key(folder, watched=["model.txt"])
        settings(folder, kwargs={"model": "helper", "deep": {"of": ["none.txt", 3]}})
    (folder / "model.txt").write_text("0.5")
    assert key(folder) == before.components[0].spec.key
    assert key(folder, watched=["model.txt"]) != watched


@pytest.mark.parametrize("name", ["pkg", "pkg.deep"])
def test_a_module_of_a_package(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pkg").mkdir()
    (folder / "pkg" / "__init__.py").write_text("from .deep import score\n")
    (folder / "pkg" / "deep.py").write_text("from .cousin import K\ndef score(smiles): return [K for _ in smiles]\n")
    (folder / "pkg" / "cousin.py").write_text("K = 0.5\n")
    before = key(folder, function=f"{name}:score", kwargs={})
    monkeypatch.chdir(folder)  # from where a module is used is of no account
    assert key(folder, function=f"{name}:score", kwargs={}) == before
    for file in ("cousin.py", "__init__.py"):
        with (folder / "pkg" / file).open("a") as stream:
            stream.write("# another\n")
        after = key(folder, function=f"{name}:score", kwargs={})
        assert after != before
        before = after


def test_values_of_an_earlier_version_are_taken_over_once(folder: Path, tmp_path: Path) -> None:
    """It kept them under a key without the helper; what the helper held then nobody knows any more."""
    spec = settings(folder).components[0].spec
    assert spec.former not in ("", spec.key)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.describe([replace(spec, key=spec.former, former="")])
        ledger.record(spec.former, [("CCO", Evaluation(0.25)), ("CC", Evaluation(0.5))])
        ledger.record(spec.key, [("CCO", Evaluation(0.75))])  # by another process that was first
        ledger.describe([spec])
        assert ledger.lookup(spec.key, ["CCO", "CC"]) == {"CCO": Evaluation(0.75), "CC": Evaluation(0.5)}
        assert ledger.lookup(spec.former, ["CCO", "CC"]) == {}
        (folder / "helper.py").write_text("FACTOR = 2.0\n")
        changed = settings(folder).components[0].spec
        assert changed.former == spec.former
        ledger.describe([changed])
        assert ledger.lookup(changed.key, ["CCO", "CC"]) == {}, "these are of the helper as it was"


def test_a_run_of_an_earlier_version_goes_on(folder: Path) -> None:
    parsed = settings(folder)
    now, spec = score_record(parsed), parsed.components[0].spec
    label, _, *rest = now[1][0]
    table = parsed.to_table()
    assert score_change({"score": [now[0], [[label, spec.former, *rest]]]}, table, parsed) == SAME
    assert score_change({"score": [now[0], [[label, "another", *rest]]]}, table, parsed).contents == (label,)


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

"""Files among a component's parameters, however deep they lie: found beside the config, told by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from chemmara.chemistry.molecules import Molecule
from chemmara.config import Parameters
from chemmara.registry import Entry
from chemmara.scoring.component import COMPONENTS, Component, placeless
from chemmara.scoring.paths import paths_in, plain, with_paths
from chemmara.scoring.settings import ScoringSettings


class Part(Parameters):
    file: Path
    note: str | None = None


class OwnParameters(Parameters):
    top: Path | None = None
    many: list[Path] = Field([])
    pair: tuple[Path, int] | None = None
    named: dict[str, Path] = Field({})
    part: Part | None = None
    parts: list[Part] = Field([])


class Own(Component):
    def _score(self, molecules: Sequence[Molecule]) -> Sequence[float]:
        return [1.0] * len(molecules)


NESTED: list[dict[str, Any]] = [
    {"many": ["a.smi"]},
    {"pair": ["a.smi", 3]},
    {"named": {"x": "a.smi"}},
    {"part": {"file": "a.smi"}},
    {"parts": [{"file": "a.smi"}]},
]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert COMPONENTS.names()
    monkeypatch.setitem(COMPONENTS._entries, "own", Entry("own", Own, OwnParameters))


def settings(folder: Path, **table: Any) -> Any:
    return ScoringSettings.parse({"component": [{"name": "own", **table}]}, folder=folder).components[0]


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("table", NESTED, ids=lambda table: next(iter(table)))
def test_a_nested_file_is_found_beside_the_config_and_counts_by_its_content(
    tmp_path: Path, table: dict[str, Any]
) -> None:
    keys = []
    for folder, text in (("here", "C"), ("here", "CC"), ("there", "C")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "a.smi").write_text(text)
        found = settings(tmp_path / folder, **table)
        keys.append(found.spec.key)
        (path,) = [path for _, path in paths_in(OwnParameters.model_validate(found.spec.parameters))]
        assert path == tmp_path / folder / "a.smi"
    assert keys[0] != keys[1], "stored values of the old content would be taken for those of the new one"
    assert keys[0] == keys[2], "where the file lies does not matter"


def test_what_stored_values_are_keyed_by_has_not_changed(tmp_path: Path) -> None:
    """Somebody has paid for them."""
    (tmp_path / "known.smi").write_text("CCO\nc1ccccc1O\n")
    table = {"name": "novelty", "known_file": "known.smi"}
    (component,) = ScoringSettings.parse({"component": [table]}, folder=tmp_path).components
    assert component.spec.key == "7202397c1376b15d114dc020c49af2aa84d0678a2d0f23dc39fd0d86f70bbf6e"


def test_identity_of_a_top_level_file_is_its_hash_among_the_plain_parameters(tmp_path: Path) -> None:
    file = tmp_path / "a.smi"
    file.write_text("C")
    identity = Own(OwnParameters(top=file), "x").identity()
    digest = hashlib.sha256(b"C").hexdigest()
    assert identity == {"top": digest, "many": [], "pair": None, "named": {}, "part": None, "parts": []}
    assert Own(OwnParameters(top=tmp_path / "absent"), "x").identity()["top"] == ""


def test_what_holds_no_path_stays_the_same_object() -> None:
    parameters = OwnParameters(part=Part(file=Path("a"), note="n"))
    assert with_paths(parameters, lambda path: path.absolute()).part.note == "n"
    empty = OwnParameters()
    assert with_paths(empty, lambda path: path.absolute()) is empty


def test_a_set_of_files_has_one_order() -> None:
    files = {Path(name) for name in "dbac"}
    assert plain({"files": files}, str) == {"files": ["a", "b", "c", "d"]}
    assert with_paths(files, lambda path: path / "x") == {Path(name) / "x" for name in "dbac"}


def test_paths_of_a_table_do_not_tell_places_apart() -> None:
    assert placeless({"x": ["/here/a", "b"]}, lambda path: path.name) == {"x": ["a", "b"]}

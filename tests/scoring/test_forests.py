"""Forests as arrays: the same as scikit-learn's, read without running code, refused when damaged."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chemmara.chemistry.molecules import read
from chemmara.errors import ConfigError, UserError
from chemmara.scoring import work
from chemmara.scoring.forests import Forest, find_forest, load_forest, save_forest

META = {"fingerprint": "ecfp4", "size": 8, "target": "toy"}


def stump() -> dict[str, Any]:
    """Two trees: bit 3 on -> 1, off -> 0.25; and a lone leaf of 0.5."""
    return {
        "start": np.array([0, 3, 4]),
        "feature": np.array([3, 0, 0, 0]),
        "threshold": np.array([0.5, 0.0, 0.0, 0.0]),
        "left": np.array([1, 0, 0, 0]),
        "right": np.array([2, 0, 0, 0]),
        "value": np.array([0.0, 0.25, 1.0, 0.5]),
    }


def write(path: Path, **changes: Any) -> Path:
    arrays = {**stump(), **{key: value for key, value in changes.items() if key != "meta"}}
    save_forest(Forest(**arrays, meta=changes.get("meta", META)), path)
    return path


def test_prediction_is_the_mean_of_the_leaves(tmp_path: Path) -> None:
    forest = load_forest(write(tmp_path / "f.npz"))
    bits = np.zeros((3, 8), dtype=np.uint8)
    bits[1, 3] = 1
    assert forest.predict(bits).tolist() == [(0.25 + 0.5) / 2, (1 + 0.5) / 2, (0.25 + 0.5) / 2]
    assert forest.predict(bits[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"left": np.array([1, 0, 1, 0])}, "outside its tree"),
        ({"left": np.array([0, 0, 0, 0])}, "one child"),
        ({"feature": np.array([8, 0, 0, 0])}, "bits that the fingerprint has not"),
        ({"start": np.array([0, 3, 3, 4])}, "do not cover"),
        ({"start": np.array([0, 3])}, "do not cover"),
        ({"value": np.array([0.0, 0.25, 1.5, 0.5])}, "no probabilities"),
        ({"value": np.array([0.0, 0.25, np.nan, 0.5])}, "no numbers"),
        ({"value": np.array([0.0, 0.25, 1.0])}, "differ in length"),
        ({"meta": {"fingerprint": "ecfp4", "size": 0}}, "no fingerprint size"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        load_forest(write(tmp_path / "f.npz", **changes))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    for content in (b"", b"PK\x03\x04 not a zip", pickle.dumps([1, 2])):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is no forest"):
            load_forest(path)


class Bomb:
    """Pickled, it would write a file when read."""

    def __reduce__(self) -> Any:
        return (open, ("exploded", "w"))


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arrays = {**stump(), "meta": np.array(Bomb(), dtype=object)}
    np.savez("f.npz", **arrays, allow_pickle=True)
    with pytest.raises(UserError, match="is no forest"):
        load_forest("f.npz")
    assert not Path("exploded").exists()


def test_component_asks_the_fingerprint_of_the_file(tmp_path: Path) -> None:
    molecule = read("CC(=O)Nc1ccc(O)cc1").molecule
    assert molecule is not None
    from rdkit.Chem import rdFingerprintGenerator

    on = set(rdFingerprintGenerator.GetMorganGenerator(radius=3, fpSize=64).GetFingerprint(molecule.mol).GetOnBits())
    for bit in (min(on), min(set(range(64)) - on)):
        meta = {"fingerprint": "ecfp6", "size": 64}
        path = write(tmp_path / f"{bit}.npz", feature=np.array([bit, 0, 0, 0]), meta=meta)
        component = work.build("forest", {"model": str(path)}, "scoring.component[0]")
        assert component([molecule])[0].value == ((1.0 if bit in on else 0.25) + 0.5) / 2


def test_a_file_is_found_beside_the_config_and_stands_for_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chemmara.scoring.settings import ScoringSettings

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "f.npz", meta={**META, "size": 16})
    table = {"component": [{"name": "forest", "model": "f.npz"}]}
    one, two = (ScoringSettings.parse(table, folder=tmp_path / name) for name in ("one", "two"))
    assert one.components[0].spec.key == two.components[0].spec.key
    write(tmp_path / "two" / "f.npz", value=np.array([0.0, 0.3, 1.0, 0.5]), meta={**META, "size": 16})
    monkeypatch.chdir(tmp_path / "one")
    from_here = ScoringSettings.parse(table, folder=tmp_path).components[0]
    assert from_here.spec.parameters["model"] == str(tmp_path / "one" / "f.npz")
    bundled = ScoringSettings.parse({"component": [{"name": "forest", "model": "gsk3b"}]}).components[0]
    assert bundled.spec.parameters["model"] == "gsk3b"
    changed = ScoringSettings.parse(table, folder=tmp_path / "two")
    assert changed.components[0].spec.key != one.components[0].spec.key


def test_a_wrong_name_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"component\[0\]\.model: no forest 'gsk3'.*did you mean 'gsk3b'"):
        work.build("forest", {"model": "gsk3"}, "scoring.component[0]")
    assert find_forest("gsk3b").name == "forest.npz"


@given(st.integers(0, 2**32 - 1))
def test_a_prediction_does_not_depend_on_the_neighbours(seed: int) -> None:
    forest = Forest(**stump(), meta=META)
    bits = np.random.default_rng(seed).integers(0, 2, size=(5, 8), dtype=np.uint8)
    together = forest.predict(bits)
    assert ((together >= 0) & (together <= 1)).all()
    assert [forest.predict(row[None])[0] for row in bits] == together.tolist()

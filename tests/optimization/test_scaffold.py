"""Runs whose molecules are all built upon one scaffold."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash import StopAfter
from rdkit import Chem

from chemmara.chemistry.molecules import read
from chemmara.errors import ConfigError, UserError
from chemmara.optimization.methods import PRESETS
from chemmara.optimization.settings import RunSettings
from chemmara.workflows.optimize import optimize

Config = Callable[..., dict[str, Any]]
SCAFFOLD = "*c1ccncc1"
PYRIDINE = Chem.MolFromSmarts("[cH]1[cH]c(*)[cH][cH]n1")


@pytest.fixture
def upon(config: Config, tiny_prior: Path) -> Config:
    """A config of a prior that writes SMILES, with a scaffold."""

    def make(**tables: Any) -> dict[str, Any]:
        return config(prior=str(tiny_prior), max_tokens=60, **{"scaffold": SCAFFOLD, **tables})

    return make


def run(table: dict[str, Any], out: Path, name: str = "custom", **options: Any) -> Path:
    return optimize(table, out, methods=[name], report=False, **options) / name / "seed-0"


def rows(directory: Path) -> list[dict[str, str]]:
    with open(directory / "molecules.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def assert_all_upon_it(directory: Path) -> None:
    [start] = json.loads((directory / "manifest.json").read_text())["starts"]
    found = rows(directory)
    assert found
    assert all(row["sampled"].startswith(start) for row in found)
    for row in found:
        molecule = read(row["SMILES"]).molecule
        if row["valid"] == "True" and molecule is not None and molecule.smiles != "c1ccncc1":
            assert molecule.mol.HasSubstructMatch(PYRIDINE), row["SMILES"]


SOON = ("vanilla", "augmented_memory", "default")


@pytest.mark.parametrize(
    "name", [name if name in SOON else pytest.param(name, marks=pytest.mark.slow) for name in PRESETS]
)
def test_every_method_writes_upon_the_scaffold_alone(upon: Config, tmp_path: Path, name: str) -> None:
    small = {"population": 4} if "genetic" in PRESETS[name] else {}
    table: dict[str, Any] = {"preset": name, "genetic": {**PRESETS[name].get("genetic", {}), **small}}
    if "screen" in PRESETS[name]:  # rules that so small a prior would never satisfy
        table |= {"screen": {"draws": 4, "rule": [{"name": "stereoisomer"}]}, "replay": {"purge": False}}
    directory = run(upon(max_steps=6, oracle_budget=200, threshold=0.2, methods={name: table}), tmp_path, name)
    assert_all_upon_it(directory)
    bred = [row for row in rows(directory) if row["origin"] == "bred"]
    assert bred or name != "default", "offspring of the scaffold are among them"


@pytest.mark.parametrize("replay", [{"randomize": True}, {"canonical": True}], ids=["random", "canonical"])
def test_resume_is_as_if_never_stopped(upon: Config, tmp_path: Path, replay: dict[str, Any]) -> None:
    table = upon(
        scaffold="c1ccncc1",
        max_steps=6,
        replay={"updates": 2, "batch_size": 4, "size": 20, **replay},
        augmentation={"name": "mara", "spelling": "molecule"},
        execution={"threads": 1, "device": "cpu", "checkpoint_seconds": 0},
    )
    whole = run(table, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        run(table, tmp_path / "cut", watcher=StopAfter(3))
    cut = run(table, tmp_path / "cut", resume=True)
    again = run(tomllib.loads((whole / "config.toml").read_text()), tmp_path / "again")
    assert len(json.loads((whole / "manifest.json").read_text())["starts"]) == 3
    for other in (cut, again):
        assert (other / "molecules.csv").read_bytes() == (whole / "molecules.csv").read_bytes()


def test_a_resumed_run_goes_on_with_the_beginning_that_it_had(upon: Config, tmp_path: Path) -> None:
    """Another processor may find another spelling a little likelier."""
    table = upon(max_steps=4, execution={"threads": 1, "device": "cpu", "checkpoint_seconds": 0})
    with pytest.raises(RuntimeError, match="crash"):
        run(table, tmp_path, watcher=StopAfter(2))
    directory = tmp_path / "custom" / "seed-0"
    manifest = json.loads((directory / "manifest.json").read_text())
    [before] = manifest["starts"]
    other = next(text for text in ("c1cnccc1", "c1ccncc1", "n1ccccc1") if text != before)
    (directory / "manifest.json").write_text(json.dumps({**manifest, "starts": [other]}))
    run(table, tmp_path, resume=True)
    begun = {int(row["step"]): row["sampled"] for row in rows(directory)}
    assert begun[1].startswith(before)
    assert begun[4].startswith(other)
    assert json.loads((directory / "manifest.json").read_text())["starts"] == [other]


def test_log_probabilities_are_of_what_follows_the_scaffold(upon: Config, tmp_path: Path) -> None:
    """Before anything is learned agent and prior agree on every row, and neither counts the scaffold."""
    import torch

    from chemmara.policies.begun import given
    from chemmara.policies.storage import load_policy

    table = upon(max_steps=1)
    directory = run(table, tmp_path)
    [start] = json.loads((directory / "manifest.json").read_text())["starts"]
    policy = given(load_policy(table["prior"]), [start])
    for row in rows(directory):
        ids = torch.tensor([policy.vocabulary.encode(row["sampled"])])
        own = float(policy.log_prob(ids).detach())
        assert float(row["prior_log_prob"]) == pytest.approx(own, abs=1e-3)
        assert float(row["agent_log_prob"]) == pytest.approx(own, abs=1e-3)
        assert own > float(policy.network.log_prob(ids).detach())


def test_seeds_that_are_not_upon_the_scaffold_are_named(upon: Config, tmp_path: Path) -> None:
    (tmp_path / "seeds.smi").write_text("O=C(Nc1ccccc1)c1ccncc1\nCC(C)NCC(O)COc1ccccc1\nc1ccc(-c2ccncc2)cc1\n")
    said: list[str] = []

    class Watcher(StopAfter):
        def say(self, text: str) -> None:
            said.append(text)

    table = upon(max_steps=2, replay={"updates": 1, "seed_molecules": str(tmp_path / "seeds.smi")})
    directory = run(table, tmp_path / "out", watcher=Watcher(-1))
    assert_all_upon_it(directory)
    assert sum(row["origin"] == "seed" for row in rows(directory)) == 2
    assert [text for text in said if "1 of its molecules" in text and "not the scaffold" in text]


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"scaffold": "*CC*"}, "^scaffold: .*2 attachment points"),
        ({"scaffold": "C1CC"}, "^scaffold: .*no valid SMILES"),
        ({"scaffold": "c1ccccc1.Cl"}, "^scaffold: .*several fragments"),
        ({"scaffold": "[Pt]C*"}, r"^scaffold: .*\[Pt\]"),
        ({"max_tokens": 5}, "^scaffold: .*sequences end at 5"),
        ({"scaffold": ""}, "^scaffold: .*no valid SMILES"),
    ],
)
def test_a_scaffold_that_cannot_be_begun_with_is_refused(upon: Config, tables: dict[str, Any], words: str) -> None:
    table = {**upon(), **tables}
    with pytest.raises(ConfigError, match=words):
        RunSettings.parse(table)


def test_a_prior_of_selfies_cannot_go_on_from_a_smiles(config: Config) -> None:
    with pytest.raises(ConfigError, match="scaffold: this prior writes SELFIES"):
        RunSettings.parse(config(scaffold=SCAFFOLD))


def test_seeds_without_the_scaffold_are_refused_before_anything_is_written(upon: Config, tmp_path: Path) -> None:
    (tmp_path / "seeds.smi").write_text("CCO\n")
    table = upon(replay={"updates": 1, "seed_molecules": str(tmp_path / "seeds.smi")})
    with pytest.raises(UserError, match="not the scaffold"):
        run(table, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_without_a_scaffold_have_the_config_that_they_had(config: Config) -> None:
    assert "scaffold" not in RunSettings.parse(config()).to_table()

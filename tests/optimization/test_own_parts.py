"""Filters, rules, objectives, augmentations and strengths of somebody's own: their files, keys, mistakes and logs."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from crash import StopAfter
from pydantic import Field

from chemmara.config import Parameters
from chemmara.errors import ConfigError, UserError
from chemmara.klrl.augmentation import AUGMENTATIONS, Augmentation, MaraParameters
from chemmara.klrl.mara import Mara
from chemmara.klrl.objectives import OBJECTIVES, LossOutput, ObjectiveParameters, PolicyBatch
from chemmara.klrl.strength import STRENGTHS, Strength
from chemmara.optimization.columns import COLUMNS
from chemmara.optimization.filters import DIVERSITY_FILTERS, DiversityFilter
from chemmara.optimization.metrics_file import MetricsFile
from chemmara.optimization.screening import SCREENS, ScreenRule
from chemmara.optimization.settings import RunSettings
from chemmara.registry import Entry
from chemmara.workflows.optimize import optimize

Config = Callable[..., dict[str, Any]]


class Part(Parameters):
    file: Path
    share: float | None = None


class FileParameters(Parameters):
    file: Path | None = None
    files: list[Path] = Field([])
    parts: list[Part] = Field([])


def read_all(parameters: FileParameters) -> None:
    for file in parameters.files:
        if not file.is_file():
            raise ConfigError(f"files: file '{file}' does not exist")


class OwnFilter(DiversityFilter):
    def __init__(self, parameters: FileParameters) -> None:
        super().__init__(parameters)
        read_all(parameters)

    def full(self, smiles: str) -> bool:
        return True


class OwnRule(ScreenRule):
    def __init__(self, parameters: FileParameters) -> None:
        super().__init__(parameters)
        read_all(parameters)

    def refuse(self, molecule: Any) -> None:
        return None


class OwnStrength(Strength):
    def __init__(self, parameters: FileParameters) -> None:
        super().__init__(parameters)
        read_all(parameters)


class FromZero(OwnStrength):
    def applied(self, objective: ObjectiveParameters) -> ObjectiveParameters:
        return objective.model_copy(update={"beta": 0.1, "sigma": 10.0})


class CountParameters(Parameters):
    """Keys that MARA has too, and that mean something else here."""

    start: float = 0
    levels: int = 0
    threshold: float = 0
    anchor: str = ""
    spelling: str = ""
    files: list[Path] = Field([])


class OwnAugmentation(Augmentation):
    pass


class AtZero(Mara):
    def _augment(self, *args: Any) -> Any:
        return args[0].reward, None


class OwnObjectiveParameters(ObjectiveParameters):
    files: list[Path] = Field([])
    prior_exponent: float = 1.0


def own_objective(batch: PolicyBatch, parameters: OwnObjectiveParameters) -> LossOutput:
    loss = ((batch.agent_log_prob - batch.prior_log_prob) ** 2).mean()
    return LossOutput(loss, {"objective": 0.5, "my_log": float(torch.exp(-loss.detach())), "loss": -1.0})


@pytest.fixture(autouse=True)
def _own_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[tuple[Any, str, Any, type[Parameters]]] = [
        (DIVERSITY_FILTERS, "own", OwnFilter, FileParameters),
        (SCREENS, "own", OwnRule, FileParameters),
        (STRENGTHS, "own", OwnStrength, FileParameters),
        (STRENGTHS, "from_zero", FromZero, FileParameters),
        (AUGMENTATIONS, "own", OwnAugmentation, CountParameters),
        (AUGMENTATIONS, "own_mara", Mara, MaraParameters),
        (AUGMENTATIONS, "at_zero", AtZero, MaraParameters),
        (OBJECTIVES, "own", own_objective, OwnObjectiveParameters),
    ]
    for registry, name, item, parameters in parts:
        assert registry.names()
        monkeypatch.setitem(registry._entries, name, Entry(name, item, parameters))


def run(table: dict[str, Any], out: Path, **options: Any) -> Path:
    return optimize(table, out, methods=["custom"], report=False, **options) / "custom" / "seed-0"


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


# Files ----------------------------------------------------------------------------------------------------------------


def tables(**parameters: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """(the place of its parameters, the table) of each part that may name files."""
    own = {"name": "own", **parameters}
    yield "screen.rule[0]", {"screen": {"rule": [own]}}
    for name in ("diversity_filter", "strength", "augmentation", "objective"):
        yield name, {name: own}


FILES = list(tables(files=["a.smi"]))


@pytest.mark.parametrize(("place", "table"), FILES, ids=[place for place, _ in FILES])
def test_files_are_found_beside_the_config_and_make_a_run(
    config: Config, tmp_path: Path, place: str, table: dict[str, Any]
) -> None:
    (tmp_path / "a.smi").write_text("C")
    settings = RunSettings.parse(config(**table), tmp_path)
    assert settings.files() == {f"{place}.files[0]": tmp_path / "a.smi"}
    resolved = settings.to_table()
    assert str(tmp_path / "a.smi") in json.dumps(resolved)
    assert RunSettings.parse(resolved).to_table() == resolved, "a resolved config means the same anywhere"


ABSENT = list(tables(files=["absent.smi"]))[:3]  # the other two have nothing that reads


@pytest.mark.parametrize(("place", "table"), ABSENT, ids=[place for place, _ in ABSENT])
def test_a_missing_file_is_told_before_the_run(
    config: Config, tmp_path: Path, place: str, table: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as caught:
        RunSettings.parse(config(**table), tmp_path)
    assert str(caught.value) == f"{place}.files: file '{tmp_path / 'absent.smi'}' does not exist"


def test_places_of_nested_files(config: Config, tmp_path: Path) -> None:
    rule = {"name": "own", "file": "t", "parts": [{"file": "x"}, {"file": "y"}]}
    files = RunSettings.parse(config(screen={"rule": [rule]}), tmp_path).files()
    assert {place: path.name for place, path in files.items()} == {
        "screen.rule[0].file": "t",
        "screen.rule[0].parts[0].file": "x",
        "screen.rule[0].parts[1].file": "y",
    }


@pytest.mark.parametrize(("place", "table"), FILES[:2], ids=[place for place, _ in FILES[:2]])
def test_a_run_is_not_gone_on_with_where_a_nested_file_has_another_content(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, table: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.smi").write_text("C")
    part = {**(table["screen"]["rule"][0] if "screen" in table else table[place]), "parts": [{"file": "a.smi"}]}
    table = {"screen": {"rule": [part]}} if "screen" in table else {place: part}
    execution = {"threads": 1, "device": "cpu", "checkpoint_seconds": 0}
    given = config(max_steps=3, execution=execution, **table)
    with pytest.raises(RuntimeError, match="crash"):
        run(given, tmp_path / "out", watcher=StopAfter(2))
    directory = tmp_path / "out" / "custom" / "seed-0"
    assert str(tmp_path / "a.smi") in json.dumps(tomllib.loads((directory / "config.toml").read_text()))
    manifest = json.loads((directory / "manifest.json").read_text())
    kept = manifest["screen_files" if "screen" in table else "table_files"]
    assert set(kept) == {f"{place}.files[0]", f"{place}.parts[0].file"}
    (tmp_path / "a.smi").write_text("CC")
    with pytest.raises(UserError, match=r"begun with another content of the file that .*files\[0\] names"):
        run(given, tmp_path / "out", resume=True)
    (tmp_path / "a.smi").write_text("C")
    assert len(rows(run(given, tmp_path / "out", resume=True) / "metrics.csv")) == 3


# Keys -----------------------------------------------------------------------------------------------------------------


def test_a_filter_that_says_what_is_full_may_purge(config: Config) -> None:
    purging = {"updates": 1, "purge": True}
    RunSettings.parse(config(replay=purging, diversity_filter={"name": "own"}))
    with pytest.raises(ConfigError, match="'same_molecule' has no buckets"):
        RunSettings.parse(config(replay=purging, diversity_filter={"name": "same_molecule"}))


def test_keys_are_judged_by_what_an_augmentation_is_and_not_by_their_names(config: Config) -> None:
    own = {"name": "own", "start": 5, "levels": 3, "threshold": 40.0, "anchor": "buffer", "spelling": "molecule"}
    RunSettings.parse(config(augmentation=own, objective={"name": "own", "prior_exponent": 0.5}))
    scores = {"start": -0.5, "anneal_steps": 3}
    with pytest.raises(ConfigError, match=r"augmentation.start: scores lie in \[0, 1\] \(got -0.5\)"):
        RunSettings.parse(config(augmentation={"name": "own_mara", **scores}))
    with pytest.raises(ConfigError, match=r"augmentation.anchor: there is no replay buffer"):
        RunSettings.parse(config(augmentation={"name": "own_mara", "anchor": "buffer"}))


def test_what_does_nothing_without_a_beta_is_told_by_what_it_does(config: Config) -> None:
    without = {"name": "reverse_kl", "beta": 0}
    RunSettings.parse(config(augmentation={"name": "at_zero"}, objective=without))
    with pytest.raises(ConfigError, match=r"own_mara does nothing at objective\.beta = 0"):
        RunSettings.parse(config(augmentation={"name": "own_mara"}, objective=without))
    RunSettings.parse(config(strength={"name": "from_zero"}, objective=without))
    with pytest.raises(ConfigError, match="strength: 'own' has nothing to change"):
        RunSettings.parse(config(strength={"name": "own"}, objective=without))


# Logs -----------------------------------------------------------------------------------------------------------------


def test_what_an_objective_logs_reaches_metrics_csv_and_survives_a_resume(config: Config, tmp_path: Path) -> None:
    execution = {"threads": 1, "device": "cpu", "checkpoint_seconds": 0}
    given = config(objective={"name": "own"}, max_steps=4, execution=execution)
    found = rows(run(given, tmp_path / "whole") / "metrics.csv")
    assert list(found[0]) == [*COLUMNS, "objective_my_log", "objective_loss"]
    assert {row["objective"] for row in found} == {"0.5"}
    assert all(float(row["objective_my_log"]) > 0 for row in found)
    assert {row["objective_loss"] for row in found} == {"-1"}, "a log cannot be taken for a column of the table"
    with pytest.raises(RuntimeError, match="crash"):
        run(given, tmp_path / "cut", watcher=StopAfter(2))
    resumed = rows(run(given, tmp_path / "cut", resume=True) / "metrics.csv")
    assert [row["objective_my_log"] for row in resumed] == [row["objective_my_log"] for row in found]


def test_a_log_that_comes_later_leaves_the_rows_before_it_blank(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path, 0)
    file.append({"step": 1, "loss": 0.25})
    file.append({"step": 2, "objective_a,b": 3.0})
    file.append({"step": 3, "objective_a,b": float("nan")})
    assert [row["objective_a,b"] for row in rows(path)] == ["", "3", ""]
    assert [row["loss"] for row in rows(path)] == ["0.25", "", ""]
    MetricsFile(path, 2).append({"step": 3, "objective_a,b": 4.0})
    assert [row["objective_a,b"] for row in rows(path)] == ["", "3", "4"]
    assert MetricsFile(path, 0).columns == list(COLUMNS)

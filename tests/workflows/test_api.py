"""The Python API, called as somebody would who has not read it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import chemmara as cm
from chemmara.errors import ConfigError, UserError

CONFIG = {"scoring": {"component": [{"name": "qed"}]}, "threshold": 0.5, "oracle_budget": 20, "batch_size": 16}


def test_one_molecule_is_no_list_of_letters() -> None:
    score = cm.ScoringFunction.from_config(CONFIG)
    assert score("CC(=O)Nc1ccc(O)cc1").total.tolist() == score(["CC(=O)Nc1ccc(O)cc1"]).total.tolist()
    assert math.isnan(score("C1C").total[0])


def test_one_of_each_or_several(tiny_prior: Path, tmp_path: Path) -> None:
    settings = {"prior": str(tiny_prior), "execution.threads": 1, "execution.device": "cpu"}
    run = cm.optimize(CONFIG, tmp_path / "out", methods="vanilla", seeds=3, settings=settings)
    assert [found.name for found in run.runs] == ["vanilla/seed-3"]
    assert run.compare(0.9).thresholds == (0.9,)
    with pytest.raises(UserError, match="no seed to run"):
        cm.optimize(CONFIG, tmp_path / "none", seeds=[], settings=settings)
    with pytest.raises(ConfigError, match="did you mean 'vanilla'"):
        cm.optimize(CONFIG, tmp_path / "none", methods="vanila", settings=settings)
    assert not (tmp_path / "none").exists()


def test_a_seed_that_is_named_twice_runs_once(tiny_prior: Path, tmp_path: Path) -> None:
    from chemmara.workflows.optimize import plan

    table = {"prior": str(tiny_prior), "scoring": {"component": [{"name": "qed"}]}}
    assert [seed for _, seed, _ in plan(table, ["vanilla"], [1, 0, 1]).runs] == [1, 0]


def test_log_prob_takes_one_string_and_none(tiny_prior: Path) -> None:
    prior = cm.load_prior(tiny_prior)
    assert prior.log_prob("CCO") == prior.log_prob(["CCO"])
    assert prior.log_prob([]).shape == (0,)


def test_values_of_numpy_and_paths(tiny_prior: Path, tmp_path: Path) -> None:
    settings = {"prior": tiny_prior, "objective": {"sigma": np.float64(50.0)}, "execution.threads": np.int64(1)}
    config = {**CONFIG, "execution": {"device": "cpu"}, "batch_size": np.int32(16)}
    run = cm.optimize(config, tmp_path / "out", methods="vanilla", seeds=np.arange(2), settings=settings)
    assert [found.name for found in run.runs] == ["vanilla/seed-0", "vanilla/seed-1"]
    assert "beta = 0.02" in (tmp_path / "out/vanilla/seed-0/config.toml").read_text()
    for wrong, message in [({"max_steps": None}, "max_steps = None"), ({"max_steps": np.float64(1.5)}, "max_steps")]:
        with pytest.raises(ConfigError, match=message):
            cm.optimize(CONFIG, tmp_path / "none", settings=wrong)
    with pytest.raises(UserError, match="whole number"):
        cm.optimize(CONFIG, tmp_path / "none", seeds=1.5)  # type: ignore[arg-type]
    assert not (tmp_path / "none").exists()


def test_what_the_user_should_know_is_a_warning(tiny_prior: Path, tmp_path: Path) -> None:
    settings = {"prior": tiny_prior, "execution.threads": 1, "execution.device": "cpu", "max_tokens": 4}
    with pytest.warns(UserWarning, match="max_tokens") as told:
        cm.optimize(CONFIG, tmp_path / "out", methods="vanilla", settings=settings | {"max_steps": 2}, resume=True)
    texts = [str(one.message) for one in told]
    assert f"there is nothing to go on with in '{tmp_path / 'out'}': 1 run to begin" in texts
    (cut,) = [text for text in texts if "max_tokens" in text]  # once, not each step
    assert cut.startswith("step 1: ")
    assert "no end within max_tokens = 4" in cut

    class Silent(cm.Watcher):
        pass

    out = tmp_path / "silent"
    cm.optimize(CONFIG, out, methods="vanilla", settings=settings | {"max_steps": 2}, watcher=Silent())
    assert (out / "vanilla/seed-0/molecules.csv").is_file()

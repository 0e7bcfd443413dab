"""The Python API, called as somebody would who has not read it."""

from __future__ import annotations

import math
from pathlib import Path

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

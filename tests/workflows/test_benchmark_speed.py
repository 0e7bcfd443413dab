"""The speed benchmark: its rows, and that the plain baseline computes the same model."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from chemmara.errors import UserError
from chemmara.policies.catalog import find_prior
from chemmara.policies.storage import load_policy
from chemmara.workflows.benchmarks import plain
from chemmara.workflows.benchmarks.speed import Speed, measure, write


def test_a_prior_with_tokens_of_its_own_has_a_row_for_each_side(tiny_prior: Path, tmp_path: Path) -> None:
    said: list[str] = []
    rows = measure(Speed((str(tiny_prior),), "cpu", 1, (8,), (8,)), said.append)
    assert [(row["what"], row["precision"]) for row in rows] == [
        (what, precision)
        for what in ("sampling", "training", "optimisation step")
        for precision in ("float32, plain", "float32", "bfloat16")
    ]
    assert all(row["molecules_per_second"] > 0 and row["tokens_per_second"] > 0 for row in rows)
    assert [row["times_plain"] for row in rows[::3]] == [1, 1, 1]
    assert len(said) == len(rows)
    table, text = write(rows, tmp_path / "out")
    assert len(list(csv.DictReader(table.open()))) == 9
    assert "optimisation step" in text.read_text()


def test_the_baseline_is_the_same_model(tiny_prior: Path) -> None:
    policy = load_policy(find_prior(tiny_prior), "cpu")
    policy.precision = "float32"
    texts, ids = plain.sample(policy, 20, torch.Generator().manual_seed(0), 60)
    assert texts == policy.vocabulary.decode(ids.numpy())
    torch.testing.assert_close(plain.log_prob(policy, ids), policy.log_prob(ids), rtol=0, atol=1e-4)


def test_an_unknown_policy_is_one_line() -> None:
    with pytest.raises(UserError, match="lstn"):
        measure(Speed(("lstn",)), str)

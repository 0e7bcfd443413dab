"""The speed benchmark: its rows, and that the plain baseline computes the same model."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from chemmara.errors import UserError
from chemmara.interrupts import Interrupted
from chemmara.policies.catalog import find_prior
from chemmara.policies.storage import load_policy
from chemmara.workflows.benchmarks import plain, speed_steps
from chemmara.workflows.benchmarks.speed import Speed, measure

STEP = "optimisation step"
SIDES = ("float32, plain", "float32", "bfloat16")


def table(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "speed.csv").open()))


def test_a_prior_with_tokens_of_its_own_has_a_row_for_each_side_and_phase(tiny_prior: Path, tmp_path: Path) -> None:
    said: list[str] = []
    files = measure(Speed((str(tiny_prior),), "cpu", 1, (8,), (8,)), tmp_path, said.append)
    rows = table(tmp_path)
    assert files == (tmp_path / "speed.csv", tmp_path / "speed.md")
    phases = (f"{STEP}: sampling", f"{STEP}: scoring", f"{STEP}: update")
    assert [(row["what"], row["precision"]) for row in rows] == [
        (what, precision) for what in ("sampling", "training", STEP, *phases) for precision in SIDES
    ]
    assert all(float(row["molecules_per_second"]) > 0 for row in rows)
    assert all(float(row["tokens_per_second"]) > 0 for row in rows[:6])
    assert {float(row["times_plain"]) for row in rows[::3]} == {1}
    assert len(said) == len(rows)
    assert STEP in files[1].read_text()
    seconds = {(row["what"], row["precision"]): float(row["seconds"]) for row in rows}
    for side in SIDES:
        longest = max(seconds[phase, side] for phase in phases)
        assert longest < seconds[STEP, side], "a phase is part of the step"


def test_a_row_is_written_when_it_is_there(tiny_prior: Path, tmp_path: Path) -> None:
    written: list[int] = []

    def told(_: str) -> None:
        written.append(len(table(tmp_path)))
        assert len((tmp_path / "speed.md").read_text().splitlines()) == 2 + written[-1]

    measure(Speed((str(tiny_prior),), "cpu", 1, (8,), (8,)), tmp_path, told)
    assert written == list(range(1, 19))


def test_an_interruption_among_the_steps_promises_no_resume(
    tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their runs lie in a folder that goes with them."""

    def interrupted(*_: object) -> None:
        raise Interrupted("interrupted; what was done is saved, go on with --resume")

    monkeypatch.setattr(speed_steps, "run", interrupted)
    with pytest.raises(Interrupted, match=r"^interrupted; the rows so far are written$"):
        measure(Speed((str(tiny_prior),), "cpu", 1, (8,), (8,)), tmp_path, str)
    assert len(table(tmp_path)) == 6


def test_the_steps_that_are_timed_are_those_of_a_run(tiny_prior: Path, tmp_path: Path) -> None:
    steps = speed_steps.run(tiny_prior, "float32", "cpu", 3, tmp_path / "run")
    with open(tmp_path / "run" / "vanilla" / "seed-3" / "metrics.csv") as file:
        metrics = list(csv.DictReader(file))
    assert len(metrics) == 1 + len(steps) == 1 + speed_steps.STEPS
    for step, row in zip(steps, metrics[1:]):
        for phase in speed_steps.PHASES:
            assert step[phase] == pytest.approx(float(row[f"seconds_{phase}"]), rel=1e-4)
        assert step[""] >= sum(step[phase] for phase in speed_steps.PHASES)


def test_the_baseline_is_the_same_model(tiny_prior: Path) -> None:
    policy = load_policy(find_prior(tiny_prior), "cpu")
    policy.precision = "float32"
    texts, ids = plain.sample(policy, 20, torch.Generator().manual_seed(0), 60)
    assert texts == policy.vocabulary.decode(ids.numpy())
    torch.testing.assert_close(plain.log_prob(policy, ids), policy.log_prob(ids), rtol=0, atol=1e-4)


def test_an_unknown_policy_or_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no policy"):
        measure(Speed(()), tmp_path, str)
    with pytest.raises(UserError, match="lstn"):
        measure(Speed(("lstn",)), tmp_path, str)

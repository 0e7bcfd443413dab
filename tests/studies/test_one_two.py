"""The 1-2 task: its format, its runs on a real transformers model, its closed forms, its command."""

from __future__ import annotations

import csv
import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from chemmara.cli.main import app
from chemmara.config import check
from chemmara.errors import ConfigError
from chemmara.klrl.augmentation import AUGMENTATIONS
from chemmara.klrl.objectives import OBJECTIVES
from chemmara.studies.one_two import OneTwo, run_grid
from chemmara.studies.one_two_report import summary_table
from chemmara.studies.one_two_settings import FINAL_COLUMNS, RUN_COLUMNS, OneTwoSettings
from chemmara.studies.one_two_target import Answers, RunKey, grid, target
from chemmara.studies.one_two_task import PROMPT, answer_of, answers, entropy, example, tiny_lm
from chemmara.studies.threads import one_thread

PRIOR = Answers(ones=810, twos=90, samples=1000)


# The task -------------------------------------------------------------------------------------------------------------


def test_prompt_word_for_word() -> None:
    assert PROMPT == (
        "Uniformly randomly generate an integer that is either 1 or 2. Respond strictly in this format: "
        "<think>Your internal reasoning</think><answer>1 or 2</answer>"
    )


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a coin</think><answer>1</answer>", 1),
        ("<think>a coin</think><answer>2</answer>", 2),
        ("<think></think><answer>2</answer>", 2),
        ("<think>two\nlines, 1 < 2, <b>bold</b></think><answer>1</answer>", 1),
        ("  <think>x</think><answer>2</answer>\n", 2),
        ("<think>x</think> <answer>2</answer>", 0),
        ("<think>x</think><answer> 2</answer>", 0),
        ("<think>x</think><answer>2 </answer>", 0),
        ("<think>x</think><answer>2</answer>.", 0),
        ("So: <think>x</think><answer>2</answer>", 0),
        ("<think>x</think><answer>3</answer>", 0),
        ("<think>x</think><answer>12</answer>", 0),
        ("<think>x</think><answer>1 or 2</answer>", 0),
        ("<think>x</think><answer>one</answer>", 0),
        ("<think>x</think><answer>１</answer>", 0),  # a full-width digit
        ("<think>x</think><answer>²</answer>", 0),
        ("<think>x</think><answer></answer>", 0),
        ("<think>x</think><answer>1</answer><answer>2</answer>", 0),
        ("<think>x</think><think>y</think><answer>1</answer>", 0),
        ("<think><think>x</think></think><answer>1</answer>", 0),
        ("<think><answer>2</answer></think><answer>1</answer>", 0),
        ("<THINK>x</THINK><ANSWER>1</ANSWER>", 0),
        ("<think>x<answer>1</answer>", 0),
        ("<answer>1</answer>", 0),
        ("1", 0),
        ("", 0),
        (PROMPT, 0),
    ],
)
def test_format_is_strict(text: str, answer: int) -> None:
    assert answer_of(text) == answer


@given(st.text(max_size=30))
def test_reasoning_is_free(reasoning: str) -> None:
    tagged = any(tag in reasoning for tag in ("<think>", "</think>", "<answer>", "</answer>"))
    assert answer_of(f"<think>{reasoning}</think><answer>2</answer>") == (0 if tagged else 2)


def test_entropy() -> None:
    assert entropy(9, 1) == pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))
    assert entropy(5, 5) == pytest.approx(math.log(2))
    assert entropy(7, 0) == entropy(0, 7) == entropy(0, 0) == 0


def test_training_text() -> None:
    import numpy as np

    random = np.random.default_rng(0)
    found = [answer_of(example(random)) for _ in range(4000)]
    assert 0.90 < sum(answer > 0 for answer in found) / 4000 < 0.97
    assert 7 < found.count(1) / found.count(2) < 11


# The runs -------------------------------------------------------------------------------------------------------------


def settings(**changes: Any) -> OneTwoSettings:
    table = {
        "steps": 2,
        "batch_size": 16,
        "reference_samples": 400,
        "final_samples": 1000,
        "seeds": [0],
        "betas": [0.1],
    }
    return check(OneTwoSettings, {**table, **changes}).resolved()


@pytest.fixture(scope="module")
def model() -> Any:
    """A Qwen2 model that has had a few lessons."""
    with one_thread(True):
        return tiny_lm(0, steps=60)


def run(lm: Any, **changes: Any) -> tuple[OneTwo, list[list[dict[str, Any]]]]:
    with one_thread(True):
        study = OneTwo(settings(**changes), lm)
        return study, list(run_grid(study, lambda key, row: None))


def test_rows(model: Any) -> None:
    study, runs = run(model, steps=3)
    assert [RunKey.of(rows[0]) for rows in runs] == grid(study.settings)
    for rows in runs:
        assert [row["step"] for row in rows] == [0, 1, 2, 3]
        assert [row["samples"] for row in rows] == [16, 16, 16, 1000]
        assert list(rows[0]) == list(RUN_COLUMNS)
        assert set(study.conclusion(rows)) == set(FINAL_COLUMNS)
        for row in rows:
            assert row["entropy"] == entropy(row["ones"], row["twos"])
            assert row["reward"] == (row["ones"] + row["twos"]) / row["samples"]
        # Every run begins at the reference, and moves.
        assert rows[0]["kl"] == pytest.approx(0, abs=1e-4)
        assert abs(rows[2]["kl"]) > 1e-4
    # One seed, one batch: the methods differ only from the first update on.
    assert {runs[0][0][name] == runs[1][0][name] for name in ("ones", "twos", "length")} == {True}
    assert runs[0][0]["augmented_reward"] < runs[1][0]["augmented_reward"] or runs[0][0]["twos"] == 0


def test_same_seed_same_rows(model: Any) -> None:
    _, first = run(model, seeds=[3, 4], augmentations=["mara"])
    _, again = run(model, seeds=[3, 4], augmentations=["mara"])
    _, alone = run(model, seeds=[4], augmentations=["mara"])
    assert first == again
    assert first[1] == alone[0] != first[0]


@pytest.mark.parametrize("objective", OBJECTIVES.names())
def test_every_objective(model: Any, objective: str) -> None:
    _, (rows,) = run(model, objectives=[objective], augmentations=["none"], steps=1)
    assert rows[-1]["step"] == 1
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    before = [p.clone() for p in model.parameters()]
    model.restart()
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), before))


@pytest.mark.parametrize("flatten", ["answers", "strings"])
@pytest.mark.parametrize("augmentation", AUGMENTATIONS.names())
def test_every_augmentation(model: Any, augmentation: str, flatten: str) -> None:
    _, (rows,) = run(model, augmentations=[augmentation], flatten=flatten, steps=1)
    assert math.isfinite(rows[0]["augmented_reward"])


def test_micro_batches_change_nothing(model: Any) -> None:
    _, (whole,) = run(model, augmentations=["mara"])
    _, (parts,) = run(model, augmentations=["mara"], model={"name": "tiny", "micro_batch": 5})
    assert whole[1]["loss"] == pytest.approx(parts[1]["loss"], abs=1e-5)


def test_mara_lifts_the_rarer_answer(model: Any) -> None:
    """Over answers the bonus is beta log(9 : 1) for a "2" and nothing for a "1"; over strings all but one get some."""
    from chemmara.klrl.augmentation import build_augmentation
    from chemmara.studies.one_two import _Run

    gained = {}
    for flatten in ("answers", "strings"):
        with one_thread(True):
            study = OneTwo(settings(flatten=flatten), model)
            state = _Run(study, RunKey("mara", "reverse_kl", 0.1, 0))
            batch = study.sample(200, state.generator)
            prior = model.reference_token_log_probs(batch)
        found = answers(batch)
        augment = build_augmentation(study.settings.augmentation_table("mara"), 1.0)
        reward = augment(state._samples(batch, prior, found), 0.1).reward.tolist()
        gained[flatten] = {answer: [r for r, a in zip(reward, found) if a == answer] for answer in (0, 1, 2)}
    log_ref = study.reference.log_prob
    expected = 1 + 0.1 * float(log_ref[1] - log_ref[2])
    assert gained["answers"][1] == [1.0] * len(gained["answers"][1])
    assert gained["answers"][2] == pytest.approx([expected] * len(gained["answers"][2]))
    assert gained["answers"][0] == gained["strings"][0] == [0.0] * len(gained["answers"][0])
    assert len(set(gained["strings"][1])) > 5


# Where the optimum lies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.001, 0.03, 0.3])
@pytest.mark.parametrize("objective", ["reverse_kl", "reinvent", "forward_kl"])
def test_equal_rewards_keep_the_priors_ratio(objective: str, beta: float) -> None:
    log_probs = target(settings(), RunKey("none", objective, beta, 0), PRIOR)
    assert log_probs is not None
    assert float((log_probs[1] - log_probs[2]).exp()) == pytest.approx(810.5 / 90.5)
    assert float(log_probs.exp().sum()) == pytest.approx(1)


def test_mara_ties_the_answers() -> None:
    log_probs = target(settings(), RunKey("mara", "reverse_kl", 0.1, 0), PRIOR)
    assert log_probs is not None
    assert float(log_probs[1]) == pytest.approx(float(log_probs[2]))
    assert float(log_probs[1:].exp().sum()) > 0.99


def test_no_closed_form() -> None:
    assert target(settings(flatten="strings"), RunKey("mara", "reverse_kl", 0.1, 0), PRIOR) is None
    assert target(settings(), RunKey("none", "grpo", 0.1, 0), PRIOR) is None
    exact = {"kl": "sequence", "divide_by_std": False, "length_normalize": False}
    given_up = settings(objectives=["grpo"], objective=exact)
    forward = target(given_up, RunKey("none", "grpo", 0.1, 0), PRIOR)
    assert forward is not None
    torch.testing.assert_close(forward, target(settings(), RunKey("none", "forward_kl", 0.1, 0), PRIOR))


def test_answers_that_never_occur_are_possible() -> None:
    assert bool(Answers(100, 0, 100).log_prob.isfinite().all())


# Settings and command -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": ["reverse_k"]}, "did you mean 'reverse_kl'"),
        ({"augmentations": ["maara"]}, "did you mean 'mara'"),
        ({"betas": [0.1, -1]}, "negative"),
        ({"objectives": ["reinvent"], "betas": [0]}, "greater than 0"),
        ({"augmentation": {"spelling": "canonical"}}, "canonical"),
        ({"augmentation": {"ancor": "running"}}, "ancor"),
        ({"objective": {"kl": "sequence"}}, "objective.kl"),
        ({"model": {"name": "tiny", "chat": True}}, "real model"),
        ({"model": {"name": "tiny", "device": "cuda"}}, "real model"),
        ({"final_samples": 100}, "final_samples"),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**changes)


def test_what_suits_the_model() -> None:
    tiny = check(OneTwoSettings, {}).resolved()
    lora = check(OneTwoSettings, {"model": {"name": "some/model"}}).resolved()
    full = check(OneTwoSettings, {"model": {"name": "some/model", "tuning": "full"}, "steps": 7}).resolved()
    assert tiny.learning_rate > lora.learning_rate > full.learning_rate
    assert (tiny.model.adapter, full.model.adapter, full.steps) == (None, None, 7)
    assert lora.model.adapter is not None
    assert None not in lora.model_dump().values()


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["study", "one-two", *map(str, arguments)])


@pytest.fixture(scope="module")
def directory(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as a directory, to be taken as a real one."""
    model.restart()
    folder = tmp_path_factory.mktemp("model")
    model.save(folder)
    return folder


QUICK = ("--steps", 2, "--batch-size", 8, "--max-new-tokens", 20, "--seeds", "0-1", "--device", "cpu",
         "--set", "reference_samples=200", "--set", "final_samples=1000", "--set", "sample_batch=500")  # fmt: skip


@pytest.mark.parametrize("tuning", [pytest.param("lora", marks=pytest.mark.slow), "full"])
def test_command_on_a_real_model(directory: Path, tmp_path: Path, tuning: str) -> None:
    out = tmp_path / "out"
    result = invoke(
        *QUICK, "--model", directory, "--tuning", tuning, "--betas", "0.1", "--objective", "grpo,reverse_kl",
        "--augmentation", "mara", "--learning-rate", 1e-3, "--micro-batch", 3, "--gradient-checkpointing", "-o", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {
        "runs.csv", "final.csv", "settings.toml", "pareto.png", "entropy.png", "counts.png",
    }  # fmt: skip
    with (out / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (out / "final.csv").open() as file:
        final = list(csv.DictReader(file))
    assert list(rows[0]) == list(RUN_COLUMNS)
    assert list(final[0]) == list(FINAL_COLUMNS)
    assert {"augmentation", "objective", "beta", "seed", "step", "entropy", "reward", "ones", "twos"} <= rows[0].keys()
    assert len(rows) == 2 * 2 * 3
    assert len(final) == 4
    assert {row["seed"] for row in final} == {"0", "1"}
    assert {row["objective"] for row in final} == {"grpo", "reverse_kl"}
    assert {int(row["samples"]) for row in final} == {1000}
    assert "run 4 of 4" in result.output
    assert "ones of 512" in result.output


def test_summary(model: Any) -> None:
    study, runs = run(model, steps=1, seeds=[0, 1])
    table = summary_table([study.conclusion(rows) for rows in runs])
    assert table.row_count == 2
    assert list(table.columns[3].cells) == ["2", "2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--objective", "reverse_k"), "did you mean 'reverse_kl'"),
        (("--augmentation", "none,maara"), "did you mean 'mara'"),
        (("--betas", "0.1,x"), "--betas"),
        (("--seeds", "x"), "--seeds"),
        (("--flatten", "words"), "flatten"),
        (("--steps", 0), "steps"),
        (("--set", "objective.kll=1"), "kll"),
        (("--model", "./nowhere"), "does not exist"),
        (("--chat",), "chat"),
        (("--tuning", "lora"), "--tuning lora is for a real model"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path: Path, arguments: tuple[object, ...], message: str) -> None:
    result = invoke(*arguments, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_transformers_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else found(name))
    result = invoke("-o", tmp_path / "out")
    assert result.exit_code == 2
    assert 'pip install -c constraints.txt ".[llm]"' in result.stderr
    assert len(result.stderr.splitlines()) == 1


# Measured -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_tiny_model_answers_imperfectly() -> None:
    with one_thread(True):
        study = OneTwo(settings(reference_samples=4096), tiny_lm())
        drawn = study.sample(500, torch.Generator().manual_seed(1))
    seen = study.reference
    assert 0.8 < (seen.ones + seen.twos) / seen.samples < 0.96
    assert 7 < seen.ones / seen.twos < 12
    assert len(set(drawn.texts)) > 100
    assert drawn.lengths.unique().numel() > 6
    assert drawn.finished.float().mean() > 0.95


@pytest.mark.slow
def test_vanilla_keeps_the_ratio_and_mara_evens_it() -> None:
    changes = {"steps": None, "batch_size": 64, "reference_samples": None, "seeds": [0, 1]}
    study, runs = run(tiny_lm(), **changes)
    for rows in runs:
        end = study.conclusion(rows)
        assert end["reward"] >= 0.97
        if end["augmentation"] == "mara":
            assert end["entropy"] > 0.6
        else:
            assert end["entropy"] < study.reference.entropy + 0.08


def test_docs_explain_every_column() -> None:
    text = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    for name, meaning in RUN_COLUMNS.items():
        assert f"| `{name}` | {meaning} |" in text
    assert all(f"`{name}`" in text for name in FINAL_COLUMNS)

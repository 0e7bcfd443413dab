"""Creative question answering: groups of answers, the synthetic task, the runs, the command."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from chemmara.cli.main import app
from chemmara.config import check
from chemmara.errors import ConfigError, UserError
from chemmara.klrl.augmentation import Samples
from chemmara.klrl.objectives import OBJECTIVES, PolicyBatch, TokenLogProbs
from chemmara.metrics import text as metrics
from chemmara.studies import creative_qa_grammar as grammar
from chemmara.studies.causal_lm import CausalLM
from chemmara.studies.creative_qa import CreativeQA, _Run, answer
from chemmara.studies.creative_qa_measure import Answers, embedding
from chemmara.studies.creative_qa_prompts import read_prompts
from chemmara.studies.creative_qa_report import verdict
from chemmara.studies.creative_qa_settings import METRIC_COLUMNS, SUMMARY_COLUMNS, CreativeQASettings
from chemmara.studies.creative_qa_tiny import tiny_pair
from chemmara.studies.creative_qa_update import augment_groups, first_in_group, grouped_loss, groups_of
from chemmara.studies.reward_model import RewardModel

NAN = math.nan
BRIEF = {"steps": 2, "prompts_per_step": 3, "answers_per_prompt": 4, "generations": 3, "seeds": [0]}


# Groups of answers ----------------------------------------------------------------------------------------------------


def samples(reward: list[float], log_ref: list[float]) -> Samples:
    rewards, refs = torch.tensor(reward), torch.tensor(log_ref)
    every = torch.ones(len(reward), dtype=torch.bool)
    return Samples(rewards, refs, refs, rewards.isfinite(), every)


def test_the_anchor_is_the_prompts_own() -> None:
    """The second prompt's answers are far likelier; that raises nothing for the first prompt."""
    batch = samples([1.0, 1.2, 0.0, 1.0, 1.1, 0.1], [-20.0, -23.0, -21.0, -2.0, -3.0, -1.0])
    raised = augment_groups({"name": "mara", "threshold": 0.5}, batch, 3, beta=0.1)
    assert raised.reward.tolist() == pytest.approx([1.0, 1.0 + 0.1 * 3, 0.0, 1.0, 1.0 + 0.1, 0.1])
    assert raised.good.tolist() == [True, True, False, True, True, False]


def test_where_the_quantile_is_taken() -> None:
    """The second prompt's rewards are all low: a batch quantile flattens none of them, its own flattens its best."""
    batch = samples([3.0, 4.0, 5.0, 0.0, 0.1, 0.2], [-1.0, -2.0, -3.0] * 2)
    table = {"name": "mara", "quantile": 0.5}
    over_batch = augment_groups(table, batch, 3, 0.1, "batch")
    assert over_batch.threshold == 3.0
    assert over_batch.good.tolist() == [True] * 3 + [False] * 3
    over_prompt = augment_groups(table, batch, 3, 0.1, "prompt")
    assert over_prompt.threshold == pytest.approx((4.0 + 0.1) / 2)
    assert over_prompt.good.tolist() == [False, True, True] * 2


def test_no_augmentation_and_nothing_that_counts() -> None:
    batch = samples([1.0, 2.0, NAN, NAN], [-1.0] * 4)
    assert torch.equal(augment_groups({"name": "none"}, batch, 2, 0.1).reward[:2], batch.reward[:2])
    nothing = samples([NAN, NAN], [-1.0, -2.0])
    raised = augment_groups({"name": "mara", "quantile": 0.5}, nothing, 2, 0.1)
    assert raised.reward.isnan().all()
    assert not raised.good.any()


def policy_batch(agent: torch.Tensor, reward: list[float], counts: list[bool] | None = None) -> PolicyBatch:
    n = len(reward)
    return PolicyBatch(agent, agent.detach() - 0.5, torch.tensor(reward), torch.tensor(counts or [True] * n))


def test_the_baseline_is_over_the_other_answers_to_the_prompt() -> None:
    agent = torch.tensor([-1.0, -2.0, -3.0, -4.0], requires_grad=True)
    entry, parameters = OBJECTIVES.build_parameters({"name": "reverse_kl", "beta": 0.2}, "objective")
    grouped_loss(entry.item, parameters, policy_batch(agent, [1.0, 3.0, 10.0, 10.0]), 2).loss.backward()
    # The KL part is alike in all rows here. Each row's advantage is its reward minus the other one's of its prompt.
    assert agent.grad is not None
    assert (agent.grad * 4).tolist() == pytest.approx([2.0, -2.0, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("name", ["reverse_kl", "reinvent", "forward_kl", "grpo", "vargrad"])
def test_one_group_is_the_objective_itself(name: str) -> None:
    entry, parameters = OBJECTIVES.build_parameters({"name": name, "beta": 0.1}, "objective")
    tokens = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)) - 2
    for group in (4, 2):
        agent = tokens.clone().requires_grad_()
        each = TokenLogProbs(agent, tokens - 0.3, torch.ones(4, 3, dtype=torch.bool))
        batch = replace(policy_batch(agent.sum(-1), [1.0, 0.0, 2.0, 0.5]), tokens=each)
        found = grouped_loss(entry.item, parameters, batch, group)
        wanted = torch.stack([entry.item(part, parameters).loss for part in groups_of(batch, group)]).mean()
        assert float(found.loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
        assert math.isfinite(found.logs["objective"])


def test_uneven_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="3 answers do not make groups of 2"):
        augment_groups({"name": "none"}, samples([1.0, 2.0, 3.0], [-1.0] * 3), 2, 0.1)


@given(st.lists(st.sampled_from("abc"), min_size=0, max_size=12), st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_first_in_group_counts_each_wording_once_a_prompt(texts: list[str], group: int) -> None:
    first = first_in_group(texts, group)
    for start in range(0, len(texts), group):
        assert sum(first[start : start + group]) == len(set(texts[start : start + group]))


# The synthetic task ---------------------------------------------------------------------------------------------------


def test_the_grammar_reads_what_it_writes() -> None:
    random = np.random.default_rng(0)
    for form in grammar.FORMS:
        for topic in grammar.TOPICS:
            text = grammar.write(form, topic, random)
            assert grammar.form_of(text, topic) == form.name
            assert grammar.form_of(text, next(t for t in grammar.TOPICS if t != topic)) == ""
            assert grammar.form_of(text + " ", topic) == ""


def test_liked_forms_have_equally_many_wordings() -> None:
    for form in grammar.LIKED:
        slots = [name for name in grammar.SLOTS if f"{{{name}}}" in form.pattern]
        assert math.prod(len(grammar.SLOTS[name]) for name in slots) == 64


def test_shares_of_the_training_text() -> None:
    pairs = grammar.training_pairs(np.random.default_rng(0), 4000)
    counts = Counter(grammar.form_of(text, grammar.topic_of(prompt)) for prompt, text in pairs)
    for form in grammar.FORMS:
        assert counts[form.name] / 4000 == pytest.approx(form.share, abs=0.03)
    assert {prompt for prompt, _ in pairs} == set(grammar.prompts())


def test_preferences_are_right_and_reach_every_fault() -> None:
    couples = grammar.preferences(np.random.default_rng(0), 500)
    assert all(grammar.value(prompt, liked) == 1 for prompt, liked, _ in couples)
    assert all(grammar.value(prompt, disliked) == 0 for prompt, _, disliked in couples)
    kinds = Counter(grammar.form_of(disliked, grammar.topic_of(prompt)) or "fault" for prompt, _, disliked in couples)
    assert kinds["plain"] > 50
    assert kinds["fault"] > 250


def test_the_tokenizer_knows_every_word() -> None:
    from chemmara.studies.tiny_lm import tiny_tokenizer

    tokenizer = tiny_tokenizer(grammar.texts())
    for prompt, text in grammar.training_pairs(np.random.default_rng(1), 300, [0.2] * 5):
        for each in (prompt, text):
            ids = tokenizer(each)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == each


# Prompts --------------------------------------------------------------------------------------------------------------


def test_prompts_of_both_kinds(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("Who are you?\n\n  Sing. \nWho are you?\n")
    (tmp_path / "p.jsonl").write_text('{"prompt": "Who are you?", "id": 1}\n\n{"prompt": "Sing.\\nNow."}\n')
    assert read_prompts(tmp_path / "p.txt") == ["Who are you?", "Sing."]
    assert read_prompts(tmp_path / "p.jsonl") == ["Who are you?", "Sing.\nNow."]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", "a", r"expected a \.txt file"),
        ("p.txt", " \n", "holds no prompt"),
        ("p.txt", b"\xff\xfe\xff", "not text"),
        ("p.jsonl", '{"prompt": "a"}\n{oops', "line 2: not valid JSON"),
        ("p.jsonl", '{"text": "a"}', r'field "prompt" \(found: text\)'),
        ("p.jsonl", "[1]", 'field "prompt"'),
        ("p.jsonl", '{"prompt": 3}', "not text, or empty"),
    ],
)
def test_prompts_that_are_none(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        read_prompts(tmp_path / name)
    with pytest.raises(UserError, match="no such file"):
        read_prompts(tmp_path / "missing.txt")


# Settings -------------------------------------------------------------------------------------------------------------


def test_what_suits_the_model() -> None:
    tiny = CreativeQASettings().resolved()
    assert (tiny.seeds, tiny.max_new_tokens, tiny.answers_per_prompt) == ((0, 1, 2), 16, 16)
    table = {"model": {"name": "some/model"}, "reward_model": "some/reward", "prompts": "p.txt"}
    real = check(CreativeQASettings, table).resolved()
    assert (real.answers_per_prompt, real.max_new_tokens, real.learning_rate) == (5, 2048, 1e-5)
    full = check(CreativeQASettings, {**table, "model": {"name": "m", "tuning": "full"}, "steps": 7}).resolved()
    assert (full.learning_rate, full.steps) == (1e-6, 7)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"reward_model": "some/reward"}, "belong together"),
        ({"model": {"name": "a"}, "reward_model": "b"}, "needs prompts"),
        ({"augmentations": ["maar"]}, "augmentations"),
        ({"objective": "reverse"}, "did you mean 'reverse_kl'"),
        ({"objective": "trajectory_balance"}, "each prompt has its own"),
        ({"quantile": 1.0}, "quantile"),
        ({"answers_per_prompt": 1}, "answers_per_prompt"),
    ],
)
def test_wrong_settings(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(CreativeQASettings, table, "creative-qa").resolved()


# The runs, on real models that were hardly trained --------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> tuple[CausalLM, RewardModel]:
    return tiny_pair(base_steps=12, policy_steps=2, reward_steps=2)


def study(pair: tuple[CausalLM, RewardModel], **changes: Any) -> CreativeQA:
    return CreativeQA(check(CreativeQASettings, {**BRIEF, **changes}).resolved(), *pair)


@pytest.mark.parametrize("augmentation", ["none", "mara"])
def test_a_run_says_all_and_repeats_itself(pair: tuple[CausalLM, RewardModel], augmentation: str) -> None:
    runs = [list(study(pair).run(augmentation, 3)) for _ in range(2)]
    assert runs[0] == runs[1] or str(runs[0]) == str(runs[1])  # NaN is not equal to itself
    assert set(runs[0][0]) == set(METRIC_COLUMNS)
    first, second = runs[0]
    assert first["kl"] == pytest.approx(0, abs=1e-4)  # the agent begins as the reference
    assert second["step"] == 1
    assert math.isnan(first["threshold"]) == (augmentation == "none")
    assert (first["augmented_reward"] > first["reward"]) == (augmentation == "mara")


def test_the_policy_moves_and_comes_back(pair: tuple[CausalLM, RewardModel]) -> None:
    policy = pair[0]
    policy.restart()
    before = [p.detach().clone() for p in policy.parameters()]
    list(study(pair).run("none", 0))
    assert any(not torch.equal(old, new) for old, new in zip(before, policy.parameters()))
    policy.restart()
    assert all(torch.equal(old, new) for old, new in zip(before, policy.parameters()))


@pytest.mark.parametrize("objective", ["reinvent", "grpo"])
def test_micro_batches_change_nothing(pair: tuple[CausalLM, RewardModel], objective: str) -> None:
    whole = list(study(pair, objective=objective).run("mara", 0))[-1]
    parts = list(study(pair, objective=objective, model={"micro_batch": 5}).run("mara", 0))[-1]
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-3)
    assert parts["reward"] == pytest.approx(whole["reward"], abs=1e-5)


def test_every_prompt_has_its_turn(pair: tuple[CausalLM, RewardModel]) -> None:
    whole = study(pair, prompts_per_step=8)
    orders = []
    for seed in (0, 0, 1):
        run = _Run(whole, "none", seed)
        orders.append([prompt for _ in range(9) for prompt in run.next_prompts()])
        assert Counter(orders[-1]) == dict.fromkeys(whole.prompts, 2)  # 72 places, 36 prompts
        assert set(orders[-1][:36]) == set(whole.prompts)
    assert orders[0] == orders[1] != orders[2]


def test_long_prompts_are_left_out_and_said(pair: tuple[CausalLM, RewardModel], tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("Describe the lamp.\n" + "lamp " * 30 + "\n")
    short = study(pair, prompts=str(tmp_path / "p.txt"), max_prompt_tokens=10)
    assert short.prompts == ["Describe the lamp."]
    assert short.notes == ["1 prompts longer than 10 tokens are left out"]
    with pytest.raises(UserError, match="no prompt is left"):
        study(pair, prompts=str(tmp_path / "p.txt"), max_prompt_tokens=2)


def test_thinking_is_not_scored() -> None:
    assert answer("<think>The lamp?\nA river?</think>\n\nThe lamp glows. ") == "The lamp glows."
    assert answer("The lamp glows.") == "The lamp glows."


def test_measures_by_hand() -> None:
    texts = [["The lamp glows like snow.", "The lamp is old, old and old."], ["a b", "a b"]]
    prompts = ["Describe the lamp.", "Describe the cat."]
    found = Answers(prompts, texts, [[1.0, 0.0], [0.5, 0.5]], 6.0, 1.0).measures(embedding("hashed"), 100)
    assert set(found) | {"augmentation", "seed"} == set(SUMMARY_COLUMNS)
    assert (found["reward"], found["distinct"], found["value"]) == (0.5, 1.5, 0.25)
    eads = [metrics.mean_expectation_adjusted_distinct(row, 100) for row in texts]
    assert found["ead"] == pytest.approx(np.mean(eads))
    assert math.isnan(Answers(["Who?"], texts[:1], [[1.0, 0.0]], 6.0, 1.0).true_value())


def test_embedding_by_a_model(tmp_path: Path) -> None:
    """The mean over the tokens of the last layer, whatever stands beside a text in the batch."""
    from transformers import Qwen2Model

    from chemmara.studies.tiny_lm import tiny_config, tiny_tokenizer

    tokenizer = tiny_tokenizer(grammar.texts())
    make: Any = Qwen2Model
    model = make(tiny_config(tokenizer)).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    texts = ["The lamp glows.", "I remember the river in Rome at night."]
    vectors = embedding(str(tmp_path), "cpu", batch=2)(texts)
    for text, vector in zip(texts, vectors):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            assert vector == pytest.approx(model(input_ids=ids).last_hidden_state[0].mean(0).numpy(), abs=1e-5)


# The command ----------------------------------------------------------------------------------------------------------


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["study", "creative-qa", *map(str, arguments)])


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: tuple[CausalLM, RewardModel]) -> None:
    monkeypatch.setattr("chemmara.studies.creative_qa.tiny_pair", lambda seed: pair)
    out = tmp_path / "out"
    small = [f"--set={name}={value}" for name, value in BRIEF.items() if name not in ("steps", "seeds")]
    done = command("-o", out, "--steps", 2, "--seeds", "0-1", *small)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    assert list(rows[0]) == list(METRIC_COLUMNS)
    assert Counter((row["augmentation"], row["seed"]) for row in rows) == {
        (name, seed): 2 for name in ("none", "mara") for seed in "01"
    }
    summary = list(csv.DictReader((out / "summary.csv").open()))
    assert list(summary[0]) == list(SUMMARY_COLUMNS)
    assert Counter(row["augmentation"] for row in summary) == {"base": 2, "none": 2, "mara": 2}
    kept = [json.loads(line) for line in (out / "generations.jsonl").read_text().splitlines()]
    assert len(kept) == 6 * 36
    assert all(len(row["generations"]) == len(row["rewards"]) == len(row["partition"]) == 3 for row in kept)
    whole = [row for row in kept if (row["augmentation"], row["seed"]) == ("mara", 1)]
    mean = np.mean([reward for row in whole for reward in row["rewards"]])
    said = next(row for row in summary if (row["augmentation"], row["seed"]) == ("mara", "1"))
    assert float(said["reward"]) == pytest.approx(mean, abs=1e-5)
    assert {path.name for path in out.iterdir()} == {
        "settings.toml", "metrics.csv", "summary.csv", "generations.jsonl", "training.png", "diversity.png",
    }  # fmt: skip
    assert "mara against none" in done.output


@pytest.mark.parametrize("tuning", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_command_with_models_by_name(tmp_path: Path, pair: tuple[CausalLM, RewardModel], tuning: str) -> None:
    """What a real policy, reward model and embedding go through, on directories that hold tiny ones."""
    policy, reward_model = pair
    policy.restart()
    policy.save(tmp_path / "policy")
    reward_model.save(tmp_path / "reward")
    (tmp_path / "p.txt").write_text("Describe the lamp.\nDescribe the old river at night.\n")
    done = command(
        "-o", tmp_path / "out", "--model", tmp_path / "policy", "--reward-model", tmp_path / "reward", "--steps", 2,
        "--prompts", tmp_path / "p.txt", "--tuning", tuning, "--max-new-tokens", 12, "--device", "cpu",
        "--embedding", tmp_path / "policy", "--set", "generations=3", "--set", "prompts_per_step=2",
        "--micro-batch", 3, "--gradient-checkpointing",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "out" / "metrics.csv").open()))
    assert len(rows) == 4
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    base = next(csv.DictReader((tmp_path / "out" / "summary.csv").open()))
    assert float(base["semantic_diversity"]) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "some/model"], "belong together"),
        (["--prompts", "missing.txt"], "no such file"),
        (["--augmentation", "maar"], "augmentations"),
        (["--set", "stepps=3"], "did you mean 'steps'"),
    ],
)
def test_mistakes_write_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = command("-o", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "out").exists()


def test_without_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "transformers" else found(name, *a)
    )
    done = command("-o", tmp_path / "out")
    assert done.exit_code == 2
    assert 'pip install -c constraints.txt ".[llm]"' in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


# What must hold -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_mara_keeps_the_reward_and_writes_more_differently() -> None:
    """Creative QA, tiny: MARA's reward within 5 % of vanilla's, with higher distinct-n."""
    whole = CreativeQA(CreativeQASettings(steps=80).resolved(), *tiny_pair())
    ends = {}
    for name in ("none", "mara"):
        list(whole.run(name, 0))
        ends[name] = whole.evaluate(0).measures(whole.embed, whole.vocabulary_size)
    assert ends["mara"]["reward"] > 0.95 * ends["none"]["reward"] > 0.5
    for name in ("ead", "semantic_diversity", "distinct"):
        assert ends["mara"][name] > ends["none"][name]


def test_a_quantile_that_leaves_one_good_answer_a_prompt_is_refused() -> None:
    table = {"quantile_over": "prompt", "answers_per_prompt": 5}
    assert check(CreativeQASettings, {**table, "quantile": 0.75}).resolved().quantile == 0.75
    with pytest.raises(ConfigError, match=r"of 5 answers to a prompt one alone is good at 0\.8"):
        check(CreativeQASettings, {**table, "quantile": 0.8}).resolved()


def test_the_verdict_stands_signs_and_zeros_of_a_reward() -> None:
    row = {"seed": 0, "ead": 0.5, "semantic_diversity": 0.5, "distinct": 3.0}
    for plain, mara in ((-2.0, -1.0), (0.0, 0.5)):
        text = verdict(
            [{**row, "augmentation": "none", "reward": plain}, {**row, "augmentation": "mara", "reward": mara}]
        )
        assert f"mara against none: reward {mara:.3f} against {plain:.3f}; " in text

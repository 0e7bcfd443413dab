"""One run from config to run directory: budget, determinism, resume, what is recorded and what is refused."""

from __future__ import annotations

import csv
import json
import math
import shutil
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crash import StopAfter

from chemmara.chemistry.molecules import read
from chemmara.errors import ConfigError, RunError, UserError
from chemmara.klrl.augmentation import AUGMENTATIONS, Augmented
from chemmara.klrl.objectives import OBJECTIVES
from chemmara.language.tokenizers import UnreadableText
from chemmara.language.vocabulary import END
from chemmara.optimization import update as update_module
from chemmara.optimization.columns import COLUMNS
from chemmara.optimization.directory import RunDirectory
from chemmara.optimization.labels import unpadded
from chemmara.optimization.learner import ROWS_AT_ONCE, Learner, in_parts
from chemmara.optimization.methods import PRESETS
from chemmara.optimization.metrics_file import MetricsFile
from chemmara.optimization.replay import Remembered, ReplayBuffer
from chemmara.optimization.run import Watcher
from chemmara.optimization.settings import RunSettings
from chemmara.optimization.update import Batch, Update
from chemmara.policies.catalog import find_prior
from chemmara.policies.storage import load_policy
from chemmara.reporting.runs import find_run
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.ledger import Ledger
from chemmara.workflows.optimize import optimize

Config = Callable[..., dict[str, Any]]
MOLECULES = Path("custom") / "seed-0" / "molecules.csv"
REPLAY = {"updates": 2, "batch_size": 4, "size": 20, "randomize": True}
MARA = {"name": "mara", "anchor": "running"}


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def run(table: dict[str, Any], out: Path, **options: Any) -> Path:
    return optimize(table, out, methods=["custom"], report=False, **options) / "custom" / "seed-0"


def test_a_run_leaves_what_the_design_says(config: Config, tmp_path: Path) -> None:
    directory = run(config(augmentation=MARA), tmp_path)
    for name in ("config.toml", "manifest.json", "molecules.csv", "metrics.csv", "report.html"):
        assert (directory / name).stat().st_size > 0, name
    assert (directory / "agent" / "policy.safetensors").exists()
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["end"]
    assert manifest["stop_reason"] == "the oracle budget is spent"
    metrics = rows(directory / "metrics.csv")
    assert list(metrics[0]) == list(COLUMNS)
    assert [int(row["step"]) for row in metrics] == list(range(1, len(metrics) + 1))


def test_a_row_that_was_cut_off_is_no_row(tmp_path: Path) -> None:
    """A full disk may have stopped it within the number of its step."""
    path = tmp_path / "metrics.csv"
    path.write_text("step,oracle_calls\n1,8\n12,96\n122,976\n12")
    MetricsFile(path, 122)
    assert [row["step"] for row in rows(path)] == ["1", "12", "122"]


def test_a_long_file_of_molecules_goes_through_the_model_in_parts(selfies_prior: Path) -> None:
    policy = load_policy(selfies_prior)
    ids = policy.sample(ROWS_AT_ONCE["cpu"] + 30, generator=torch.Generator().manual_seed(0)).ids
    sizes: list[int] = []
    whole = policy.log_prob(ids).detach()
    ask = policy.log_prob
    policy.log_prob = lambda part: sizes.append(len(part)) or ask(part)
    assert torch.allclose(in_parts(policy, ids), whole, atol=1e-5)
    assert sizes == [ROWS_AT_ONCE["cpu"], 30]


def test_the_buffers_anchor_is_measured_as_the_batch_is(config: Config, selfies_prior: Path) -> None:
    """By the canonical string here, not by the one that was sampled."""
    mara = {"name": "mara", "anchor": "buffer", "spelling": "canonical"}
    settings, policy = RunSettings.parse(config(augmentation=mara, replay=REPLAY)), load_policy(selfies_prior)
    ids = {text: policy.vocabulary.encode(text) for text in ("OCC", "CCO")}
    nats = {text: float(policy.log_prob(torch.tensor([row])).detach()) for text, row in ids.items()}
    update = Update(settings, policy, policy, np.random.default_rng(0), torch.Generator())
    samples = update._buffer_samples([Remembered("CCO", tuple(ids["OCC"]), "", 0.9, nats["OCC"])])
    assert samples is not None
    assert samples.log_ref.tolist() == pytest.approx([nats["OCC"]])
    assert samples.mode_log_ref.tolist() == pytest.approx([nats["CCO"]])
    assert nats["OCC"] != nats["CCO"]


def test_a_prior_by_its_bare_name_lies_beside_the_config(
    config: Config, selfies_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(selfies_prior if selfies_prior.is_dir() else selfies_prior.parent, folder / "bare")
    monkeypatch.chdir(elsewhere)
    settings = RunSettings.parse(config(prior="bare", agent="bare"), folder)
    for key in ("prior", "agent"):
        assert Path(settings.to_table()[key]).is_relative_to(folder.resolve())


def test_what_is_penalised_and_what_is_replayed_set_no_threshold(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Penalised molecules are learned from as text that is none, and the quantile is that of what was sampled."""
    met: list[tuple[Batch, Augmented]] = []
    ask = Update.__call__

    def watched(self: Update, batch: Batch, *args: Any) -> Any:
        found = ask(self, batch, *args)
        if batch.masks is not None:
            met.append((batch, found[1]))
        return found

    joined: list[int] = []
    join = ReplayBuffer.joining

    def counting(self: ReplayBuffer, rng: np.random.Generator) -> Any:
        found = join(self, rng)
        joined.append(len(found))
        return found

    monkeypatch.setattr(Update, "__call__", watched)
    monkeypatch.setattr(ReplayBuffer, "joining", counting)
    run(
        config(
            max_steps=6, augmentation={"name": "mara", "quantile": 0.5}, replay={"join": 4},
            screen={"rule": [{"name": "smarts", "avoid": ["[#7]"], "penalise": True}]},
        ),
        tmp_path,
    )  # fmt: skip
    assert len(met) == 6
    for (batch, augmented), number in zip(met, joined, strict=True):
        counted = [
            reward for text, smiles, reward, distinct in zip(batch.texts, batch.smiles, batch.rewards, batch.distinct)
            if smiles is not None and distinct and "N" not in text.upper()
        ]  # fmt: skip
        assert all(smiles is None for text, smiles in zip(batch.texts, batch.smiles) if "N" in text)
        if not math.isnan(augmented.threshold):
            assert any(augmented.threshold == pytest.approx(reward) for reward in counted)
        assert not batch.distinct[len(batch.texts) - number :].any()
    assert any(joined)
    assert any("N" in text for batch, _ in met for text in batch.texts)


def test_canonical_under_selfies_is_told_by_what_was_written(selfies_prior: Path) -> None:
    from chemmara.optimization.tally import _canonical

    vocabulary = load_policy(selfies_prior).vocabulary
    written = vocabulary.written(np.array([vocabulary.encode("CCO")]))[0]
    assert _canonical(vocabulary, "CCO") == written != "CCO"


def test_a_sequence_without_its_end_is_no_molecule(config: Config, tmp_path: Path) -> None:
    """Its text may be one, but its log-probability is that of a beginning."""
    directory = run(config(max_steps=4, replay={"updates": 1, "batch_size": 4}), tmp_path)
    cut = [row for row in rows(directory / "molecules.csv") if row["sampled"].count("[") == 24]
    assert any(read(row["SMILES"]).molecule for row in cut), "otherwise there is nothing to test"
    assert {(row["valid"], row["score"], row["error"]) for row in cut} == {
        ("False", "", "no end token within max_tokens")
    }
    state = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    entries = json.loads(state["chemmara"])["replay"]["entries"]
    assert entries
    assert all(entry["ids"][-1] == END for entry in entries)


def test_stops_at_the_budget_exactly(config: Config, tmp_path: Path) -> None:
    molecules = rows(run(config(oracle_budget=61), tmp_path) / "molecules.csv")
    scored = {row["SMILES"] for row in molecules if row["score"]}
    assert len(scored) == 61
    assert len(molecules) % 8 == 0, "rows are never dropped"
    beyond = [row for row in molecules if row["valid"] == "True" and not row["score"]]
    assert all("budget" in row["error"] for row in beyond)


def test_same_seed_same_molecules_and_another_seed_others(config: Config, tmp_path: Path) -> None:
    table = config(augmentation=MARA, replay=REPLAY)
    first, second = (run(table, tmp_path / name) / "molecules.csv" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    other = run({**table, "seed": 1}, tmp_path / "c").parent / "seed-1" / "molecules.csv"
    assert [row["SMILES"] for row in rows(other)] != [row["SMILES"] for row in rows(first)]


def test_resolved_config_gives_the_same_molecules(config: Config, tmp_path: Path) -> None:
    first = run(config(augmentation=MARA, replay=REPLAY), tmp_path / "a")
    again = run(tomllib.loads((first / "config.toml").read_text()), tmp_path / "b")
    assert (first / "molecules.csv").read_bytes() == (again / "molecules.csv").read_bytes()


@pytest.mark.parametrize("spelling", [pytest.param("sampled", marks=pytest.mark.slow), "canonical", "molecule"])
def test_resume_is_as_if_never_stopped(config: Config, tmp_path: Path, spelling: str) -> None:
    table = config(
        augmentation={**MARA, "spelling": spelling},
        replay=REPLAY,
        diversity_filter={"name": "murcko", "bucket_size": 2, "minimum_score": 0.1},
        execution={"threads": 1, "device": "cpu", "checkpoint_seconds": 0},
    )
    whole = run(table, tmp_path / "whole")
    for step in (2, 5):
        with pytest.raises(RuntimeError, match="crash"):
            run(table, tmp_path / "cut", watcher=StopAfter(step), resume=True)
    cut = run(table, tmp_path / "cut", resume=True)
    assert (cut / "molecules.csv").read_bytes() == (whole / "molecules.csv").read_bytes()
    strip = [
        [{k: v for k, v in row.items() if "second" not in k and k != "evaluations"} for row in rows(d / "metrics.csv")]
        for d in (cut, whole)
    ]
    assert strip[0] == strip[1]


REPLAYS = [
    {"draw": "rank", "only": True, "canonical": True, "updates": 2, "batch_size": 8, "size": 30},
    {"draw": "cluster", "with_batch": True, "randomize": True, "purge": True, "per_cluster": 3, **REPLAY},
    {"draw": "scaffold", "per_scaffold": 2, **REPLAY},
    {"draw": "top", "with_batch": True, "join": 3, **REPLAY, "randomize": False},
]


FILTERS = [
    {"name": "murcko", "bucket_size": 2, "minimum_score": 0.1},
    {"name": "similarity", "bucket_size": 3, "minimum_score": 0.1, "penalty": "tanh"},
    {"name": "same_molecule"},
    {"name": "generic", "bucket_size": 9, "minimum_score": 0.1, "penalty": "sigmoid"},
]


@pytest.mark.parametrize(("replay", "diversity_filter"), zip(REPLAYS, FILTERS), ids=[r["draw"] for r in REPLAYS])
def test_every_way_of_replay_learns_and_survives_a_restart(
    config: Config, tmp_path: Path, replay: dict[str, Any], diversity_filter: dict[str, Any]
) -> None:
    table = config(
        oracle_budget=40,
        objective={"name": "vargrad"},
        augmentation=MARA,
        replay=replay,
        diversity_filter=diversity_filter,
        execution={"threads": 1, "device": "cpu", "checkpoint_seconds": 0},
    )
    whole = run(table, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        run(table, tmp_path / "cut", watcher=StopAfter(3))
    cut = run(table, tmp_path / "cut", resume=True)
    assert (cut / "molecules.csv").read_bytes() == (whole / "molecules.csv").read_bytes()
    losses = [row["replay_loss"] for row in rows(cut / "metrics.csv")]
    assert losses == [row["replay_loss"] for row in rows(whole / "metrics.csv")]
    assert len(set(losses)) == len(losses), "the agent or what it replays changes each step"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_runs(config: Config, tmp_path: Path, name: str) -> None:
    table = config(max_steps=3, oracle_budget=200)
    directory = optimize(table, tmp_path, methods=[name], report=False) / name / "seed-0"
    assert len(rows(directory / "metrics.csv")) == 3


def sizes_of_updates(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replay: dict[str, Any]
) -> list[tuple[int, bool]]:
    """(rows, from the buffer) of each update."""
    found: list[tuple[int, bool]] = []
    call = Update.__call__

    def record(update: Update, batch: Batch, *arguments: Any) -> Any:
        found.append((len(batch.ids), batch.masks is None))
        return call(update, batch, *arguments)

    monkeypatch.setattr(Update, "__call__", record)
    run(config(replay=replay, max_steps=4), tmp_path)
    return found


def test_molecules_of_the_buffer_join_the_steps_own_update(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = sizes_of_updates(config, tmp_path, monkeypatch, {"join": 3, "size": 20})
    assert own == [(8, False), *[(11, False)] * 3], "none yet in the first step, and no update but the steps' own"


def test_a_round_holds_the_batch_beside_the_buffer(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = {"updates": 2, "batch_size": 5, "size": 5, "with_batch": True, "randomize": True}
    found = sizes_of_updates(config, tmp_path, monkeypatch, replay)
    rounds = [size for size, replayed in found if replayed]
    assert len(rounds) == 8
    assert all(rounds[k] == rounds[k + 1] for k in (0, 2, 4, 6))
    assert all(5 < size <= 13 for size in rounds)


def test_canonical_replay_learns_canonical_spellings_beside_their_own_log_probability(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selfies_prior: Path
) -> None:
    found: list[Batch] = []
    call = Update.__call__

    def record(update: Update, batch: Batch, *arguments: Any) -> Any:
        found.append(batch)
        return call(update, batch, *arguments)

    monkeypatch.setattr(Update, "__call__", record)
    replay = {"updates": 2, "batch_size": 9, "size": 20, "draw": "rank", "canonical": True}
    run(config(replay=replay, max_steps=4, execution={"threads": 1, "precision": "float32"}), tmp_path)
    prior = load_policy(selfies_prior, "cpu")
    prior.precision = "float32"
    own, replayed = ([batch for batch in found if bool(batch.masks) == of_step] for of_step in (True, False))
    spelled = {smiles: row for batch in own for smiles, row in zip(batch.smiles, unpadded(batch.ids))}
    changed = 0
    for batch in replayed:
        for smiles, row in zip(batch.smiles, unpadded(batch.ids), strict=True):
            assert smiles
            with suppress(UnreadableText):  # some are beyond the small vocabulary, and stay as they were sampled
                assert list(row) == prior.vocabulary.encode(smiles)
                changed += row != spelled[smiles]
        with torch.no_grad():
            nats = prior.log_prob(batch.ids)
        assert batch.prior_log_prob.tolist() == pytest.approx(nats.tolist(), abs=1e-4)
    assert len(replayed) == 8
    assert changed, "otherwise there is nothing to test"


def test_beside_the_buffer_the_batchs_invalid_strings_count_at_reward_0(
    config: Config, tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[list[bool], list[bool], list[float]]] = []
    call = Update.__call__

    def record(update: Update, batch: Batch, *arguments: Any) -> Any:
        result = call(update, batch, *arguments)
        if batch.masks is None:
            counted = rows.pop()
            found.append(((~batch.valid).tolist(), counted.counts.tolist(), counted.reward.tolist()))
        return result

    rows: list[Any] = []
    make = update_module.PolicyBatch
    monkeypatch.setattr(update_module, "PolicyBatch", lambda *fields: rows.append(make(*fields)) or rows[-1])
    monkeypatch.setattr(Update, "__call__", record)
    replay = {"updates": 1, "batch_size": 5, "size": 5, "with_batch": True, "randomize": True}
    run(config(prior=str(tiny_prior), replay=replay, max_steps=4, objective={"name": "vargrad"}), tmp_path)
    assert any(any(invalid) for invalid, _, _ in found), "the tiny prior writes some that are no molecule"
    for invalid, counts, rewards in found:
        assert all(counts)
        assert all(reward == 0 for bad, reward in zip(invalid, rewards, strict=True) if bad)


def test_replay_alone_leaves_the_agent_as_it_was_while_the_buffer_is_empty(
    config: Config, tmp_path: Path, selfies_prior: Path
) -> None:
    from safetensors.torch import load_file

    heavy = {"name": "molecular_weight", "transform": {"name": "step", "low": 5000.0, "high": 6000.0}}
    agents = {}
    for only in (True, False):
        objective = {"name": "trajectory_balance", "log_z": 5.0}  # others rest at reward 0 while agent = prior
        table = config(
            replay={**REPLAY, "only": only}, max_steps=3, scoring={"component": [heavy]}, objective=objective
        )
        agents[only] = load_file(run(table, tmp_path / str(only)) / "agent" / "policy.safetensors")
    prior = load_file(selfies_prior)
    assert all(torch.equal(agents[True][name], weights) for name, weights in prior.items())
    assert not all(torch.equal(agents[False][name], weights) for name, weights in prior.items())


LEARNING = [
    ({"name": "trajectory_balance"}, {"name": "mara_modes", "mode": "cluster", "quantile": 0.5, "window": 30}),
    (
        {"name": "grpo"},
        {
            "name": "mara_modes",
            "anchor": "buffer",
            "spelling": "molecule",
            "start": 0.1,
            "anneal_budget": 0.5,
            "within": "flat",
        },
    ),
]


@pytest.mark.parametrize(("objective", "augmentation"), LEARNING, ids=["log Z, clusters, window", "tokens, annealed"])
def test_what_objective_and_augmentation_learn_survives_a_restart(
    config: Config, tmp_path: Path, objective: dict[str, Any], augmentation: dict[str, Any]
) -> None:
    table = config(
        oracle_budget=40,
        objective=objective,
        strength={"name": "hit_share", "target": 0.9, "highest": 4.0},
        augmentation=augmentation,
        replay=REPLAY,
        execution={"threads": 1, "device": "cpu", "checkpoint_seconds": 0},
    )
    whole = run(table, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        run(table, tmp_path / "cut", watcher=StopAfter(3))
    cut = run(table, tmp_path / "cut", resume=True)
    assert (cut / "molecules.csv").read_bytes() == (whole / "molecules.csv").read_bytes()
    keys = ("log_z", "threshold_used", "sigma")
    learned = [{key: [row[key] for row in rows(d / "metrics.csv")] for key in keys} for d in (cut, whole)]
    assert learned[0] == learned[1]
    assert len(set(learned[0]["threshold_used"])) > 1
    assert len(set(learned[0]["sigma"])) > 1
    if objective["name"] == "trajectory_balance":
        assert len(set(learned[0]["log_z"])) == len(learned[0]["log_z"])


def test_every_objective_and_augmentation_runs(config: Config, tmp_path: Path) -> None:
    objectives, augmentations = OBJECTIVES.names(), AUGMENTATIONS.names()
    for number in range(max(len(objectives), len(augmentations))):
        objective = objectives[number % len(objectives)]
        augmentation = augmentations[number % len(augmentations)]
        table = config(
            objective={"name": objective}, augmentation={"name": augmentation}, oracle_budget=12, replay=REPLAY
        )
        metrics = rows(run(table, tmp_path / str(number)) / "metrics.csv")
        assert all(float(row["loss"]) == float(row["loss"]) for row in metrics), (objective, augmentation)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"augmentation": {"name": "mara", "levels": [0.5, 1.2]}}, "augmentation.levels: scores lie in [0, 1]"),
        ({"augmentation": {"name": "mara", "start": -0.5, "anneal_steps": 3}}, "augmentation.start: scores lie in"),
        (
            {"augmentation": {"name": "mara_modes"}, "objective": {"name": "reverse_kl", "beta": 0}},
            "mara_modes does nothing at objective.beta = 0",
        ),
        (
            {"strength": {"name": "hit_share"}, "objective": {"name": "reverse_kl", "beta": 0}},
            "strength: 'hit_share' has nothing to change at objective.beta = 0",
        ),
        ({"strength": {"name": "hit_shar"}}, "did you mean 'hit_share'"),
        ({"strength": {"name": "hit_share", "target": 1.5}}, "strength.target"),
        ({"strength": {"name": "hit_share", "lowest": 1}}, "leaves sigma no room"),
        (
            {"augmentation": {"name": "mara"}, "objective": {"name": "vargrad", "prior_exponent": 0}},
            "mara does nothing at objective.prior_exponent = 0",
        ),
        (
            {"augmentation": {"name": "mara_modes"}, "objective": {"name": "vargrad", "prior_exponent": 0.5}},
            "mara_modes makes the sums of these equal, not of the powers",
        ),
        (
            {
                "augmentation": {"name": "mara", "spelling": "molecule"},
                "objective": {"name": "vargrad", "prior_exponent": 0.5},
            },
            "set it to 1, or take mara with spelling = 'sampled' or 'canonical'",
        ),
    ],
)
def test_settings_that_do_nothing_are_refused(config: Config, tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunSettings.parse(config(**tables))
    assert message in str(caught.value)


def test_resume_of_a_finished_run_changes_nothing(config: Config, tmp_path: Path) -> None:
    directory = run(config(), tmp_path)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    run(config(), tmp_path, resume=True)
    assert before == {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_run_begun_before_there_were_strength_rules_goes_on(config: Config, tmp_path: Path) -> None:
    table = config(execution={"threads": 1, "device": "cpu", "checkpoint_seconds": 0})
    whole = run(table, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        run(table, tmp_path / "old", watcher=StopAfter(3))
    old = tmp_path / "old" / "custom" / "seed-0"
    assert "strength" not in (old / "config.toml").read_text()
    file = old / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    state = json.loads(checkpoint["chemmara"])
    del state["strength"]
    torch.save({**checkpoint, "chemmara": json.dumps(state)}, file)
    table_of_steps = rows(old / "metrics.csv")
    with open(old / "metrics.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [name for name in table_of_steps[0] if name != "sigma"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table_of_steps)
    resumed = run(table, tmp_path / "old", resume=True)
    assert (resumed / "molecules.csv").read_bytes() == (whole / "molecules.csv").read_bytes()
    steps = rows(resumed / "metrics.csv")
    assert [row["loss"] for row in steps] == [row["loss"] for row in rows(whole / "metrics.csv")]
    assert steps[-1]["sigma"] == "128"


def test_resume_of_nothing_or_of_half_a_directory_starts_afresh(config: Config, tmp_path: Path) -> None:
    whole = run(config(), tmp_path / "whole", resume=True)
    half = tmp_path / "half" / "custom" / "seed-0"
    half.mkdir(parents=True)
    (half / "manifest.json").write_text('{"method": "cus')
    assert (run(config(), tmp_path / "half", resume=True) / "molecules.csv").read_bytes() == (
        whole / "molecules.csv"
    ).read_bytes()


def test_existing_run_is_refused_without_resume(config: Config, tmp_path: Path) -> None:
    run(config(), tmp_path)
    with pytest.raises(UserError, match="--resume"):
        run(config(), tmp_path)


def test_resume_with_another_config_is_refused(config: Config, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="crash"):
        run(config(), tmp_path, watcher=StopAfter(2))
    with pytest.raises(UserError, match=r"batch_size.*differ"):
        run(config(batch_size=9), tmp_path, resume=True)
    with pytest.raises(UserError, match=r"oracle_budget = \d+, which can be raised but not lowered to 30"):
        run(config(oracle_budget=30), tmp_path, resume=True)
    with pytest.raises(UserError, match="max_steps = unlimited"):
        run(config(max_steps=4), tmp_path, resume=True)


def test_a_finished_run_with_more_steps_is_as_if_it_had_had_them(config: Config, tmp_path: Path) -> None:
    table = config(augmentation=MARA, replay=REPLAY)
    whole = run(table, tmp_path / "whole")
    longer = run({**table, "max_steps": 3}, tmp_path / "longer")
    assert json.loads((longer / "manifest.json").read_text())["stop_reason"] == "max_steps is reached"
    run({**table, "max_steps": 5}, tmp_path / "longer", resume=True)
    run(table, tmp_path / "longer", resume=True)
    assert (longer / "molecules.csv").read_bytes() == (whole / "molecules.csv").read_bytes()


def test_a_run_stops_when_it_has_enough_hits_and_goes_on_for_more(config: Config, tmp_path: Path) -> None:
    def hits(directory: Path) -> set[str]:
        return {row["SMILES"] for row in rows(directory / "molecules.csv") if float(row["score"] or 0) >= 0.4}

    table = config(oracle_budget=400, max_steps=30)
    whole = run(table, tmp_path / "whole")
    enough = run({**table, "max_hits": 5}, tmp_path / "enough")
    manifest = json.loads((enough / "manifest.json").read_text())
    assert manifest["stop_reason"] == "max_hits is reached"
    assert 5 <= len(hits(enough)) == manifest["hits"] < len(hits(whole)) - 8
    last = rows(enough / "molecules.csv")[-1]["step"]
    assert len({row["SMILES"] for row in rows(enough / "molecules.csv") if row["step"] != last} & hits(enough)) < 5
    for fewer in (3, len(hits(enough))):
        run({**table, "max_hits": fewer}, tmp_path / "enough", resume=True)
        assert rows(enough / "molecules.csv")[-1]["step"] == last, "it has that many"
    run(table, tmp_path / "enough", resume=True)
    assert (enough / "molecules.csv").read_bytes() == (whole / "molecules.csv").read_bytes()


def test_a_finished_run_goes_on_with_a_larger_budget(config: Config, tmp_path: Path) -> None:
    directory = run(config(oracle_budget=41), tmp_path)
    before = rows(directory / "molecules.csv")
    with pytest.raises(RuntimeError, match="crash"):
        run(config(oracle_budget=90), tmp_path, resume=True, watcher=StopAfter(int(before[-1]["step"]) + 2))
    going_on = list(find_run(directory).rows())
    assert len(before) < len(going_on), "what there is, and not what there was, is read while it goes on"
    run(config(oracle_budget=90), tmp_path, resume=True)
    after = rows(directory / "molecules.csv")
    assert after[: len(before)] == before
    assert len({row["SMILES"] for row in after if row["score"]}) == 90
    manifest = json.loads((directory / "manifest.json").read_text())
    assert (manifest["oracle_budget"], manifest["oracle_calls"]) == (90, 90)
    assert manifest["end"]
    (directory / "checkpoints" / "last.ckpt").unlink()
    run(config(oracle_budget=90), tmp_path, resume=True)
    with pytest.raises(UserError, match="its checkpoint is gone"):
        run(config(oracle_budget=100), tmp_path, resume=True)


def test_a_string_that_the_prior_excludes_does_not_stop_the_others(config: Config, selfies_prior: Path) -> None:
    settings, policy = RunSettings.parse(config()), load_policy(selfies_prior)
    ids = torch.from_numpy(policy.vocabulary.encode_batch(["CCO", "CCC", "CCN"]))
    nats = policy.log_prob(ids).detach()
    update = Update(settings, policy, policy, np.random.default_rng(0), torch.Generator())

    def loss(rows: list[int], prior: torch.Tensor) -> float:
        smiles = [["CCO", "CCC", "CCN"][row] for row in rows]
        batch = Batch(ids[rows], smiles, smiles, np.array([0.2, 0.5, 0.8])[rows], None, prior[rows])
        return float(update(batch, (), {}, 0.0)[0].loss.detach())

    excluded = nats.clone()
    excluded[1] = -torch.inf
    assert loss([0, 1, 2], excluded) == pytest.approx(loss([0, 2], nats))


CLIP = {"name": "clip", "low": 0.0, "high": 1.0}


def oracle(path: Path, factor: float) -> dict[str, Any]:
    path.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        "    if 'hello' in asked:\n"
        "        print(json.dumps({'protocol': 1, 'endpoints': ['score']}), flush=True)\n"
        "        continue\n"
        "    for index, smiles in enumerate(asked['smiles']):\n"
        f"        values = {{'score': min(1.0, {factor} * len(smiles) / 30)}}\n"
        "        print(json.dumps({'id': asked['id'], 'index': index, 'values': values}), flush=True)\n"
    )
    return {"component": [{"name": "executable", "command": ["python", str(path)], "label": "mine", "transform": CLIP}]}


def test_a_run_that_was_begun_is_not_scored_on_by_something_else(config: Config, tmp_path: Path) -> None:
    table = config(scoring=oracle(tmp_path / "oracle.py", 1.0), max_steps=2)
    directory = run(table, tmp_path / "out")
    before = (directory / "molecules.csv").read_bytes()
    oracle(tmp_path / "oracle.py", 0.5)
    longer = {**table, "max_steps": 3}
    with pytest.raises(UserError, match=r"what 'mine' reads or runs has changed since the run began.*--retry-failed"):
        run(longer, tmp_path / "out", resume=True)
    with pytest.raises(UserError, match=r"scored otherwise: what 'mine' reads or runs"):
        run({**table, "seed": 1}, tmp_path / "out")
    assert (directory / "molecules.csv").read_bytes() == before
    oracle(tmp_path / "oracle.py", 1.0)
    run(longer, tmp_path / "out", resume=True)
    oracle(tmp_path / "oracle.py", 0.5)
    run({**table, "max_steps": 4}, tmp_path / "out", resume=True, retry_failed=True)
    manifest = json.loads((directory / "manifest.json").read_text())
    assert [part[0] for part in manifest["score"][1]] == ["mine"]
    assert len(manifest["score_before"]) == 1
    run({**table, "max_steps": 5}, tmp_path / "out", resume=True)
    assert json.loads((directory / "manifest.json").read_text())["score_before"] == manifest["score_before"]
    other = {"component": [{**table["scoring"]["component"][0], "weight": 2.0}, {"name": "qed"}]}
    with pytest.raises(UserError, match=r"\(scoring differs\)"):
        run({**table, "scoring": other, "max_steps": 9}, tmp_path / "out", resume=True, retry_failed=True)


def test_what_does_not_touch_the_score_may_change_under_way(config: Config, tmp_path: Path) -> None:
    """The remedies after a failure: more time, and the project in another folder."""
    table = config(scoring=oracle(tmp_path / "oracle.py", 1.0), max_steps=2)
    run(table, tmp_path / "out")
    (tmp_path / "moved").mkdir()
    moved = oracle(tmp_path / "moved" / "oracle.py", 1.0)
    moved["component"][0]["timeout"] = 99.0
    directory = run({**table, "scoring": moved, "max_steps": 3}, tmp_path / "out", resume=True)
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["steps"] == 3
    assert "score_before" not in manifest, "it is the one score still"


def test_a_log_that_the_program_writes_does_not_end_the_run(config: Config, tmp_path: Path) -> None:
    """It was not there when the run began; in its folder it would be taken for a part of the oracle."""
    scoring = oracle(tmp_path / "oracle.py", 1.0)
    scoring["component"][0]["command"].append("--log=oracle.log")
    base = config(scoring=scoring, max_steps=1)
    file = tmp_path / "run.json"
    file.write_text(json.dumps(base))
    optimize(file, tmp_path / "out", methods=["custom"], report=False)
    (tmp_path / "oracle.log").write_text("started\n")
    file.write_text(json.dumps({**base, "max_steps": 2}))
    with pytest.raises(UserError, match=r"scoring differ.*belongs into unwatched"):
        optimize(file, tmp_path / "out", methods=["custom"], report=False, resume=True)
    scoring["component"][0]["unwatched"] = ["oracle.log"]
    file.write_text(json.dumps({**base, "max_steps": 2}))
    optimize(file, tmp_path / "out", methods=["custom"], report=False, resume=True)
    manifest = json.loads((tmp_path / "out" / "custom" / "seed-0" / "manifest.json").read_text())
    assert manifest["steps"] == 2


def test_a_ledger_without_the_runs_rows_is_noticed_before_anything_is_written(config: Config, tmp_path: Path) -> None:
    directory = run(config(max_steps=3), tmp_path)
    before = (directory / "molecules.csv").read_bytes()
    for file in tmp_path.glob("ledger.sqlite*"):
        file.unlink()
    with pytest.raises(UserError, match=r"has come to step 3, but it has no rows of it in '.*ledger.sqlite'"):
        run(config(max_steps=5), tmp_path, resume=True)
    assert (directory / "molecules.csv").read_bytes() == before


def test_a_run_that_fell_over_its_first_molecule_does_not_hold_the_directory(config: Config, tmp_path: Path) -> None:
    scoring = oracle(tmp_path / "oracle.py", 1.0)
    wrong = {"component": [{**scoring["component"][0], "command": ["python", "-c", "raise SystemExit('no licence')"]}]}
    with pytest.raises((RunError, UserError)):
        run(config(scoring=wrong), tmp_path / "out")
    assert (tmp_path / "out" / "custom" / "seed-0" / "config.toml").is_file(), "else there is nothing to test"
    run(config(scoring=scoring, max_steps=1), tmp_path / "out")


def test_retrying_failures_of_finished_runs_alone_is_refused(config: Config, tmp_path: Path) -> None:
    run(config(max_steps=2), tmp_path)
    with pytest.raises(UserError, match=r"finished and ask for no molecule again; with a larger oracle_budget"):
        run(config(max_steps=2), tmp_path, resume=True, retry_failed=True)


def test_a_finished_run_is_left_as_it_is_whatever_has_become_of_its_oracle(config: Config, tmp_path: Path) -> None:
    table = config(scoring=oracle(tmp_path / "oracle.py", 1.0), max_steps=2)
    run(table, tmp_path / "out")
    oracle(tmp_path / "oracle.py", 0.5)
    directory = RunDirectory(tmp_path / "out", "custom", 0)
    settings = RunSettings.parse(table)
    directory.check_same_config(settings)
    with pytest.raises(UserError, match="belongs into unwatched"):
        directory.check_same_config(RunSettings.parse({**table, "max_steps": 3}))


def test_a_buffer_of_an_older_version_is_spelled_canonically(config: Config, tiny_prior: Path, tmp_path: Path) -> None:
    replay = {"updates": 1, "batch_size": 4, "size": 20, "canonical": True, "only": True}
    settings = RunSettings.parse(config(prior=str(tiny_prior), replay=replay))
    policy = load_policy(tiny_prior)
    learner = Learner(settings, load_policy(tiny_prior), policy, ScoringFunction(settings.scoring), lambda *_: None)
    text, smiles = "C(C)O", "CCO"
    sampled = Remembered(smiles, tuple(policy.vocabulary.encode(text)), "", 0.9, -1.0)
    learner.replay.add([sampled])
    checkpoint: dict[str, Any] = {}
    learner.on_save_checkpoint(checkpoint)
    learner.on_load_checkpoint(checkpoint)
    (entry,) = learner.replay.entries
    assert list(entry.ids) == policy.vocabulary.encode(smiles)
    with torch.no_grad():
        assert entry.prior_log_prob == pytest.approx(float(policy.log_prob(torch.tensor([entry.ids]))), abs=1e-3)


def test_another_seed_with_less_than_a_finished_run_has_had(config: Config, tmp_path: Path) -> None:
    run(config(oracle_budget=60), tmp_path)
    table = config(oracle_budget=40)
    optimize(table, tmp_path, methods=["custom"], report=False, seeds=[0, 1], resume=True)
    found = [len({row["SMILES"] for row in rows(tmp_path / "custom" / f"seed-{k}" / "molecules.csv") if row["score"]})
             for k in (0, 1)]  # fmt: skip
    assert found == [60, 40]


def test_seeds_that_leave_no_call_are_refused(config: Config, tmp_path: Path) -> None:
    seeds = tmp_path / "seeds.smi"
    seeds.write_text("CC(=O)Oc1ccccc1C(=O)O\nCC(=O)Nc1ccc(O)cc1\n")
    table = {"replay": {"updates": 1, "seed_molecules": str(seeds)}}
    with pytest.raises(ConfigError, match=r"the 2 molecules of .* leaves no call for others"):
        RunSettings.parse(config(oracle_budget=2, **table))
    RunSettings.parse(config(oracle_budget=3, **table))


def test_a_folder_named_like_the_prior_changes_nothing(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = RunSettings.parse(config(prior="chembl")).to_table()
    (tmp_path / "chembl").mkdir()
    assert RunSettings.parse(config(prior="chembl")).to_table() == before


def test_the_report_of_a_finished_run_says_how_it_ended(config: Config, tmp_path: Path) -> None:
    page = (run(config(max_steps=1), tmp_path) / "report.html").read_text()
    assert "max_steps is reached" in page
    assert json.loads((tmp_path / "custom" / "seed-0" / "manifest.json").read_text())["end"] in page


def test_a_run_may_begin_with_the_agent_of_another_and_is_held_to_the_prior_still(
    config: Config, tmp_path: Path, tiny_prior: Path
) -> None:
    plain = {"threads": 1, "device": "cpu", "precision": "float32"}
    table = config(prior=str(tiny_prior), max_steps=2, max_tokens=100, execution=plain)
    first = run({**table, "objective": {"learning_rate": 0.005}}, tmp_path / "first")
    heavy = {"component": [{"name": "molecular_weight", "transform": {"name": "sigmoid", "low": 100, "high": 300}}]}
    second = run({**table, "agent": str(first), "scoring": heavy}, tmp_path / "second")
    start = [row for row in rows(second / "molecules.csv") if row["step"] == "1" and len(row["sampled"]) < 90]
    assert start
    for name, path in {"agent": first, "prior": tiny_prior}.items():
        policy = load_policy(path, "cpu")
        policy.precision = "float32"
        with torch.no_grad():
            nats = policy.log_prob(torch.from_numpy(policy.vocabulary.encode_batch([row["sampled"] for row in start])))
        assert [float(row[f"{name}_log_prob"]) for row in start] == pytest.approx(nats.tolist(), abs=1e-3)
    manifest = json.loads((second / "manifest.json").read_text())
    assert manifest["agent"] == str(first)
    assert manifest["agent_sha256"] != manifest["prior_sha256"]


def test_the_agent_that_a_run_began_with_may_go_on_meanwhile(config: Config, tmp_path: Path) -> None:
    first = run(config(max_steps=2), tmp_path / "first")
    table = config(agent=str(first), execution={"threads": 1, "device": "cpu", "checkpoint_seconds": 0})
    whole = run(table, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        run(table, tmp_path / "cut", watcher=StopAfter(3))
    run(config(max_steps=4), tmp_path / "first", resume=True)
    cut = run(table, tmp_path / "cut", resume=True)
    assert (cut / "molecules.csv").read_bytes() == (whole / "molecules.csv").read_bytes()
    shas = [json.loads((each / "manifest.json").read_text())["agent_sha256"] for each in (cut, whole)]
    assert shas[0] == shas[1] != find_prior(first).sha256()


def test_an_agent_of_other_tokens_than_the_priors_is_refused(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"agent: 'chembl' has another vocabulary .*\(smiles and selfies\)"):
        RunSettings.parse(config(agent="chembl"))
    with pytest.raises(ConfigError, match=r"agent: 'zinc250k' .*\(\d+ tokens, such as .*tuned from this prior"):
        RunSettings.parse(config(prior="chembl", agent="zinc250k"))
    with pytest.raises(UserError, match=r"unknown prior 'chmbl'.*did you mean 'chembl'"):
        RunSettings.parse(config(prior="chembl", agent="chmbl"))


def test_resume_takes_the_threads_of_the_beginning_and_refuses_another_prior(
    config: Config, tmp_path: Path, selfies_prior: Path
) -> None:
    import shutil

    prior = tmp_path / "prior.safetensors"
    shutil.copy(selfies_prior, prior)
    table = config(prior=str(prior), execution={"threads": 1, "device": "cpu", "checkpoint_seconds": 0})
    with pytest.raises(RuntimeError, match="crash"):
        run(table, tmp_path / "out", watcher=StopAfter(3))
    used: list[int] = []
    watcher = Watcher()
    watcher.step = lambda metrics: used.append(torch.get_num_threads())  # type: ignore[method-assign]
    other = prior.read_bytes()
    prior.write_bytes(other[:-4] + b"\0\0\0\0")
    with pytest.raises(UserError, match="another prior"):
        run(table, tmp_path / "out", resume=True)
    prior.write_bytes(other)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        run({**table, "execution": {"device": "cpu"}}, tmp_path / "out", resume=True, watcher=watcher)
    finally:
        torch.set_num_threads(before)
    assert set(used) == {1}


def test_a_file_of_the_screen_that_has_changed_is_refused(config: Config, tmp_path: Path) -> None:
    known = tmp_path / "known.smi"
    known.write_text("CCO\n")
    execution = {"threads": 1, "device": "cpu", "checkpoint_seconds": 0}
    table = config(screen={"rule": [{"name": "known", "file": str(known)}]}, execution=execution)
    with pytest.raises(RuntimeError, match="crash"):
        run(table, tmp_path / "out", watcher=StopAfter(2))
    known.write_text("CCO\nCCN\n")
    with pytest.raises(UserError, match=r"another content of the file that screen\.rule\[0\]\.file names"):
        run(table, tmp_path / "out", resume=True)
    known.write_text("CCO\n")
    run(table, tmp_path / "out", resume=True)


@pytest.mark.parametrize("content", [None, "prior = "])
def test_a_run_without_its_config_is_not_gone_on_with(config: Config, tmp_path: Path, content: str | None) -> None:
    """Nothing would tell that it was begun with other settings."""
    table = config(execution={"threads": 1, "device": "cpu", "checkpoint_seconds": 0})
    with pytest.raises(RuntimeError, match="crash"):
        run(table, tmp_path / "out", watcher=StopAfter(2))
    path = tmp_path / "out" / "custom" / "seed-0" / "config.toml"
    kept = path.read_text()
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=r"config\.toml' is missing or damaged"):
        run({**table, "batch_size": 4}, tmp_path / "out", resume=True)
    path.write_text(kept)
    run(table, tmp_path / "out", resume=True)


def test_damaged_checkpoint_is_said(config: Config, tmp_path: Path) -> None:
    execution = {"threads": 1, "device": "cpu", "checkpoint_seconds": 0}
    with pytest.raises(RuntimeError, match="crash"):
        run(config(execution=execution), tmp_path, watcher=StopAfter(3))
    checkpoint = tmp_path / "custom" / "seed-0" / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"last\.ckpt"):
        run(config(execution=execution), tmp_path, resume=True)


def test_methods_share_evaluations(config: Config, tmp_path: Path) -> None:
    """Two methods with one seed sample the same first batch: the second pays for none of it."""
    table = config(methods={"vanilla": {}, "mara": {"augmentation": {"name": "mara"}}})
    optimize(table, tmp_path, report=False)
    first = {name: rows(tmp_path / name / "seed-0" / "metrics.csv")[0] for name in ("vanilla", "mara")}
    assert int(first["vanilla"]["evaluations"]) > 0
    assert int(first["mara"]["evaluations"]) == 0
    assert first["mara"]["oracle_calls"] == first["vanilla"]["oracle_calls"], "a cache hit is still an oracle call"


def test_seed_molecules_are_scored_first_and_counted(config: Config, tmp_path: Path) -> None:
    seeds = tmp_path / "actives.smi"
    seeds.write_text("CC(=O)Nc1ccc(O)cc1 paracetamol\nC[Se]C foreign\nno-molecule\nOc1ccc(NC(C)=O)cc1 again\n")
    said: list[str] = []
    watcher = Watcher()
    watcher.say = said.append  # type: ignore[method-assign]
    replay = {**REPLAY, "seed_molecules": str(seeds)}
    molecules = rows(run(config(replay=replay, oracle_budget=40), tmp_path / "out", watcher=watcher) / "molecules.csv")
    start = [row for row in molecules if row["step"] == "0"]
    assert [(row["SMILES"], row["origin"]) for row in start] == [("CC(=O)Nc1ccc(O)cc1", "seed")]
    assert {row["origin"] for row in molecules if row["step"] != "0"} == {"sampled"}
    assert len({row["SMILES"] for row in molecules if row["score"]}) == 40
    assert any("C[Se]C" in line for line in said)
    assert any("no-molecule" in line for line in said)


def test_seeds_that_came_later_are_said_to_be_left_out(config: Config, tmp_path: Path) -> None:
    seeds = tmp_path / "actives.smi"
    seeds.write_text("CC(=O)Nc1ccc(O)cc1\n")
    table = config(replay={**REPLAY, "seed_molecules": str(seeds)}, max_steps=1)
    run(table, tmp_path / "out")
    seeds.write_text("CC(=O)Nc1ccc(O)cc1\nCCO\n")
    said: list[str] = []
    watcher = Watcher()
    watcher.say = said.append  # type: ignore[method-assign]
    for steps in (2, 3):  # it stays said: what was scored is what the file had at the beginning
        directory = run({**table, "max_steps": steps}, tmp_path / "out", resume=True, watcher=watcher)
        assert [line for line in said if "their file has changed since" in line]
        said.clear()
    assert [row["SMILES"] for row in rows(directory / "molecules.csv") if row["origin"] == "seed"] == [
        "CC(=O)Nc1ccc(O)cc1"
    ]


def test_hits_among_the_seeds_do_not_end_a_run(config: Config, tmp_path: Path) -> None:
    """Known actives are hits, and a run that ended with them would have made nothing."""
    seeds = tmp_path / "actives.smi"
    seeds.write_text("CC(=O)Nc1ccc(O)cc1\nCC(C)Cc1ccc(cc1)C(C)C(=O)O\n")
    table = config(replay={**REPLAY, "seed_molecules": str(seeds)}, threshold=0.01, max_hits=2)
    molecules = rows(run(table, tmp_path / "out") / "molecules.csv")
    assert {row["step"] for row in molecules} == {"0", "1"}
    more = rows(run({**table, "max_hits": 20}, tmp_path / "out", resume=True) / "molecules.csv")
    found = {row["SMILES"] for row in more if row["score"] and float(row["score"]) >= 0.01}
    assert len(found) >= 22


def test_a_project_that_was_moved_goes_on(config: Config, tmp_path: Path, selfies_prior: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy(selfies_prior, here / "prior.safetensors")
    (here / "actives.smi").write_text("CC(=O)Nc1ccc(O)cc1\n")
    (here / "known.smi").write_text("CCO\n")

    def table(folder: Path, steps: int) -> dict[str, Any]:
        return config(
            prior=str(folder / "prior.safetensors"),
            replay={**REPLAY, "seed_molecules": str(folder / "actives.smi")},
            screen={"rule": [{"name": "known", "file": str(folder / "known.smi")}]},
            max_steps=steps,
        )

    run(table(here, 2), here / "out")
    there = here.rename(tmp_path / "there")
    directory = run(table(there, 3), there / "out", resume=True)
    assert max(int(row["step"]) for row in rows(directory / "molecules.csv")) == 3
    (there / "known.smi").write_text("CCN\n")
    with pytest.raises(UserError, match="another content of the file"):
        run(table(there, 4), there / "out", resume=True)
    (there / "other.smi").write_text("CCO\n")
    other = table(there, 4)
    other["screen"]["rule"][0]["file"] = str(there / "other.smi")
    with pytest.raises(UserError, match="screen"):
        run(other, there / "out", resume=True)


def test_seed_molecules_without_replay_are_refused(config: Config, tmp_path: Path) -> None:
    seeds = tmp_path / "actives.smi"
    seeds.write_text("CC(=O)Nc1ccc(O)cc1\n")
    with pytest.raises(UserError, match=r"replay\.updates"):
        run(config(replay={"seed_molecules": str(seeds)}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_many_failures_stop_the_run_and_keep_what_was_paid(config: Config, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def score(smiles):\n    return [None] * len(smiles)\n")
    oracle = {"name": "python", "function": "broken:score", "path": str(tmp_path)}
    table = config(scoring={"component": [{"name": "qed"}, oracle]}, oracle_budget=500)
    with pytest.raises(RunError, match=r"failure\.stop_above"):
        run(table, tmp_path / "out")
    with Ledger(tmp_path / "out" / "ledger.sqlite", read_only=True) as ledger:
        kept = list(ledger.rows("custom/seed-0"))
    assert len(kept) >= 50
    assert all(row.error for row in kept if row.valid)


def test_failed_molecules_are_in_the_table_with_the_reason_and_not_learned_from(config: Config, tmp_path: Path) -> None:
    (tmp_path / "moody.py").write_text(
        "import zlib\ndef score(smiles):\n    codes = [zlib.crc32(text.encode()) for text in smiles]\n"
        "    return [None if code % 5 == 0 else 0.5 for code in codes]\n"
    )
    oracle = {"name": "python", "function": "moody:score", "path": str(tmp_path), "label": "dock"}
    table = config(scoring={"component": [{"name": "qed"}, oracle]}, failure={"stop_above": 0.9})
    directory = run(table, tmp_path / "out")
    found = rows(directory / "molecules.csv")
    failed = [row for row in found if row["valid"] == "True" and "dock" in row["error"]]
    assert failed
    for row in failed:
        assert (row["error"], row["score"], row["dock"], row["dock_score"]) == ("dock: no value", "", "", "")
        assert float(row["qed_score"]) > 0, "what did not fail is there"
    assert all(row["score"] for row in found if row["valid"] == "True" and not row["error"])


def test_a_component_that_must_not_fail_stops_the_run(config: Config, tmp_path: Path) -> None:
    (tmp_path / "oracle.py").write_text(
        "from pathlib import Path\n"
        "def score(smiles, flag):\n"
        "    return [0.5 if Path(flag).exists() else None for _ in smiles]\n"
    )
    flag = tmp_path / "mended"
    oracle = {"name": "python", "function": "oracle:score", "path": str(tmp_path), "kwargs": {"flag": str(flag)}}
    strict = config(scoring={"component": [{**oracle, "on_failure": "stop"}, {"name": "qed"}]})
    with pytest.raises(RunError, match=r"component 'python' failed on .*on_failure = 'stop'.*--resume"):
        run(strict, tmp_path / "out")
    flag.touch()
    directory = run(strict, tmp_path / "out", resume=True)
    assert not [
        row for row in rows(directory / "molecules.csv") if row["valid"] == "True" and row["error"] == "no value"
    ]
    run(
        config(scoring={"component": [oracle, {"name": "qed"}]}), tmp_path / "out", resume=True
    )  # may be said otherwise
    with pytest.raises(UserError, match=r"another config \(scoring differ"):
        run(config(scoring={"component": [{**oracle, "weight": 2.0}, {"name": "qed"}]}), tmp_path / "out", resume=True)


def test_mended_oracle_goes_on_with_retry_failed(config: Config, tmp_path: Path) -> None:
    """The oracle's licence server was down: a flag file stands for it."""
    (tmp_path / "oracle.py").write_text(
        "from pathlib import Path\n"
        "def score(smiles, flag):\n"
        "    return [0.5 if Path(flag).exists() else None for _ in smiles]\n"
    )
    flag = tmp_path / "mended"
    oracle = {"name": "python", "function": "oracle:score", "path": str(tmp_path), "kwargs": {"flag": str(flag)}}
    execution = {"threads": 1, "device": "cpu", "checkpoint_seconds": 0}
    table = config(scoring={"component": [oracle]}, oracle_budget=80, execution=execution)
    with pytest.raises(RunError, match="--retry-failed"):
        run(table, tmp_path / "out")
    flag.touch()
    with pytest.raises(RunError, match="--retry-failed"):
        run(table, tmp_path / "out", resume=True)
    molecules = rows(run(table, tmp_path / "out", resume=True, retry_failed=True) / "molecules.csv")
    scored = [row["score"] for row in molecules if row["valid"] == "True" and "budget" not in row["error"]]
    assert scored[-1] == "0.5"
    assert scored[0] == "", "what failed before the checkpoint stays a failed row"
    with pytest.raises(UserError, match="--resume"):
        run(table, tmp_path / "other", retry_failed=True)


def test_full_disk_is_one_line_and_resumable(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    execution = {"threads": 1, "device": "cpu", "checkpoint_seconds": 0}
    whole = run(config(execution=execution), tmp_path / "whole")
    saves = 0
    real_save = torch.save

    def save(*arguments: Any, **options: Any) -> None:
        nonlocal saves
        saves += 1
        if saves == 4:
            raise OSError(28, "No space left on device")
        real_save(*arguments, **options)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(RunError, match="No space left on device") as caught:
        run(config(execution=execution), tmp_path / "full")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "full").rglob("*.partial"))
    resumed = run(config(execution=execution), tmp_path / "full", resume=True)
    assert (resumed / "molecules.csv").read_bytes() == (whole / "molecules.csv").read_bytes()


def test_collapsed_agent_ends_the_run(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that writes nothing new would never spend its budget."""
    monkeypatch.setattr("chemmara.optimization.learner.STALLED_STEPS", 5)
    directory = run(config(max_tokens=1, oracle_budget=1000), tmp_path)
    assert "collapsed" in json.loads((directory / "manifest.json").read_text())["stop_reason"]

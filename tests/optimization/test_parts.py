"""The parts of a step: scoring a batch within the budget, the filters, the replay buffer, the resolution of methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from chemmara.chemistry.molecules import read
from chemmara.errors import ConfigError
from chemmara.optimization.filters import DIVERSITY_FILTERS
from chemmara.optimization.methods import PRESETS, method_names, resolve_method
from chemmara.optimization.replay import Remembered, ReplayBuffer
from chemmara.optimization.rollout import Seen, score_batch
from chemmara.optimization.sampling import as_given
from chemmara.optimization.tables import ReplaySettings
from chemmara.scoring.evaluation import Evaluation, MemoryStore
from chemmara.scoring.function import ScoringFunction

SCORING = ScoringFunction({"component": [{"name": "qed"}]})
PARACETAMOL, BENZENE = "CC(=O)Nc1ccc(O)cc1", "c1ccccc1"


def test_a_batch_keeps_every_row_and_counts_each_molecule_once() -> None:
    seen = Seen.empty()
    texts = [PARACETAMOL, "C1CC", "Oc1ccc(NC(C)=O)cc1", BENZENE, "CCO"]
    batch = score_batch(as_given(texts, texts), SCORING, seen, budget=2, threshold=0.5)
    assert len(batch.scores) == len(batch.errors) == len(texts)
    assert seen.calls == 2
    assert batch.distinct.tolist() == [True, False, False, True, True]
    assert batch.unpaid.tolist() == [False, False, False, False, True]
    assert batch.learnable.tolist() == [True, True, True, True, False], "invalid text is learned from"
    assert batch.scores.total[0] == batch.scores.total[2], "another spelling of a known molecule is free"
    assert seen.hits == 1
    assert list(seen.scaffolds) == [BENZENE]
    again = score_batch(as_given([BENZENE] * 2, [BENZENE] * 2), SCORING, seen, budget=2, threshold=0.5)
    assert again.first.tolist() == [False, False]
    assert again.known == [True, False]
    assert not np.isnan(again.scores.total).any(), "a repeat costs nothing, even past the budget"


class FailingStore(MemoryStore):
    """A ledger in which every oracle has failed."""

    def lookup(self, key: str, smiles: Sequence[str]) -> dict[str, Evaluation]:
        return {text: Evaluation(float("nan"), "time-out") for text in smiles}


def test_failed_oracle_is_masked_but_counted() -> None:
    seen = Seen.empty()
    scoring = ScoringFunction({"component": [{"name": "qed"}]}, store=FailingStore())
    texts = [PARACETAMOL, "C1CC"]
    batch = score_batch(as_given(texts, texts), scoring, seen, budget=5, threshold=0.5)
    assert seen.calls == seen.failed == 1
    assert batch.learnable.tolist() == [False, True]
    assert batch.errors[0] == "qed: time-out"
    assert seen.hits == 0
    assert batch.new_hits(0.5) == [], "a failed oracle says nothing of the share of hits"


def test_the_yield_is_of_new_molecules_with_a_score() -> None:
    seen = Seen.empty()
    texts = [PARACETAMOL, BENZENE, PARACETAMOL, "C1CC", "CCO"]
    batch = score_batch(as_given(texts, texts), SCORING, seen, budget=2, threshold=0.5)
    assert batch.new_hits(0.5) == [True, False]  # ethanol was not paid for
    assert batch.new_hits(0.0) == [True, True]
    again = score_batch(as_given(texts, texts), SCORING, seen, budget=2, threshold=0.5)
    assert again.new_hits(0.0) == []


@pytest.mark.parametrize("entry", list(DIVERSITY_FILTERS), ids=lambda entry: entry.name)
def test_every_filter_keeps_rows_nan_and_never_raises_a_reward(entry: Any) -> None:
    molecules = [read(text).molecule for text in (PARACETAMOL, "CC", "C1CC", BENZENE, "Cc1ccccc1", "CCc1ccccc1")]
    scores = np.array([0.9, 0.8, np.nan, 0.7, 0.6, 0.95])
    sizes = {"bucket_size": 2} if "bucket_size" in entry.parameters.model_fields else {}
    parameters = entry.parameters(**sizes)
    filter_ = entry.item(parameters)
    rewards = filter_(molecules, scores, [molecule is not None for molecule in molecules])
    assert rewards.shape == scores.shape
    assert np.isnan(rewards).tolist() == np.isnan(scores).tolist()
    assert (rewards[~np.isnan(scores)] <= scores[~np.isnan(scores)]).all()
    other = entry.item(parameters)
    other.load_state_dict(filter_.state_dict())
    again = [False] * len(molecules)
    np.testing.assert_array_equal(other(molecules, scores, again), filter_(molecules, scores, again))


def test_full_bucket_earns_nothing_and_repeats_do_not_fill_it() -> None:
    filter_ = DIVERSITY_FILTERS["murcko"].item(DIVERSITY_FILTERS["murcko"].parameters(bucket_size=2))
    phenyls = [read(text).molecule for text in ("Cc1ccccc1", "Cc1ccccc1", "CCc1ccccc1", "CCCc1ccccc1")]
    rewards = filter_(phenyls, np.full(4, 0.8), [True, False, True, True])
    assert rewards.tolist() == [0.8, 0.8, 0.8, 0.0]


def remembered(smiles: str, reward: float, scaffold: str = "") -> Remembered:
    return Remembered(smiles, (3, 4, 2), scaffold, reward, -20.0)


def test_buffer_keeps_the_best_once_and_respects_scaffolds() -> None:
    buffer = ReplayBuffer(ReplaySettings(updates=1, size=3, per_scaffold=1))
    buffer.add([remembered("a", 0.2, "s"), remembered("b", 0.9, "s"), remembered("c", 0.0), remembered("d", 0.3)])
    buffer.add([remembered("b", 0.9, "s"), remembered("e", 0.5), remembered("f", 0.4)])
    assert [entry.smiles for entry in buffer.entries] == ["b", "e", "f"]
    other = ReplayBuffer(buffer.settings)
    other.load_state_dict(buffer.state_dict())
    assert other.entries == buffer.entries
    draws = [[e.smiles for e in b.draw(np.random.default_rng(3))] for b in (buffer, other)]
    assert draws[0] == draws[1]


def test_methods_of_a_config() -> None:
    methods = {"a": {}, "b": {"augmentation": {"name": "mara"}}, "c": {"preset": "default"}}
    config = {"threshold": 0.6, "methods": methods}
    assert method_names(config) == ["a", "b", "c"]
    assert method_names(config, ["b", "b", "vanilla"]) == ["b", "vanilla"]
    assert resolve_method(config, "b")["augmentation"] == {"name": "mara"}
    assert resolve_method(config, "c")["replay"] == PRESETS["default"]["replay"]
    assert "methods" not in resolve_method(config, "a")
    assert method_names({}) == ["default"]
    assert method_names({"objective": {"beta": 0.1}}) == ["custom"]
    assert method_names({"preset": "mara"}) == ["mara"]


def test_an_assignment_wins_over_what_a_method_says() -> None:
    config = {"threshold": 0.6, "methods": {"a": {"preset": "default"}, "b": {"batch_size": 8}}}
    sharper = "replay.rank_coefficient=0.001"
    for name in ("default", "a", "genetic_gfn"):
        found = resolve_method(config, name, [sharper])["replay"]
        assert found == {**resolve_method(config, name)["replay"], "rank_coefficient": 0.001}
    assert resolve_method(config, "b", ["batch_size=16", "batch_size=32"])["batch_size"] == 32
    assert resolve_method(config, "saturn", ["batch_size=32"])["batch_size"] == 32
    assert resolve_method(config, "default", ["objective.name=ahc"])["objective"] == {"name": "ahc"}
    assert "sigma" not in resolve_method(config, "default", ["objective.beta=0.1"])["objective"]
    one = ["methods.a.objective.sigma=7"]
    assert resolve_method(config, "a", one)["objective"]["sigma"] == 7
    assert resolve_method(config, "default", one) == resolve_method(config, "default")
    assert "preset" not in resolve_method(config, "b", ["preset=mara"])


def test_presets_and_the_configs_own_tables() -> None:
    own = {"objective": {"name": "reinvent", "learning_rate": 1e-3}, "augmentation": {"name": "mara", "quantile": 0.9}}
    vanilla = resolve_method(own, "vanilla")
    assert vanilla["augmentation"] == {"name": "none"}, "a preset named on the command line decides its tables"
    assert vanilla["objective"]["learning_rate"] == 1e-3
    top = resolve_method({"preset": "mara", "augmentation": {"name": "mara", "quantile": 0.9}}, "mara")
    assert top["augmentation"]["quantile"] == 0.9, "keys beside a top-level preset win over it"
    tuned = resolve_method({"replay": {"per_scaffold": 5}}, "default")
    assert tuned["replay"] == {**PRESETS["default"]["replay"], "per_scaffold": 5}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"methods": {"a": {"preset": "mra"}}}, "did you mean 'mara'"),
        ({"methods": {"a/b": {}}}, "names a directory"),
        ({"methods": {"a": 3}}, "expected a table"),
        ({"methods": {"a": {"threshold": 0.2}}}, "share one threshold"),
    ],
)
def test_bad_methods_are_explained(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_method(config, method_names(config)[0])


def test_mara_is_vanilla_plus_the_augmentation_and_nothing_else() -> None:
    vanilla, mara = PRESETS["vanilla"], PRESETS["mara"]
    assert {k: v for k, v in mara.items() if k != "augmentation"} == {
        k: v for k, v in vanilla.items() if k != "augmentation"
    }

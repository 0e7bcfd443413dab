"""The replay buffer: what it keeps, how it draws, what it forgets, and that a resumed one goes on the same."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chemmara.chemistry.molecules import read
from chemmara.errors import ConfigError
from chemmara.language.vocabulary import Vocabulary
from chemmara.optimization.draws import DRAWS, rank_weights
from chemmara.optimization.filters import DIVERSITY_FILTERS
from chemmara.optimization.replay import Remembered, ReplayBuffer
from chemmara.optimization.screening import Screen, ScreenSettings
from chemmara.optimization.settings import RunSettings
from chemmara.optimization.tables import ReplaySettings

PHENYLS = ["Cc1ccccc1", "CCc1ccccc1", "CCCc1ccccc1", "CCCCc1ccccc1", "OCc1ccccc1"]
OTHERS = ["Cc1ccncc1", "CCCCCCO", "CCCCCCCO", "C1CCCCC1N"]


@cache
def remembered(smiles: str, reward: float) -> Remembered:
    molecule = read(smiles).molecule
    assert molecule
    return Remembered(molecule.smiles, (3, 4, 2), molecule.scaffold, reward, -20.0)


def buffer(**settings: Any) -> ReplayBuffer:
    made = ReplayBuffer(ReplaySettings(updates=1, **settings))
    made.add([remembered(smiles, 0.9 - 0.05 * k) for k, smiles in enumerate(PHENYLS + OTHERS)])
    return made


def test_every_rule_can_be_named_and_every_name_has_a_rule() -> None:
    assert set(get_args(ReplaySettings.model_fields["draw"].annotation)) == set(DRAWS)


@pytest.mark.parametrize("draw", list(DRAWS))
@settings(max_examples=30)
@given(size=st.integers(1, 12), seed=st.integers(0, 99))
def test_every_draw_fits_repeats_itself_and_survives_json(draw: str, size: int, seed: int) -> None:
    first = buffer(draw=draw, batch_size=size)
    other = ReplayBuffer(first.settings)
    other.load_state_dict(json.loads(json.dumps(first.state_dict())))
    drawn = first.draw(np.random.default_rng(seed))
    assert len(drawn) == min(size, len(first))
    if draw != "rank":
        assert len({entry.smiles for entry in drawn}) == len(drawn)
    assert other.draw(np.random.default_rng(seed)) == drawn


def counted(draw: str, size: int = 1, **settings: Any) -> Counter[str]:
    rng, drawer = np.random.default_rng(0), buffer(draw=draw, batch_size=size, **settings)
    return Counter(entry.smiles for _ in range(2000) for entry in drawer.draw(rng))


def test_a_scaffold_is_drawn_as_often_as_another_however_many_molecules_it_has() -> None:
    found = counted("scaffold")
    phenyl = sum(found[smiles] for smiles in PHENYLS)
    assert phenyl == pytest.approx(2000 / 5, abs=100)
    assert found["CCCCCCO"] == pytest.approx(2000 / 5, abs=100), "an acyclic molecule is its own scaffold"
    assert sum(counted("uniform")[smiles] for smiles in PHENYLS) == pytest.approx(2000 * 5 / 9, abs=100)


def test_a_cluster_is_drawn_as_often_as_another() -> None:
    whole = buffer(similarity=0.4)
    clusters = {entry.smiles: whole.cluster(entry) for entry in whole.entries}
    assert clusters["CCCCCCO"] == clusters["CCCCCCCO"]
    found = counted("cluster", similarity=0.4)
    each = Counter[int]()
    for smiles, number in found.items():
        each[clusters[smiles]] += number
    assert len(each) == len(set(clusters.values())) > 2
    assert min(each.values()) == pytest.approx(2000 / len(each), abs=100)


def test_rank_draws_by_its_weights_and_top_the_best() -> None:
    weights = rank_weights(9, 0.01)
    found = counted("rank")
    assert found[PHENYLS[0]] == pytest.approx(2000 * weights[0], abs=100)
    assert list(counted("top", size=2)) == PHENYLS[:2]


def test_limits_for_scaffolds_and_clusters_keep_the_best() -> None:
    assert [e.smiles for e in buffer(per_scaffold=2).entries][:2] == PHENYLS[:2]
    assert len(buffer(per_scaffold=2)) == 6
    limited = buffer(per_cluster=1, similarity=0.4)
    assert PHENYLS[0] in [entry.smiles for entry in limited.entries]
    assert len({limited.cluster(entry) for entry in limited.entries}) == len(limited)


def test_a_purge_forgets_what_lies_in_a_full_bucket() -> None:
    entry = DIVERSITY_FILTERS["murcko"]
    filter_ = entry.item(entry.parameters(bucket_size=3, minimum_score=0.1))
    filter_([read(smiles).molecule for smiles in PHENYLS[:3]], np.full(3, 0.5), [True] * 3)
    kept = buffer()
    kept.purge(filter_.full)
    assert [entry.smiles for entry in kept.entries] == [entry.smiles for entry in buffer().entries[5:]]
    assert not buffer().purge(DIVERSITY_FILTERS["none"].item(None).full)


def test_a_purge_takes_what_the_screen_has_closed(config: Any) -> None:
    rule = {"name": "cluster", "similarity": 0.4, "bucket_size": 2, "minimum_score": 0.3}
    screen = Screen(ScreenSettings(rule=[{"name": "scaffold"}, rule]))
    molecules = [read(smiles).molecule for smiles in PHENYLS[:2]]
    screen.learn(molecules, np.array([0.5, 0.2]), np.ones(2, dtype=bool))
    assert not screen.closed(PHENYLS[0]), (
        "the second scored too little to fill its cluster; a full scaffold closes none"
    )
    screen.learn(molecules, np.array([0.5, 0.5]), np.ones(2, dtype=bool))
    assert screen.closed(PHENYLS[0])
    assert not screen.closed("CCCCCCCC")
    kept = buffer()
    kept.purge(screen.closed)
    assert PHENYLS[0] not in [entry.smiles for entry in kept.entries]
    assert 0 < len(kept) < len(buffer())
    purging = {"updates": 1, "purge": True}
    RunSettings.parse(config(replay=purging, screen={"rule": [rule]}))
    with pytest.raises(ConfigError, match="closes clusters"):
        RunSettings.parse(config(replay=purging, screen={"rule": [{"name": "scaffold"}]}))


def test_spellings() -> None:
    vocabulary = Vocabulary.from_tokens(["C", "O", "c", "1", "(", ")"])
    ids = tuple(vocabulary.encode("OCc1ccccc1"))
    entry = Remembered("OCc1ccccc1", ids[::-1], "c1ccccc1", 0.5, -20.0)
    rng = np.random.default_rng(0)
    assert buffer().spell(entry, vocabulary, rng) == ids[::-1], "as sampled"
    assert buffer(canonical=True).spell(entry, vocabulary, rng) == ids[::-1], "as remembered: test_spelling.py"
    fresh = {tuple(buffer(randomize=True).spell(entry, vocabulary, rng)) for _ in range(20)}
    assert len(fresh) > 5
    written = vocabulary.decode(np.array([[*row, *[0] * (20 - len(row))] for row in sorted(fresh)]))
    assert {read(text).molecule.smiles for text in written} == {"OCc1ccccc1"}  # type: ignore[union-attr]
    assert buffer(randomize=True).spell(entry, Vocabulary.from_tokens(["N"]), rng) == ids[::-1]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"replay": {"updates": 1, "draw": "ranks"}}, r"replay\.draw.*did you mean 'rank'"),
        ({"replay": {"updates": 1, "randomize": True, "canonical": True}}, r"replay\.canonical.*not both"),
        ({"replay": {"updates": 1, "purge": True}}, r"replay\.purge.*'none' has no buckets.*murcko"),
        ({"replay": {"only": True}}, r"replay\.only.*replay\.updates"),
        ({"replay": {"updates": 1, "only": True, "join": 2}}, r"replay\.join.*no update of the step's own"),
        ({"replay": {"with_batch": True}}, r"replay\.with_batch.*replay\.updates"),
        ({"replay": {"join": 2, "randomize": True}}, r"replay\.randomize.*replay\.updates"),
        ({"augmentation": {"name": "mara", "anchor": "buffer"}}, r"augmentation\.anchor.*no replay buffer"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config: Any, tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunSettings.parse(config(**tables))

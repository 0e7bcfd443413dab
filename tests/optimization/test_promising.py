"""The forecast of a score from those that were paid for, and the rule of the screen that sends what it expects best."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crash import StopAfter
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from chemmara.chemistry.fingerprints import SIZE, function
from chemmara.chemistry.molecules import Molecule, read
from chemmara.errors import ConfigError
from chemmara.language.vocabulary import Vocabulary
from chemmara.optimization import forecast as forecast_module
from chemmara.optimization.breeding import _foreseen, offspring
from chemmara.optimization.couples import Breeders, Couple
from chemmara.optimization.forecast import KERNELS, Forecast, Kernel
from chemmara.optimization.likeness import MOST, SCALES, features, likeness
from chemmara.optimization.replay import Remembered
from chemmara.optimization.rollout import Judge, Sampled, Seen
from chemmara.optimization.screen_promise import Promising, PromisingParameters
from chemmara.optimization.screening import Screen, ScreenSettings, check_screen
from chemmara.optimization.tables import GeneticSettings
from chemmara.scoring.components.descriptors import DESCRIPTORS
from chemmara.workflows.optimize import optimize

CORES = ["c1c({})cc({})nc1", "C1CN({})CCC1{}", "c1c({})oc2c1cc({})cc2", "C1C({})CCC1{}", "n1c({})c[nH]c1{}"]
GROUPS = ["C", "CC", "CCO", "OC", "C(=O)N", "c2ccccc2", "CN(C)C", "C(F)(F)F", "CC2CC2", "C#N"]


def molecule(text: str) -> Molecule:
    found = read(text).molecule
    assert found, text
    return found


MOLECULES = [molecule(core.format(one, other)) for core, one, other in product(CORES, GROUPS, GROUPS)]


def clogp(molecules: Sequence[Molecule]) -> list[float]:
    return [DESCRIPTORS["logp"].function(each.mol) for each in molecules]


def shuffled(seed: int = 0) -> list[Molecule]:
    return [MOLECULES[k] for k in np.random.default_rng(seed).permutation(len(MOLECULES))]


def learned(molecules: Sequence[Molecule], scores: Sequence[float], memory: int = 2000) -> Forecast:
    forecast = Forecast(memory)
    for each, score in zip(molecules, scores, strict=True):
        forecast.learn(each, score)
    return forecast


def test_a_forecast_ranks_what_it_has_not_seen() -> None:
    mixed = shuffled()
    known, new = mixed[:150], mixed[150:250]
    target = [abs(value - 2) + 0.3 * ("F" in each.smiles) for each, value in zip(mixed, clogp(mixed))]
    mean, _ = learned(known, target[:150])(new)
    assert spearmanr(mean, target[150:250]).statistic > 0.9


def test_the_deviation_says_how_far_off_it_is() -> None:
    """Of scores that a function of structure gives, two thirds of the errors lie within one deviation, nearly all
    within three; and it is larger for what is unlike anything known."""
    mixed = shuffled(1)
    forecast = learned(mixed[:150], clogp(mixed[:150]))
    mean, deviation = forecast(mixed[150:])
    off = np.abs(mean - clogp(mixed[150:])) / deviation
    assert 0.5 < np.mean(off < 1) <= 1
    assert np.mean(off < 3) > 0.97
    odd = [molecule("OP(=O)(O)OCC1OC(n2cnc3c(N)ncnc32)C(O)C1O"), molecule("C1CCCCCCCCCCCCCC1=O")]
    assert forecast(odd)[1].min() > np.median(deviation)


def test_what_was_scored_is_remembered_where_scores_are_exact_and_not_where_they_are_noise() -> None:
    mixed = shuffled(2)[:200]
    exact = clogp(mixed)
    again, _ = learned(mixed, exact)(mixed)
    assert np.abs(again - exact).max() < 0.1
    noise = np.random.default_rng(0).normal(0.5, 0.1, 200)
    mean, _ = learned(mixed, noise.tolist())(mixed)
    assert np.std(mean) < 0.5 * np.std(noise), "it believes what is only noise"


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, len(MOLECULES) - 1), min_size=1, max_size=6, unique=True),
    st.lists(st.integers(0, len(MOLECULES) - 1), min_size=1, max_size=6, unique=True),
)
def test_a_pair_is_as_alike_in_any_company(some: list[int], others: list[int]) -> None:
    """A run that goes on works out anew what another had put together piece by piece, and has to end at the same."""
    one, two = ([MOLECULES[k] for k in places] for places in (some, others))
    together = likeness(features(one), features(two))
    for matrix, back in zip(together, likeness(features(two), features(one))):
        assert (matrix == back.T).all()
    for a, b in product(range(len(one)), range(len(two))):
        alone = likeness(features([one[a]]), features([two[b]]))
        assert [float(each[0, 0]) for each in alone] == [float(each[a, b]) for each in together]
        same = one[a] == two[b]
        assert (together[0][a, b] == 1 and together[1][a, b] == 0) or not same


def test_a_fragment_that_is_there_twice_counts_twice() -> None:
    """And no more than four times, so that a long chain does not drown the rest."""
    chain, twice = (features([molecule("C" * n)]) for n in (30, 60))
    assert chain.counts[:, :SIZE].sum() == twice.counts[:, :SIZE].sum() < chain.size[0], "the same fragments"
    assert likeness(chain, twice)[0][0, 0] == 1
    assert likeness(features([molecule("CCO")]), features([molecule("OCCO")]))[0][0, 0] < 1


def alike(some: Sequence[Molecule], others: Sequence[Molecule]) -> tuple[np.ndarray, np.ndarray]:
    """Tanimoto similarity and squared distance, from RDKit's own counts and descriptors."""
    count = function("ecfp4", folded_counts=True)

    def fragments(each: Molecule) -> Counter[int]:
        return Counter({place: min(n, MOST) for place, n in count(each.mol).GetNonzeroElements().items()})

    def numbers(each: Molecule) -> np.ndarray:
        return np.array([DESCRIPTORS[name].function(each.mol) / scale for name, scale in SCALES.items()])

    x, y = ([fragments(each) for each in them] for them in (some, others))
    u, v = ([numbers(each) for each in them] for them in (some, others))
    near = np.array([[(a & b).total() / (a | b).total() for b in y] for a in x])
    return near, np.array([[np.sum((a - b) ** 2) for b in v] for a in u])


def mix(kernel: Kernel, near: np.ndarray, far: np.ndarray) -> np.ndarray:
    return kernel.fragments * near + (1 - kernel.fragments) * np.exp(-kernel.width * far)


def test_mean_and_deviation_are_those_of_a_gaussian_process() -> None:
    """As in Rasmussen and Williams, equations 2.25 and 2.26, with the amplitude of the highest likelihood."""
    mixed = shuffled(6)
    known, new = mixed[:40], mixed[40:50]
    forecast = learned(known, clogp(known))
    mean, deviation = forecast(new)
    kernel = Kernel(*forecast.state_dict()["kernel"])
    y = np.array(clogp(known)) - np.mean(clogp(known))
    inverse = np.linalg.inv(mix(kernel, *alike(known, known)) + kernel.noise * np.eye(40))
    across = mix(kernel, *alike(new, known))
    assert mean == pytest.approx(np.mean(clogp(known)) + across @ inverse @ y, rel=1e-4)
    variance = (y @ inverse @ y / 40) * (1 - np.einsum("ij,jk,ik->i", across, inverse, across))
    assert deviation == pytest.approx(np.sqrt(variance), rel=1e-3)


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_the_kernel_is_that_of_the_highest_likelihood_of_the_latest(
    noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chemmara.optimization.forecast.CHOSEN_ON", 40)
    mixed, draws = shuffled(7)[:60], np.random.default_rng(0).normal(size=60)
    latest = np.array(clogp(mixed[20:])) + noise * draws[20:]
    forecast = learned(mixed, [5.0] * 20 + latest.tolist())
    forecast(mixed[:1])
    near, far = alike(mixed[20:], mixed[20:])
    y = latest - latest.mean()

    def likelihood(kernel: Kernel) -> float:
        noisy = mix(kernel, near, far) + kernel.noise * np.eye(40)
        variance = y @ np.linalg.inv(noisy) @ y / 40
        return float(-20 * np.log(2 * np.pi * variance) - 0.5 * np.linalg.slogdet(noisy)[1] - 20)

    assert Kernel(*forecast.state_dict()["kernel"]) == max(KERNELS, key=likelihood)


@pytest.mark.parametrize("memory", [60, 500])
def test_it_goes_on_from_its_state_to_the_bit(memory: int) -> None:
    mixed = shuffled(3)
    scores = [value + draw for value, draw in zip(clogp(mixed), np.random.default_rng(0).normal(size=len(mixed)))]
    whole = learned(mixed[:50], scores[:50], memory)
    whole(mixed[-5:])
    for each, score in zip(mixed[50:150], scores[50:150]):
        whole.learn(each, score)
    whole(mixed[-5:])
    assert Kernel(*whole.state_dict()["kernel"]) != KERNELS[0], "one that it begins with could not be lost"
    for each, score in zip(mixed[150:170], scores[150:170]):
        whole.learn(each, score)
    other = Forecast(memory)
    other.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    assert len(other) == len(whole) == min(memory, 170)
    for mine, theirs in zip(whole(mixed[-60:]), other(mixed[-60:])):
        assert (mine == theirs).all()
    assert json.dumps(other.state_dict()) == json.dumps(whole.state_dict())


def test_only_the_latest_are_learned_from() -> None:
    mixed = shuffled(4)
    forecast = learned(mixed[:200], [9.0] * 100 + clogp(mixed[100:200]), memory=100)
    alone = learned(mixed[100:200], clogp(mixed[100:200]), memory=100)
    assert forecast(mixed[200:210])[0] == pytest.approx(alone(mixed[200:210])[0], abs=0.2)
    assert forecast(mixed[200:210])[0].max() < 6


def test_what_is_not_remembered_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long file of seeds is learned at once, and its molecules' likenesses to one another would fill the memory."""
    asked: list[tuple[int, int]] = []
    compare = forecast_module.likeness

    def record(here: Any, there: Any) -> Any:
        found = compare(here, there)
        asked.append(found[0].shape)
        return found

    mixed = shuffled(6)
    forecast, slow = learned(mixed[:300], clogp(mixed[:300]), memory=50), learned([], [], memory=50)
    monkeypatch.setattr(forecast_module, "likeness", record)
    found = forecast(mixed[300:305])
    assert max(max(shape) for shape in asked) == 50
    for start in range(0, 300, 50):
        for each, score in zip(mixed[start : start + 50], clogp(mixed[start : start + 50]), strict=True):
            slow.learn(each, score)
    assert found[0] == pytest.approx(slow(mixed[300:305])[0])


def test_the_kernel_is_chosen_anew_as_the_run_goes_on_and_not_at_each_step() -> None:
    mixed = shuffled(5)
    noise = np.random.default_rng(0).normal(0, 1, 60)
    forecast = learned(mixed[:60], noise.tolist())

    def kernel() -> list[float]:
        forecast(mixed[-1:])
        return list(forecast.state_dict()["kernel"])

    at_first = kernel()
    for each, score in zip(mixed[60:89], clogp(mixed[60:89])):
        forecast.learn(each, score)
    assert kernel() == at_first
    assert forecast.state_dict()["chosen_at"] == 60
    for _ in range(4):
        for each, score in zip(mixed[89:289], clogp(mixed[89:289])):
            forecast.learn(each, score)
    assert kernel() != at_first
    assert forecast.state_dict()["chosen_at"] == 889


def test_scores_that_are_all_the_same_are_no_trouble() -> None:
    mean, deviation = learned(MOLECULES[:30], [0.0] * 30)(MOLECULES[30:40])
    assert mean == pytest.approx(0)
    assert (deviation < 1e-5).all()


# The rule -------------------------------------------------------------------------------------------------------------


def teaching(rule: Promising) -> Promising:
    for each in shuffled()[:150]:
        rule.learn(each, clogp([each])[0])
    return rule


def taught(least: int = 100, **parameters: Any) -> Promising:
    return teaching(Promising(PromisingParameters(**{"least": least, "share": 0.5, "curiosity": 0.0, **parameters})))


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_share_that_is_expected_to_score_best_is_sent(share: float) -> None:
    new = shuffled()[150:]
    rule = taught(share=share)
    rule.look(new)
    sent = [each for each in new if rule.refuse(each) is None]
    assert share - 0.1 < len(sent) / len(new) < share + 0.1
    assert np.mean(clogp(sent)) > np.mean(clogp(new)) + 0.5 * np.std(clogp(new))


def test_the_reason_has_the_numbers() -> None:
    new = shuffled()[150:]
    rule = taught()
    rule.look(new)
    reasons = [reason for each in new if (reason := rule.refuse(each))]
    expected, bar = (float(text.split()[0]) for text in reasons[-1].split(", "))
    assert expected < bar
    assert reasons[-1] == f"{expected:.3f} is expected of it, {bar:.3f} asked for"
    curious = taught(curiosity=2.0)
    curious.look(new)
    told, refused = [(reason, each) for each in new if (reason := curious.refuse(each))][-1]
    found = re.fullmatch(r"(-?[\d.]+) is expected of it and ([\d.]+) for curiosity, (-?[\d.]+) asked for", told)
    assert found, told
    assert float(found[1]) + float(found[2]) == pytest.approx(curious.promise(refused), abs=2e-3)
    assert float(found[2]) > 0
    assert curious.promise(refused) < float(found[3]) + 1e-3


def test_more_molecules_than_it_remembers_cannot_be_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"screen\.rule\[0\]\.least: it never knows 200 molecules \(memory = 100\)"):
        check_screen({"rule": [{"name": "promising", "memory": 100, "least": 200}]})


def test_nothing_is_refused_before_there_is_enough_to_learn_from() -> None:
    rule = taught(least=151)
    rule.look(shuffled()[150:])
    assert all(rule.refuse(each) is None for each in shuffled()[150:])
    rule.learn(shuffled()[150], float("nan"))
    rule.look(shuffled()[151:])
    assert all(rule.refuse(each) is None for each in shuffled()[151:]), "a failure is nothing to learn from"
    rule.learn(shuffled()[151], 1.0)
    rule.look(shuffled()[152:])
    assert any(rule.refuse(each) for each in shuffled()[152:])


def test_what_was_expected_is_forgotten_when_more_is_known() -> None:
    new = shuffled()[150:]
    rule = taught()
    rule.look(new)
    assert any(rule.refuse(each) for each in new)
    rule.learn(new[0], 1.0)
    assert all(rule.refuse(each) is None for each in new)


def test_curiosity_prefers_what_is_unlike_anything_scored() -> None:
    odd = [molecule("OP(=O)(O)OCC1OC(n2cnc3c(N)ncnc32)C(O)C1O"), molecule("C1CCCCCCCCCCCCCC1=O")]
    plain, curious = taught(), taught(curiosity=3.0)
    new = [*shuffled()[150:250], *odd]
    for rule in (plain, curious):
        rule.look(new)
    refused = [[rule.refuse(each) for each in new] for rule in (plain, curious)]
    assert refused[0][-2], "logP of a phosphate is low"
    assert refused[1][-2] is None


def test_a_rule_looks_at_each_new_molecule_of_a_part_once() -> None:
    screen = Screen(ScreenSettings(rule=[{"name": "promising", "least": 8}]))
    rule = screen.rules[0][1]
    looked: list[list[str]] = []
    rule.look = lambda molecules: looked.append([each.smiles for each in molecules])  # type: ignore[method-assign]
    judge = Judge(screen, Seen({"CCO": None}, {}), wanted=9)
    batch = Sampled([], [], [], [], [], 9)
    for texts in (["CCO", "CCN", "NCC", "no molecule", "CCC"], ["CCN", "CCCC"]):
        judge.add(batch, texts, texts)
    assert looked == [["CCN", "CCC"], ["CCCC"]]


def test_a_screen_puts_first_what_most_is_expected_of() -> None:
    new = shuffled()[150:]
    screen = Screen(ScreenSettings(rule=[{"name": "scaffold"}, {"name": "promising", "least": 100, "curiosity": 0}]))
    assert not screen.looks_ahead, "nothing is known yet"
    assert screen.promise(new) == [0.0] * len(new)
    rule = screen.rules[1][1]
    assert isinstance(rule, Promising)
    teaching(rule)
    assert screen.looks_ahead
    assert spearmanr(clogp(new), screen.promise(new)).statistic > 0.9
    assert not Screen(ScreenSettings(rule=[{"name": "scaffold"}])).looks_ahead


def test_what_could_pass_is_told_without_a_trace() -> None:
    """The rule that looks ahead has no say in it: it compares with what was judged before."""
    new = shuffled()[150:]
    screen = Screen(ScreenSettings(rule=[{"name": "scaffold"}, {"name": "promising", "least": 100, "share": 0.01}]))
    teaching(screen.rules[1][1])
    screen.look(new)
    before = json.dumps(screen.state_dict())
    assert all(screen.could_pass(each) for each in new)
    assert json.dumps(screen.state_dict()) == before
    first = next(each for each in new if each.scaffold)
    sister = next(each for each in new if each.scaffold == first.scaffold and each != first)
    assert screen.judge(first) == (None, False)
    before = json.dumps(screen.state_dict())
    assert not screen.could_pass(sister)
    assert json.dumps(screen.state_dict()) == before
    screen.lift(["scaffold"])
    assert screen.could_pass(sister)


TOKENS = ("C", "O", "N", "F", "c", "n", "[nH]", "1", "2", "3", "4", "(", ")", "=", "#")


def bred(
    screen: Screen, seed: int = 0, *, tokens: Sequence[str] = TOKENS, rewards: Sequence[float] = (0.5,) * 64,
    **settings: Any,
) -> Sampled:  # fmt: skip
    """A generation of offspring of 64 of the molecules."""
    vocabulary = Vocabulary.from_tokens([*tokens])
    parents = [Remembered(m.smiles, (3, 2), m.scaffold, r, -20.0) for m, r in zip(shuffled(), rewards)]

    def write(ids: list[int]) -> tuple[str, str]:
        return (text := vocabulary.decode(np.array([ids]))[0]), text

    return offspring(
        parents, GeneticSettings(**{"offspring": 10, "population": 64, **settings}), 0.01, vocabulary, write, screen,
        Seen.empty(), Breeders(), budget=100, max_tokens=80, rng=np.random.default_rng(seed),
    )[1]  # fmt: skip


def looking(*rules: dict[str, Any], **parameters: Any) -> Screen:
    """A screen whose last rule looks ahead and knows enough."""
    promising = {"name": "promising", "least": 100, "share": 0.9, "curiosity": 0, **parameters}
    screen = Screen(ScreenSettings(rule=[*rules, promising]))
    teaching(screen.rules[-1][1])
    return screen


def values(batch: Sampled) -> list[float]:
    return clogp([reading.molecule for reading in batch.readings if reading.molecule])


def test_the_offspring_that_are_sent_are_the_best_of_many() -> None:
    before = values(bred(Screen(ScreenSettings(rule=[{"name": "promising", "least": 100}]))))
    after = values(bred(looking()))
    assert len(before) == len(after) == 10
    assert min(after) > np.mean(before) + 0.5 * np.std(before)


def test_generations_on_the_forecast_get_further_than_one_and_cost_no_call() -> None:
    """And not because more are tried: the best of one generation of as many tries do not get as far."""

    def mean(**settings: Any) -> float:
        return float(np.mean([values(bred(looking(), seed, **settings))[:4] for seed in range(2)]))

    once, many, ahead = mean(offspring=4), mean(offspring=20), mean(offspring=4, ahead=5)
    assert once < many < ahead
    batch = bred(looking(), offspring=4, ahead=5)
    assert len(batch.texts) == len(set(batch.texts)) == 4
    assert batch.texts == bred(looking(), offspring=4, ahead=5).texts


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The parents of each generation that is bred."""
    given: list[set[str]] = []
    draw = Couple.draw

    def watched(pool: Sequence[str], *rest: Any) -> list[Couple]:
        given.append(set(pool))
        return draw(pool, *rest)

    monkeypatch.setattr(Couple, "draw", watched)
    return given


ENTRIES = {each.smiles for each in shuffled()[:64]}


def test_what_the_screen_refuses_has_no_offspring_on_the_forecast(pools: list[set[str]]) -> None:
    bred(looking({"name": "windows", "windows": {"molecular_weight": {"high": 250}}}), ahead=4)
    later = set().union(*pools[1:]) - ENTRIES
    assert len(pools) == 4
    assert pools[0] <= ENTRIES
    assert later, "children are parents"
    assert max(DESCRIPTORS["molecular_weight"].function(molecule(each).mol) for each in later) <= 250


def test_what_the_agent_cannot_write_has_no_offspring_on_the_forecast(pools: list[set[str]]) -> None:
    bred(looking(), tokens=[token for token in TOKENS if token != "#"], ahead=3)
    later = set().union(*pools[1:]) - ENTRIES
    assert any("#" in each for each in ENTRIES)
    assert later
    assert not any("#" in each for each in later)


def test_a_child_that_comes_again_is_one_child() -> None:
    parents = [(0.5, MOLECULES[0].smiles)]
    found = _foreseen(parents, lambda tries: iter([MOLECULES[1]]), 3, looking(), lambda child: True)
    assert found == [MOLECULES[1]]
    assert sorted(smiles for _, smiles in parents) == sorted(each.smiles for each in MOLECULES[:2])


def test_entries_stand_among_the_parents_by_their_reward(pools: list[set[str]]) -> None:
    """Worth more than any child is expected to be they stay the parents, worth nothing they are none."""
    for reward, share in ((99.0, 1), (-99.0, 0)):
        pools.clear()
        bred(looking(), rewards=[reward] * 64, ahead=2)
        assert len(pools[1] & ENTRIES) / len(pools[1]) == pytest.approx(share, abs=0.3)


def test_a_screen_that_does_not_look_ahead_breeds_no_generations_ahead() -> None:
    plain = Screen(ScreenSettings(rule=[{"name": "scaffold"}]))
    assert bred(plain, ahead=5).texts == bred(Screen(ScreenSettings(rule=[{"name": "scaffold"}]))).texts


def test_a_run_that_was_cut_off_goes_on_to_the_same_end(config: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    def run(name: str, **options: Any) -> Path:
        table = config(
            oracle_budget=60,
            max_steps=12,
            screen={"draws": 4, "rule": [{"name": "scaffold"}, {"name": "promising", "least": 16, "curiosity": 0.5}]},
            execution={"threads": 1, "device": "cpu", "checkpoint_seconds": 0},
        )
        return optimize(table, tmp_path / name, methods=["custom"], report=False, **options) / "custom" / "seed-0"

    whole = run("whole")
    with open(whole / "molecules.csv", newline="", encoding="utf-8") as stream:
        refused = [row for row in csv.DictReader(stream) if "is expected of it" in row["error"]]
    assert refused
    with pytest.raises(RuntimeError, match="crash"):
        run("cut", watcher=StopAfter(4))
    assert (run("cut", resume=True) / "molecules.csv").read_bytes() == (whole / "molecules.csv").read_bytes()

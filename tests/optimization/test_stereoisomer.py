"""The screen rule that sends no stereoisomers to a score that cannot tell them apart."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chemmara.chemistry.molecules import Molecule, read
from chemmara.optimization.screen_stereo import Stereoisomer, StereoisomerParameters
from chemmara.optimization.screening import Screen, ScreenSettings

PLAIN = "CC(O)C(F)Cl"
ISOMERS = ["C[C@H](O)[C@H](F)Cl", "C[C@@H](O)[C@H](F)Cl", "C[C@H](O)[C@@H](F)Cl", "C[C@@H](O)[C@@H](F)Cl", PLAIN]
FAMILIES = [ISOMERS, ["C/C=C/CO", "C/C=C\\CO", "CC=CCO"], ["C[C@H](N)C#N", "C[C@@H](N)C#N", "CC(N)C#N"]]

EACH = [text for family in FAMILIES for text in family]


def molecule(text: str) -> Molecule:
    found = read(text).molecule
    assert found, text
    return found


def rule(pairs: int = 2) -> Stereoisomer:
    return Stereoisomer(StereoisomerParameters(pairs=pairs))


def teach(rule: Stereoisomer, texts: Sequence[str], scores: Sequence[float]) -> Stereoisomer:
    for text, score in zip(texts, scores, strict=True):
        rule.learn(molecule(text), score)
    return rule


def test_stereoisomers_are_refused_once_enough_pairs_have_scored_alike() -> None:
    blind = rule(pairs=2)
    for text in ISOMERS[:3]:
        assert blind.refuse(molecule(text)) is None
        blind.learn(molecule(text), 0.7)
    for text in ISOMERS[3:]:
        assert "does not tell them apart" in str(blind.refuse(molecule(text)))
    assert blind.refuse(molecule("CC(O)C(F)Br")) is None


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family[-1])
def test_centres_double_bonds_and_what_is_left_open_are_one_constitution(family: list[str]) -> None:
    blind = teach(rule(), ISOMERS[:3], [0.5] * 3)
    blind.learn(molecule(family[0]), 0.5)
    assert all(blind.refuse(molecule(text)) for text in family)


def test_one_pair_that_differs_opens_it_for_good() -> None:
    """A docking score: which isomer it is, is the question."""
    seeing = teach(rule(), ISOMERS[:3], [0.7, 0.7, 0.7])
    assert seeing.refuse(molecule(PLAIN))
    teach(seeing, FAMILIES[1][:2], [0.3, 0.31])
    assert seeing.refuse(molecule(PLAIN)) is None
    teach(seeing, FAMILIES[2], [0.2, 0.2, 0.2])
    assert seeing.refuse(molecule(PLAIN)) is None


@pytest.mark.parametrize("flat", [0.0, 1.0])
def test_what_is_clipped_says_nothing(flat: float) -> None:
    """Isomers that fail a filter are alike whatever the score sees; the first that pass may differ."""
    docked = teach(rule(pairs=1), ISOMERS, [flat] * len(ISOMERS))
    docked.learn(molecule(FAMILIES[2][0]), 0.4)
    assert docked.refuse(molecule(FAMILIES[2][1])) is None


def test_a_failure_says_nothing() -> None:
    nan = float("nan")
    blind = teach(rule(pairs=1), ISOMERS[:3], [nan, 0.5, nan])
    assert blind.refuse(molecule(PLAIN)) is None
    assert teach(rule(pairs=1), ISOMERS[:3], [nan, 0.5, 0.5]).refuse(molecule(PLAIN))
    failed = teach(rule(pairs=1), [*ISOMERS[:2], FAMILIES[2][0]], [0.5, 0.5, nan])
    assert failed.refuse(molecule(FAMILIES[2][1])) is None, "its isomer has no score"


def test_of_one_step_only_the_first_is_sent() -> None:
    screen = Screen(ScreenSettings(rule=[{"name": "stereoisomer", "pairs": 1}]))
    known = screen.rules[0][1]
    assert isinstance(known, Stereoisomer)
    teach(known, FAMILIES[2][:2], [0.4, 0.4])
    answers = [screen.judge(molecule(text))[0] for text in ISOMERS]
    assert [answer is None for answer in answers] == [True, False, False, False, False]
    known.learn(molecule(ISOMERS[0]), float("nan"))
    assert screen.judge(molecule(ISOMERS[1])) == (None, False), "the oracle failed on the first"


@given(told=st.lists(st.tuples(st.sampled_from(EACH), st.sampled_from([0.2, 0.4, float("nan")])), max_size=12))
def test_it_goes_on_from_its_state(told: list[tuple[str, float]]) -> None:
    one = teach(rule(), [text for text, _ in told], [score for _, score in told])
    other = rule()
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    teach(other, ISOMERS[:1], [0.4])
    teach(one, ISOMERS[:1], [0.4])
    for text in EACH:
        assert one.refuse(molecule(text)) == other.refuse(molecule(text))

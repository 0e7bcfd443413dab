"""MARA per mode: equal masses in the closed form, the same target by enumeration, and the estimate of a mode's mass."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from chemmara.errors import ConfigError
from chemmara.klrl import targets
from chemmara.klrl.augmentation import Augmentation, Samples, build_augmentation
from chemmara.klrl.objectives import OBJECTIVES, PolicyBatch

DOUBLE = torch.float64
BETA = 0.2
# Eight strings: mode 0 has four good ones, mode 1 one good and one bad, mode 2 a single good one, mode 3 is bad.
MODE = torch.tensor([0, 0, 0, 0, 1, 1, 2, 3])
REF = torch.tensor([0.10, 0.06, 0.03, 0.01, 0.05, 0.30, 0.02, 0.43], dtype=DOUBLE)
REWARD = torch.tensor([0.8, 0.9, 0.7, 1.0, 0.9, 0.2, 0.95, 0.1], dtype=DOUBLE)
GOOD = REWARD >= 0.7
# The same strings as spellings of molecules: 0 and 1 are one, 2 and 3 another.
MOLECULE = torch.tensor([0, 0, 1, 1, 2, 3, 4, 5])
CANONICAL = torch.tensor([0, 0, 2, 2, 4, 5, 6, 7])
SPELT_REWARD = torch.tensor([0.8, 0.8, 0.7, 0.7, 0.9, 0.2, 0.95, 0.1], dtype=DOUBLE)


def everything(reward: Tensor = REWARD, spelling: str = "sampled", log_ref: Tensor | None = None) -> Samples:
    """All strings as one batch."""
    log_ref = REF.log() if log_ref is None else log_ref
    mode = targets.mode_log_ref(log_ref, spelling, MOLECULE, CANONICAL)
    ones = torch.ones(len(log_ref), dtype=torch.bool)
    return Samples(reward, log_ref, mode, ones, ones, mode=MODE, molecule=MOLECULE, string=torch.arange(8))


def rows(samples: Samples, *index: int) -> Samples:
    pick = torch.tensor(index)
    kept = {name: value[pick] for name, value in vars(samples).items() if value is not None}
    return Samples(**kept)


def modes(**settings: object) -> Augmentation:
    return build_augmentation({"name": "mara_modes", "threshold": 0.7, **settings})


def masses(target: Tensor) -> list[float]:
    """Of the good strings of each mode."""
    return torch.zeros(4, dtype=DOUBLE).index_add(0, MODE[GOOD], target.exp()[GOOD])[:3].tolist()


@pytest.mark.parametrize("spelling", ["sampled", "canonical", "molecule"])
@pytest.mark.parametrize("within", ["reference", "flat"])
def test_modes_have_equal_masses(within: str, spelling: str) -> None:
    reward = REWARD if spelling == "sampled" else SPELT_REWARD
    index = {"molecule": MOLECULE, "canonical": CANONICAL}
    target = targets.mara_modes_target(
        REF.log(), reward, BETA, 0.7, MODE, within=within, spelling=spelling, **index
    ).exp()
    if spelling == "canonical":  # what is equal are the masses of canonical strings; the rest follow in proportion
        counted = target * (torch.arange(8) == CANONICAL)
    else:
        counted = target
    mass = torch.zeros(4, dtype=DOUBLE).index_add(0, MODE[GOOD], counted[GOOD])
    assert mass[:3].tolist() == pytest.approx([float(mass[0])] * 3)
    if within == "reference":
        assert (target[:4] / target[0]).tolist() == pytest.approx((REF[:4] / REF[0]).tolist())
    elif spelling == "sampled":
        assert target[:4].tolist() == pytest.approx([float(target[0])] * 4)
    elif spelling == "molecule":
        assert float(target[:2].sum()) == pytest.approx(float(target[2:4].sum()))
    else:
        assert float(target[0]) == pytest.approx(float(target[2]))
        assert float(target[1] / target[0]) == pytest.approx(0.6)
    # Between bad strings the ratio is that of the plain target.
    plain = targets.reverse_kl_target(REF.log(), reward, BETA)
    assert float(target[5] / target[7]) == pytest.approx(float((plain[5] - plain[7]).exp()))


def test_level_of_the_masses_by_hand() -> None:
    """reference: c = (.20, .05, .02), z the best of mode 0; flat: c = 4 * .10 at string 0."""
    bad = 0.30 * math.exp(0.2 / BETA)
    target = targets.mara_modes_target(REF.log(), REWARD, BETA, 0.7, MODE)
    assert masses(target)[1] / float(target[5].exp()) == pytest.approx(0.20 * math.exp(1.0 / BETA) / bad)
    target = targets.mara_modes_target(REF.log(), REWARD, BETA, 0.7, MODE, within="flat")
    assert masses(target)[1] / float(target[5].exp()) == pytest.approx(0.40 * math.exp(0.8 / BETA) / bad)


@settings(deadline=None, max_examples=40)
@given(
    logits=st.lists(st.floats(-8, 0), min_size=8, max_size=8),
    reward=st.lists(st.floats(0, 1), min_size=6, max_size=6),
    within=st.sampled_from(["reference", "flat"]),
    spelling=st.sampled_from(["sampled", "canonical", "molecule"]),
    share=st.sampled_from([0.0, 0.4]),
    levels=st.sampled_from([[0.5], [0.3, 0.6]]),
    divergence=st.sampled_from(["reverse", "forward"]),
)
def test_enumeration_gives_the_closed_form(
    logits: list[float],
    reward: list[float],
    within: str,
    spelling: str,
    share: float,
    levels: list[float],
    divergence: str,
) -> None:
    log_ref = torch.tensor(logits, dtype=DOUBLE).log_softmax(-1)
    rewards = torch.tensor(reward, dtype=DOUBLE)[MOLECULE]
    rule = {"levels": levels} if len(levels) > 1 else {"threshold": levels[0]}
    table = {"name": "mara_modes", "within": within, "spelling": spelling, "prior_share": share, **rule}
    samples = everything(rewards, spelling, log_ref)
    if spelling == "canonical":  # a molecule's mass is then that of its canonical string
        samples = replace(samples, string=CANONICAL)
    augmented = build_augmentation(table)(samples, BETA).reward
    if divergence == "reverse":
        found = targets.reverse_kl_target(log_ref, augmented, BETA)
    else:
        found = targets.forward_kl_target(log_ref, augmented, BETA).log_probs
    closed = targets.mara_modes_target(
        log_ref,
        rewards,
        BETA,
        levels,
        MODE,
        within=within,
        spelling=spelling,
        molecule=MOLECULE,
        canonical=CANONICAL,
        prior_share=share,
        divergence=divergence,
    )
    assert torch.allclose(found.exp(), closed.exp(), atol=1e-6)


def test_special_cases_are_mara() -> None:
    alone, one = torch.arange(8), torch.zeros(8, dtype=torch.int64)
    mara = targets.mara_target(REF.log(), REWARD, BETA, 0.7)
    for within in ("reference", "flat"):
        singles = targets.mara_modes_target(REF.log(), REWARD, BETA, 0.7, alone, within=within)
        assert torch.allclose(singles, mara)
    assert torch.allclose(targets.mara_modes_target(REF.log(), REWARD, BETA, 0.7, one, within="flat"), mara)
    raised = torch.where(GOOD, 1.0, REWARD)
    proportional = targets.mara_modes_target(REF.log(), REWARD, BETA, 0.7, one)
    assert torch.allclose(proportional, targets.reverse_kl_target(REF.log(), raised, BETA))


@pytest.mark.parametrize("within", ["reference", "flat"])
def test_no_good_sample_falls_below_the_threshold(within: str) -> None:
    result = modes(within=within)(everything(), BETA)
    assert (result.reward[result.good] >= 0.7).all()
    assert torch.equal(result.reward[~result.good], REWARD[~result.good])


def test_expected_gradient_is_that_of_the_closed_form() -> None:
    """All members known: REINVENT's loss on single samples descends 2 KL(pi || G) with the modes' G."""
    augmentation = modes()
    reward = augmentation(everything(), BETA).reward
    logits = torch.linspace(-1, 1, 8, dtype=DOUBLE, requires_grad=True)
    log_pi = logits.log_softmax(-1)
    goal = targets.mara_modes_target(REF.log(), REWARD, BETA, 0.7, MODE)
    (stated,) = torch.autograd.grad(2 * (log_pi.exp() * (log_pi - goal)).sum(), logits, retain_graph=True)
    entry = OBJECTIVES["reinvent"]
    found = torch.zeros(8, dtype=DOUBLE)
    for token in range(8):
        batch = PolicyBatch(log_pi[[token]], REF.log()[[token]], reward[[token]], torch.ones(1, dtype=torch.bool))
        loss = entry.item(batch, entry.parameters(beta=BETA)).loss
        found += log_pi[token].detach().exp() * torch.autograd.grad(loss, logits, retain_graph=True)[0]
    assert torch.allclose(found, stated, atol=1e-10)


def test_mass_of_a_mode_is_learned_from_below_over_the_distinct_members_met() -> None:
    augmentation = modes()
    samples = everything()
    bonus = []
    for member in (3, 2, 2, 1, 0):  # the single member of mode 2 is there each time; mode 0 shows itself bit by bit
        result = augmentation(rows(samples, member, 6), BETA)
        bonus.append(float(result.reward[1] - result.reward[0]))
    # R_bar differs by beta log(c(mode 0) / c(mode 2)), c of mode 0 growing: .01, .04, .04 (met before), .10, .20.
    expected = [BETA * math.log(mass / 0.02) for mass in (0.01, 0.04, 0.04, 0.10, 0.20)]
    assert bonus == pytest.approx(expected)
    assert augmentation(samples, BETA).reward.tolist() == pytest.approx(modes()(samples, BETA).reward.tolist())


def test_members_that_are_good_no_more_do_not_count() -> None:
    """A filter has emptied string 0's reward: once it is met again, its mass leaves the mode."""
    augmentation = modes()
    augmentation(everything(), BETA)
    later = REWARD.clone()
    later[0] = 0.0
    augmentation(rows(everything(later), 0), BETA)
    result = augmentation(rows(everything(later), 1, 6), BETA)
    assert float(result.reward[1] - result.reward[0]) == pytest.approx(BETA * math.log(0.10 / 0.02))
    stricter = build_augmentation({"name": "mara_modes", "start": 0.7, "threshold": 0.85, "anneal_steps": 1})
    stricter(everything(), BETA)
    result = stricter(everything(), BETA)
    # Strings 1 and 3 of mode 0 reach .85.
    assert float(result.reward[6] - result.reward[1]) == pytest.approx(BETA * math.log(0.07 / 0.02))


def test_estimates_of_one_molecule_keep_the_higher() -> None:
    samples = everything(SPELT_REWARD, "molecule")
    augmentation = modes(spelling="molecule")
    low = replace(samples, mode_log_ref=samples.mode_log_ref - (MODE == 0).double())
    augmentation(low, BETA)
    augmentation(samples, BETA)
    expected = modes(spelling="molecule")(samples, BETA).reward
    assert torch.allclose(augmentation(low, BETA).reward, expected)


def test_state_survives_a_restart() -> None:
    for table in ({}, {"anchor": "running", "within": "flat"}):
        whole, before, after = modes(**table), modes(**table), modes(**table)
        batches = [rows(everything(), 0, 1, 4), rows(everything(), 2, 6)]
        assert before.state_dict() == {}
        expected = [whole(batch, BETA) for batch in batches]
        before(batches[0], BETA)
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
        found = after(batches[1], BETA)
        assert torch.equal(found.reward, expected[1].reward)
        assert after.state_dict() == whole.state_dict()
        after.load_state_dict({})
        assert after.state_dict() == {}


def test_buffer_anchor_takes_the_buffers_modes() -> None:
    result = modes(anchor="buffer")(rows(everything(), 4, 6), BETA, buffer=rows(everything(), 0, 1, 5))
    assert result.anchor_log_ref == pytest.approx(math.log(0.16))
    assert float(result.reward[0]) == pytest.approx(0.9 + BETA * math.log(0.16 / 0.05))


def test_missing_labels_and_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="needs the label of each mode"):
        modes()(replace(everything(), mode=None), BETA)
    with pytest.raises(ValueError, match="needs the label of each string"):
        modes()(replace(everything(), string=None), BETA)
    with pytest.raises(ValueError, match="needs the label of each molecule"):
        modes(spelling="canonical")(replace(everything(), molecule=None), BETA)
    with pytest.raises(ValueError, match="mode: expected shape"):
        modes()(replace(everything(), mode=torch.zeros(3)), BETA)
    with pytest.raises(ConfigError, match="did you mean 'flat'"):
        modes(within="flatt")
    with pytest.raises(ConfigError, match="mara_modes: give a threshold or a quantile"):
        build_augmentation({"name": "mara_modes"})
    wanted = modes(mode="cluster", similarity=0.4).modes
    assert wanted is not None
    assert (wanted.mode, wanted.similarity) == ("cluster", 0.4)
    assert build_augmentation({"name": "mara"}, 0.7).modes is None


def test_what_only_the_buffer_holds_counts_in_the_first_batch_too() -> None:
    """A buffer of seeds or offspring has members that no batch has shown: their mode's cost is whole at once."""
    ones = torch.ones(2, dtype=torch.bool)

    def made(log_ref: list[float], reward: list[float], molecules: list[int]) -> Samples:
        mass, size = torch.tensor(log_ref, dtype=DOUBLE), len(log_ref)
        label = torch.tensor(molecules)
        return Samples(
            torch.tensor(reward, dtype=DOUBLE), mass, mass, ones[:size], ones[:size],
            mode=torch.full((size,), 7), molecule=label, string=label,
        )  # fmt: skip

    buffer, batch = made([-20.0, -20.0], [0.9, 0.9], [1, 2]), made([-25.0], [0.8], [3])
    augmentation = modes(anchor="buffer")
    found = [augmentation(batch, 0.01, buffer=buffer).reward.tolist() for _ in range(2)]
    assert found == [[pytest.approx(0.9)], [pytest.approx(0.9)]], "the anchor is in its own mode, so R~ = R(z)"


@pytest.mark.parametrize("within", ["reference", "flat"])
def test_a_molecule_of_the_buffer_that_earns_nothing_any_more_is_no_anchor(within: str) -> None:
    """Its bucket is full by now. The buffer has it with what it earned first, alone in its mode."""
    ones = torch.ones(2, dtype=torch.bool)

    def made(reward: list[float], log_ref: list[float], labels: list[int]) -> Samples:
        mass, size, label = torch.tensor(log_ref, dtype=DOUBLE), len(reward), torch.tensor(labels)
        return Samples(
            torch.tensor(reward, dtype=DOUBLE), mass, mass, ones[:size], ones[:size],
            mode=label, molecule=label, string=label,
        )  # fmt: skip

    buffer, batch = made([0.9], [-20.0], [1]), made([0.0, 0.3], [-20.0, -25.0], [1, 2])
    result = modes(anchor="buffer", within=within)(batch, BETA, buffer=buffer)
    assert result.reward.tolist() == [0.0, 0.3]
    assert math.isnan(result.anchor_reward)

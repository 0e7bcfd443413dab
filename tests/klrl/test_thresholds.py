"""The rules for tau, and what graded levels and a share of the prior make of the target."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from chemmara.errors import ConfigError
from chemmara.klrl import targets
from chemmara.klrl.augmentation import Mara, Samples, build_augmentation

DOUBLE = torch.float64
PROPERTY = settings(deadline=None, max_examples=40)


def make(
    reward: list[float] | Tensor,
    log_ref: list[float] | Tensor | None = None,
    molecule: list[int] | None = None,
    dtype: torch.dtype = DOUBLE,
) -> Samples:
    reward = torch.as_tensor(reward, dtype=dtype)
    log_ref = torch.full_like(reward, -20.0) if log_ref is None else torch.as_tensor(log_ref, dtype=dtype)
    everything = torch.ones(len(reward), dtype=torch.bool)
    label = None if molecule is None else torch.tensor(molecule)
    return Samples(reward, log_ref, log_ref, everything, everything, molecule=label)


def test_annealed_over_steps_rises_in_a_line_and_stays() -> None:
    mara = Mara(threshold=0.8, start=0.4, anneal_steps=4)
    batch = make([0.5, 0.9])
    assert mara(batch, 0.01, replayed=True).threshold == 0.4
    seen = []
    for _ in range(6):
        seen.append(mara(batch, 0.01).threshold)
        # Replayed batches get the tau of their step and are none themselves.
        assert mara(batch, 0.01, replayed=True).threshold == seen[-1]
    assert seen == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8, 0.8])


@given(threshold=st.floats(0, 1), headroom=st.floats(0, 0.99))
def test_headroom_lifts_the_runs_own_threshold_and_stays_within_reach(threshold: float, headroom: float) -> None:
    mara = build_augmentation({"name": "mara", "headroom": headroom}, threshold)
    tau = mara(make([0.5]), 0.01).threshold
    assert tau == pytest.approx(threshold + headroom * (1 - threshold))
    assert threshold <= tau <= 1


def test_annealed_over_the_budget() -> None:
    mara = build_augmentation({"name": "mara", "start": 0.2, "anneal_budget": 0.5}, 0.7)
    taus = [mara(make([0.5]), 0.01, budget_spent=spent).threshold for spent in (0.0, 0.25, 0.5, 0.9)]
    assert taus == pytest.approx([0.2, 0.45, 0.7, 0.7])
    assert taus[-1] == 0.7
    with pytest.raises(ValueError, match="needs budget_spent"):
        mara(make([0.5]), 0.01)


def test_annealed_and_running_quantile_survive_a_restart() -> None:
    batches = [make([0.1, 0.5, 0.9], molecule=[1, 2, 3]), make([0.6, 0.2], molecule=[4, 1]), make([0.3], molecule=[9])]
    tables = (
        {"threshold": 0.8, "start": 0.4, "anneal_steps": 4},
        {"quantile": 0.6, "window": 4},
        {"quantile": 0.6, "window": 4, "anchor": "running"},
    )
    for table in tables:
        whole = Mara(**table)
        expected = [whole(batch, 0.01) for batch in batches]
        before, after = Mara(**table), Mara(**table)
        before(batches[0], 0.01)
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
        for batch, wanted in zip(batches[1:], expected[1:]):
            found = after(batch, 0.01)
            assert found.threshold == wanted.threshold
            assert torch.equal(found.reward, wanted.reward)
        after.load_state_dict({})
        assert after(batches[0], 0.01).threshold == expected[0].threshold


def test_running_quantile_is_over_the_last_distinct_molecules() -> None:
    mara = Mara(quantile=0.5, window=4)
    assert mara(make([0.1, 0.5, 0.9], molecule=[1, 2, 3]), 0.01).threshold == 0.5
    # 1 is met again with another reward (a filter), 4 is new: .5 .9 .7 .2.
    assert mara(make([0.2, 0.7], molecule=[1, 4]), 0.01).threshold == 0.7
    # One more: 2 was met longest ago and goes. .9 .2 .7 .1
    assert mara(make([0.1], molecule=[7]), 0.01).threshold == 0.7
    assert mara(make([0.1], molecule=[8]), 0.01).threshold == 0.2
    # An empty batch changes nothing, and neither does a replayed one.
    nothing = make([])
    assert mara(nothing, 0.01).threshold == 0.2
    assert mara(make([1.0, 1.0, 1.0]), 0.01, replayed=True).threshold == 0.2
    unlabelled = Mara(quantile=0.5, window=3)
    for reward in ([0.1, 0.2], [0.8, 0.9]):
        last = unlabelled(make(reward), 0.01).threshold
    assert last == 0.8


def test_a_replayed_batch_does_not_move_the_batch_quantile() -> None:
    mara = Mara(quantile=0.5)
    best = make([0.9, 0.95, 1.0])
    assert math.isnan(mara(best, 0.01, replayed=True).threshold)  # nothing was sampled yet
    assert mara(make([0.1, 0.2, 0.3]), 0.01).threshold == 0.2
    replayed = mara(best, 0.01, replayed=True)
    assert replayed.threshold == 0.2
    assert replayed.good.all()


problem = {
    "logits": st.lists(st.floats(-8, 0), min_size=7, max_size=7),
    "reward": st.lists(st.floats(0, 1), min_size=7, max_size=7),
    "beta": st.sampled_from([0.05, 0.2, 1.0]),
    "share": st.sampled_from([0.0, 0.3, 1.0]),
    "levels": st.sampled_from([[0.4], [0.3, 0.7], [0.2, 0.5, 0.6, 0.9]]),
    "divergence": st.sampled_from(["reverse", "forward"]),
}


@PROPERTY
@given(**problem)
def test_enumeration_gives_the_closed_form(
    logits: list[float], reward: list[float], beta: float, share: float, levels: list[float], divergence: str
) -> None:
    """All strings as one batch: the target of the augmented reward is the closed form, levels and share included."""
    log_ref, rewards = torch.tensor(logits, dtype=DOUBLE).log_softmax(-1), torch.tensor(reward, dtype=DOUBLE)
    rule = {"levels": levels} if len(levels) > 1 else {"threshold": levels[0]}
    augmented = Mara(**rule, prior_share=share)(make(rewards, log_ref), beta).reward
    if divergence == "reverse":
        found = targets.reverse_kl_target(log_ref, augmented, beta)
    else:
        found = targets.forward_kl_target(log_ref, augmented, beta).log_probs
    closed = targets.mara_target(log_ref, rewards, beta, levels, prior_share=share, divergence=divergence)
    assert torch.allclose(found.exp(), closed.exp(), atol=1e-6)


@PROPERTY
@given(**{name: problem[name] for name in ("logits", "reward", "beta")})
def test_graded_levels_are_flat_and_keep_their_order(logits: list[float], reward: list[float], beta: float) -> None:
    log_ref, rewards = torch.tensor(logits, dtype=DOUBLE).log_softmax(-1), torch.tensor(reward, dtype=DOUBLE)
    levels = [0.3, 0.6, 0.7]
    target = targets.mara_target(log_ref, rewards, beta, levels)
    good = [k for k in range(7) if reward[k] >= 0.3]
    for one in good:
        for other in good:
            gap = max(t for t in levels if reward[one] >= t) - max(t for t in levels if reward[other] >= t)
            assert float(target[one] - target[other]) == pytest.approx(gap / beta, abs=1e-9)
    # A good sample never falls below the level that it reaches.
    augmented = Mara(levels=levels)(make(rewards, log_ref), beta).reward
    for one in good:
        assert float(augmented[one]) >= max(t for t in levels if reward[one] >= t) - 1e-12


def test_share_of_the_prior_by_hand() -> None:
    log_ref = torch.tensor([0.4, 0.1, 0.2, 0.3], dtype=DOUBLE).log()
    reward = torch.tensor([0.8, 0.9, 0.7, 0.1], dtype=DOUBLE)
    for share in (0.0, 0.25, 1.0):
        target = targets.mara_target(log_ref, reward, 0.2, 0.7, prior_share=share)
        # z is the first: good ones are pi_ref(y)^s pi_ref(z)^(1-s) exp(R(z)/beta), the bad one pi_ref exp(R/beta).
        weights = [0.4, 0.1**share * 0.4 ** (1 - share), 0.2**share * 0.4 ** (1 - share)]
        expected = [weight * math.exp(0.8 / 0.2) for weight in weights] + [0.3 * math.exp(0.1 / 0.2)]
        assert target.exp().tolist() == pytest.approx([value / sum(expected) for value in expected])
    raised = Mara(threshold=0.7, prior_share=1.0)(make(reward, log_ref), 0.2).reward
    assert raised.tolist() == pytest.approx([0.8, 0.8, 0.8, 0.1])


def test_levels_in_float32_reach_as_rewards_do() -> None:
    result = Mara(levels=[0.6, 0.7])(make([0.7, 0.6, 0.65], dtype=torch.float32), 0.01)
    # 0.7 in float32 is below 0.7; it reaches the level all the same. Anchor: the first (a tie, the higher reward).
    assert result.reward.tolist() == pytest.approx([0.7, 0.6, 0.6])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"threshold": 0.7, "levels": [0.5, 0.7]}, "give threshold = 0.7 or levels = (0.5, 0.7), not both"),
        ({"levels": [0.7, 0.5]}, "levels must rise, got [0.7, 0.5]"),
        ({"levels": [0.7]}, "augmentation.levels: "),
        ({"window": 100}, "window belongs to quantile"),
        ({"anneal_steps": 10}, "anneal_steps needs start"),
        ({"threshold": 0.8, "headroom": 0.25}, "give it or threshold = 0.8, not both"),
        ({"quantile": 0.8, "headroom": 0.25}, "give it or quantile = 0.8, not both"),
        ({"start": 0.1}, "start needs anneal_steps or anneal_budget"),
        ({"start": 0.1, "anneal_steps": 3, "anneal_budget": 0.5}, "and one of them only"),
        ({"start": 0.1, "anneal_steps": 3, "quantile": 0.5}, "start belongs to a threshold"),
        ({"start": 0.9, "anneal_steps": 3}, "start = 0.9 must lie below the threshold 0.7"),
        ({"prior_share": 1.5}, "augmentation.prior_share: should be less than or equal to 1"),
    ],
)
def test_mistakes_are_one_clear_line(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_augmentation({"name": "mara", **table}, 0.7)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)

"""The rules for beta along a run, and where the one that follows the hits comes to rest."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chemmara.klrl.objectives import OBJECTIVES
from chemmara.klrl.strength import Constant, HitShare, HitShareParameters
from chemmara.klrl.targets import reverse_kl_target

STEPS = st.lists(
    st.tuples(st.integers(0, 64), st.integers(0, 64)).map(lambda pair: (min(pair), max(pair))), max_size=60
)


def vargrad(sigma: float = 50.0):
    return OBJECTIVES.build_parameters({"name": "vargrad", "sigma": sigma}, "objective")[1]


@given(steps=STEPS)
def test_constant_is_the_objectives_own(steps: list[tuple[int, int]]) -> None:
    rule, own = Constant(None), vargrad()
    for hits, scored in steps:
        rule.learn(hits, scored)
    assert rule.applied(own) is own


@given(
    steps=STEPS, target=st.floats(0.01, 0.99), rate=st.floats(0.01, 10), lowest=st.floats(0.01, 0.9),
    highest=st.floats(1, 100),
)  # fmt: skip
def test_hit_share_stays_between_its_limits_and_moves_the_right_way(
    steps: list[tuple[int, int]], target: float, rate: float, lowest: float, highest: float
) -> None:
    rule = HitShare(HitShareParameters(target=target, rate=rate, lowest=lowest, highest=highest))
    for hits, scored in steps:
        before = rule.factor
        rule.learn(hits, scored)
        assert lowest * (1 - 1e-12) <= rule.factor <= highest * (1 + 1e-12)
        if scored == 0:
            assert rule.factor == before
        else:
            assert (rule.factor >= before) or hits / scored > target
            assert (rule.factor <= before) or hits / scored < target
    applied = rule.applied(vargrad())
    assert applied.beta == pytest.approx(1 / (50 * rule.factor))
    assert applied.sigma == pytest.approx(50 * rule.factor)


def test_the_augmentation_takes_the_same_beta() -> None:
    rule = HitShare(HitShareParameters(rate=10, highest=4))
    rule.learn(0, 64)
    own = OBJECTIVES.build_parameters({"name": "vargrad", "sigma": 50, "prior_exponent": 0.5}, "objective")[1]
    assert rule.applied(own).prior_strength == pytest.approx(0.5 / 200)


@pytest.mark.parametrize("target", [0.2, 0.5, 0.9])
def test_on_a_categorical_it_comes_to_rest_where_the_optimal_policy_has_the_share(target: float) -> None:
    """Exact policies: each step's is the KL target at the rule's beta, and its share of hits is what the rule sees."""
    generator = torch.Generator().manual_seed(3)
    log_ref = torch.randn(100, generator=generator, dtype=torch.float64).mul(2).log_softmax(0)
    reward = torch.rand(100, generator=generator, dtype=torch.float64)
    hits = reward >= 0.8
    rule, own = HitShare(HitShareParameters(target=target, highest=1000, rate=0.5)), vargrad(sigma=1.0)
    shares = []
    for _ in range(400):
        policy = reverse_kl_target(log_ref, reward, rule.applied(own).beta).exp()
        shares.append(float(policy[hits].sum()))
        rule.learn(round(shares[-1] * 10**9), 10**9)
    assert shares[0] < 0.2
    assert shares[-1] == pytest.approx(target, abs=1e-3)
    # The multiplier is no larger than it must be: a little less of it has too small a share.
    weaker = reverse_kl_target(log_ref, reward, rule.applied(own).beta * 1.05).exp()
    assert float(weaker[hits].sum()) < target


def test_its_state_goes_through_json_to_the_last_bit() -> None:
    rule = HitShare()
    for hits in (60, 64, 17):
        rule.learn(hits, 64)
    other = HitShare()
    other.load_state_dict(json.loads(json.dumps(rule.state_dict())))
    assert other.factor == rule.factor < 1
    assert math.log(rule.factor) == pytest.approx(0.2 * (1.5 - 141 / 64))

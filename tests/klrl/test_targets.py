"""Closed forms: the paper's figures, independent solutions, and the optimum that exact gradients reach."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor

from chemmara.klrl import targets
from chemmara.klrl.estimators import forward_kl_objective, reverse_kl_objective

DOUBLE = torch.float64
# Three printed decimals: half a unit, and a hair for figures that lie on the edge (.9375).
PRINTED = 5.01e-4
WINDOWS = (slice(0, 25), slice(25, 50), slice(50, 75), slice(75, 100))
PROPERTY = settings(deadline=None, max_examples=60)


def step_reference() -> Tensor:
    weights = torch.ones(100, dtype=DOUBLE)
    weights[50:] = 0.15
    return (weights / weights.sum()).log()


def quartic_reference() -> Tensor:
    weights = (1 - torch.arange(100, dtype=DOUBLE) / 99) ** 4
    return (weights / weights.sum()).log()


def reward_on(*windows: tuple[int, int, float]) -> Tensor:
    reward = torch.zeros(100, dtype=DOUBLE)
    for start, stop, value in windows:
        reward[start:stop] = value
    return reward


FIG_2 = reward_on((20, 25, 0.75), (70, 75, 1.0))
FIG_8 = reward_on((20, 25, 1.0), (70, 75, 1.0))
FIG_5 = reward_on((0, 25, 1.0), (50, 75, 1.0))


def modes(log_probs: Tensor) -> list[float]:
    probs = log_probs.exp()
    return [float(probs[20:25].sum()), float(probs[70:75].sum())]


def quarters(log_probs: Tensor) -> list[float]:
    return [float(log_probs.exp()[window].sum()) for window in WINDOWS]


def test_reference_probabilities_of_figure_2() -> None:
    reference = step_reference()
    assert float(reference[0].exp()) == pytest.approx(0.017391, abs=5e-7)
    assert float(reference[99].exp()) == pytest.approx(0.0026087, abs=5e-8)
    assert [float(reference[0]), float(reference[99])] == pytest.approx([-4.052, -5.949], abs=PRINTED)


MODE_TABLE = [
    (FIG_2, "reverse", 0.01, (0.000, 1.000)),
    (FIG_2, "reverse", 0.1, (0.353, 0.645)),
    (FIG_2, "reverse", 0.15, (0.537, 0.426)),
    (FIG_2, "reverse", 0.5, (0.281, 0.070)),
    (FIG_2, "reverse", 0.75, (0.199, 0.042)),
    (FIG_2, "forward", 0.01, (0.003, 0.988)),
    (FIG_2, "forward", 0.1, (0.035, 0.876)),
    (FIG_2, "forward", 0.15, (0.052, 0.814)),
    (FIG_2, "forward", 0.5, (0.163, 0.394)),
    (FIG_2, "forward", 0.75, (0.209, 0.156)),
    (FIG_8, "reverse", 1e-4, (0.870, 0.130)),
    (FIG_8, "reverse", 0.001, (0.870, 0.130)),
    (FIG_8, "reverse", 0.01, (0.870, 0.130)),
    (FIG_8, "reverse", 0.25, (0.747, 0.112)),
    (FIG_8, "forward", 1e-4, (0.869, 0.130)),
    (FIG_8, "forward", 0.001, (0.869, 0.130)),
    (FIG_8, "forward", 0.01, (0.862, 0.129)),
    (FIG_8, "forward", 0.25, (0.680, 0.102)),
]


@pytest.mark.parametrize(("reward", "divergence", "beta", "expected"), MODE_TABLE)
def test_mass_on_the_modes(reward: Tensor, divergence: str, beta: float, expected: tuple[float, float]) -> None:
    """Figures 2 and 8."""
    reference = step_reference()
    if divergence == "reverse":
        target = targets.reverse_kl_target(reference, reward, beta)
    else:
        target = targets.forward_kl_target(reference, reward, beta).log_probs
    assert modes(target) == pytest.approx(expected, abs=PRINTED)


QUARTERS = [
    ("reverse", "reward", 0.01, (0.500, 0.000, 0.500, 0.000)),
    ("reverse", "reward", 1.0, (0.485, 0.030, 0.485, 0.000)),
    ("forward", "reward", 0.01, (0.151, 0.002, 0.847, 0.000)),
    ("forward", "reward", 1.0, (0.151, 0.031, 0.817, 0.000)),
    ("forward", "reference", 0.01, (0.499, 0.002, 0.499, 0.000)),
    ("forward", "reference", 1.0, (0.472, 0.057, 0.472, 0.000)),
]


@pytest.mark.parametrize(("divergence", "form", "beta", "expected"), QUARTERS)
def test_mara_on_figure_5(divergence: str, form: str, beta: float, expected: tuple[float, ...]) -> None:
    """Theory, with no floor under the reference: it is 0 at the last token."""
    target = targets.mara_target(quartic_reference(), FIG_5, beta, 1.0, divergence=divergence, form=form)
    assert quarters(target) == pytest.approx(expected, abs=PRINTED)
    assert float(target[99]) == -torch.inf


def test_figure_3_three_actions() -> None:
    uniform, reward = torch.full((3,), 1 / 3, dtype=DOUBLE).log(), torch.tensor([0, 0.9, 1.0], dtype=DOUBLE)
    assert targets.reverse_kl_target(uniform, reward, 1e-3).exp().tolist() == pytest.approx([0, 0, 1], abs=PRINTED)
    theory = targets.reverse_kl_target(uniform, reward, 0.5).exp()
    assert theory.tolist() == pytest.approx([0.069, 0.419, 0.512], abs=PRINTED)


def test_figure_4_equal_rewards_keep_the_references_ratio() -> None:
    reference = torch.tensor([0.68, 0.30, 0.02], dtype=DOUBLE).log()
    target = targets.reverse_kl_target(reference, torch.tensor([0, 1.0, 1.0]), 1e-3).exp()
    assert target.tolist() == pytest.approx([0, 0.937, 0.063], abs=PRINTED)
    assert float(target[1] / target[2]) == pytest.approx(15)


@pytest.mark.parametrize("beta", [0.005, 0.01, 0.1, 1.0])
def test_figure_7_ratio_curves(beta: float) -> None:
    differences = torch.linspace(-0.5, 0.5, 11, dtype=DOUBLE)
    expected = [math.exp(float(d) / beta) for d in differences]
    assert targets.ratio_at(differences, beta).tolist() == pytest.approx(expected, rel=1e-12)


def test_ratio_and_flip_of_the_paper() -> None:
    ratio = float(targets.ratio_at(0.1, 1e-3))
    assert ratio == pytest.approx(2.69e43, rel=2e-3)
    assert math.log(ratio) == pytest.approx(100)
    reference = step_reference()
    flip = float(targets.beta_flip(reference[20], reference[70], 0.75, 1.0))
    assert flip == pytest.approx(0.132, abs=PRINTED)
    assert float(reference[20] - reference[70]) == pytest.approx(1.897, abs=PRINTED)
    assert float(targets.log_ratio(reference[20], reference[70], 0.75, 1.0, flip)) == pytest.approx(0, abs=1e-12)
    assert float(targets.log_ratio(reference[20], reference[70], 0.75, 1.0, 0.15)) > 0
    assert float(targets.log_ratio(reference[20], reference[70], 0.75, 1.0, 0.1)) < 0


@pytest.mark.parametrize(
    ("log_1", "log_2", "reward_1", "reward_2"), [(-1, -2, 1, 1), (-1, -1, 0, 1), (-1, -2, 1, 0), (-1, -1, 1, 1)]
)
def test_no_flip_where_one_sample_is_ahead_or_nothing_differs(
    log_1: float, log_2: float, reward_1: float, reward_2: float
) -> None:
    assert math.isnan(float(targets.beta_flip(log_1, log_2, reward_1, reward_2)))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, float]:
    """log_ref (V,) normalised, reward (V,), beta."""
    size = draw(st.integers(2, 8))
    unit = st.floats(0, 1, allow_subnormal=False)
    logits = draw(st.lists(st.floats(-20, 0), min_size=size, max_size=size))
    reward = draw(st.lists(unit, min_size=size, max_size=size))
    beta = draw(st.sampled_from([1e-4, 1e-2, 0.1, 1.0, 10.0]))
    return torch.tensor(logits, dtype=DOUBLE).log_softmax(-1), torch.tensor(reward, dtype=DOUBLE), beta


@PROPERTY
@given(problems())
def test_reverse_target_is_stationary(problem: tuple[Tensor, Tensor, float]) -> None:
    """R - beta (log G - log pi_ref) is one number, beta log Z, for all sequences."""
    log_ref, reward, beta = problem
    target = targets.reverse_kl_target(log_ref, reward, beta)
    assert float(target.exp().sum()) == pytest.approx(1, abs=1e-12)
    level = reward - beta * (target - log_ref)
    assert float(level.max() - level.min()) < 1e-9


@PROPERTY
@given(problems(), st.floats(0.1, 5))
def test_forward_target_is_stationary_and_normalised(problem: tuple[Tensor, Tensor, float], mass: float) -> None:
    """R + beta q/G = Lambda everywhere, Lambda inside its bracket; also for a q of another mass than one."""
    log_ref, reward, beta = problem
    log_q = log_ref + math.log(mass)
    target = targets.forward_kl_target(log_q, reward, beta)
    assert float(target.log_probs.exp().sum()) == pytest.approx(1, abs=1e-9)
    level = reward + beta * (log_q - target.log_probs).exp()
    assert torch.allclose(level, target.multiplier.expand_as(level), rtol=1e-9, atol=1e-9)
    assert float(target.multiplier) <= float(reward.max()) + beta * mass * (1 + 1e-9)
    assert float(target.multiplier) >= float((reward + beta * log_q.exp()).max()) - 1e-9


@pytest.mark.parametrize("beta", [1e-6, 1e-3, 0.3, 20.0])
def test_multiplier_is_the_root_that_scipy_finds(beta: float) -> None:
    reference, reward = step_reference(), FIG_2
    q = reference.exp()

    def excess(multiplier: float) -> float:
        return float((beta * q / (multiplier - reward)).sum()) - 1

    expected = brentq(excess, float((reward + beta * q).max()), 1 + beta, xtol=1e-15, rtol=1e-14)
    assert float(targets.forward_kl_target(reference, reward, beta).multiplier) == pytest.approx(expected, abs=1e-12)


def test_forward_root_is_found_across_ten_orders_of_magnitude() -> None:
    """A best sequence that the reference all but forbids: the margin Lambda - max R is about 1e-10 of beta."""
    log_ref = torch.tensor([math.log1p(-1e-10), math.log(1e-10)], dtype=DOUBLE)
    for beta in (0.5, 1 - 1e-9, 1.0, 2.0):
        target = targets.forward_kl_target(log_ref, torch.tensor([0.0, 1.0]), beta)
        assert float(target.log_probs.exp().sum()) == pytest.approx(1, abs=1e-12)


def test_off_support_corner() -> None:
    log_ref = torch.tensor([0.5, 0.5, 0, 0, 0], dtype=DOUBLE).log()
    reward = torch.tensor([0.0, 0.5, 1.0, 1.0, 0.2], dtype=DOUBLE)
    target = targets.forward_kl_target(log_ref, reward, 0.2)
    # Lambda = 1: .2 * .5 / 1 + .2 * .5 / .5 = .3 on the support; .7 shared by the two best ones outside.
    assert target.log_probs.exp().tolist() == pytest.approx([0.1, 0.2, 0.35, 0.35, 0], abs=1e-12)
    assert float(target.multiplier) == pytest.approx(1)
    assert float(target.off_support_mass) == pytest.approx(0.7)
    # At a beta that fills the support there is nothing left over, and the root is the usual one.
    filled = targets.forward_kl_target(log_ref, reward, 2.0)
    assert float(filled.off_support_mass) == 0
    assert float(filled.multiplier) > 1
    assert filled.log_probs.exp()[2:].tolist() == [0, 0, 0]
    assert float(filled.log_probs.exp().sum()) == pytest.approx(1, abs=1e-12)


def test_off_support_reward_that_is_not_the_best_gets_nothing() -> None:
    log_ref = torch.tensor([0.5, 0.5, 0], dtype=DOUBLE).log()
    target = targets.forward_kl_target(log_ref, torch.tensor([0.0, 0.5, 0.5]), 0.01)
    assert float(target.log_probs.exp()[2]) == 0
    assert float(target.log_probs.exp().sum()) == pytest.approx(1, abs=1e-12)


def test_batched_targets_equal_one_at_a_time() -> None:
    generator = torch.Generator().manual_seed(0)
    log_ref = torch.randn(3, 6, generator=generator, dtype=DOUBLE).log_softmax(-1)
    log_ref[0, 2] = -torch.inf
    reward = torch.rand(3, 6, generator=generator, dtype=DOUBLE)
    reward[0, 2] = 2.0  # off support and best: the corner, in one row of the batch alone
    beta = torch.tensor([0.05, 0.3, 2.0], dtype=DOUBLE)
    index = torch.tensor([0, 0, 1, 1, 2, 2])
    functions: list[Callable[..., Tensor]] = [
        targets.reverse_kl_target,
        lambda *a: targets.forward_kl_target(*a).log_probs,
        lambda *a: targets.entropy_kl_target(*a, 0.1),
        lambda *a: targets.mara_target(*a, 0.4),
        lambda *a: targets.mara_target(*a, 0.4, divergence="forward", form="reference"),
        lambda *a: targets.mara_target(*a, 0.4, spelling="molecule", molecule=index),
    ]
    for function in functions:
        together = function(log_ref, reward, beta)
        for row in range(3):
            alone = function(log_ref[row], reward[row], float(beta[row]))
            assert torch.allclose(together[row], alone, atol=1e-12)
        shared = function(log_ref[1], reward[1], beta)
        assert torch.allclose(shared[2], function(log_ref[1], reward[1], 2.0), atol=1e-12)


def test_float32_input_is_solved_in_float64() -> None:
    reference, reward = step_reference().float(), FIG_2.float()
    for target in (
        targets.reverse_kl_target(reference, reward, 1e-4),
        targets.forward_kl_target(reference, reward, 1e-4).log_probs,
    ):
        assert target.dtype == DOUBLE
        assert float(target.exp().sum()) == pytest.approx(1, abs=1e-12)


def test_entropy_target() -> None:
    log_ref, reward = torch.tensor([0.6, 0.3, 0.1], dtype=DOUBLE).log(), torch.tensor([0.0, 0.5, 1.0], dtype=DOUBLE)
    assert torch.allclose(
        targets.entropy_kl_target(log_ref, reward, 0.2, 0.0), targets.reverse_kl_target(log_ref, reward, 0.2)
    )
    expected = (log_ref.exp() ** 0.25 * (reward / 0.4).exp()).log().log_softmax(-1)
    assert torch.allclose(targets.entropy_kl_target(log_ref, reward, 0.1, 0.3), expected)
    # Entropy alone forgets the reference, and what lies outside it.
    outside = torch.tensor([1.0, 0.0, 0.0], dtype=DOUBLE).log()
    assert torch.allclose(targets.entropy_kl_target(outside, reward, 0.0, 0.5), (reward / 0.5).log_softmax(-1))


@pytest.mark.parametrize("beta", [0.0, -0.1, math.nan, math.inf])
def test_beta_that_has_no_target_is_refused(beta: float) -> None:
    log_ref, reward = torch.zeros(2, dtype=DOUBLE).log_softmax(-1), torch.tensor([0.0, 1.0])
    for function in (targets.reverse_kl_target, targets.forward_kl_target, lambda *a: targets.mara_target(*a, 0.5)):
        with pytest.raises(ValueError, match="beta must be finite and greater than 0"):
            function(log_ref, reward, beta)


def test_reference_without_support_is_refused() -> None:
    nowhere = torch.full((2,), -torch.inf)
    for function in (targets.reverse_kl_target, targets.forward_kl_target):
        with pytest.raises(ValueError, match="no support"):
            function(nowhere, torch.zeros(2), 0.1)


def maximise(objective: Callable[[Tensor], Tensor], size: int) -> Tensor:
    """log pi at the maximum of the objective, by exact gradients over all tokens from a uniform policy."""
    logits = torch.zeros(size, dtype=DOUBLE, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=300, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -objective(logits.log_softmax(-1))
        loss.backward()
        return loss

    optimizer.step(closure)
    return logits.detach().log_softmax(-1)


TOY_REF = torch.tensor([0.4, 0.25, 0.2, 0.1, 0.05], dtype=DOUBLE).log()
TOY_REWARD = torch.tensor([0.1, 0.9, 0.5, 0.8, 1.0], dtype=DOUBLE)


def entropy_objective(log_pi: Tensor) -> Tensor:
    return reverse_kl_objective(log_pi, TOY_REF, TOY_REWARD, 0.2) - 0.1 * (log_pi.exp() * log_pi).sum()


# MARA by its definition, beside the closed form: anchor token 1 (the likeliest of those above .7), beta .2.
MARA_REWARD = torch.where(TOY_REWARD >= 0.7, 0.9 + 0.2 * (TOY_REF[1] - TOY_REF), TOY_REWARD)
OPTIMA = {
    "reverse": (
        lambda log_pi: reverse_kl_objective(log_pi, TOY_REF, TOY_REWARD, 0.2),
        lambda: targets.reverse_kl_target(TOY_REF, TOY_REWARD, 0.2),
    ),
    "forward": (
        lambda log_pi: forward_kl_objective(log_pi, TOY_REF, TOY_REWARD, 0.2),
        lambda: targets.forward_kl_target(TOY_REF, TOY_REWARD, 0.2).log_probs,
    ),
    "entropy": (entropy_objective, lambda: targets.entropy_kl_target(TOY_REF, TOY_REWARD, 0.2, 0.1)),
    "mara reverse": (
        lambda log_pi: reverse_kl_objective(log_pi, TOY_REF, MARA_REWARD, 0.2),
        lambda: targets.mara_target(TOY_REF, TOY_REWARD, 0.2, 0.7),
    ),
    "mara forward": (
        lambda log_pi: forward_kl_objective(log_pi, TOY_REF, MARA_REWARD, 0.2),
        lambda: targets.mara_target(TOY_REF, TOY_REWARD, 0.2, 0.7, divergence="forward"),
    ),
}


@pytest.mark.parametrize("name", OPTIMA)
def test_exact_gradients_reach_the_closed_form(name: str) -> None:
    objective, target = OPTIMA[name]
    assert torch.allclose(maximise(objective, 5).exp(), target().exp(), atol=1e-6)


@PROPERTY
@given(problems(), st.floats(0, 1))
def test_mara_target_is_flat_above_the_threshold(problem: tuple[Tensor, Tensor, float], tau: float) -> None:
    log_ref, reward, beta = problem
    target = targets.mara_target(log_ref, reward, beta, tau)
    good = reward >= tau
    assert float(target.exp().sum()) == pytest.approx(1, abs=1e-12)
    if not good.any():
        assert torch.equal(target, targets.reverse_kl_target(log_ref, reward, beta))
        return
    assert float(target[good].max() - target[good].min()) < 1e-9
    # Between bad ones, and between the anchor and a bad one, the ratios are those of the plain target.
    anchor = max(torch.nonzero(good).flatten().tolist(), key=lambda i: (float(log_ref[i]), float(reward[i])))
    unchanged = ~good
    unchanged[anchor] = True
    plain = targets.reverse_kl_target(log_ref, reward, beta)
    shift = (target - plain)[unchanged]
    assert float(shift.max() - shift.min()) < 1e-9 * (1 + 1 / beta)


# Seven strings of four molecules: molecule 0 has three spellings, 1 one, 2 two, 3 (bad) one.
MOLECULE = torch.tensor([0, 0, 0, 1, 2, 2, 3])
CANONICAL = torch.tensor([1, 1, 1, 3, 4, 4, 6])
SPELT_REF = torch.tensor([0.05, 0.20, 0.02, 0.10, 0.03, 0.15, 0.45], dtype=DOUBLE).log()
SPELT_REWARD = torch.tensor([0.9, 0.9, 0.9, 0.8, 1.0, 1.0, 0.1], dtype=DOUBLE)


def spelt(spelling: str, **options: str) -> Tensor:
    return targets.mara_target(
        SPELT_REF, SPELT_REWARD, 0.2, 0.7, spelling=spelling, molecule=MOLECULE, canonical=CANONICAL, **options
    ).exp()


def test_each_spelling_is_flat_over_what_it_says() -> None:
    sampled, canonical, molecule = (spelt(name) for name in ("sampled", "canonical", "molecule"))
    assert sampled[:6].tolist() == pytest.approx([float(sampled[0])] * 6)
    assert canonical[[1, 3, 4]].tolist() == pytest.approx([float(canonical[1])] * 3)
    masses = torch.zeros(4, dtype=DOUBLE).index_add(0, MOLECULE, molecule)
    assert masses[:3].tolist() == pytest.approx([float(masses[0])] * 3)
    # Inside one molecule canonical and molecule keep the reference's own shares.
    for target in (canonical, molecule):
        assert (target[:3] / target[1]).tolist() == pytest.approx([0.25, 1.0, 0.1])
        assert float(target[5] / target[4]) == pytest.approx(5)
    # So a molecule's mass grows with its spellings only as published.
    assert float(sampled[:3].sum() / sampled[3]) == pytest.approx(3)
    # The level: m(z) exp(R(z)/beta) against pi_ref exp(R/beta) of the bad one.
    bad = 0.45 * math.exp(0.1 / 0.2)
    assert float(sampled[0] / sampled[6]) == pytest.approx(0.20 * math.exp(0.9 / 0.2) / bad)
    assert float(canonical[3] / canonical[6]) == pytest.approx(0.20 * math.exp(0.9 / 0.2) / bad)
    assert float(masses[1] / molecule[6]) == pytest.approx(0.27 * math.exp(0.9 / 0.2) / bad)


@pytest.mark.parametrize("spelling", ["sampled", "canonical", "molecule"])
def test_both_forms_are_one_target_under_reverse_kl_alone(spelling: str) -> None:
    assert torch.allclose(spelt(spelling, form="reward"), spelt(spelling, form="reference"))
    forward = [spelt(spelling, divergence="forward", form=form) for form in ("reward", "reference")]
    assert not torch.allclose(*forward, atol=1e-3)


def test_spelling_needs_its_index() -> None:
    for spelling in ("canonical", "molecule"):
        with pytest.raises(ValueError, match="needs the index"):
            targets.mara_target(SPELT_REF, SPELT_REWARD, 0.2, 0.7, spelling=spelling)


def test_good_strings_outside_the_support_stay_outside() -> None:
    log_ref = torch.tensor([0.7, 0.3, 0.0, 0.0], dtype=DOUBLE).log()
    reward = torch.tensor([0.0, 1.0, 1.0, 1.0])
    index = torch.tensor([0, 1, 1, 2])
    for options in ({}, {"spelling": "molecule", "molecule": index}, {"spelling": "canonical", "canonical": index}):
        for form in ("reward", "reference"):
            target = targets.mara_target(log_ref, reward, 0.5, 0.5, form=form, **options).exp()
            assert not target.isnan().any()
            assert target[2:].tolist() == [0, 0]


def test_good_string_with_an_impossible_canonical_string_keeps_its_reward() -> None:
    log_ref = torch.tensor([0.7, 0.3, 0.0], dtype=DOUBLE).log()
    reward = torch.tensor([0.0, 1.0, 1.0])
    plain = targets.reverse_kl_target(log_ref, reward, 0.5)
    for form in ("reward", "reference"):
        for divergence in ("reverse", "forward"):
            target = targets.mara_target(
                log_ref,
                reward,
                0.5,
                0.5,
                form=form,
                divergence=divergence,
                spelling="canonical",
                canonical=torch.tensor([0, 2, 2]),
            )
            expected = plain if divergence == "reverse" else targets.forward_kl_target(log_ref, reward, 0.5).log_probs
            assert torch.equal(target, expected)

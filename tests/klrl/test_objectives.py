"""Objectives: the expected gradient of each, by enumeration over a small categorical, is what its docstring says."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from chemmara.config import check
from chemmara.errors import ConfigError
from chemmara.klrl import estimators, targets
from chemmara.klrl.augmentation import AUGMENTATIONS
from chemmara.klrl.objectives import (
    OBJECTIVES,
    ForwardKLParameters,
    ObjectiveParameters,
    PolicyBatch,
    ReinventParameters,
    TokenLogProbs,
    reinvent,
)

DOUBLE = torch.float64
LOGITS = torch.tensor([0.3, -0.7, 0.1, 1.1], dtype=DOUBLE)
LOG_REF = torch.tensor([0.5, 0.1, 0.15, 0.25], dtype=DOUBLE).log()
REWARD = torch.tensor([0.2, 1.0, 0.6, 0.0], dtype=DOUBLE)
BETA = 0.3


def gradient(function: Callable[[Tensor], Tensor]) -> Tensor:
    """d function(log pi) / d logits at LOGITS."""
    logits = LOGITS.clone().requires_grad_()
    (result,) = torch.autograd.grad(function(logits.log_softmax(-1)), logits)
    return result


def batch_of(
    agent: Tensor, prior: Tensor, reward: Tensor, counts: Tensor, parameters: ObjectiveParameters
) -> PolicyBatch:
    """Sequences of one token, and what the objective learns where it starts."""
    tokens = TokenLogProbs(agent[:, None], prior[:, None], torch.ones(len(agent), 1, dtype=torch.bool))
    learned = {name: torch.tensor(each.initial, dtype=DOUBLE) for name, each in parameters.learned.items()}
    return PolicyBatch(agent, prior, reward, counts, tokens, learned)


def expected_gradient(name: str, size: int, **options: object) -> Tensor:
    """E[grad loss] over all batches of ``size`` tokens drawn from the policy, each with its exact probability."""
    entry = OBJECTIVES[name]
    parameters = check(entry.parameters, {"beta": BETA, **options}, "objective")
    total = torch.zeros_like(LOGITS)
    for tokens in itertools.product(range(4), repeat=size):
        index = torch.tensor(tokens)
        counts = torch.ones(size, dtype=torch.bool)

        def loss(log_pi: Tensor, index: Tensor = index, counts: Tensor = counts) -> Tensor:
            batch = batch_of(log_pi[index], LOG_REF[index], REWARD[index], counts, parameters)
            return entry.item(batch, parameters).loss

        total += LOGITS.log_softmax(-1)[index].sum().exp() * gradient(loss)
    return total


def reverse_objective(log_pi: Tensor) -> Tensor:
    return estimators.reverse_kl_objective(log_pi, LOG_REF, REWARD, BETA)


def forward_objective(log_pi: Tensor) -> Tensor:
    return estimators.forward_kl_objective(log_pi, LOG_REF, REWARD, BETA)


def divergence_to_target(log_pi: Tensor) -> Tensor:
    return estimators.kl_divergence(log_pi, targets.reverse_kl_target(LOG_REF, REWARD, BETA))


# For every registered objective: options, and the scalars whose gradient the expected gradient then is, each with its
# constant. Those that need more than one number a sample are enumerated in their own files as well.
Stated = list[tuple[float, Callable[[Tensor], Tensor]]]
STATED: dict[str, tuple[dict[str, object], Stated]] = {
    "reinvent": ({}, [(2.0, divergence_to_target), (-2 / BETA, reverse_objective)]),
    "reverse_kl": ({}, [(-1.0, reverse_objective), (BETA, divergence_to_target)]),
    "forward_kl": ({}, [(-1.0, forward_objective)]),
    "vargrad": ({}, [(2.0, divergence_to_target)]),
    "trajectory_balance": ({"log_z": 0.7, "k1_weight": 0.4}, [(2.0, divergence_to_target)]),
    "ahc": ({"fraction": 1.0}, [(2.0, divergence_to_target)]),
    "maximum_likelihood": ({}, []),
    "grpo": ({"divide_by_std": False}, [(-1.0, forward_objective)]),
}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_expected_gradient_is_the_stated_one(name: str, size: int) -> None:
    options, stated = STATED[name]
    found = expected_gradient(name, size, **options)
    assert float(found.norm()) > 1e-3
    for constant, scalar in stated:
        assert torch.allclose(found, constant * gradient(scalar), atol=1e-10)


@pytest.mark.parametrize("name", ["reinvent", "reverse_kl", "forward_kl", "trajectory_balance"])
def test_one_row_alone_has_the_stated_gradient_too(name: str) -> None:
    options, stated = STATED[name]
    for constant, scalar in stated:
        assert torch.allclose(expected_gradient(name, 1, **options), constant * gradient(scalar), atol=1e-10)


def test_reverse_kl_at_beta_zero_is_reinforce() -> None:
    expected = -gradient(lambda log_pi: (log_pi.exp() * REWARD).sum())
    assert torch.allclose(expected_gradient("reverse_kl", 2, beta=0.0), expected, atol=1e-10)


def test_baseline_removes_a_constant_from_the_reward() -> None:
    entry, parameters = OBJECTIVES["reverse_kl"], ObjectiveParameters(beta=BETA)
    index = torch.tensor([0, 1, 3])
    everything = torch.ones(3, dtype=torch.bool)

    def with_offset(offset: float) -> Tensor:
        return gradient(
            lambda log_pi: (
                entry.item(
                    PolicyBatch(log_pi[index], LOG_REF[index], REWARD[index] + offset, everything), parameters
                ).loss
            )
        )

    assert torch.allclose(with_offset(0.0), with_offset(100.0), atol=1e-9)


def test_leave_one_out_by_hand() -> None:
    signal = torch.tensor([1.0, 2.0, 6.0], dtype=DOUBLE)
    assert estimators.leave_one_out(signal).tolist() == pytest.approx([1 - 4, 2 - 3.5, 6 - 1.5])
    assert estimators.leave_one_out(signal[:1]).tolist() == [1.0]


def test_which_divergence_each_estimator_descends() -> None:
    """On-policy E[grad k1] = 0, E[grad k2] = grad KL(pi || ref), E[grad k3] = grad KL(ref || pi)."""
    weights = LOGITS.softmax(-1)

    def differentiated(estimator: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return gradient(lambda log_pi: (weights * estimator(log_pi, LOG_REF)).sum())

    reverse = gradient(lambda log_pi: estimators.kl_divergence(log_pi, LOG_REF))
    forward = gradient(lambda log_pi: estimators.kl_divergence(LOG_REF, log_pi))
    assert not torch.allclose(reverse, forward, atol=1e-2)
    assert torch.allclose(differentiated(estimators.k1), torch.zeros(4, dtype=DOUBLE), atol=1e-12)
    assert torch.allclose(differentiated(estimators.k2), reverse, atol=1e-12)
    assert torch.allclose(differentiated(estimators.k3), forward, atol=1e-12)


def test_values_of_the_estimators() -> None:
    log_pi = LOGITS.log_softmax(-1)
    exact = float(estimators.kl_divergence(log_pi, LOG_REF))
    for estimator in (estimators.k1, estimators.k3):
        assert float((log_pi.exp() * estimator(log_pi, LOG_REF)).sum()) == pytest.approx(exact)
    nowhere = torch.tensor([1.0, 0.0], dtype=DOUBLE).log()
    half = torch.tensor([0.5, 0.5], dtype=DOUBLE).log()
    assert float(estimators.kl_divergence(nowhere, half)) == pytest.approx(math.log(2))
    assert float(estimators.kl_divergence(half, nowhere)) == math.inf


def test_clamped_k3_is_tangent_and_its_share_is_reported() -> None:
    ratios = torch.tensor([-3.0, 1.9, 2.0, 2.1, 500.0], dtype=torch.float32)
    agent = (-ratios).requires_grad_()
    value = estimators.k3(agent, torch.zeros(5), 2.0)
    (slope,) = torch.autograd.grad(value.sum(), agent)
    assert value.isfinite().all()
    # d k3 / d log pi = 1 - weight, the weight held at exp(2) from lr = 2 on.
    weights = [math.exp(-3), math.exp(1.9), math.exp(2), math.exp(2), math.exp(2)]
    assert slope.tolist() == pytest.approx([1 - w for w in weights], rel=1e-5)
    counts = torch.tensor([True, True, True, True, True])
    parameters = ForwardKLParameters(max_log_ratio=2.0)
    output = OBJECTIVES["forward_kl"].item(PolicyBatch(agent, torch.zeros(5), torch.zeros(5), counts), parameters)
    assert output.logs["clamped_share"] == pytest.approx(0.4)
    assert output.loss.isfinite()


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_rows_that_do_not_count_play_no_part(name: str) -> None:
    """NaN rewards of failed oracles: the loss, the gradient and the logs are those of the other rows alone."""
    entry = OBJECTIVES[name]
    parameters = check(entry.parameters, {"beta": BETA}, "objective")

    def run(rows: list[int], reward: Tensor, counts: list[bool]) -> tuple[Tensor, dict[str, float]]:
        logs: dict[str, float] = {}

        def loss(log_pi: Tensor) -> Tensor:
            index = torch.tensor(rows)
            batch = batch_of(log_pi[index], LOG_REF[index], reward, torch.tensor(counts), parameters)
            output = entry.item(batch, parameters)
            logs.update(output.logs)
            return output.loss

        return gradient(loss), logs

    failed = torch.tensor([0.2, math.nan, 0.6], dtype=DOUBLE)
    masked, logs = run([0, 1, 2], failed, [True, False, True])
    alone, expected = run([0, 2], failed[[0, 2]], [True, True])
    assert torch.allclose(masked, alone)
    assert logs == expected
    assert all(isinstance(value, float) and math.isfinite(value) for value in logs.values())


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_no_counting_row_gives_a_zero_with_a_graph(name: str) -> None:
    entry = OBJECTIVES[name]
    agent = torch.tensor([-3.0, -math.inf], requires_grad=True)
    nothing = torch.zeros(2, dtype=torch.bool)
    parameters = check(entry.parameters, {}, "objective")
    output = entry.item(batch_of(agent, torch.zeros(2), torch.full((2,), math.nan), nothing, parameters), parameters)
    assert output.loss.item() == 0
    output.loss.backward()
    assert agent.grad is not None
    assert agent.grad.tolist() == [0, 0]


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_logged_objective_is_in_reward_units(name: str) -> None:
    """Its expectation is the reverse-KL J for all: the mean of k3 is KL(pi || ref), not what it descends."""
    entry = OBJECTIVES[name]
    parameters = check(entry.parameters, {"beta": BETA}, "objective")
    log_pi = LOGITS.log_softmax(-1)
    expected = 0.0
    for token in range(4):
        row = torch.tensor([token])
        batch = batch_of(log_pi[row], LOG_REF[row], REWARD[row], torch.ones(1, dtype=torch.bool), parameters)
        expected += float(log_pi[token].exp()) * entry.item(batch, parameters).logs["objective"]
    assert expected == pytest.approx(float(reverse_objective(log_pi)), abs=1e-9)


def test_reinvent_with_mara_has_one_target_for_all_good_samples() -> None:
    """log pi_ref(z) + sigma R(z): the loss is zero where log pi equals it."""
    from chemmara.klrl.augmentation import Mara, Samples

    reward = torch.tensor([0.9, 0.8, 1.0], dtype=DOUBLE)
    log_ref = torch.tensor([-30.0, -20.0, -25.0], dtype=DOUBLE)
    everything = torch.ones(3, dtype=torch.bool)
    augmented = Mara(threshold=0.7)(Samples(reward, log_ref, log_ref, everything, everything), 0.01).reward
    agent = torch.full((3,), -20 + 0.8 / 0.01, dtype=DOUBLE)
    output = reinvent(PolicyBatch(agent, log_ref, augmented, everything), ReinventParameters(beta=0.01))
    assert float(output.loss) == pytest.approx(0, abs=1e-18)


def test_beta_and_sigma_are_one_number() -> None:
    for entry in OBJECTIVES:
        assert check(entry.parameters, {}, "objective").beta == 1 / 128
        by_sigma = check(entry.parameters, {"sigma": 120}, "objective")
        by_beta = check(entry.parameters, {"beta": 1 / 120}, "objective")
        assert by_sigma.beta == by_beta.beta == 1 / 120
        assert by_sigma.sigma == pytest.approx(by_beta.sigma)
        assert check(entry.parameters, {"sigma": 128.0, "beta": 0.0078125}, "objective").beta == 1 / 128
        # As resolved, a config holds beta alone, and reads back as itself.
        dumped = by_sigma.model_dump()
        assert "sigma" not in dumped
        assert check(entry.parameters, dumped, "objective").beta == by_sigma.beta


def test_beta_zero_is_an_infinite_sigma() -> None:
    parameters = check(ObjectiveParameters, {"beta": 0}, "objective")
    assert parameters.beta == 0
    assert parameters.sigma is None


MISTAKES = [
    ("reinvent", {"beta": 0}, "objective.beta: must be greater than 0: the loss divides by it (got 0)"),
    ("reinvent", {"beta": -0.1}, "objective.beta: must not be negative"),
    ("reverse_kl", {"beta": -1}, "objective.beta: must not be negative"),
    ("reinvent", {"beta": 1e-13}, "objective.beta: below 1e-12 a loss that divides by it is infinite in float32"),
    ("reinvent", {"sigma": 1e25}, "objective.beta: below 1e-12"),
    ("reinvent", {"sigma": 1e-301}, "objective.beta: above 1e+12 (sigma below 1e-12) nothing is learned"),
    ("forward_kl", {"beta": -1}, "objective.beta: must not be negative"),
    ("reverse_kl", {"beta": 0.1, "sigma": 128}, "beta = 0.1 and sigma = 128 disagree (sigma = 1/beta)"),
    ("reverse_kl", {"beta": 0, "sigma": 128}, "beta = 0 and sigma = 128 disagree"),
    ("reinvent", {"sigma": 0}, "objective.sigma: should be greater than 0 (got 0"),
    ("reinvent", {"sigma": -128}, "objective.sigma: should be greater than 0"),
    ("reinvent", {"sigma": "128"}, "objective.sigma: should be a valid number"),
    ("reinvent", {"beta": "x"}, "objective.beta: should be a valid number"),
    ("reinvent", {"beta": True}, "objective.beta: should be a valid number"),
    ("reinvent", {"beta": math.inf}, "objective.beta: should be a finite number"),
    ("reinvent", {"learning_rate": 0}, "objective.learning_rate: should be greater than 0"),
    ("forward_kl", {"max_log_ratio": 100}, "objective.max_log_ratio: should be less than or equal to 60"),
    ("reinvent", {"betta": 1}, "objective.betta: unknown key; did you mean 'beta'?"),
]


@pytest.mark.parametrize(("name", "table", "message"), MISTAKES, ids=str)
def test_mistakes_are_one_clear_line(name: str, table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OBJECTIVES.build_parameters({"name": name, **table}, "objective")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("registry", [OBJECTIVES, AUGMENTATIONS], ids=lambda r: r.kind)
def test_every_entry_says_what_it_is(registry: object) -> None:
    for entry in registry:
        assert entry.summary.endswith(".")
        for name, field in entry.parameters.model_fields.items():
            assert field.description, f"{entry.name}.{name}"


def test_reading_a_config_never_loads_torch() -> None:
    code = """
import sys
import chemmara.klrl.targets, chemmara.klrl.estimators
from chemmara.klrl.augmentation import AUGMENTATIONS, build_augmentation
from chemmara.klrl.objectives import OBJECTIVES
build_augmentation({"name": "mara", "anchor": "running"}, 0.7)
assert all(entry.summary for entry in [*OBJECTIVES, *AUGMENTATIONS])
OBJECTIVES.build_parameters({"name": "reinvent", "sigma": 128}, "objective")
heavy = sorted({"torch", "pandas", "numpy"} & set(sys.modules))
sys.exit(f"loaded: {heavy}" if heavy else 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)

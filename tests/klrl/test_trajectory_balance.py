"""Trajectory balance and VarGrad: their targets on- and off-policy, and what log Z is."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from chemmara.config import check
from chemmara.errors import ConfigError
from chemmara.klrl import targets
from chemmara.klrl.estimators import kl_divergence
from chemmara.klrl.objectives import OBJECTIVES, Learned, PolicyBatch
from chemmara.klrl.trajectory_balance import TrajectoryBalanceParameters

DOUBLE = torch.float64
BETA = 0.3
LOGITS = torch.tensor([0.3, -0.7, 0.1, 1.1], dtype=DOUBLE)
LOG_REF = torch.tensor([0.5, 0.1, 0.15, 0.25], dtype=DOUBLE).log()
REWARD = torch.tensor([0.2, 1.0, 0.6, 0.0], dtype=DOUBLE)
TRUE_LOG_Z = float((LOG_REF + REWARD / BETA).logsumexp(-1))
# Where replayed samples come from: neither the agent nor the target.
BUFFER = torch.tensor([0.1, 0.2, 0.6, 0.1], dtype=DOUBLE)


def gradients(
    name: str, index: Tensor, logits: Tensor, log_z: float = 0.0, **options: object
) -> tuple[Tensor, Tensor | None]:
    """d loss / d logits, and d loss / d log Z, of one batch of tokens."""
    entry = OBJECTIVES[name]
    parameters = check(entry.parameters, {"beta": BETA, **options}, "objective")
    logits, learned = logits.clone().requires_grad_(), torch.tensor(log_z, dtype=DOUBLE, requires_grad=True)
    log_pi = logits.log_softmax(-1)[index]
    counts = torch.ones(len(index), dtype=torch.bool)
    batch = PolicyBatch(log_pi, LOG_REF[index], REWARD[index], counts, learned={"log_z": learned})
    entry.item(batch, parameters).loss.backward()
    assert logits.grad is not None
    return logits.grad, learned.grad


def expected(name: str, weights: Tensor, logits: Tensor, size: int = 2, **options: object) -> Tensor:
    found = torch.zeros(4, dtype=DOUBLE)
    for tokens in itertools.product(range(4), repeat=size):
        index = torch.tensor(tokens)
        found += weights[index].prod() * gradients(name, index, logits, **options)[0]
    return found


@pytest.mark.parametrize("name", ["trajectory_balance", "vargrad"])
@pytest.mark.parametrize("exponent", [0.0, 0.4, 1.0])
def test_target_with_a_part_of_the_prior(name: str, exponent: float) -> None:
    """2 grad KL(pi || G), G of the entropy and KL objective with beta a and beta (1 - a)."""
    goal = targets.entropy_kl_target(LOG_REF, REWARD, BETA * exponent, BETA * (1 - exponent))
    logits = LOGITS.clone().requires_grad_()
    (stated,) = torch.autograd.grad(2 * kl_divergence(logits.log_softmax(-1), goal), logits)
    found = expected(name, LOGITS.softmax(-1), LOGITS, prior_exponent=exponent)
    assert torch.allclose(found, stated, atol=1e-10)


def test_vargrad_is_reverse_kl_batch_by_batch() -> None:
    for tokens in [(0, 1), (2, 2, 3), (0, 1, 2, 3, 3)]:
        index = torch.tensor(tokens)
        other, _ = gradients("reverse_kl", index, LOGITS)
        assert torch.allclose(gradients("vargrad", index, LOGITS)[0], 2 / BETA * other, atol=1e-12)


@pytest.mark.parametrize("baseline", [0.0, 0.4, 0.75, 1.0])
def test_the_baseline_changes_nothing_in_expectation_on_policy(baseline: float) -> None:
    goal = targets.reverse_kl_target(LOG_REF, REWARD, BETA)
    logits = LOGITS.clone().requires_grad_()
    (stated,) = torch.autograd.grad(2 * kl_divergence(logits.log_softmax(-1), goal), logits)
    for size in (2, 3):
        found = expected("vargrad", LOGITS.softmax(-1), LOGITS, size, baseline=baseline)
        assert torch.allclose(found, stated, atol=1e-10)


def test_no_baseline_is_reinvent_batch_by_batch() -> None:
    for tokens in [(1,), (0, 1), (0, 1, 2, 3, 3)]:
        index = torch.tensor(tokens)
        other, _ = gradients("reinvent", index, LOGITS)
        assert torch.allclose(gradients("vargrad", index, LOGITS, baseline=0.0)[0], other, atol=1e-12)
    lone = gradients("vargrad", torch.tensor([1]), LOGITS)[0]
    assert torch.equal(lone, torch.zeros_like(lone)), "one row has no variance"


def test_log_z_moves_to_the_agents_own_estimate_and_ends_at_the_true_one() -> None:
    pi = LOGITS.softmax(-1)
    estimate = float((pi * (REWARD / BETA + LOG_REF - pi.log())).sum())
    slope = sum(
        float(pi[token]) * float(gradients("trajectory_balance", torch.tensor([token]), LOGITS, 0.7)[1] or 0)
        for token in range(4)
    )
    assert slope == pytest.approx(2 * (0.7 - estimate))
    assert estimate < TRUE_LOG_Z
    goal = targets.reverse_kl_target(LOG_REF, REWARD, BETA)
    assert float((goal.exp() * (REWARD / BETA + LOG_REF - goal)).sum()) == pytest.approx(TRUE_LOG_Z)


def test_off_policy_optimum_is_the_target_but_not_for_reinvent() -> None:
    goal = targets.reverse_kl_target(LOG_REF, REWARD, BETA)
    for tokens in itertools.product(range(4), repeat=2):
        index = torch.tensor(tokens)
        slope, of_log_z = gradients("trajectory_balance", index, goal, TRUE_LOG_Z)
        assert float(slope.norm()) == pytest.approx(0, abs=1e-12)
        assert float(of_log_z or 0) == pytest.approx(0, abs=1e-12)
        assert float(gradients("vargrad", index, goal)[0].norm()) == pytest.approx(0, abs=1e-12)
    assert float(expected("vargrad", BUFFER, LOGITS).norm()) > 0.1
    # On-policy its gradient vanishes at the target; on replayed samples it does not, for want of log Z.
    assert float(expected("reinvent", goal.exp(), goal).norm()) == pytest.approx(0, abs=1e-12)
    assert float(expected("reinvent", BUFFER, goal).norm()) > 0.1


def test_k1_weight_pushes_replayed_samples_down_and_nothing_on_policy() -> None:
    def added(weights: Tensor) -> Tensor:
        runs = [expected("trajectory_balance", weights, LOGITS, k1_weight=weight) for weight in (0.5, 0.0)]
        return runs[0] - runs[1]

    assert torch.allclose(added(LOGITS.softmax(-1)), torch.zeros(4, dtype=DOUBLE), atol=1e-12)
    # E_mu[grad log pi] = mu - pi, for logits.
    assert torch.allclose(added(BUFFER), 0.5 * (BUFFER - LOGITS.softmax(-1)), atol=1e-12)


def test_genetic_gfn_by_hand() -> None:
    parameters = check(
        TrajectoryBalanceParameters, {"sigma": 50, "prior_exponent": 0, "k1_weight": 0.01, "log_z": 5.0}, "objective"
    )
    agent, prior, reward = torch.tensor([-30.0, -20.0]), torch.tensor([-25.0, -22.0]), torch.tensor([0.5, 0.1])
    batch = PolicyBatch(agent, prior, reward, torch.ones(2, dtype=torch.bool), learned={"log_z": torch.tensor(5.0)})
    output = OBJECTIVES["trajectory_balance"].item(batch, parameters)
    by_hand = [(-30 + 5 - 25) ** 2 + 0.01 * -5, (-20 + 5 - 5) ** 2 + 0.01 * 2]
    assert float(output.loss) == pytest.approx(sum(by_hand) / 2)
    assert output.logs["log_z"] == 5.0
    assert parameters.learned == {"log_z": Learned(5.0, 0.1)}
    # Its target knows no prior, so an augmentation of the prior's mass has nothing to do.
    assert parameters.prior_strength == 0


def test_string_that_the_prior_excludes_is_no_obstacle_without_the_prior() -> None:
    parameters = check(OBJECTIVES["vargrad"].parameters, {"prior_exponent": 0}, "objective")
    prior = torch.tensor([-torch.inf, -3.0])
    batch = PolicyBatch(torch.tensor([-2.0, -4.0]), prior, torch.zeros(2), torch.ones(2, dtype=torch.bool))
    assert float(OBJECTIVES["vargrad"].item(batch, parameters).loss) == pytest.approx(2.0)


def test_missing_log_z_is_named_and_bad_settings_refused() -> None:
    batch = PolicyBatch(torch.zeros(2), torch.zeros(2), torch.zeros(2), torch.ones(2, dtype=torch.bool))
    with pytest.raises(ValueError, match="learns log_z"):
        OBJECTIVES["trajectory_balance"].item(batch, TrajectoryBalanceParameters())
    for table in ({"beta": 0}, {"prior_exponent": 1.5}, {"log_z_learning_rate": 0}):
        with pytest.raises(ConfigError):
            check(TrajectoryBalanceParameters, table, "objective")

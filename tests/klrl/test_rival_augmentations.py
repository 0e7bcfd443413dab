"""The rivals' rewards: the expected reward of each token over all batches, and the scalar that it makes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from chemmara.errors import ConfigError
from chemmara.klrl.augmentation import Samples, build_augmentation
from chemmara.klrl.objectives import OBJECTIVES, PolicyBatch

DOUBLE = torch.float64
BETA = 0.3
LOGITS = torch.tensor([0.3, -0.7, 0.1, 1.1], dtype=DOUBLE)
LOG_PI = LOGITS.log_softmax(-1)
PI = LOG_PI.exp()
LOG_REF = torch.tensor([0.5, 0.1, 0.15, 0.25], dtype=DOUBLE).log()
REWARD = torch.tensor([0.2, 1.0, 0.6, 0.5], dtype=DOUBLE)
# Tokens 1 and 3 are of one mode.
MODE = torch.tensor([7, 4, 5, 4])


def samples(index: Tensor, log_agent: Tensor = LOG_PI) -> Samples:
    ones = torch.ones(len(index), dtype=torch.bool)
    return Samples(
        REWARD[index], LOG_REF[index], LOG_REF[index], ones, ones, log_agent=log_agent[index], mode=MODE[index]
    )


def changed(name: str, index: Tensor, **options: object) -> Tensor:
    return build_augmentation({"name": name, **options}, 0.55)(samples(index), BETA).reward


def expected_gradient(objective: str, size: int, name: str, **options: object) -> Tensor:
    entry = OBJECTIVES[objective]
    found = torch.zeros(4, dtype=DOUBLE)
    for tokens in itertools.product(range(4), repeat=size):
        index = torch.tensor(tokens)
        logits = LOGITS.clone().requires_grad_()
        log_pi = logits.log_softmax(-1)[index]
        batch = PolicyBatch(log_pi, LOG_REF[index], changed(name, index, **options), torch.ones(size) > 0)
        loss = entry.item(batch, entry.parameters(beta=BETA)).loss
        found += PI[index].prod() * torch.autograd.grad(loss, logits)[0]
    return found


def reinvent_gradient(reward: Tensor) -> Tensor:
    """-(2/beta) grad (E_pi[R~] - beta KL), R~ held constant."""
    logits = LOGITS.clone().requires_grad_()
    log_pi = logits.log_softmax(-1)
    objective = (log_pi.exp() * (reward - BETA * (log_pi - LOG_REF))).sum()
    return torch.autograd.grad(-2 / BETA * objective, logits)[0]


def ips(size: int) -> Tensor:
    q = torch.zeros(8, dtype=DOUBLE).index_add(0, MODE, PI)[MODE]
    return REWARD * (1 - (1 - q) ** size) / q


def unlikeliness(size: int) -> Tensor:
    below = torch.tensor([float(PI[p > PI].sum()) for p in PI], dtype=DOUBLE)
    return REWARD * (1 - 0.4 * (size - 1) / size * (below + PI / 2))


def uniqueness(size: int) -> Tensor:
    """Over the others, counted in plain Python."""
    mean = torch.zeros(4, dtype=DOUBLE)
    for token in range(4):
        for others in itertools.product(range(4), repeat=size - 1):
            batch = (token, *others)
            weight = float(PI[list(others)].prod()) if others else 1.0
            base = sum(float(REWARD[k]) for k in batch) / size
            crowd = Counter(int(MODE[k]) for k in batch)[int(MODE[token])]
            mean[token] += weight * (base + (float(REWARD[token]) - base) * crowd**-0.5)
    return mean


STATED: list[tuple[str, dict[str, object], Callable[[int], Tensor]]] = [
    ("ips", {"normalize": False}, ips),
    ("unlikeliness", {"strength": 0.4}, unlikeliness),
    ("uniqueness", {}, uniqueness),
]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("name", "options", "expected"), STATED, ids=lambda value: str(value)[:12])
def test_reinvent_descends_the_expected_reward(
    name: str, options: dict[str, object], expected: Callable[[int], Tensor], size: int
) -> None:
    found = expected_gradient("reinvent", size, name, **options)
    assert torch.allclose(found, reinvent_gradient(expected(size)), atol=1e-10)
    if size > 1:
        assert not torch.allclose(found, reinvent_gradient(REWARD), atol=1e-2)


def smoothed(log_pi: Tensor) -> Tensor:
    """J and what differential smoothing adds to it; tokens 1 and 2 are correct."""
    pi = log_pi.exp()
    correct = REWARD >= 0.55
    objective = (pi * (REWARD - BETA * (log_pi - LOG_REF))).sum()
    entropy = pi * (log_pi - 1)
    return objective - 0.1 * entropy[correct].sum() + 0.05 * entropy[~correct].sum()


@pytest.mark.parametrize(("objective", "constant"), [("reverse_kl", -1.0), ("reinvent", -2 / BETA), ("vargrad", None)])
def test_differential_smoothing_descends_its_scalar(objective: str, constant: float | None) -> None:
    logits = LOGITS.clone().requires_grad_()
    (slope,) = torch.autograd.grad(smoothed(logits.log_softmax(-1)), logits)
    found = expected_gradient(objective, 2, "differential_smoothing", correct=0.1, incorrect=0.05)
    assert torch.allclose(found, (constant or -2 / BETA) * slope, atol=1e-10)


def test_differential_smoothing_is_stationary_where_it_says() -> None:
    correct = REWARD >= 0.55
    strength = torch.where(correct, BETA + 0.1, BETA - 0.05)

    def log_pi(c: float) -> Tensor:
        return (BETA * LOG_REF + REWARD - c) / strength

    c = brentq(lambda value: float(log_pi(value).exp().sum()) - 1, -5, 5, xtol=1e-14)
    logits = log_pi(c).requires_grad_()
    (slope,) = torch.autograd.grad(smoothed(logits.log_softmax(-1)), logits)
    assert float(slope.norm()) < 1e-7


def test_ips_by_hand() -> None:
    index = torch.tensor([1, 3, 1, 0])
    # Mode 4 has three of four rows, mode 7 one.
    raw = changed("ips", index, normalize=False)
    assert raw.tolist() == pytest.approx([1.0 / 0.75, 0.5 / 0.75, 1.0 / 0.75, 0.2 / 0.25])
    assert changed("ips", index).tolist() == pytest.approx((raw / 2).tolist())
    assert float(changed("ips", index, normalize=False, floor=0.5)[3]) == pytest.approx(0.2 / 0.5)
    # A floor of 1 takes every mode for the whole batch, and changes nothing.
    assert changed("ips", index, floor=1.0).tolist() == pytest.approx([1.0, 0.5, 1.0, 0.2])
    # With every row a mode of its own nothing changes.
    assert changed("ips", torch.tensor([0, 1, 2])).tolist() == pytest.approx([0.2, 1.0, 0.6])


def test_unlikeliness_by_hand() -> None:
    # log pi: token 1 lowest, then 2, 0, 3; the two rows of token 2 share the ranks 1 and 2.
    found = changed("unlikeliness", torch.tensor([2, 1, 2, 3]), strength=0.25)
    assert found.tolist() == pytest.approx(
        [0.6 * (1 - 0.25 * 1.5 / 4), 1.0, 0.6 * (1 - 0.25 * 1.5 / 4), 0.5 * (1 - 0.25 * 3 / 4)]
    )


def test_uniqueness_by_hand() -> None:
    found = changed("uniqueness", torch.tensor([1, 3, 0]), exponent=1.0)
    mean = 1.7 / 3
    assert found.tolist() == pytest.approx([mean + (1.0 - mean) / 2, mean + (0.5 - mean) / 2, 0.2])


def test_what_is_needed_is_named() -> None:
    bare = Samples(REWARD, LOG_REF, LOG_REF, REWARD > -1, REWARD > -1)
    for name in ("ips", "uniqueness"):
        with pytest.raises(ValueError, match="needs the label of each mode"):
            build_augmentation({"name": name})(bare, BETA)
    for name in ("unlikeliness", "differential_smoothing"):
        with pytest.raises(ValueError, match="needs log_agent"):
            build_augmentation({"name": name}, 0.7)(bare, BETA)
    with pytest.raises(ConfigError, match="did you mean 'similarity'"):
        build_augmentation({"name": "ips", "similarty": 0.3})


# Invalid text: it is learned from at reward 0, and so it is of the batch that n, shares, ranks and means speak of.
VALID = torch.tensor([False, True, True, True])
PAID = torch.tensor([0.0, 1.0, 0.6, 0.5], dtype=DOUBLE)


def with_invalid(name: str, index: Tensor, **options: object) -> Tensor:
    ones = torch.ones(len(index), dtype=torch.bool)
    batch = Samples(
        PAID[index], LOG_REF[index], LOG_REF[index], VALID[index], ones,
        log_agent=LOG_PI[index], mode=MODE[index], learned=ones,
    )  # fmt: skip
    return build_augmentation({"name": name, **options}, 0.55)(batch, BETA).reward


def expected_of(token: int, size: int, name: str, **options: object) -> float:
    """E[R~ | the first sample is ``token``] over all batches."""
    total = 0.0
    for rest in itertools.product(range(4), repeat=size - 1):
        index = torch.tensor([token, *rest])
        total += float(PI[index[1:]].prod() * with_invalid(name, index, **options)[0])
    return total


@pytest.mark.parametrize("token", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_expected_rewards_beside_invalid_text_are_those_of_the_formulas(token: int, size: int) -> None:
    q = float(PI[(MODE[token] == MODE) & VALID].sum())
    ips = float(PAID[token]) * (1 - (1 - q) ** size) / q
    assert expected_of(token, size, "ips", normalize=False) == pytest.approx(ips)
    less, tied = float(PI[LOG_PI[token] > LOG_PI].sum()), float(PI[LOG_PI[token] == LOG_PI].sum())
    rank = (size - 1) / size * (less + tied / 2)
    assert expected_of(token, size, "unlikeliness", strength=0.4) == pytest.approx(
        float(PAID[token]) * (1 - 0.4 * rank)
    )


def test_invalid_text_is_in_the_mean_and_is_one_of_the_rest() -> None:
    index = torch.tensor([1, 1, 3, 2, 0, 0])
    mean = PAID[index].mean()
    crowd = torch.tensor([3, 3, 3, 1, 1, 1], dtype=DOUBLE) ** -0.5
    torch.testing.assert_close(with_invalid("uniqueness", index), mean + (PAID[index] - mean) * crowd)
    found = with_invalid("differential_smoothing", index, correct=0.01, incorrect=0.02)
    slope = torch.tensor([-0.01, -0.01, 0.02, -0.01, 0.02, 0.02], dtype=DOUBLE)
    torch.testing.assert_close(found, PAID[index] + slope * LOG_PI[index])
    weights = with_invalid("ips", index)[:4] / PAID[index][:4]
    assert float(weights.mean()) == pytest.approx(1), "of the molecules, however much text is none"

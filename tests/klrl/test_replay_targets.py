"""What replay makes of each objective: where its loss rests when samples come with weights that are not the agent's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from chemmara.klrl.augmentation import Samples, build_augmentation
from chemmara.klrl.objectives import OBJECTIVES, PolicyBatch

BETA = 0.1
START = {"trajectory_balance": {"log_z": 8.0}}  # nearer to where it ends: fewer steps
LOG_REF = torch.log_softmax(torch.tensor([0.0, -1.0, -2.0, 0.5, -0.5], dtype=torch.float64), 0)
REWARD = torch.tensor([0.9, 0.95, 0.8, 0.1, 0.3], dtype=torch.float64)
ROWS = torch.tensor([0, 1, 1, 2, 2, 2, 2])  # the replayed batch: three molecules, weights 1/7, 2/7, 4/7
WEIGHT = torch.bincount(ROWS, minlength=3).double()[:3] / len(ROWS)
SUPPORT = slice(0, 3)


def rest(name: str, reward: Tensor, **parameters: float) -> Tensor:
    """log pi (5,) where the gradient over the replayed batch vanishes, by the registered objective itself."""
    entry = OBJECTIVES[name]
    settings = entry.parameters(beta=BETA, **parameters)
    logits = LOG_REF.clone().requires_grad_()
    learned = {
        key: torch.tensor(each.initial, dtype=torch.float64, requires_grad=True)
        for key, each in settings.learned.items()
    }
    optimizer = torch.optim.Adam([logits, *learned.values()], lr=0.1)
    for step in range(1200):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * 0.996**step
        log_pi = torch.log_softmax(logits, 0)
        batch = PolicyBatch(
            log_pi[ROWS], LOG_REF[ROWS], reward[ROWS], torch.ones(len(ROWS), dtype=torch.bool), None, learned
        )
        optimizer.zero_grad()
        entry.item(batch, settings).loss.backward()
        optimizer.step()
    return torch.log_softmax(logits, 0).detach()


def mara(reward: Tensor, tau: float) -> Tensor:
    every = torch.ones(len(reward), dtype=torch.bool)
    augmentation = build_augmentation({"name": "mara", "threshold": tau}, tau)
    return augmentation(Samples(reward, LOG_REF, LOG_REF, every, every), BETA).reward


def within(log_pi: Tensor) -> Tensor:
    return torch.softmax(log_pi[SUPPORT], 0)


@pytest.mark.parametrize("name", ["reverse_kl", "vargrad", "trajectory_balance"])
def test_these_rest_at_the_ratios_of_the_target_however_molecules_are_drawn(name: str) -> None:
    expected = torch.softmax((LOG_REF + REWARD / BETA)[SUPPORT], 0)
    assert torch.allclose(within(rest(name, REWARD, **START.get(name, {}))), expected, atol=1e-3)


@pytest.mark.parametrize("name", ["reverse_kl", "vargrad", "trajectory_balance"])
def test_with_mara_these_are_flat_over_what_is_replayed(name: str) -> None:
    flat = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert torch.allclose(within(rest(name, mara(REWARD, 0.7), **START.get(name, {}))), flat, atol=1e-3)


def test_reinvent_rests_where_mass_follows_the_draw_and_the_distance_from_its_goal() -> None:
    """pi/(t - log pi) is proportional to the weight, t = log pi_ref + R/beta; nothing is left for the others."""
    goal = (LOG_REF + REWARD / BETA)[SUPPORT]
    log_pi = rest("reinvent", REWARD)
    assert log_pi[SUPPORT].exp().sum() == pytest.approx(1, abs=1e-2)
    share = log_pi[SUPPORT].exp() / (goal - log_pi[SUPPORT]) / WEIGHT
    assert torch.allclose(share / share.mean(), torch.ones(3, dtype=torch.float64), atol=0.02)


def test_reinvent_with_mara_rests_near_the_draw_itself() -> None:
    raised = mara(REWARD, 0.7) + 20  # a small beta: a goal far above log pi
    log_pi = rest("reinvent", raised)
    assert torch.allclose(within(log_pi), WEIGHT, atol=0.01)

"""The loss, its schedule and its book-keeping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch

from chemmara.chemistry.molecules import read
from chemmara.klrl.objectives import LossOutput, ObjectiveParameters, PolicyBatch, reverse_kl
from chemmara.language.vocabulary import END, Vocabulary
from chemmara.policies.decoding import Decoding
from chemmara.policies.lstm import LstmPolicy
from chemmara.policies.recurrent import LstmParameters
from chemmara.training import likelihood
from chemmara.training.likelihood import LikelihoodModule, mean_nll
from chemmara.training.settings import LikelihoodSettings

IDS = torch.tensor([[3, 4, 2], [3, 2, 0], [2, 0, 0]])


def module(total_steps: int = 1000, tokens: Sequence[str] = ("C", "O"), **settings: float) -> LikelihoodModule:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = LstmParameters(embedding_size=4, hidden_size=4, layers=1)
        policy = LstmPolicy(Vocabulary.from_tokens(list(tokens)), shape)
    policy.precision = "float32"
    return LikelihoodModule(policy, LikelihoodSettings(**settings), 2.5, total_steps)


def test_the_loss_is_nats_a_molecule_over_the_mean_length() -> None:
    fitted = module()
    nll = -fitted.policy.log_prob(IDS).double()
    assert fitted.training_step(IDS, 0).item() == pytest.approx(nll.mean().item() / 2.5, rel=1e-6)
    fitted.training_step(IDS[:1], 1)
    assert fitted.training_nll() == pytest.approx((nll.sum() + nll[0]).item() / 4, rel=1e-6)
    assert math.isnan(fitted.training_nll())  # begun anew


def test_mean_nll_weighs_each_molecule_the_same() -> None:
    policy = module().policy
    expected = -policy.log_prob(IDS).mean().item()
    assert mean_nll(policy, [IDS[:1], IDS[1:]]) == pytest.approx(expected, rel=1e-6)
    assert math.isnan(mean_nll(policy, []))


def share_valid(policy: LstmPolicy) -> float:
    sampled = policy.sample(400, generator=torch.Generator().manual_seed(1), decoding=Decoding(max_tokens=20))
    texts = policy.vocabulary.decode(sampled.ids.numpy())
    return sum(read(text).molecule is not None for text in texts) / len(texts)


def test_validity_is_learned_in_the_last_quarter_alone() -> None:
    early, late = (module(total, ["C", "O", "("], validity_weight=20.0) for total in (1000, 0))
    plain = module(0, ["C", "O", "("])
    assert early.training_step(IDS, 0).item() == plain.training_step(IDS, 0).item()
    before = share_valid(late.policy)
    assert 0.1 < before < 0.9
    optimizer = torch.optim.Adam(late.parameters(), lr=0.02)
    for step in range(40):
        optimizer.zero_grad()
        late.training_step(IDS, step).backward()
        optimizer.step()
    assert share_valid(late.policy) > before + 0.1


def test_validity_is_that_of_the_policy_without_dropout() -> None:
    """One gradient for what was sampled, whatever is dropped while the likelihood is learned."""
    fitted = module(0, ["C", "O", "("], validity_weight=20.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fitted.policy = LstmPolicy(
            fitted.policy.vocabulary, LstmParameters(embedding_size=4, hidden_size=4, layers=2, dropout=0.9)
        ).train()
    fitted.policy.precision = "float32"
    dropping, dropping_too = (float(-fitted.policy.log_prob(IDS).sum().detach()) for _ in range(2))
    assert dropping != dropping_too, "otherwise there is nothing to test"
    again, loss = (fitted._validity_loss().detach() for _ in range(2))
    fitted.policy.eval()
    assert loss == again == fitted._validity_loss().detach()


def test_what_has_no_end_is_not_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that writes one carbon after the other, each beginning of which is a molecule."""
    fitted = module(0, ["C"], validity_weight=20.0)
    with torch.no_grad():
        fitted.policy.output.bias[END] = -100.0
    rewards = []

    def watched(batch: PolicyBatch, parameters: ObjectiveParameters) -> LossOutput:
        rewards.append(batch.reward)
        return reverse_kl(batch, parameters)

    monkeypatch.setattr(likelihood, "reverse_kl", watched)
    fitted._validity_loss()
    assert rewards[0].sum() == 0


def test_learning_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    fitted = module(total_steps=1000, learning_rate=0.01, warmup=50)
    made = fitted.configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(1001):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(0.01 / 50)
    assert rates[24] == pytest.approx(0.01 * 25 / 50)
    assert max(rates) == rates[50] == pytest.approx(0.01)
    assert rates[50 + 475] == pytest.approx(0.005)
    assert rates[1000] == pytest.approx(1e-5)
    assert all(a >= b for a, b in pairwise(rates[50:]))


def test_the_warm_up_is_at_most_a_tenth() -> None:
    for steps in (1, 9, 100):
        made = module(total_steps=steps, warmup=200, learning_rate=0.01).configure_optimizers()
        assert made["optimizer"].param_groups[0]["lr"] == pytest.approx(0.01 / max(steps // 10, 1))

"""What a GPU does otherwise. Run with ``pytest -m gpu`` where there is one; the rest runs anywhere."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from chemmara.language.vocabulary import Vocabulary
from chemmara.policies import slots
from chemmara.policies.decoding import Decoding
from chemmara.policies.slots import sample_in_slots

RECURRENT = ("lstm", "gru")
on_a_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


def rng(policy: Any, seed: int = 0) -> torch.Generator:
    return torch.Generator(policy.device).manual_seed(seed)


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 0.03)])
def test_the_call_for_a_gpu_is_the_module(name: str, dtype: torch.dtype, bound: float, build: Any, tiny: Any) -> None:
    policy = build(name, tiny, spread=2.0)
    embedded = policy.embedding(torch.randint(1, 5, (4, 7), generator=rng(policy))).detach()
    expected = policy.recurrent(embedded)[0]
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        found = policy._on_a_gpu(embedded)
    assert found.dtype == dtype
    assert (found.float() - expected).abs().max() < bound
    found.float().sum().backward()
    gradient = {key: p.grad.clone() for key, p in policy.recurrent.named_parameters()}
    policy.zero_grad()
    expected.sum().backward()
    for key, parameter in policy.recurrent.named_parameters():
        scale = parameter.grad.abs().max()
        assert (gradient[key] - parameter.grad).abs().max() <= 5 * bound * scale


def test_slots_are_kept_for_the_next_call_and_forgotten_with_the_policy(build: Any, tiny: Vocabulary) -> None:
    policy = build("gru", tiny)
    for n in (10, 60, 70):
        sample_in_slots(policy, n, torch.float32, generator=rng(policy), decoding=Decoding(max_tokens=5))
    assert [key[0] for key in slots._kept[policy]] == [64, 128]
    for temperature in torch.linspace(0.5, 2, slots.GRAPHS).tolist():
        sample_in_slots(
            policy, 10, torch.float32, generator=rng(policy), decoding=Decoding(max_tokens=5, temperature=temperature)
        )
    assert len(slots._kept[policy]) == slots.GRAPHS
    before = len(slots._kept)
    del policy
    assert len(slots._kept) == before - 1


def test_more_than_fit_at_once(build: Any, tiny: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "MOST", 100)
    policy = build("gru", tiny)
    sampled = sample_in_slots(policy, 250, torch.float32, generator=rng(policy), decoding=Decoding(max_tokens=5))
    assert len(sampled) == 250


class TestOnAGpu:
    pytestmark = on_a_gpu

    @pytest.fixture(params=["lstm", "gru", "transformer"])
    def policy(self, request: Any, build: Callable[..., Any], vocabularies: Any) -> Any:
        return build(request.param, vocabularies["smiles"], spread=2.0)

    def test_log_prob_and_gradient_are_those_of_the_cpu(self, policy: Any) -> None:
        ids = policy.sample(50, generator=rng(policy), decoding=Decoding(max_tokens=40)).ids
        policy.log_prob(ids).mean().backward()
        expected = {name: p.grad for name, p in policy.named_parameters()}
        # A backward pass of cuDNN rounds to ten bits (TF32) as its user set it, outside the forward pass's context.
        for precision, bound in (("float32", 1e-3), ("bfloat16", 0.1)):
            other = copy.deepcopy(policy).cuda()
            other.precision = precision
            other.zero_grad()
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = other.log_prob(ids)
            assert (found.cpu() - policy.log_prob(ids)).abs().max() < (1e-4 if precision == "float32" else 0.5)
            found.mean().backward()
            for name, parameter in other.named_parameters():
                error = (parameter.grad.cpu() - expected[name]).norm() / expected[name].norm().clamp(min=1e-6)
                assert error < bound, (name, precision)

    def test_the_first_call_and_a_replayed_one_write_the_same(self, policy: Any) -> None:
        other = copy.deepcopy(policy).cuda()
        first, second = (other.sample(100, generator=rng(other), decoding=Decoding(max_tokens=40)) for _ in range(2))
        assert torch.equal(first.ids, second.ids)
        assert torch.equal(first.log_prob, second.log_prob)

    def test_memory_does_not_grow_with_calls(self, policy: Any) -> None:
        other = copy.deepcopy(policy).cuda()
        for number in range(30):
            other.sample(100 + 10 * number, generator=rng(other), decoding=Decoding(max_tokens=40))
            if number == 10:
                held = torch.cuda.memory_reserved()
        assert torch.cuda.memory_reserved() <= held + 64e6

"""Passes that a GPU replays: the same here, operation after operation, but for the capture itself."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from chemmara.language.vocabulary import PAD
from chemmara.policies import graphs
from chemmara.policies.decoding import Decoding

NAMES = ["lstm", "gru", "transformer"]
GPU = torch.cuda.is_available()
ON_A_GPU = [pytest.param((name, "cuda"), marks=pytest.mark.gpu) for name in NAMES] if GPU else []


@pytest.fixture(params=[*((name, "cpu") for name in NAMES), *ON_A_GPU])
def policy(request: Any, build: Any, vocabularies: Any) -> Any:
    name, device = request.param
    return build(name, vocabularies["smiles"], spread=2.0).to(device)


def some_ids(policy: Any, n: int, seed: int = 0, tokens: int = 20) -> Tensor:
    ids: Tensor = policy.sample(
        n, generator=torch.Generator(policy.device).manual_seed(seed), decoding=Decoding(max_tokens=tokens)
    ).ids
    return ids


def gradients(policy: Any, loss: Tensor) -> list[Tensor]:
    policy.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in policy.parameters()]


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    bound = 5e-3 if found[0].is_cuda else 1e-4  # cuDNN goes back in TF32
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= bound * other.norm() + 1e-6


def test_values_and_gradients_are_those_of_the_plain_pass(policy: Any) -> None:
    twin = copy.deepcopy(policy)
    optimizer = torch.optim.SGD(policy.parameters(), lr=1e-3)
    for turn in range(4 * graphs.SIGHTINGS):
        ids = some_ids(policy, 5 + 40 * (turn % 2), seed=turn)
        found, expected = graphs.token_log_probs(policy, ids), twin(ids)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        slope = torch.rand(len(ids), generator=torch.Generator().manual_seed(turn)).to(ids.device)
        wanted = gradients(twin, (expected.sum(1) * slope).sum())
        assert_close(gradients(policy, (found.sum(1) * slope).sum()), wanted)
        optimizer.step()  # in place: a graph reads what the weights are now
        twin.load_state_dict(policy.state_dict())
    assert len(graphs._kept[policy].captured) > 1


def test_of_two_passes_on_their_way_the_second_has_memory_of_its_own(policy: Any) -> None:
    first, second = some_ids(policy, 16, seed=1), some_ids(policy, 16, seed=2)
    for _ in range(graphs.SIGHTINGS + 1):
        waiting = graphs.token_log_probs(policy, first).sum()
        found = waiting + 2 * graphs.token_log_probs(policy, second).sum()
        expected = policy(first).sum() + 2 * policy(second).sum()
        assert_close(gradients(policy, found), gradients(policy, expected))


def test_a_pass_that_never_goes_back_does_not_hold_the_memory(policy: Any) -> None:
    ids = some_ids(policy, 16)
    held = [graphs.token_log_probs(policy, ids) for _ in range(graphs.SIGHTINGS)]
    assert graphs._kept[policy]._claim() is not None
    del held
    assert graphs._kept[policy]._claim() is None


def test_gradients_add_up(policy: Any) -> None:
    ids = some_ids(policy, 16)
    once = gradients(policy, policy(ids).sum())
    for _ in range(3):
        policy.zero_grad()
        for _ in range(3):  # SIGHTINGS are passed on the way
            graphs.token_log_probs(policy, ids).sum().backward()
        assert_close([parameter.grad for parameter in policy.parameters()], [3 * gradient for gradient in once])


def test_going_back_twice_is_refused_and_not_wrong(policy: Any) -> None:
    ids = some_ids(policy, 16)
    for _ in range(graphs.SIGHTINGS):
        loss = graphs.token_log_probs(policy, ids).sum()
        loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="goes back once"):
        loss.backward()


def test_other_weights_make_other_graphs(policy: Any) -> None:
    ids = some_ids(policy, 16)
    for _ in range(graphs.SIGHTINGS):
        graphs.token_log_probs(policy, ids)
    before = graphs._kept[policy].captured
    assert len(before) == 1
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.data = parameter * 0.5
    torch.testing.assert_close(graphs.token_log_probs(policy, ids), policy(ids), rtol=1e-5, atol=1e-5)
    assert not graphs._kept[policy].captured


def test_what_is_not_learned_from_is_not_captured(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = some_ids(policy, 16)
    assert graphs.worth_it(policy, *ids.shape)
    with torch.no_grad():
        assert not graphs.worth_it(policy, *ids.shape)
    monkeypatch.setattr(graphs, "LARGEST", ids.numel() - 1)
    assert not graphs.worth_it(policy, *ids.shape)
    monkeypatch.undo()
    assert not graphs.worth_it(policy, 0, 5)
    next(policy.parameters()).requires_grad_(False)
    assert not graphs.worth_it(policy, *ids.shape)


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_dropout_is_drawn_anew_each_time(name: str, build: Any, vocabularies: Any) -> None:
    policy = build(name, vocabularies["smiles"])
    for module in policy.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
        elif isinstance(module, torch.nn.RNNBase):
            module.dropout = 0.5
    assert graphs.worth_it(policy, 4, 4)
    assert not graphs.worth_it(policy.train(), 4, 4)


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no GPU")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_a_graph_gives_what_the_kernels_give(name: str, precision: str, build: Any, vocabularies: Any) -> None:
    policy = build(name, vocabularies["smiles"], spread=2.0).cuda().train()
    policy.precision = precision
    held = 0
    for turn in range(30):
        ids = some_ids(policy, 64 if turn % 3 else 16, seed=turn % 5, tokens=40)
        padded = torch.zeros(
            (len(ids) + -len(ids) % graphs.ROWS, ids.shape[1] + -ids.shape[1] % graphs.TOKENS), dtype=torch.int64
        ).cuda()
        padded[: len(ids), : ids.shape[1]] = ids
        expected = policy(padded)
        wanted = gradients(policy, expected.sum())
        found = policy.token_log_probs(ids)
        for one, other in zip(gradients(policy, found.sum()), wanted, strict=True):
            assert (one - other).norm() <= 1e-3 * other.norm() + 1e-6
        assert (found - expected[: len(ids), : ids.shape[1]]).abs().max() < 1e-5
        with torch.no_grad():
            for weight in policy.parameters():
                weight += 0.01 * torch.randn_like(weight)
        if turn == 20:
            held = torch.cuda.memory_reserved()
    assert graphs._kept[policy].captured
    assert graphs._kept[policy].works
    assert torch.cuda.memory_reserved() <= held + 64e6
    before = len(graphs._kept)
    del policy
    assert len(graphs._kept) == before - 1


def test_few_shapes_are_kept(build: Any, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "SHAPES", 3)
    policy = build("gru", tiny)
    for rows in (1, 33, 65, 97, 129, 98):
        ids = torch.full((rows, 4), PAD + 2)
        for _ in range(graphs.SIGHTINGS):
            graphs.token_log_probs(policy, ids)
    assert [shape[0] for shape in graphs._kept[policy].captured] == [96, 160, 128]


def test_where_no_graph_can_be_made_the_pass_is_plain(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, "_captured", fails)
    ids = some_ids(policy, 16)
    for _ in range(graphs.SIGHTINGS - 1):
        graphs.token_log_probs(policy, ids)
    with pytest.warns(RuntimeWarning, match="no CUDA graph could be made, learning is slower: operation not permitted"):
        found = graphs.token_log_probs(policy, ids)
    torch.testing.assert_close(found, policy(ids), rtol=1e-5, atol=1e-5)
    graphs.token_log_probs(policy, ids)  # and says so once

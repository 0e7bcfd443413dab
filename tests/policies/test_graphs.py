"""Passes that a GPU replays: the same here, operation after operation, but for the capture itself."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from chemmara.language.vocabulary import PAD
from chemmara.policies import graphs
from chemmara.policies.decoding import Decoding
from chemmara.policies.lstm import LstmPolicy
from chemmara.policies.precision import gains_from_bfloat16

NAMES = ["lstm", "gru", "transformer"]
GPU = torch.cuda.is_available()
ON_A_GPU = [pytest.param((name, "cuda"), marks=pytest.mark.gpu) for name in NAMES] if GPU else []


@pytest.fixture(params=[*((name, "cpu") for name in NAMES), *ON_A_GPU])
def policy(request: Any, build: Any, vocabularies: Any) -> Any:
    name, device = request.param
    return build(name, vocabularies["smiles"], spread=2.0).to(device)


def needs_bfloat16(policy: Any) -> None:
    """Skip where torch has no LSTM in bfloat16 for this processor; a policy goes another way there than its graphs."""
    if isinstance(policy, LstmPolicy) and not gains_from_bfloat16(policy.device):
        pytest.skip("no bfloat16 LSTM for this processor")


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
    with torch.autocast(policy.device.type, dtype=torch.bfloat16):
        assert not graphs.worth_it(policy, *ids.shape)
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


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_graph_gives_the_very_numbers_of_the_kernels(precision: str, build: Any, vocabularies: Any) -> None:
    """A resumed run has its graphs later than one that was not interrupted."""
    policy = build("lstm", vocabularies["smiles"], spread=2.0).cuda().train()
    policy.precision = precision
    ids = some_ids(policy, 64, tokens=40)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        values, slopes = [], []
        for _ in range(graphs.SIGHTINGS + 2):
            values.append(policy.token_log_probs(ids))
            slopes.append(gradients(policy, values[-1].sum()))
    finally:
        torch.use_deterministic_algorithms(False)
    assert graphs._kept[policy].captured
    assert all(torch.equal(value, values[0]) for value in values)
    for slope in slopes:
        assert all(torch.equal(one, first) for one, first in zip(slope, slopes[0], strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no GPU")
def test_after_what_cannot_be_captured_all_goes_on(
    build: Any, vocabularies: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = build("lstm", vocabularies["smiles"]).cuda()
    ids, stream = some_ids(policy, 16), torch.cuda.current_stream()
    forward = type(policy).forward

    def looks(self: Any, ids: Tensor) -> Tensor:
        found: Tensor = forward(self, ids)
        found.sum().item()  # stops the GPU, which a capture forbids
        return found

    monkeypatch.setattr(type(policy), "forward", looks)
    for _ in range(graphs.SIGHTINGS - 1):
        policy.token_log_probs(ids)
    with pytest.warns(RuntimeWarning, match="no CUDA graph"):
        policy.token_log_probs(ids)
    assert torch.cuda.current_stream() == stream
    monkeypatch.undo()
    torch.testing.assert_close(policy.token_log_probs(ids), policy(ids), rtol=1e-4, atol=1e-4)
    assert len(some_ids(policy, 100)) == 100


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no GPU")
def test_shapes_share_their_memory(vocabularies: Any) -> None:
    from chemmara.policies.policy import POLICIES

    entry = POLICIES["lstm"]
    policy = entry.item(vocabularies["smiles"], entry.parameters()).cuda()
    held = []
    for tokens in (104, 96, 88, 80, 72):
        ids = torch.randint(3, 6, (256, tokens), device="cuda")
        for _ in range(graphs.SIGHTINGS + 1):
            policy.log_prob(ids).mean().backward()
        held.append(torch.cuda.memory_reserved())
    assert len(graphs._kept[policy].captured) == 5
    assert held[-1] <= held[0] + 0.5 * (held[0] - torch.cuda.memory_allocated())


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

    monkeypatch.setattr(graphs, "captured", fails)
    ids = some_ids(policy, 16)
    for _ in range(graphs.SIGHTINGS - 1):
        graphs.token_log_probs(policy, ids)
    with pytest.warns(RuntimeWarning, match="no CUDA graph could be made, learning is slower: operation not permitted"):
        found = graphs.token_log_probs(policy, ids)
    torch.testing.assert_close(found, policy(ids), rtol=1e-5, atol=1e-5)
    assert not graphs._kept[policy].captured
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it says so once
        for _ in range(graphs.SIGHTINGS):
            graphs.token_log_probs(policy, ids)
    needs_bfloat16(policy)
    policy.precision = "bfloat16"
    monkeypatch.undo()
    for _ in range(graphs.SIGHTINGS):  # other kernels, another try
        graphs.token_log_probs(policy, ids)
    assert graphs._kept[policy].captured


def test_another_precision_makes_other_graphs(policy: Any) -> None:
    needs_bfloat16(policy)
    ids = some_ids(policy, 16)
    for precision in ("float32", "bfloat16", "float32"):
        policy.precision = precision
        for _ in range(graphs.SIGHTINGS + 1):
            found = graphs.token_log_probs(policy, ids)
        assert (found - policy(ids)).abs().max() < (1e-5 if precision == "float32" else 0.05)
        assert len(graphs._kept[policy].captured) == 1
        assert graphs._kept[policy].made_for[0] == precision


def test_what_a_pass_gave_stays_when_the_next_runs_in_its_memory(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = some_ids(policy, 32, seed=1), some_ids(policy, 32, seed=2)
    weights = list(policy.parameters())
    shape = torch.Size((32, max(first.shape[1], second.shape[1])))
    padded = [torch.zeros(shape, dtype=torch.int64, device=ids.device) for ids in (first, second)]
    for to, ids in zip(padded, (first, second), strict=True):
        to[:, : ids.shape[1]] = ids

    def into_one_buffer(ways: Any, *_: Any) -> Any:
        there, back = ways
        one = there.__closure__[[*there.__code__.co_freevars].index("self")].cell_contents
        there()
        memory = one.found.detach().clone()

        def there_again() -> None:
            there()
            one.found = memory.copy_(one.found.detach())

        def back_again() -> None:
            there()  # the way back needs what the way there keeps
            back()

        return there_again, back_again

    if weights[0].device.type == "cpu":
        monkeypatch.setattr(graphs, "captured", into_one_buffer)
    for _ in range(graphs.SIGHTINGS):
        value = graphs.token_log_probs(policy, padded[0])
        slope = torch.autograd.grad(value.sum(), weights)
        was = value.detach().clone(), [part.clone() for part in slope]
        other = graphs.token_log_probs(policy, padded[1])
        torch.autograd.grad(other.sum(), weights)
        assert torch.equal(value, was[0])
        assert all(torch.equal(one, before) for one, before in zip(slope, was[1], strict=True))
    assert graphs._kept[policy].captured


def test_weights_that_change_before_the_way_back_are_refused(policy: Any) -> None:
    ids = some_ids(policy, 16)
    for _ in range(graphs.SIGHTINGS):
        loss = graphs.token_log_probs(policy, ids).sum()
    with torch.no_grad():
        next(policy.parameters()).mul_(1.1)
    with pytest.raises(RuntimeError, match="modified by an in-place operation"):
        loss.backward()


def test_released_memory_is_taken_anew(policy: Any) -> None:
    ids = some_ids(policy, 16)
    for _ in range(graphs.SIGHTINGS):
        graphs.token_log_probs(policy, ids)
    policy.release()
    assert policy not in graphs._kept
    torch.testing.assert_close(graphs.token_log_probs(policy, ids), policy(ids), rtol=1e-5, atol=1e-5)

"""The LSTM without padding against torch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chemmara.policies.packed import Packing, packed_lstm

lengths = st.lists(st.integers(0, 9), min_size=1, max_size=20).filter(any)


@settings(max_examples=30, deadline=None)
@given(lengths=lengths, seed=st.integers(0, 1000))
def test_values_and_gradients_are_those_of_torch(lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    lstm = torch.nn.LSTM(5, 7, 2, batch_first=True).double()
    x = torch.randn(len(lengths), max(lengths) + 1, 5, dtype=torch.float64, requires_grad=True)
    packing = Packing(torch.tensor(lengths))
    mask = packing.unpack(torch.ones(sum(lengths)), x.shape[1]).bool()
    assert mask.sum(1).tolist() == lengths
    weights = torch.randn(*x.shape[:2], 7, dtype=torch.float64)

    expected = (lstm(x)[0] * weights * mask[..., None]).sum()
    # The cell is float32 by design, so the comparison is to its precision.
    hidden = packed_lstm(lstm, packing.pack(x), packing, torch.float64)
    assert not hidden[sum(lengths) :].any()
    hidden = hidden[: sum(lengths)]
    found = (hidden * packing.pack(weights)).sum()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    of = [x, *lstm.parameters()]
    for one, other in zip(torch.autograd.grad(found, of), torch.autograd.grad(expected, of), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_rows_do_not_touch_each_other() -> None:
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(3, 4, 1, batch_first=True)
    x = torch.randn(3, 6, 3)
    packing = Packing(torch.tensor([2, 6, 4]))
    hidden = packed_lstm(lstm, packing.pack(x), packing, torch.float32)[:12]
    first = packing.unpack(hidden[:, 0], 6)
    changed = x.clone()
    changed[1] += 1.0
    again = packing.unpack(packed_lstm(lstm, packing.pack(changed), packing, torch.float32)[:12, 0], 6)
    assert torch.equal(first[[0, 2]], again[[0, 2]])
    assert not torch.equal(first[1], again[1])


def test_packing_and_unpacking_are_inverse() -> None:
    ids = torch.tensor([[5, 6, 0, 0], [7, 8, 9, 4], [3, 0, 0, 0]])
    packing = Packing((ids != 0).sum(1))
    assert packing.sizes == [3, 2, 1, 1]
    assert packing.pack(ids).tolist() == [7, 5, 3, 8, 6, 9, 4]  # longest row first, time by time
    assert torch.equal(packing.unpack(packing.pack(ids), 4), ids)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_acts_between_layers_in_training_alone(training: bool) -> None:
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(3, 4, 2, batch_first=True, dropout=0.5).train(training)
    packing = Packing(torch.tensor([5, 3]))
    x = packing.pack(torch.randn(2, 5, 3))
    one, other = (packed_lstm(lstm, x, packing, torch.float32) for _ in range(2))
    assert torch.equal(one, other) is not training

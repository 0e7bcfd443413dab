"""Repeated sequences: computed once, with the values and gradients of all rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from chemmara.language.vocabulary import Vocabulary, pad
from chemmara.optimization.repeats import of_rows, once_each
from chemmara.policies.lstm import LstmPolicy
from chemmara.policies.recurrent import LstmParameters

TEXTS = ["CCO", "CC", "C(C)O", "CCO", "CC", "CCO"]


@pytest.fixture(scope="module")
def policy() -> LstmPolicy:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = LstmPolicy(
            Vocabulary.from_tokens(["C", "O", "(", ")"]), LstmParameters(embedding_size=4, hidden_size=8, layers=2)
        )
    made.precision = "float32"
    return made.double()


def test_a_loss_over_repeats_has_the_gradients_of_every_row(policy: LstmPolicy) -> None:
    ids = torch.from_numpy(pad([policy.vocabulary.encode(text) for text in TEXTS]))
    weights = torch.arange(1.0, len(TEXTS) + 1)
    rows: list[int] = []

    def counted(part: Tensor) -> Tensor:
        rows.append(len(part))
        return policy.log_prob(part)

    answers = []
    for log_prob in (policy.log_prob(ids), once_each(counted, ids)):
        policy.zero_grad()
        torch.autograd.backward((weights * log_prob.square()).sum())
        answers.append([log_prob.detach(), *(p.grad.clone() for p in policy.parameters() if p.grad is not None)])
    assert rows == [3]
    assert len(answers[0]) == len(answers[1]) > 5
    for plain, once in zip(*answers):
        torch.testing.assert_close(once, plain, rtol=1e-5, atol=1e-6)


def test_token_by_token(policy: LstmPolicy) -> None:
    ids = torch.from_numpy(pad([policy.vocabulary.encode(text) for text in TEXTS]))
    found = once_each(policy.token_log_probs, ids)
    torch.testing.assert_close(found, policy.token_log_probs(ids))
    assert found.shape == ids.shape


@settings(max_examples=50)
@given(rows=st.lists(st.lists(st.integers(1, 2), min_size=2, max_size=2), min_size=1, max_size=12))
def test_each_row_is_asked_once_and_answered_everywhere(rows: list[list[int]]) -> None:
    asked: list[list[int]] = []

    def value(ids: Tensor) -> Tensor:
        asked.extend(ids.tolist())
        return (ids * torch.tensor([10, 1])).sum(1)

    assert once_each(value, torch.tensor(rows)).tolist() == [10 * a + b for a, b in rows]
    assert asked == list(map(list, dict.fromkeys(map(tuple, rows)))), "once each, in the order in which they come"


@given(wanted=st.lists(st.booleans(), min_size=len(TEXTS), max_size=len(TEXTS)))
@settings(max_examples=20, deadline=None)
def test_rows_that_are_not_wanted_are_not_computed(policy: LstmPolicy, wanted: list[bool]) -> None:
    ids = torch.from_numpy(pad([policy.vocabulary.encode(text) for text in TEXTS]))
    rows: list[int] = []

    def counted(part: Tensor) -> Tensor:
        rows.append(len(part))
        return policy.log_prob(part).detach()

    found = of_rows(counted, ids, np.array(wanted))
    assert sum(rows) == sum(wanted)
    expected = policy.log_prob(ids).detach()
    expected[~torch.tensor(wanted)] = torch.nan
    torch.testing.assert_close(found, expected.to(found.dtype), equal_nan=True, atol=1e-5, rtol=0)

"""Policies given how their sequences begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from chemmara.language.vocabulary import Vocabulary, pad
from chemmara.policies.begun import BegunPolicy, given
from chemmara.policies.decoding import Decoding
from chemmara.policies.policy import POLICIES
from chemmara.policies.starts import likeliest_starts, prefix_start, readable

Build = Callable[..., Any]
TEXTS = ["c1cnccc1", "O=C(O)C"]
SHORT = Decoding(max_tokens=20)


@pytest.fixture(params=POLICIES.names())
def network(request: pytest.FixtureRequest, build: Build, vocabularies: dict[str, Vocabulary]) -> Any:
    return build(request.param, vocabularies["smiles"], spread=2.0)


def test_sampled_log_probabilities_are_those_of_what_follows(network: Any) -> None:
    policy = BegunPolicy(network, TEXTS)
    sampled = policy.sample(60, generator=torch.Generator().manual_seed(0), decoding=SHORT)
    assert torch.allclose(policy.log_prob(sampled.ids), sampled.log_prob, atol=1e-3)
    for row in sampled.ids.tolist():
        start = next(start for start in policy.vocabulary.starts if tuple(row[: len(start)]) == start)
        alone = float(network.log_prob(torch.tensor([start])).detach())
        whole = float(network.log_prob(torch.tensor([row])).detach())
        assert float(policy.log_prob(torch.tensor([row])).detach()) == pytest.approx(whole - alone, abs=1e-3)


def test_every_beginning_has_its_turn_in_random_order(network: Any) -> None:
    policy = BegunPolicy(network, TEXTS)
    ids = policy.sample(200, generator=torch.Generator().manual_seed(1), decoding=SHORT).ids
    first = [int(row[0] == policy.vocabulary.starts[0][0]) for row in ids]
    assert 70 < sum(first) < 130
    assert first != sorted(first)
    assert first != sorted(first, reverse=True)


def test_rows_keep_their_log_probability_when_they_are_put_in_order(network: Any) -> None:
    """One beginning drawn after the other, and the rows then mixed: each with its own number."""
    policy = BegunPolicy(network, TEXTS)
    sampled = policy.sample(40, generator=torch.Generator().manual_seed(2), decoding=SHORT)
    again = torch.cat([policy.log_prob(sampled.ids[k : k + 1]) for k in range(40)])
    assert torch.allclose(again, sampled.log_prob, atol=1e-3)


def test_no_gradient_goes_to_how_likely_the_scaffold_is(network: Any) -> None:
    """A model that only reads what comes before has the same slope as of the whole, less that of the beginning."""
    policy = BegunPolicy(network, TEXTS[:1])
    ids = policy.sample(8, generator=torch.Generator().manual_seed(3), decoding=SHORT).ids
    start = torch.tensor([policy.vocabulary.starts[0]] * 8)
    weights = [weight for weight in network.parameters() if weight.requires_grad]

    def slope(value: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(value.sum(), weights))

    own, whole, alone = slope(policy.log_prob(ids)), slope(network.log_prob(ids)), slope(network.log_prob(start))
    for mine, all_of_it, beginning in zip(own, whole, alone, strict=True):
        assert torch.allclose(mine, all_of_it - beginning, atol=1e-3)


def test_other_sequences_are_none_of_its(network: Any) -> None:
    policy = BegunPolicy(network, TEXTS)
    with pytest.raises(ValueError, match="begins as none"):
        policy.log_prob(torch.from_numpy(pad([network.vocabulary.encode("CCO")])))


def test_without_beginnings_it_is_the_network(network: Any) -> None:
    assert given(network, []) is network
    assert isinstance(given(network, TEXTS), BegunPolicy)


def test_the_likeliest_spelling_of_each_end_is_taken(build: Build, vocabularies: dict[str, Vocabulary]) -> None:
    network = build("lstm", vocabularies["smiles"], spread=2.0)
    [ends] = readable(network.vocabulary, "*c1ccncc1", 160)
    [start] = likeliest_starts(network, "*c1ccncc1", 160)

    def nats(text: str) -> float:
        return float(network.log_prob(torch.tensor([prefix_start(network.vocabulary, text, 160)])).detach())

    assert nats(start) == pytest.approx(max(map(nats, ends)), abs=1e-4)
    assert len(likeliest_starts(network, "c1ccncc1", 160)) == 3


def test_a_beginning_that_goes_on_from_another_is_left_out(build: Build, vocabularies: dict[str, Vocabulary]) -> None:
    """Else what follows the shorter one would follow the longer one as well."""
    network = build("lstm", vocabularies["smiles"], spread=2.0)
    for scaffold in ("CCO", "CCN", "CCCC"):
        rows = [network.vocabulary.encode(text)[:-1] for text in likeliest_starts(network, scaffold, 160)]
        assert not [(a, b) for a in rows for b in rows if len(a) < len(b) and b[: len(a)] == a]

"""What every registered policy must hold, whatever its architecture and tokenizer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from chemmara.language.tokenizers import TOKENIZERS
from chemmara.language.vocabulary import END, PAD, START, Vocabulary
from chemmara.policies.decoding import Decoding
from chemmara.policies.network import TokenNetwork
from chemmara.policies.policy import POLICIES
from chemmara.policies.transformer import TransformerPolicy

MAX_TOKENS = 40


GPU = torch.cuda.is_available()
WAYS = ["in turn", "in slots", *([pytest.param("on a GPU", marks=pytest.mark.gpu)] if GPU else [])]
"""How sequences are written: on a CPU, by a GPU's steps on the CPU, and on a GPU."""
TOKENIZED = [
    *(("in turn", name) for name in TOKENIZERS.names()),
    ("in slots", "smiles"),
    *([pytest.param("on a GPU", "smiles", marks=pytest.mark.gpu)] if GPU else []),
]


def rng(policy: Any, seed: int = 0) -> torch.Generator:
    return torch.Generator(policy.device).manual_seed(seed)


@pytest.mark.parametrize("architecture", POLICIES.names())
class PolicyContract:
    """Inherited below: with each tokenizer, and on a vocabulary so small that all sequences can be listed."""

    @pytest.fixture(autouse=True)
    def on(self, way: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
        """The device. Slots that are fewer than the sequences take up several, one after the other."""
        monkeypatch.setattr("chemmara.policies.network.in_slots", lambda device: way != "in turn")
        for policy in (TokenNetwork, TransformerPolicy):
            monkeypatch.setattr(policy, "slot_limit", 64)
        with torch.device("cuda" if way == "on a GPU" else "cpu") as device:
            yield device

    @staticmethod
    def made(build: Callable[..., Any], on: torch.device, *arguments: Any, spread: float) -> Any:
        """The same weights on every device."""
        with torch.device("cpu"):
            return build(*arguments, spread=spread).to(on)


@pytest.mark.parametrize(("way", "tokenizer"), TOKENIZED)
class TestWithEachTokenizer(PolicyContract):
    @pytest.fixture
    def policy(
        self, on: torch.device, architecture: str, tokenizer: str, build: Callable[..., Any], vocabularies: dict
    ) -> Any:
        return self.made(build, on, architecture, vocabularies[tokenizer], spread=2.0)

    def test_log_prob_is_that_of_the_sample(self, policy: Any) -> None:
        sampled = policy.sample(300, generator=rng(policy), decoding=Decoding(max_tokens=MAX_TOKENS))
        assert sampled.log_prob.dtype == torch.float32
        assert sampled.log_prob.shape == (300,)
        torch.testing.assert_close(policy.log_prob(sampled.ids), sampled.log_prob, rtol=0, atol=1e-4)

    def test_sequences_end_once_and_are_padded_after(self, policy: Any) -> None:
        ids = policy.sample(300, generator=rng(policy), decoding=Decoding(max_tokens=MAX_TOKENS)).ids
        assert ids.dtype == torch.int64
        assert ids.shape[1] <= MAX_TOKENS
        ended = (ids == END).int().cumsum(1) - (ids == END).int() > 0
        assert ((ids == PAD) == ended).all()
        assert not (ids == START).any()
        assert int((ids == END).any(1).sum()) > 200  # else the test sees no padding

    @pytest.mark.parametrize("limit", [1, 3, 10])
    def test_max_tokens_is_a_limit(self, policy: Any, limit: int) -> None:
        sampled = policy.sample(100, generator=rng(policy), decoding=Decoding(max_tokens=limit))
        assert sampled.ids.shape == (100, limit)
        unended = ~(sampled.ids == END).any(1)
        assert unended.any()
        assert (sampled.ids[unended] != PAD).all()
        torch.testing.assert_close(policy.log_prob(sampled.ids), sampled.log_prob, rtol=0, atol=1e-4)

    def test_padding_changes_no_log_prob(self, policy: Any) -> None:
        ids = policy.sample(20, generator=rng(policy), decoding=Decoding(max_tokens=MAX_TOKENS)).ids
        wider = torch.nn.functional.pad(ids, (0, 7), value=PAD)
        # Relative too: sums over forty tokens are near -100 nats, where float32 has steps of 1e-5.
        torch.testing.assert_close(policy.log_prob(wider), policy.log_prob(ids), rtol=1e-6, atol=1e-5)
        alone = torch.cat([policy.log_prob(row[row != PAD][None]) for row in ids])
        torch.testing.assert_close(alone, policy.log_prob(ids), rtol=1e-6, atol=1e-5)

    def test_the_generator_decides_alone(self, policy: Any) -> None:
        state = torch.get_rng_state()
        first = policy.sample(50, generator=rng(policy, 5), decoding=Decoding(max_tokens=MAX_TOKENS))
        torch.rand(3)
        second = policy.sample(50, generator=rng(policy, 5), decoding=Decoding(max_tokens=MAX_TOKENS))
        assert torch.equal(first.ids, second.ids)
        assert torch.equal(first.log_prob, second.log_prob)
        other = policy.sample(50, generator=rng(policy, 6), decoding=Decoding(max_tokens=MAX_TOKENS))
        assert not torch.equal(first.log_prob, other.log_prob)
        torch.set_rng_state(state)
        policy.sample(5, generator=rng(policy), decoding=Decoding(max_tokens=5))
        assert torch.equal(torch.get_rng_state(), state)

    def test_log_prob_has_a_gradient_that_raises_it(self, policy: Any) -> None:
        ids = policy.sample(10, generator=rng(policy), decoding=Decoding(max_tokens=MAX_TOKENS)).ids
        before = policy.log_prob(ids).sum()
        before.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in policy.parameters())
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.add_(1e-4 * parameter.grad)
        assert policy.log_prob(ids).sum() > before
        policy.zero_grad()

    def test_a_sample_carries_no_gradient(self, policy: Any) -> None:
        assert not policy.sample(5, generator=rng(policy), decoding=Decoding(max_tokens=5)).log_prob.requires_grad

    def test_samples_follow_the_weights_of_the_moment(self, policy: Any) -> None:
        """A GPU keeps copies of them between one call and the next."""
        for change in (1.0, -0.5):
            with torch.no_grad():
                for parameter in policy.parameters():
                    parameter.mul_(change)
            for temperature in (1.0, 0.5):
                sampled = policy.sample(
                    70, generator=rng(policy), decoding=Decoding(max_tokens=20, temperature=temperature)
                )
                if temperature == 1:
                    torch.testing.assert_close(policy.log_prob(sampled.ids), sampled.log_prob, rtol=0, atol=1e-4)

    def test_many_samples_come_in_batches(self, policy: Any) -> None:
        assert len(policy.sample(1100, generator=rng(policy), decoding=Decoding(max_tokens=5))) == 1100
        assert len(policy.sample(0, generator=rng(policy), decoding=Decoding(max_tokens=5))) == 0

    @pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"temperature": -1.0}, {"max_tokens": 0}])
    def test_senseless_options_are_refused(self, policy: Any, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="must be positive"):
            policy.sample(2, generator=rng(policy), decoding=Decoding(**wrong))

    @pytest.mark.parametrize("options", [{"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}, {"prefix": (3,) * 160}])
    def test_senseless_limits_are_refused(self, policy: Any, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="out of range"):
            policy.sample(2, generator=rng(policy), decoding=Decoding(**options))

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_a_prefix_begins_every_sequence_and_the_rest_follows_from_it(self, policy: Any, precision: str) -> None:
        policy.precision = precision
        prefix = (4, 5, 3, 6)
        sampled = policy.sample(200, generator=rng(policy), decoding=Decoding(max_tokens=MAX_TOKENS, prefix=prefix))
        assert (sampled.ids[:, :4] == torch.tensor(prefix)).all()
        assert sampled.ids.shape[1] <= MAX_TOKENS
        given = policy.token_log_probs(sampled.ids)[:, 4:].sum(1)
        torch.testing.assert_close(given, sampled.log_prob, rtol=0, atol=1e-4 if precision == "float32" else 0.5)

    def test_the_likeliest_tokens_alone(self, policy: Any) -> None:
        """Greedy sampling is one sequence, whose first token is the likeliest."""
        firsts = policy.log_prob(torch.arange(END, len(policy.vocabulary))[:, None])
        for options in ({"top_k": 1}, {"top_p": 1e-6}):
            sampled = policy.sample(20, generator=rng(policy), decoding=Decoding(max_tokens=8, **options))
            assert len(set(map(tuple, sampled.ids.tolist()))) == 1
            assert sampled.ids[0, 0] == firsts.argmax() + END
            assert sampled.log_prob.abs().max() < 1e-6

    def test_bfloat16_stays_close_to_float32(self, policy: Any) -> None:
        """The bound of this small model; policies.precision states what was measured on the real one."""
        policy.precision = "bfloat16"
        sampled = policy.sample(300, generator=rng(policy), decoding=Decoding(max_tokens=MAX_TOKENS))
        reduced = policy.log_prob(sampled.ids)
        policy.precision = "float32"
        exact = policy.log_prob(sampled.ids)
        assert reduced.dtype == torch.float32
        for error in (sampled.log_prob - exact, reduced - exact):
            assert error.abs().max() < 0.3
            assert abs(error.mean()) < 0.03
            assert error.abs().max() > 1e-4  # bfloat16 was really used


class TinyVocabulary(PolicyContract):
    """All sequences can be listed, so their frequencies can be compared with their probabilities."""

    LENGTH = 6

    @pytest.fixture
    def policy(self, on: torch.device, architecture: str, build: Callable[..., Any], tiny: Vocabulary) -> Any:
        return self.made(build, on, architecture, tiny, spread=6.0)

    def all_sequences(self, tiny: Vocabulary) -> torch.Tensor:
        """Every sequence that ends within LENGTH tokens, and every one that is cut there."""
        tokens = range(END + 1, len(tiny))
        rows = [
            [*word, END] + [PAD] * (self.LENGTH - length - 1)
            for length in range(self.LENGTH)
            for word in itertools.product(tokens, repeat=length)
        ]
        rows += [list(word) for word in itertools.product(tokens, repeat=self.LENGTH)]
        return torch.tensor(rows)

    def count(self, policy: Any, tiny: Vocabulary, n: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        sequences = self.all_sequences(tiny)
        number = {tuple(row): i for i, row in enumerate(sequences.tolist())}
        sampled = policy.sample(
            n, generator=rng(policy, 1), decoding=Decoding(max_tokens=self.LENGTH, temperature=temperature)
        )
        observed = np.zeros(len(sequences))
        for row in sampled.ids.tolist():
            observed[number[tuple(row)]] += 1
        with torch.no_grad():
            expected = policy.log_prob(sequences).double().exp().cpu().numpy()
        return observed, n * expected / expected.sum()

    @staticmethod
    def pool(observed: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rare sequences as one class, as the chi-square test asks."""
        common = expected >= 10
        return (
            np.append(observed[common], observed[~common].sum()),
            np.append(expected[common], expected[~common].sum()),
        )


@pytest.mark.parametrize("way", WAYS)
class TestOnATinyVocabulary(TinyVocabulary):
    def test_probabilities_sum_to_one(self, policy: Any, tiny: Vocabulary) -> None:
        total = policy.log_prob(self.all_sequences(tiny)).double().exp().sum()
        assert total.item() == pytest.approx(1.0, abs=1e-5)

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_samples_follow_the_distribution(self, policy: Any, tiny: Vocabulary, precision: str) -> None:
        policy.precision = precision
        observed, expected = self.count(policy, tiny, 8000, 1.0)
        # 1e-4: there are half a dozen of these for each architecture, and each must pass.
        assert chisquare(*self.pool(observed, expected)).pvalue > 1e-4

    def test_the_test_above_can_fail(self, policy: Any, tiny: Vocabulary) -> None:
        observed, expected = self.count(policy, tiny, 8000, 1.3)
        assert chisquare(*self.pool(observed, expected)).pvalue < 1e-6

    @pytest.mark.parametrize("temperature", [0.7, 2.0])
    def test_temperature_divides_the_logits(self, policy: Any, tiny: Vocabulary, temperature: float) -> None:
        """The first token follows p^(1/T), normalised, and that is the log-probability that comes with it."""
        firsts = torch.arange(END, len(tiny))
        with torch.no_grad():
            expected = torch.log_softmax(policy.log_prob(firsts[:, None]) / temperature, dim=0)
        sampled = policy.sample(
            4000, generator=rng(policy, 2), decoding=Decoding(max_tokens=1, temperature=temperature)
        )
        drawn = sampled.ids[:, 0] - END
        torch.testing.assert_close(sampled.log_prob, expected[drawn], rtol=0, atol=2e-5)
        counts = torch.bincount(drawn, minlength=len(firsts))
        assert chisquare(counts.cpu(), 4000 * expected.double().softmax(0).cpu()).pvalue > 1e-3

    @pytest.mark.parametrize(("options", "kept"), [({"top_k": 2}, 2), ({"top_p": 0.999}, 3), ({"top_p": 0.5}, None)])
    def test_what_is_left_is_normalised(
        self, policy: Any, tiny: Vocabulary, options: dict[str, Any], kept: int | None
    ) -> None:
        firsts = torch.arange(END, len(tiny))
        with torch.no_grad():
            probabilities = policy.log_prob(firsts[:, None]).exp()
        order = probabilities.argsort(descending=True)
        if kept is None or "top_p" in options:
            before = probabilities[order].cumsum(0) - probabilities[order]
            kept = int((before < options["top_p"]).sum())
        expected = torch.full_like(probabilities, -torch.inf)
        expected[order[:kept]] = (probabilities[order[:kept]] / probabilities[order[:kept]].sum()).log()
        sampled = policy.sample(2000, generator=rng(policy, 3), decoding=Decoding(max_tokens=1, **options))
        torch.testing.assert_close(sampled.log_prob, expected[sampled.ids[:, 0] - END], rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["in turn"])
@pytest.mark.parametrize("share", [0.0, 2.0], ids=["dropped at once", "never dropped"])
class TestDroppingRowsThatHaveEnded(TinyVocabulary):
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_changes_no_distribution(
        self, policy: Any, tiny: Vocabulary, share: float, precision: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chemmara.policies.generation.DROP_SHARE", share)
        policy.precision = precision
        observed, expected = self.count(policy, tiny, 8000, 1.0)
        assert chisquare(*self.pool(observed, expected)).pvalue > 1e-4


def test_a_policy_without_slots_writes_in_turn_on_a_gpu_too(
    build: Callable[..., Any], tiny: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = build("gru", tiny, spread=2.0)
    expected = policy.sample(50, generator=rng(policy), decoding=Decoding(max_tokens=5))
    monkeypatch.setattr(type(policy), "slots", TokenNetwork.slots)
    monkeypatch.setattr("chemmara.policies.network.in_slots", lambda device: True)
    found = policy.sample(50, generator=rng(policy), decoding=Decoding(max_tokens=5))
    assert torch.equal(found.ids, expected.ids)
    assert torch.equal(found.log_prob, expected.log_prob)

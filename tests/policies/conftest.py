"""Small policies of every registered architecture, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from chemmara.language.tokenizers import TOKENIZERS
from chemmara.language.vocabulary import Vocabulary
from chemmara.policies.policy import POLICIES

DRUGS = ["CC(=O)Oc1ccccc1C(=O)O", "CC(=O)Nc1ccc(O)cc1", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "BrCCCl"]
# A registered policy that is not named here is built with its defaults.
SMALL: dict[str, dict[str, Any]] = {
    "lstm": {"embedding_size": 8, "hidden_size": 16, "layers": 2},
    "gru": {"embedding_size": 8, "hidden_size": 16, "layers": 2},
    "transformer": {"width": 16, "layers": 2, "heads": 2},
}


def build_policy(name: str, vocabulary: Vocabulary, seed: int = 0, spread: float = 1.0) -> Any:
    """A policy in float32; ``spread`` widens its weights, so that its distribution is far from uniform."""
    entry = POLICIES[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        policy = entry.item(vocabulary, entry.parameters(**SMALL.get(name, {})))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(spread)
    policy.precision = "float32"
    return policy.eval()


@pytest.fixture(scope="session")
def build() -> Callable[..., Any]:
    return build_policy


@pytest.fixture(scope="session")
def vocabularies() -> dict[str, Vocabulary]:
    """The tokens of a few drugs, by tokenizer."""
    return {
        name: Vocabulary.from_tokens(sorted({t for s in DRUGS for t in TOKENIZERS[name].item().split(s)}), name)
        for name in TOKENIZERS.names()
    }


@pytest.fixture(scope="session")
def tiny() -> Vocabulary:
    """Two tokens and the end."""
    return Vocabulary.from_tokens(["C", "O"])

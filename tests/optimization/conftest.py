"""A prior small enough to test with: random weights over SELFIES, so that nearly everything it writes is a molecule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DRUGS = ["CC(=O)Oc1ccccc1C(=O)O", "CC(=O)Nc1ccc(O)cc1", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "CC(C)Cc1ccc(cc1)C(C)C(=O)O"]


@pytest.fixture(autouse=True)
def _undrawn(undrawn: None) -> None:
    """Of many small runs each writes a report, and what is drawn in it matters to none of these tests."""


@pytest.fixture(scope="session")
def selfies_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from chemmara.language.tokenizers import SelfiesTokenizer
    from chemmara.language.vocabulary import Vocabulary
    from chemmara.policies.lstm import LstmPolicy
    from chemmara.policies.recurrent import LstmParameters
    from chemmara.policies.storage import save_policy

    tokens = [token for smiles in DRUGS for token in SelfiesTokenizer().split(smiles)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = LstmParameters(embedding_size=8, hidden_size=16, layers=1)
        policy = LstmPolicy(Vocabulary.from_tokens(sorted(set(tokens)), "selfies"), shape)
    return save_policy(policy, tmp_path_factory.mktemp("prior") / "policy.safetensors")


@pytest.fixture
def config(selfies_prior: Path) -> Callable[..., dict[str, Any]]:
    """A small config; keywords replace its tables."""

    def make(**tables: Any) -> dict[str, Any]:
        return {
            "prior": str(selfies_prior),
            "oracle_budget": 48,
            "batch_size": 8,
            "max_tokens": 24,
            "threshold": 0.4,
            "execution": {"threads": 1, "device": "cpu"},
            "scoring": {
                "component": [
                    {"name": "qed"},
                    {
                        "name": "molecular_weight",
                        "transform": {"name": "double_sigmoid", "low": 50.0, "high": 300.0},
                        "weight": 0.5,
                    },
                ]
            },
            **tables,
        }

    return make

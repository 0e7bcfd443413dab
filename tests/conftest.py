"""What several rooms' tests share: a tiny prior, fitted in seconds to a few drugs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch is imported: several test processes with several threads each are slower than one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Figures of the CPU are what tests expect, so a GPU is hidden unless its own tests are asked for."""
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


# fmt: off
DRUGS = [
    "CC(=O)Nc1ccc(O)cc1", "CC(=O)Oc1ccccc1C(=O)O", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "CN1C(=O)CN=C(c2ccccc2)c2cc(Cl)ccc21", "O=C(O)c1ccccc1O", "CCN(CC)CCNC(=O)c1ccc(N)cc1",
    "CN(C)CCOC(c1ccccc1)c1ccccc1", "Clc1ccc(cc1)C(c1ccccc1)N1CCNCC1", "CC(C)NCC(O)COc1ccccc1", "COc1ccc(CCN)cc1",
    "CN1CCC(CC1)Oc1ccc(F)cc1", "O=C(Nc1ccccc1)c1ccncc1", "NS(=O)(=O)c1ccc(Cl)cc1", "CCOC(=O)c1ccc(N)cc1",
    "Cc1ccc(cc1)S(=O)(=O)NC(=O)N1CCCC1", "O=C1NC(=O)C(c2ccccc2)(c2ccccc2)N1", "CN(C)CCCN1c2ccccc2CCc2ccccc21",
    "OC(CN1CCCCC1)c1ccccc1", "CC(N)Cc1ccccc1", "c1ccc2[nH]ccc2c1", "Brc1ccc2ncccc2c1", "O=C(CCN1CCOCC1)c1ccccc1",
    "FC(F)(F)c1cccc(c1)N1CCNCC1", "c1ccc(-c2ccncc2)cc1", "Cc1onc(-c2ccccc2)c1C",
]
# fmt: on
STEPS = 80


@pytest.fixture(scope="session")
def tiny_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a small LSTM over the tokens of DRUGS: about half of what it writes is valid."""
    import torch

    from chemmara.language.vocabulary import Vocabulary
    from chemmara.policies.lstm import LstmPolicy
    from chemmara.policies.recurrent import LstmParameters
    from chemmara.policies.storage import save_policy

    split = Vocabulary.from_tokens([]).tokenizer.split
    vocabulary = Vocabulary.from_tokens([token for smiles in DRUGS for token in split(smiles)])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = LstmPolicy(vocabulary, LstmParameters(embedding_size=32, hidden_size=96, layers=1))
        policy.precision = "float32"
        ids = torch.from_numpy(vocabulary.encode_batch(DRUGS))
        optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
        for _ in range(STEPS):
            optimizer.zero_grad()
            (-policy.log_prob(ids).mean()).backward()
            optimizer.step()
    torch.set_num_threads(threads)
    folder = tmp_path_factory.mktemp("prior")
    save_policy(policy, folder / "policy.safetensors")
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their curves: drawing them is half of the time of a run of some steps. tests/reporting draws."""
    from chemmara.reporting import plots

    monkeypatch.setattr(plots, "line_svg", lambda *_: "<svg></svg>")

"""Priors of every architecture, and those that came from REINVENT, through the commands."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from chemmara.chemistry.molecules import read
from chemmara.policies.catalog import find_prior

from .conftest import invoke, toy, write

pytestmark = pytest.mark.usefixtures("undrawn")

SHAPES: dict[str, list[Any]] = {
    "gru": ["--embedding-size", 16, "--hidden-size", 48, "--layers", 1],
    "transformer": ["--size", "small", "--width", 32, "--heads", 2, "--layers", 1],
}


@pytest.fixture(scope="module")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "m.smi"
    path.write_text(
        "\n".join(f"{'C' * i}N({'C' * j}){t}" for i in range(1, 6) for j in range(1, 5) for t in "COF") + "\n"
    )
    return path


@pytest.fixture(scope="module", params=["gru", "transformer", "reinvent"])
def prior(request: Any, molecules: Path, tiny_prior: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small prior: trained, or exported to REINVENT's format and imported again."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "reinvent":
        steps = [("priors", "export", tiny_prior, "-o", folder / "x.prior", "--format", "reinvent4"),
                 ("priors", "import", folder / "x.prior", "-o", folder / "p")]  # fmt: skip
    else:
        shape = SHAPES[request.param]
        steps = [("train", molecules, "-o", folder / "p", "--policy", request.param, *shape, "--epochs", 15,
                  "--batch-size", 8, "--learning-rate", 0.02, "--samples", 20)]  # fmt: skip
    for step in steps:
        result = invoke(*step)
        assert result.exit_code == 0, result.output
    return folder / "p"


def test_it_is_optimized(prior: Path, tmp_path: Path) -> None:
    methods = {"plain": {}, "default": {"preset": "default"}}
    config = write(tmp_path / "toy.toml", toy(prior, methods=methods, oracle_budget=30, batch_size=16))
    result = invoke("optimize", config, "-o", tmp_path / "out", "--seeds", "0", "--set", "execution.threads=1")
    assert result.exit_code == 0, result.output
    for method in methods:
        run = tmp_path / "out" / method / "seed-0"
        with open(run / "molecules.csv", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert len({row["SMILES"] for row in rows if row["valid"] == "True"}) >= 30
        assert find_prior(run).header()["architecture"] == find_prior(prior).header()["architecture"]
        assert all(read(row["SMILES"]).molecule for row in rows if row["valid"] == "True")


def test_it_is_sampled_tuned_and_described(prior: Path, molecules: Path, tmp_path: Path) -> None:
    assert invoke("sample", prior, "-n", 20, "-o", tmp_path / "s.csv").exit_code == 0
    result = invoke("finetune", prior, molecules, "-o", tmp_path / "t", "--epochs", 1, "--samples", 20)
    assert result.exit_code == 0, result.output
    assert "validation loss" in result.stdout
    assert (tmp_path / "t" / "finetune.md").is_file()
    assert "architecture" in invoke("priors", "info", tmp_path / "t").stdout


def test_an_export_and_import_change_no_log_probability(tiny_prior: Path, tmp_path: Path) -> None:
    from chemmara.workflows.api import load_prior

    invoke("priors", "export", tiny_prior, "-o", tmp_path / "x.prior")
    invoke("priors", "import", tmp_path / "x.prior", "-o", tmp_path / "p")
    texts = ["CCO", "CC(=O)Nc1ccc(O)cc1", "Clc1ccccc1"]
    one, other = (load_prior(path) for path in (tiny_prior, tmp_path / "p"))
    for loaded in (one, other):
        loaded.policy.precision = "float32"
    torch.testing.assert_close(other.log_prob(texts), one.log_prob(texts), rtol=0, atol=1e-4)


def test_every_key_of_a_training_can_be_set(molecules: Path, tmp_path: Path) -> None:
    keys = ["warmup=5", "clip=0.5", "policy.tied=false", "policy.feed_forward=3", "policy.name=transformer"]
    shape = ["--width", 16, "--layers", 1, "--heads", 2, "--epochs", 1, "--samples", 5]
    result = invoke(
        "train", molecules, "-o", tmp_path / "p", *shape, *(part for key in keys for part in ("--set", key))
    )
    assert result.exit_code == 0, result.output
    header = find_prior(tmp_path / "p").header()
    assert header["architecture"] == "transformer"
    assert (header["parameters"]["tied"], header["parameters"]["feed_forward"]) == (False, 3)
    trained = header["history"]["settings"]
    assert (trained["warmup"], trained["clip"]) == (5, 0.5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "m.smi", "-o", "o", "--policy", "lsmt"), "did you mean 'lstm'"),
        (("train", "m.smi", "-o", "o", "--policy", "gru", "--size", "huge"), "has no size 'huge'"),
        (("train", "m.smi", "-o", "o", "--policy", "transformer", "--hidden-size", 5), "unknown key"),
        (("train", "m.smi", "-o", "o", "--policy", "transformer", "--width", 30), "no even multiple"),
        (("train", "m.smi", "-o", "o", "--devices", 0), "train.devices"),
        (("train", "m.smi", "-o", "o", "--set", "clip=0"), "train.clip"),
        (("train", "m.smi", "-o", "o", "--set", "wramup=5"), "did you mean 'warmup'"),
        (("train", "m.smi", "-o", "o", "--policy", "transformer", "--set", "policy.teid=false"), "did you mean 'tied'"),
        (("train", "m.smi", "-o", "o", "--set", "policy=3"), "train.policy"),
        (("finetune", "nowhere", "m.smi", "-o", "o"), "unknown prior"),
        (("finetune", "chembl", "no.smi", "-o", "o"), "does not exist"),
        (("finetune", "chembl", "m.smi", "-o", "o", "--holdout", 1.5), "finetune.holdout"),
        (("priors", "import", "no.prior", "-o", "o"), "does not exist"),
        (("priors", "import", "m.smi", "-o", "o"), "no zipped torch file"),
        (("priors", "import", "m.smi", "-o", "o", "--check", "no.csv"), "no.csv' does not exist"),
        (("priors", "import", "m.smi", "-o", "m.smi/x"), "'m.smi' is a file; choose a directory"),
        (("surrogate", "train", "m.smi", "-o", "m.smi"), "'m.smi' is a file; choose a directory"),
        (("benchmark", "speed", "-o", "m.smi"), "'m.smi' is a file; choose a directory"),
        (("train", "m.smi", "-o", "m.smi/x"), "'m.smi' is a file; choose a directory"),
        (("train", ".", "-o", "o"), "'.' is a directory, not a file of molecules"),
        (("priors", "import", "m.smi", "-o", "chembl"), "name of a bundled prior"),
        (("priors", "import", "m.smi", "-o", "m.smi"), "choose a directory"),
        (("priors", "export", "chembl", "-o", "x", "--format", "reinvent"), "did you mean 'reinvent4'"),
        (("benchmark", "priors", "-o", "o", "--test", "no.smi"), "does not exist"),
        (("benchmark", "priors", "-o", "o", "--precision", "half"), "unknown precision"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    arguments: tuple[object, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.smi").write_text("CCO\nCCN\n")
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m.smi"]

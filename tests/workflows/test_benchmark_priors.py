"""The table of priors: each figure is what its line says."""

from __future__ import annotations

import csv
import sys
import types
from pathlib import Path

import pytest
import torch

from chemmara.chemistry.molecules import read
from chemmara.errors import UserError
from chemmara.policies.storage import load_policy
from chemmara.workflows.benchmarks.priors import FIGURES, Request, _ringed, run
from chemmara.workflows.quality import prior_quality

TEST = ["CCO", "CC(=O)Nc1ccc(O)cc1", "c1ccccc1O", "[Pt]C", "Clc1ccccc1", "CCN(CC)CC", "c1ccc2ccccc2c1"]


@pytest.fixture
def test_file(tmp_path: Path) -> Path:
    path = tmp_path / "test.smi"
    path.write_text("\n".join([*TEST, "nonsense"]) + "\n")
    return path


def table(out: Path) -> list[dict[str, str]]:
    with open(out / "priors.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_figures(tiny_prior: Path, test_file: Path, tmp_path: Path) -> None:
    said: list[str] = []
    request = Request(tmp_path / "out", (str(tiny_prior),), (test_file,), test_file, n=300, precision="float32")
    run(request, said.append)
    [row] = table(tmp_path / "out")
    expected = prior_quality(tiny_prior, 300, [test_file], precision="float32")
    for name in ("validity", "uniqueness", "novelty"):
        assert float(row[name]) == pytest.approx(expected[name])
    policy = load_policy(tiny_prior)
    policy.precision = "float32"
    readable = [read(text).molecule.smiles for text in TEST if "Pt" not in text]
    with torch.no_grad():
        nll = -policy.log_prob(torch.from_numpy(policy.vocabulary.encode_batch(readable))).mean().item()
    assert float(row["nll"]) == pytest.approx(nll, rel=1e-5)
    assert row["unreadable"] == "1"
    assert 0 <= float(row["scaffold_overlap"]) < 1
    assert all(float(row[name]) > 0 for name in ("logp", "qed", "sa_score", "molecular_weight", "intdiv"))
    assert "fcd" not in row
    assert any("no FCD: install" in line for line in said)
    text = (tmp_path / "out" / "priors.md").read_text()
    for figure in FIGURES:
        assert (figure.meaning in text) == (figure.name in row)


def test_benzene_is_no_overlap_of_scaffolds() -> None:
    """As MOSES has it: scaffolds of one ring are in every set of molecules."""
    texts = ["Cc1ccccc1", "CCc1ccccc1", "Cc1ccc2ccccc2c1", "CCO", "c1ccc(-c2ccccc2)cc1", "Oc1ccc(-c2ccccc2)cc1"]
    molecules = [molecule for text in texts if (molecule := read(text).molecule)]
    assert _ringed(molecules) == {"c1ccc2ccccc2c1": 1, "c1ccc(-c2ccccc2)cc1": 2}


def test_a_prior_is_at_no_distance_from_its_own_samples(tiny_prior: Path, tmp_path: Path) -> None:
    policy = load_policy(tiny_prior)
    policy.precision = "float32"
    sampled = policy.sample(300, generator=torch.Generator().manual_seed(0))
    valid = {m.smiles: None for text in policy.vocabulary.decode(sampled.ids.numpy()) if (m := read(text).molecule)}
    (tmp_path / "own.smi").write_text("\n".join(valid) + "\n")
    request = Request(tmp_path / "out", (str(tiny_prior),), (), tmp_path / "own.smi", n=300, precision="float32")
    run(request, lambda text: None)
    [row] = table(tmp_path / "out")
    assert float(row["scaffold_overlap"]) == pytest.approx(1)
    for name in ("logp", "qed", "sa_score", "molecular_weight"):
        assert float(row[name]) == pytest.approx(0, abs=1e-9)
    assert "novelty" not in row


def test_an_installed_fcd_gives_a_column(
    tiny_prior: Path, test_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = types.ModuleType("fcd_torch")
    package.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]

    class FCD:
        def __init__(self, **options: object) -> None: ...

        def __call__(self, ours: list[str], theirs: list[str]) -> float:
            assert theirs == [read(text).molecule.smiles for text in TEST]
            return len(ours)

    package.FCD = FCD  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fcd_torch", package)
    run(Request(tmp_path / "out", (str(tiny_prior),), (), test_file, n=50), lambda text: None)
    assert float(table(tmp_path / "out")[0]["fcd"]) > 10


def test_mistakes_are_found_before_the_work(tiny_prior: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.smi").write_text("nonsense\n")
    for request, words in (
        (Request(tmp_path / "o", (str(tmp_path / "nowhere"),)), "unknown prior"),
        (Request(tmp_path / "o", (str(tiny_prior),), (tmp_path / "no.smi",)), "does not exist"),
        (Request(tmp_path / "o", (str(tiny_prior),), (), tmp_path / "empty.smi"), "no molecule in"),
        (Request(tmp_path / "o", (str(tiny_prior),), n=0), "at least 1"),
    ):
        with pytest.raises(UserError, match=words):
            run(request, lambda text: None)
    assert not (tmp_path / "o").exists()

"""`chemmara sample`, and the commands that describe what there is."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from chemmara.chemistry.molecules import read
from chemmara.cli import doctor
from chemmara.cli.components import registries
from chemmara.policies.catalog import bundled
from chemmara.workflows import sample

from .conftest import invoke

N = 600  # more than one batch


def test_raw_sequences(tiny_prior: Path, tmp_path: Path) -> None:
    result = invoke("sample", tiny_prior, "-n", N, "-o", tmp_path / "s.smi")
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "s.smi").read_text().split("\n")
    assert len(lines) == N + 1
    valid = sum(read(line).molecule is not None for line in lines[:-1])
    assert 0 < valid < N
    assert f"{N} of {N} drawn written" in result.stdout
    assert f"({valid} drawn are valid)" in result.stdout


def test_csv_has_the_log_probabilities(tiny_prior: Path, tmp_path: Path) -> None:
    import torch

    from chemmara.policies.storage import load_policy

    invoke("sample", tiny_prior, "-n", 20, "-o", tmp_path / "s.csv", "--precision", "float32")
    with open(tmp_path / "s.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["SMILES", "log_prob", "valid"]
    policy = load_policy(tiny_prior)
    policy.precision = "float32"
    for row in rows:
        assert (row["valid"] == "True") == (read(row["SMILES"]).molecule is not None)
        with torch.no_grad():
            again = float(policy.log_prob(torch.from_numpy(policy.vocabulary.encode_batch([row["SMILES"]]))))
        assert float(row["log_prob"]) == pytest.approx(again, abs=1e-4)


def test_an_invalid_text_is_itself_whatever_its_log_probability_rounds_to() -> None:
    (_, one, _), (_, other, _) = sample._look([("C1CC", -3.1), ("C1CC", -3.2)], ".csv")
    assert one == other


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".sdf"])
def test_processes_change_no_result(tiny_prior: Path, tmp_path: Path, suffix: str) -> None:
    for workers in (1, 2):
        out = tmp_path / f"{workers}{suffix}"
        result = invoke("sample", tiny_prior, "-n", N, "-o", out, "--unique", "--workers", workers)
        assert result.exit_code == 0, result.output
    assert (tmp_path / f"1{suffix}").read_bytes() == (tmp_path / f"2{suffix}").read_bytes()


def test_options_drop_and_say_so(tiny_prior: Path, tmp_path: Path) -> None:
    result = invoke("sample", tiny_prior, "-n", N, "-o", tmp_path / "s.smi", "--valid-only", "--unique")
    lines = (tmp_path / "s.smi").read_text().splitlines()
    molecules = [read(line).molecule for line in lines]
    assert all(molecules)
    assert len({molecule.smiles for molecule in molecules if molecule}) == len(lines) < N
    assert f"{len(lines)} of {N} drawn written" in result.stdout
    assert "invalid and" in result.stdout


def test_a_prefix_begins_every_line(tiny_prior: Path, tmp_path: Path) -> None:
    assert invoke("sample", tiny_prior, "-n", 30, "--prefix", "c1ccc(", "-o", tmp_path / "s.smi").exit_code == 0
    lines = (tmp_path / "s.smi").read_text().splitlines()
    assert len(lines) == 30
    assert all(line.startswith("c1ccc(") for line in lines)


def test_what_was_cut_off_is_written_and_said(tiny_prior: Path, tmp_path: Path) -> None:
    """A beginning that leaves room for one token: the end, or one more atom."""
    out = tmp_path / "s.csv"
    result = invoke("sample", tiny_prior, "-n", 30, "--prefix", "C" * 159, "-o", out)
    assert result.exit_code == 0, result.output
    with open(out, newline="") as stream:
        found = list(csv.DictReader(stream))
    cut = [row for row in found if row["SMILES"] != "C" * 159]
    assert len(found) == 30
    assert any(row["valid"] == "True" for row in cut)
    assert f"; {len(cut)} drawn were cut at 160 tokens, before the end" in result.stdout


def test_a_shorter_longest_sequence(tiny_prior: Path, tmp_path: Path) -> None:
    result = invoke("sample", tiny_prior, "-n", 30, "--max-tokens", 3, "-o", tmp_path / "s.smi")
    assert result.exit_code == 0, result.output
    assert "drawn were cut at 3 tokens, before the end" in result.stdout
    assert all(len(line) <= 12 for line in (tmp_path / "s.smi").read_text().splitlines())


@pytest.mark.parametrize("scaffold", ["*c1ccncc1", "c1ccncc1"])
def test_every_molecule_holds_the_scaffold(tiny_prior: Path, tmp_path: Path, scaffold: str) -> None:
    from rdkit import Chem

    result = invoke("sample", tiny_prior, "-n", 200, "--scaffold", scaffold, "--valid-only", "-o", tmp_path / "s.smi")
    assert result.exit_code == 0, result.output
    molecules = [read(line).molecule for line in (tmp_path / "s.smi").read_text().splitlines()]
    pyridine, at_four = (Chem.MolFromSmarts(text) for text in ("n1ccccc1", "n1ccc(*)cc1"))
    assert len(molecules) > 10
    assert all(molecule and molecule.mol.HasSubstructMatch(pyridine) for molecule in molecules)
    assert any(molecule and molecule.mol.HasSubstructMatch(at_four) for molecule in molecules)
    beginnings = {line[:8] for line in (tmp_path / "s.smi").read_text().splitlines()}
    assert (len(beginnings) == 1) == ("*" in scaffold)


def test_an_sdf_has_the_molecules_alone(tiny_prior: Path, tmp_path: Path) -> None:
    from chemmara.chemistry.files import read_records

    result = invoke("sample", tiny_prior, "-n", 60, "-o", tmp_path / "s.sdf")
    assert result.exit_code == 0, result.output
    records = list(read_records(tmp_path / "s.sdf"))
    assert 0 < len(records) < 60
    assert all(read(record.smiles).molecule for record in records)
    assert f"{len(records)} of 60 drawn written" in result.stdout
    assert f"dropped {60 - len(records)} invalid" in result.stdout


def test_selfies_cannot_be_continued(tmp_path: Path) -> None:
    from chemmara.language.vocabulary import Vocabulary
    from chemmara.policies.lstm import LstmPolicy
    from chemmara.policies.recurrent import LstmParameters
    from chemmara.policies.storage import save_policy

    vocabulary = Vocabulary.from_tokens(["[C]", "[O]"], "selfies")
    shape = LstmParameters(embedding_size=2, hidden_size=2, layers=1)
    save_policy(LstmPolicy(vocabulary, shape), tmp_path / "p" / "policy.safetensors")
    result = invoke("sample", tmp_path / "p", "-n", 5, "--prefix", "C", "-o", tmp_path / "s.smi")
    assert result.exit_code == 2
    assert "SELFIES" in result.stderr


def test_a_seed_holds(tiny_prior: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert invoke("sample", tiny_prior, "-n", 30, "-o", tmp_path / f"{name}.smi", "--seed", seed).exit_code == 0
    a, b, c = ((tmp_path / f"{name}.smi").read_text() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-n", 0), "sample.n"),
        (("-n", 5, "--temperature", 0), "sample.temperature"),
        (("-n", 5, "--seed", -1), "sample.seed"),
        (("-n", 5, "--precision", "bfloat"), "did you mean 'bfloat16'"),
        (("-n", 5, "--device", "gpu"), "cuda"),
        (("-n", 5, "--top-k", -1), "sample.top_k"),
        (("-n", 5, "--top-p", 0), "sample.top_p"),
        (("-n", 5, "--prefix", "C[Pt]"), "[Pt]"),
        (("-n", 5, "--prefix", "C["), "position 2"),
        (("-n", 5, "--prefix", "C(C))C"), "closes at position 5 a branch that it has not opened"),
        (("-n", 5, "--scaffold", "c1ccccc1.Cl"), "several fragments; give one"),
        (("-n", 5, "--prefix", "C" * 200), "200 tokens long"),
        (("-n", 5, "--scaffold", "C1CC"), "no valid SMILES"),
        (("-n", 5, "--scaffold", "*CC*"), "2 attachment points"),
        (("-n", 5, "--scaffold", "FC(F)(F)F"), "no atom at which"),
        (("-n", 5, "--scaffold", "[Pt]C*"), "[Pt]"),
        (("-n", 5, "--scaffold", "CC*", "--prefix", "C"), "exclude each other"),
    ],
)
def test_bad_options(tiny_prior: Path, tmp_path: Path, options: tuple[object, ...], message: str) -> None:
    result = invoke("sample", tiny_prior, *options, "-o", tmp_path / "s.smi")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not any(tmp_path.iterdir())


def test_priors_list() -> None:
    result = invoke("priors", "list")
    assert result.exit_code == 0
    assert all(prior.name in result.stdout for prior in bundled())


def test_priors_info(tiny_prior: Path) -> None:
    result = invoke("priors", "info", tiny_prior)
    assert result.exit_code == 0
    assert "architecture: lstm (embedding_size 32" in result.stdout
    assert "[nH]" in result.stdout


NAMES = [(registry.kind, entry.name) for registry in registries() for entry in registry]


def test_components_lists_everything() -> None:
    result = invoke("components")
    assert result.exit_code == 0
    assert all(name in result.stdout for _, name in NAMES)


@pytest.mark.parametrize(("kind", "name"), NAMES, ids=lambda value: value.replace(" ", "_"))
def test_one_component_in_full(kind: str, name: str) -> None:
    result = invoke("components", name)
    assert result.exit_code == 0
    assert f"{kind} {name}" in result.stdout
    entry = next(registry[name] for registry in registries() if registry.kind == kind)
    for field in entry.parameters.model_fields.values():
        assert field.description, "a parameter without a description"
        assert field.description in result.stdout
    assert not [word for word in (">>>", ":func:", ":class:", ":mod:", "``", "Ellipsis") if word in result.stdout]


def test_an_unknown_component_gets_the_nearest() -> None:
    result = invoke("components", "tanimotto")
    assert result.exit_code == 2
    assert "did you mean 'tanimoto'?" in result.stderr


def test_doctor_finds_this_installation_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("doctor")
    assert result.exit_code == 0, result.stdout
    for subject in ("python", "torch", "rdkit", "processor", "bfloat16", "gpu", "tensorboard", "prior", "directory"):
        assert subject in result.stdout


def test_doctor_says_what_a_bare_container_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit.Chem.Draw", None)
    monkeypatch.delitem(sys.modules, "rdkit.Chem.Draw.rdMolDraw2D", raising=False)
    result = invoke("doctor")
    assert result.exit_code == 0, result.output
    assert "libxrender1" in result.stdout


def test_doctor_says_what_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED", ("numpy", "no_such_package"))
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "pip install --force-reinstall no-such-package" in result.stdout

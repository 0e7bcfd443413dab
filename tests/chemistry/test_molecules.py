"""Reading text into molecules never raises, tells why, and gives a fixpoint."""

from __future__ import annotations

import doctest
import importlib
import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem, rdBase

from chemmara.chemistry import molecules
from chemmara.chemistry.molecules import MAX_LENGTH, inchikey, parse_reference, parse_smarts, quiet, randomize, read
from chemmara.errors import ConfigError
from chemmara.interrupts import Interrupted

PARACETAMOL = "CC(=O)Nc1ccc(O)cc1"
# Names and structures: PubChem.
NAMED = {
    "paracetamol": PARACETAMOL,
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "caffeine": "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "ibuprofen": "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "camphor": "CC1(C)C2CCC1(C)C(=O)C2",
    "tamoxifen": "CC/C(=C(\\c1ccccc1)/c1ccc(OCCN(C)C)cc1)/c1ccccc1",
    "quinine": "COc1ccc2nccc([C@@H](O)[C@H]3C[C@@H]4CCN3C[C@@H]4C=C)c2c1",
    "sodium benzoate": "[Na+].[O-]C(=O)c1ccccc1",
    "cisplatin": "N[Pt](N)(Cl)Cl",
}


@pytest.mark.parametrize("module", ["molecules", "fingerprints", "scaffolds", "conformers", "diagnosis"])
def test_examples_in_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"chemmara.chemistry.{module}"))
    assert result.failed == 0
    assert result.attempted or module not in ("molecules", "fingerprints")


@pytest.mark.parametrize("smiles", NAMED.values(), ids=NAMED.keys())
def test_canonical_smiles_is_a_fixpoint_from_every_spelling(smiles: str) -> None:
    molecule = read(smiles).molecule
    assert molecule is not None
    assert read(molecule.smiles).molecule == molecule
    assert Chem.MolToSmiles(Chem.MolFromSmiles(smiles)) == molecule.smiles
    for seed in range(5):
        assert read(randomize(smiles, seed)).molecule == molecule


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \t\n", "empty"),
        ("C" * (MAX_LENGTH + 1), "longer"),
        ("CC\x00C", "printable ASCII"),
        ("CCé", "printable ASCII"),
        ("\ud800", "printable ASCII"),
        ("CC\n", "printable ASCII"),
        ("CCO ethanol", "white space"),
        ("CCO |$;;R$|", "white space"),
        ("CC(C", "unclosed parenthesis"),
        ("CC)C", "unopened parenthesis"),
        ("C[NH", "unbalanced bracket"),
        ("C1CC", "unclosed ring 1"),
        ("C%12CC", "unclosed ring 12"),
        ("[Xx]", "syntax error"),
        ("CC>>C", "syntax error"),
        ("c1cccc1", "kekulized"),
        ("CC(C)(C)(C)C", "valence of C (atom 1)"),
        ("Cc:c", "sanitized"),
        ("CC(O)Nc1ccco=C1", "valence of O (atom 8)"),
    ],
)
def test_invalid_text_has_a_reason(text: str, reason: str) -> None:
    reading = read(text)
    assert reading.molecule is None
    assert reading.error is not None
    assert reason in reading.error
    assert "\n" not in reading.error


@pytest.mark.parametrize("text", ["*", "*CC", "[H][H]", "[2H]", "[U+2]", "C" * 1000, "C.C"])
def test_unusual_but_valid(text: str) -> None:
    assert read(text).molecule is not None


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=40), st.text(alphabet="CNOcnos()[]=#123%+-@H/\\. ", max_size=30)))
def test_read_never_raises(text: str) -> None:
    reading = read(text)
    assert (reading.molecule is None) == (reading.error is not None)
    if reading.molecule is not None:
        again = read(reading.molecule.smiles).molecule
        assert again is not None
        assert again.smiles == reading.molecule.smiles


def test_an_interruption_makes_no_molecule_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: str) -> None:
        raise Interrupted("interrupted")

    monkeypatch.setattr(molecules, "_parse", interrupted)
    with pytest.raises(Interrupted):
        read("CCO")


def test_deep_nesting_does_not_crash() -> None:
    for text in ("(" * 4000, "C(" * 1600 + "C" + ")" * 1600, "C1" * 2000, "[" * 4000):
        reading = read(text)
        assert reading.molecule is not None or reading.error


def test_quiet_silences_and_restores(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet(), quiet():
        Chem.MolFromSmiles("C1C")
    assert capfd.readouterr().err == ""
    Chem.MolFromSmiles("C1C")
    assert "unclosed ring" in capfd.readouterr().err
    with pytest.raises(RuntimeError), quiet():
        raise RuntimeError
    Chem.MolFromSmiles("C1C")
    assert "unclosed ring" in capfd.readouterr().err


def test_reading_keeps_a_log_that_was_off_off(capfd: pytest.CaptureFixture[str]) -> None:
    block = rdBase.BlockLogs()
    read("C1C")
    Chem.MolFromSmiles("C1C")
    del block
    assert capfd.readouterr().err == ""


def test_randomize_depends_on_its_seed_alone() -> None:
    first = [randomize(PARACETAMOL, seed) for seed in range(20)]
    random.seed(1)
    rdBase.SeedRandomNumberGenerator(7)
    assert [randomize(PARACETAMOL, seed) for seed in range(20)] == first
    assert len(set(first)) > 5
    with pytest.raises(ValueError, match="not a valid SMILES"):
        randomize("C1C", 0)


def test_inchikey() -> None:
    # PubChem CID 2244
    assert inchikey(Chem.MolFromSmiles(NAMED["aspirin"])) == "BSYNRYMUTXBXSQ-UHFFFAOYSA-N"
    assert inchikey(Chem.MolFromSmiles("*CC")) == ""


def test_patterns_and_references_of_a_config() -> None:
    assert parse_smarts("c[OX2H]", "here").GetNumAtoms() == 2
    for bad in ("", " ", "c1[", "é"):
        with pytest.raises(ConfigError, match=r"scoring\.component\[1\]\.smarts: .* cannot be parsed as SMARTS"):
            parse_smarts(bad, "scoring.component[1].smarts")
    with pytest.raises(ConfigError, match=r"x\.references\[0\]: 'C1C' is no valid SMILES .*unclosed ring 1"):
        parse_reference("C1C", "x.references[0]")


def test_molecules_travel_between_processes() -> None:
    molecule = read(PARACETAMOL).molecule
    assert molecule is not None
    copy = pickle.loads(pickle.dumps(molecule))
    assert copy == molecule
    assert copy.scaffold == "c1ccccc1"

"""Ring systems: named ones, the same whatever is bound to them, and a table that comes back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from rdkit import Chem

from chemmara.chemistry.molecules import read
from chemmara.chemistry.ring_systems import RingTable, bundled, ring_systems
from chemmara.errors import UserError

NAMED = {
    "caffeine": ("Cn1cnc2c1c(=O)n(C)c(=O)n2C", ["O=c1[nH]c(=O)c2[nH]cnc2[nH]1"]),  # xanthine
    "quinine": (
        "COc1ccc2nccc([C@@H](O)[C@H]3C[C@@H]4CCN3C[C@@H]4C=C)c2c1",
        ["C1CN2CCC1CC2", "c1ccc2ncccc2c1"],  # quinuclidine, quinoline
    ),
    "penicillin G": (
        "CC1(C)S[C@@H]2[C@H](NC(=O)Cc3ccccc3)C(=O)N2[C@H]1C(=O)O",
        ["O=C1CC2SCCN12", "c1ccccc1"],
    ),
    "spironolactone's spiro system": ("CC1CCC2(C1)CCC(=O)O2", ["O=C1CCC2(CCCC2)O1"]),
    "N-phenylcarbazole": ("c1ccc(-n2c3ccccc3c3ccccc32)cc1", ["c1ccc2c(c1)[nH]c1ccccc12", "c1ccccc1"]),
    "tolazoline hydrochloride": ("C1CN=C(N1)Cc1ccccc1.Cl", ["C1=NCCN1", "c1ccccc1"]),
    "hexane": ("CCCCCC", []),
}


def systems(smiles: str) -> list[str]:
    molecule = read(smiles).molecule
    assert molecule is not None
    return ring_systems(molecule.mol)


@pytest.mark.parametrize("name", NAMED)
def test_named(name: str) -> None:
    smiles, expected = NAMED[name]
    assert systems(smiles) == sorted(expected)
    assert all(Chem.CanonSmiles(text) == text for text in systems(smiles)), "each is a molecule in its canonical form"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("C[C@H]1CCCN1C(C)=O", "C1CCNC1"),
        ("C[NH+]1CCCCC1", "C1CCNCC1"),
        ("C[N+]1(C)CCCCC1", "C1CCNCC1"),
        ("C[n+]1ccccc1", "c1ccncc1"),
        ("[2H]c1ccccc1C", "c1ccccc1"),
        ("OC1CCCCC1=O", "O=C1CCCCC1"),
        ("CC(=O)n1ccc2ccccc21", "c1ccc2[nH]ccc2c1"),
    ],
)
def test_what_is_bound_to_a_ring_does_not_count(one: str, other: str) -> None:
    assert systems(one) == systems(other)


def test_a_table_comes_back(tmp_path: Path) -> None:
    mols = [read(text).molecule for text in ("c1ccccc1C", "c1ccccc1CC2CC2", "C1CC1", "CC")]
    table = RingTable.count((molecule.mol for molecule in mols if molecule), "four molecules")
    assert table == RingTable(4, {"C1CC1": 2, "c1ccccc1": 2}, "four molecules")
    table.save(tmp_path / "t.tsv")
    assert RingTable.load(tmp_path / "t.tsv") == table
    (tmp_path / "t.tsv").write_text("#chemmara-ring-systems-1\t4\tx\nC1CC1\ttwo\n")
    with pytest.raises(UserError, match="damaged at line 2"):
        RingTable.load(tmp_path / "t.tsv")
    (tmp_path / "t.tsv").write_text("C1CC1\n")
    with pytest.raises(UserError, match="no table of ring systems"):
        RingTable.load(tmp_path / "t.tsv")


def test_the_bundled_table_knows_what_medicinal_chemistry_uses() -> None:
    table = bundled()
    assert table.molecules == 50_000
    assert max(table.counts, key=lambda name: table.counts[name]) == "c1ccccc1"
    for name in ("c1ccncc1", "C1CCNCC1", "C1COCCN1", "c1ccc2[nH]ccc2c1", "c1ccc2ncccc2c1", "C1CNCCN1"):
        assert table.counts[name] > 100
    assert "C1CC2(C1)SSC21CC1" not in table.counts

"""Clean chemistry: drugs pass, oddities are refused with the right reason, and the spelling does not matter."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from chemmara.chemistry import alerts, environments
from chemmara.chemistry.alerts import ALERTS, first_alert
from chemmara.chemistry.environments import EnvironmentTable
from chemmara.chemistry.molecules import Molecule, randomize, read
from chemmara.chemistry.plausibility import KINDS, Plausibility, standard
from chemmara.errors import UserError

# Structures: PubChem.
DRUGS = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "imatinib": "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1",
    "sildenafil": "CCCc1nn(C)c2c1nc([nH]c2=O)-c1cc(ccc1OCC)S(=O)(=O)N1CCN(C)CC1",
    "penicillin G": "CC1(C)S[C@@H]2[C@H](NC(=O)Cc3ccccc3)C(=O)N2[C@H]1C(=O)O",
    "metronidazole": "Cc1ncc([N+](=O)[O-])n1CCO",
    "fluoxetine": "CNCCC(Oc1ccc(cc1)C(F)(F)F)c1ccccc1",
    "celecoxib": "Cc1ccc(cc1)-c1cc(nn1-c1ccc(cc1)S(N)(=O)=O)C(F)(F)F",
    "sitagliptin": "NC(CC(=O)N1CCn2c(C1)nnc2C(F)(F)F)Cc1cc(F)c(F)cc1F",
    "omeprazole": "COc1ccc2[nH]c(nc2c1)S(=O)Cc1ncc(C)c(OC)c1C",
    "ciprofloxacin zwitterion": "O=C([O-])c1cn(C2CC2)c2cc(N3CC[NH2+]CC3)c(F)cc2c1=O",
    "losartan anion": "CCCCc1nc(Cl)c(CO)n1Cc1ccc(-c2ccccc2-c2nnn[n-]2)cc1",
    "acetylcholine": "CC(=O)OCC[N+](C)(C)C",
    "betaine": "C[N+](C)(C)CC(=O)[O-]",
    "sofosbuvir": "CC(C)OC(=O)C(C)NP(=O)(OCC1OC(n2ccc(=O)[nH]c2=O)C(C)(F)C1O)Oc1ccccc1",
    "nitroglycerin": "O=[N+]([O-])OCC(CO[N+](=O)[O-])O[N+](=O)[O-]",
    "sulfasalazine": "O=C(O)c1cc(N=Nc2ccc(S(=O)(=O)Nc3ccccn3)cc2)ccc1O",
    "isoniazid": "NNC(=O)c1ccncc1",
    "vorinostat": "O=C(CCCCCCC(=O)Nc1ccccc1)NO",
    "disulfiram": "CCN(CC)C(=S)SSC(=S)N(CC)CC",
    "glucose": "OCC1OC(O)C(O)C(O)C1O",
    "deutetrabenazine": "[2H]C([2H])([2H])Oc1cc2c(cc1OC([2H])([2H])[2H])C1CC(=O)C(CC(C)C)CN1CC2",
}
ODD = {
    "C=N[N+]=C": "radical: N",
    "c1ccccc1C[CH]C": "radical: C",
    "C[N]C": "radical: N",
    "C[N+](C)(C)CCOC(=O)CCC(=O)OCC[N+](C)(C)C": "charge: 2 permanent charges",  # suxamethonium, a drug all the same
    "c1ccccc1OCCCCCCCCC": "",
    "O=C1CCCCCCCCCCCCCO1": "large ring: 15 atoms",
    "C1CCCCCCCC1": "large ring: 9 atoms",
    "CCOOCC": "alert: peroxide",
    "c1ccccc1NN(C)NC": "alert: three nitrogens in a row",
    "CN(C)ON(C)C": "alert: N-O-N",
    "CCN(Cl)CC": "alert: halogen on a heteroatom",
    "CC[N+]1(C)CC1": "alert: three-membered cation",
    "Cc1cn([C@H]2C[C@H](N=[N+]=[N-])[C@@H](CO)O2)c(=O)[nH]c1=O": "alert: azide",  # zidovudine: azides are refused
    "CC(NC)NC": "alert: open aminal",
    "CN(C)CC[SH](C)C": "rare environment: SH1D3 -C -C -C",
    "[Na+].[O-]C(=O)c1ccccc1": "rare environment: Na+1H0D0",
    "N[Pt](N)(Cl)Cl": "rare environment: ClH0D1 -Pt",
    "[U+2]": "charge: an atom with a charge of two or more",
}


def molecule(smiles: str) -> Molecule:
    found = read(smiles).molecule
    assert found is not None, smiles
    return found


@pytest.mark.parametrize("smiles", DRUGS.values(), ids=DRUGS.keys())
def test_drugs_are_clean(smiles: str) -> None:
    assert standard().fault(molecule(smiles)) is None


@pytest.mark.parametrize(("smiles", "reason"), ODD.items())
def test_oddities_are_refused_with_the_right_reason(smiles: str, reason: str) -> None:
    fault = standard().fault(molecule(smiles))
    assert str(fault or "") == reason
    assert fault is None or fault.kind in KINDS
    assert standard().is_clean(molecule(smiles)) == (not reason)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.name}: {alert.example}")
def test_every_alert_refuses_its_example(alert: alerts.Alert) -> None:
    example = molecule(alert.example)
    pattern = Chem.MolFromSmarts(alert.smarts)
    assert example.mol.HasSubstructMatch(pattern)
    assert alert.needs in alerts.traits(environments.graph(example.mol))  # the short cut never spares a match
    assert str(standard().fault(example)) == f"alert: {alert.name}"


def test_alerts_have_exclusions() -> None:
    whole = [pattern for _, _, _, pattern in alerts._patterns() if pattern is not None]
    assert len(whole) == sum("$(" in alert.smarts for alert in ALERTS) > 3
    assert first_alert(molecule("CC(O)NC(C)=O").mol) is None  # an N-acyl hemiaminal is no hemiaminal
    assert first_alert(molecule("CC(O)NC").mol) == "hemiaminal"


SPELLINGS = [
    ("CCN(C)C", "CC[NH+](C)C"),
    ("CC(=O)O", "CC(=O)[O-]"),
    ("CS(=O)CC", "C[S+]([O-])CC"),
    ("CC(=N)N", "CC(=[NH2+])N"),
    ("c1c[nH]cn1", "c1c[nH]c[nH+]1"),
    ("CS(=O)(=O)NC", "CS(=O)(=O)[N-]C"),
    ("OC", "[2H]OC([2H])([2H])[2H]"),
]


@pytest.mark.parametrize(("one", "other"), SPELLINGS)
def test_protonation_and_charge_separation_are_one_environment(one: str, other: str) -> None:
    found = [sorted(environments.environments(molecule(s).mol)) for s in (one, other)]
    assert found[0] == found[1]


BASES = [  # as written, and protonated or deprotonated: one molecule in water
    ("CC(N(C)C)OC", "CC([NH+](C)C)OC", "open aminal"),
    ("OCN1CCOCC1", "OC[NH+]1CCOCC1", "hemiaminal"),
    ("CC(N)OC", "CC([NH3+])OC", "thiol or amine beside a heteroatom"),
    ("CC(C)=N", "CC(C)=[NH2+]", "unsubstituted imine"),
    ("CNC(=O)O", "CNC(=O)[O-]", "carbamic or carbonic acid"),
    ("O=[N+]([O-])c1ccc(CN2CC2)cc1", "O=[N+]([O-])c1ccc(C[NH+]2CC2)cc1", None),
    ("O=[N+]([O-])c1ccc(S(C)=O)cc1", "O=[N+]([O-])c1ccc([S+](C)[O-])cc1", None),
]


@pytest.mark.parametrize(("one", "other", "alert"), BASES)
def test_a_verdict_does_not_depend_on_how_a_molecule_is_charged(one: str, other: str, alert: str | None) -> None:
    expected = f"alert: {alert}" if alert else None
    for smiles in (one, other):
        fault = standard().fault(molecule(smiles))
        assert (str(fault) if fault else None) == expected
        assert first_alert(molecule(smiles).mol) == alert
        with_hydrogens = Chem.AddHs(molecule(smiles).mol)
        assert first_alert(with_hydrogens) == alert


@pytest.mark.parametrize("smiles", ["[O-]C1(c2ccccc2)CCNCC1", "CC[N-]CC", "C[NH-]", "[O-]CCC([O-])C[NH3+]"])
def test_an_alkoxide_is_no_acid(smiles: str) -> None:
    """Each such charge raises TPSA by what an oracle pays for."""
    fault = standard().fault(molecule(smiles))
    assert fault is not None
    assert fault.detail in ("alkoxide or alkyl amide anion", "2 permanent charges")


@pytest.mark.parametrize("smiles", ["[O-]c1ccccc1", "CC(=O)[N-]S(C)(=O)=O", "CON(C)C(=O)C[S-]", "CC(=O)C=C(C)[O-]"])
def test_what_is_acid_may_be_written_as_its_anion(smiles: str) -> None:
    assert standard().fault(molecule(smiles)) is None


def test_zwitterions_that_hold_together_keep_their_charges() -> None:
    assert "N+1H0D3 -C -O-1 =O" in environments.environments(molecule("C[N+](=O)[O-]").mol)
    assert "n+1H0D3R -O-1 :c :c" in environments.environments(molecule("[O-][n+]1ccccc1").mol)


def test_environments_of_a_large_molecule_are_read_bond_by_bond_alike() -> None:
    small, large = (environments.environments(molecule(f"O{'C' * n}=O").mol) for n in (50, 400))
    assert set(small) == set(large)
    assert len(large) == 402


@pytest.mark.parametrize("smiles", ["[H][H]", "[2H]", "[H+]", "*", "*C", "C.C", "C" * 1000, "[U+2]", "F[Xe]F", "C~C"])
def test_unusual_molecules_have_an_answer(smiles: str) -> None:
    found = read(smiles).molecule
    if found is not None:
        fault = standard().fault(found)
        assert fault is None or fault.kind in KINDS


PARTS = (
    *("C", "C", "C", "N", "O", "S", "P", "B", "F", "Cl", "I", "(=O)", "(N)", "=C", "=N", "#C", "c1ccccc1", "n1cccc1"),
    *("C1CC1", "C1CCCCCCCCC1", "[n+]1ccccc1", "[N+]", "[O-]", "[CH]", "[NH3+]", "[2H]", "[Si]", "[S+]", ".", "/C=C/"),
    "[C@H](F)",
)
TOKENS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=12).map("".join)


def test_of_two_radicals_the_same_one_is_named_in_any_order() -> None:
    found = read("CCC[N+][Si]").molecule
    assert found is not None
    turned = Chem.RenumberAtoms(found.mol, list(reversed(range(found.mol.GetNumAtoms()))))
    assert standard().fault(found) == standard().fault(Molecule(found.smiles, turned)) == ("radical", "N")


@settings(max_examples=150, deadline=None)
@given(st.one_of(TOKENS, st.sampled_from([*DRUGS.values(), *ODD])), st.integers(0, 2**31), st.randoms())
def test_never_raises_and_does_not_depend_on_spelling_or_order(text: str, seed: int, random: object) -> None:
    found = read(text).molecule
    if found is None:
        return
    fault = standard().fault(found)
    other = read(randomize(found.smiles, seed)).molecule
    assert other is not None
    if other == found:  # a handful of exotic stereo centres do not survive a random spelling
        assert standard().fault(other) == fault
    order = list(range(found.mol.GetNumAtoms()))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert standard().fault(Molecule(found.smiles, Chem.RenumberAtoms(found.mol, order))) == fault


def test_checking_leaves_the_molecule_as_it_was() -> None:
    found = molecule("C[S+]([O-])c1ccc(C[NH+](C)C)cc1")
    before = found.mol.ToBinary()
    standard().fault(found)
    assert found.mol.ToBinary() == before
    assert Chem.MolToSmiles(found.mol) == found.smiles


def table() -> EnvironmentTable:
    mols = [molecule(smiles).mol for smiles in ("CCO", "CCO", "CC[O-]", "CCN", "CC[NH3+]")]
    return EnvironmentTable.count(mols, "five\tsmall\nmolecules")


def test_a_table_counts_molecules_not_atoms() -> None:
    counted = EnvironmentTable.count((molecule("CCCCCC").mol for _ in range(3)), "hexane")
    assert (counted.molecules, counted.counts) == (3, {"CH2D2 -C -C": 3, "CH3D1 -C": 3})
    # What only one molecule has (the alkoxide) is left out; the ammonium counts as the amine.
    assert table().counts == {"CH2D2 -C -O": 2, "CH2D2 -C -N": 2, "CH3D1 -C": 5, "OH1D1 -C": 2, "NH2D1 -C": 2}


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    table().save(tmp_path / "t.tsv")
    again = EnvironmentTable.load(tmp_path / "t.tsv")
    assert (again.molecules, again.counts) == (5, table().counts)
    again.save(tmp_path / "u.tsv")
    assert (tmp_path / "u.tsv").read_bytes() == (tmp_path / "t.tsv").read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no environment table"),
        ("CH3\t3\n", "no environment table"),
        (f"#{environments.FORMAT}\tmany\tx\n", "no environment table"),
        (f"#{environments.FORMAT}\t5\tx\nCH3D1 -C\t3\nCH2 4\n", "damaged at line 3"),
    ],
)
def test_a_damaged_table_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(UserError, match=message):
        EnvironmentTable.load(tmp_path / "t.tsv")
    with pytest.raises(UserError, match="cannot be read"):
        EnvironmentTable.load(tmp_path / "none.tsv")


def test_another_table_is_another_gate() -> None:
    mine = Plausibility(table())
    assert mine.is_clean(molecule("CCO"))
    assert str(mine.fault(molecule("CCCl"))) == "rare environment: CH2D2 -C -Cl"
    strict = dataclasses.replace(mine, rare_below=0.7, largest_ring=5)
    assert str(strict.fault(molecule("CCO"))) == "rare environment: CH2D2 -C -O"
    assert str(strict.fault(molecule("C1CCCCC1"))) == "large ring: 6 atoms"
    assert pickle.loads(pickle.dumps(mine)).is_clean(molecule("CCO"))  # it may travel to a worker


def test_the_bundled_table_is_small_and_says_what_it_is() -> None:
    assert environments.BUNDLED.stat().st_size < 200_000
    found = environments.bundled()
    assert found.molecules >= 50_000
    assert "samples of chembl" in found.source
    assert len(found.counts) > 500
    card = (environments.BUNDLED.parent / "README.md").read_text()
    assert f"{len(found.counts):,}" in card
    assert "python -m chemmara.workflows.clean table" in card

"""Rules, CNS MPO, ring systems, novelty and scaffold similarity: RDKit's calls, published formulas and limits on named
molecules, and notes that say what lies behind a value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import Crippen, Descriptors, Lipinski, rdFingerprintGenerator, rdMolDescriptors
from rdkit.Chem.Scaffolds import MurckoScaffold

from chemmara.chemistry.molecules import Molecule, read
from chemmara.errors import ConfigError
from chemmara.scoring import work
from chemmara.scoring.component import Component
from chemmara.scoring.components.cns import desirabilities, logd

DRUGS = {
    "paracetamol": "CC(=O)Nc1ccc(O)cc1",
    "ibuprofen": "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "atorvastatin": "CC(C)c1c(C(=O)Nc2ccccc2)c(-c2ccccc2)c(-c2ccc(F)cc2)n1CC[C@@H](O)C[C@@H](O)CC(=O)O",
    "erythromycin": (
        "CC[C@H]1OC(=O)[C@H](C)[C@@H](O[C@H]2C[C@@](C)(OC)[C@@H](O)[C@H](C)O2)[C@H](C)[C@@H](O[C@@H]2O[C@H](C)C[C@@H]"
        "([C@H]2O)N(C)C)[C@](C)(O)C[C@@H](C)C(=O)[C@H](C)[C@@H](O)[C@]1(C)O"
    ),
    "haloperidol": "OC1(CCN(CCCC(=O)c2ccc(F)cc2)CC1)c1ccc(Cl)cc1",
    "diazepam": "CN1C(=O)CN=C(c2ccccc2)c2cc(Cl)ccc21",
    "sucrose": "OC[C@H]1O[C@@](CO)(O[C@H]2O[C@H](CO)[C@@H](O)[C@H](O)[C@H]2O)[C@@H](O)[C@@H]1O",
}


def molecule(smiles: str) -> Molecule:
    found = read(smiles).molecule
    assert found is not None
    return found


def build(name: str, **parameters: Any) -> Component:
    return work.build(name, parameters, "scoring.component[0]")


def value(component: Component, smiles: str) -> float:
    return component([molecule(smiles)])[0].value


# Verdicts as DrugBank lists them (Properties, Rule of Five; Veber's rule), molecule by molecule.
@pytest.mark.parametrize(
    ("rule", "drug", "passes"),
    [
        ("lipinski", "paracetamol", True),
        ("lipinski", "ibuprofen", True),
        ("lipinski", "atorvastatin", False),
        ("lipinski", "erythromycin", False),
        ("lipinski", "diazepam", True),
        ("veber", "paracetamol", True),
        ("veber", "atorvastatin", False),
        ("veber", "erythromycin", False),
        ("egan", "ibuprofen", True),
        ("egan", "sucrose", False),
    ],
)
def test_rules_on_named_drugs(rule: str, drug: str, passes: bool) -> None:
    assert value(build(rule), DRUGS[drug]) == passes


@pytest.mark.parametrize("drug", DRUGS)
def test_rules_are_rdkits_values_against_the_published_limits(drug: str) -> None:
    mol = Chem.MolFromSmiles(DRUGS[drug])
    weight, logp, tpsa = Descriptors.MolWt(mol), Crippen.MolLogP(mol), Descriptors.TPSA(mol)
    lipinski = (weight > 500) + (logp > 5) + (Lipinski.NHOHCount(mol) > 5) + (Lipinski.NOCount(mol) > 10)
    assert value(build("lipinski", mode="violations"), DRUGS[drug]) == lipinski
    assert value(build("lipinski", allowed=0), DRUGS[drug]) == (lipinski == 0)
    veber = (rdMolDescriptors.CalcNumRotatableBonds(mol) > 10) + (tpsa > 140)
    assert value(build("veber", mode="violations"), DRUGS[drug]) == veber
    assert value(build("egan", mode="violations"), DRUGS[drug]) == (tpsa > 131.6) + (logp > 5.88)
    assert bool(build("lipinski").note(molecule(DRUGS[drug]))) == bool(lipinski)


# Wager et al. 2010, Figure 1 and Table 1: the ends of each desirability, and the middle between them.
@pytest.mark.parametrize(
    ("field", "points"),
    [
        ("logP", {-2: 1, 3: 1, 4: 0.5, 5: 0, 9: 0}),
        ("logD", {-2: 1, 2: 1, 3: 0.5, 4: 0, 9: 0}),
        ("MW", {100: 1, 360: 1, 430: 0.5, 500: 0, 900: 0}),
        ("TPSA", {0: 0, 20: 0, 30: 0.5, 40: 1, 65: 1, 90: 1, 105: 0.5, 120: 0, 200: 0}),
        ("HBD", {0: 1, 0.5: 1, 2: 0.5, 3.5: 0, 5: 0}),
        ("pKa", {2: 1, 8: 1, 9: 0.5, 10: 0, 12: 0}),
    ],
)
def test_cns_mpo_desirabilities(field: str, points: dict[float, float]) -> None:
    best = {"logP": 2.0, "logD": 1.0, "MW": 300.0, "TPSA": 60.0, "HBD": 0.0, "pKa": 7.0}
    for at, wanted in points.items():
        found = desirabilities(*{**best, field: float(at)}.values())
        assert found[field] == pytest.approx(wanted)
        assert sum(found.values()) == pytest.approx(5 + wanted)


@pytest.mark.parametrize(("drug", "pka"), [("haloperidol", 8.66), ("diazepam", None)])
def test_cns_mpo_by_hand(drug: str, pka: float | None) -> None:
    """RDKit's values and the formula, with haloperidol's measured pKa (DrugBank) as input."""
    mol = Chem.MolFromSmiles(DRUGS[drug])
    logp = Crippen.MolLogP(mol)
    distribution = logp - math.log10(1 + (10 ** (pka - 7.4) if pka else 0))
    assert logd(logp, pka, None) == pytest.approx(distribution)
    expected = (
        min(max((5 - logp) / 2, 0), 1)
        + min(max((4 - distribution) / 2, 0), 1)
        + min(max((500 - Descriptors.MolWt(mol)) / 140, 0), 1)
        + min(max((Descriptors.TPSA(mol) - 20) / 20, 0), 1)
        + min(max((3.5 - Lipinski.NHOHCount(mol)) / 3, 0), 1)
        + (min(max((10 - pka) / 2, 0), 1) if pka else 1)
    )
    component = build("cns_mpo", **({"basic_pka": pka} if pka else {}))
    assert value(component, DRUGS[drug]) == pytest.approx(expected)
    assert value(component, DRUGS[drug]) >= 4 - 0.5, "both act in the brain"
    note = component.note(molecule(DRUGS[drug]))
    assert ("pKa 8.7: 0.67" in note) == (pka is not None)
    assert ("no pKa: 1.00" in note) == (pka is None)


def test_scaffold_similarity_equals_rdkits_calls() -> None:
    reference, other = DRUGS["haloperidol"], DRUGS["atorvastatin"]
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2)

    def scaffold(smiles: str) -> Any:
        plain = Chem.MolToSmiles(Chem.MolFromSmiles(smiles), isomericSmiles=False)
        return MurckoScaffold.GetScaffoldForMol(Chem.MolFromSmiles(plain))

    one, two = (generator.GetSparseCountFingerprint(scaffold(text)) for text in (reference, other))
    expected = DataStructs.TanimotoSimilarity(one, two)
    component = build("scaffold_similarity", references=[reference])
    assert value(component, other) == pytest.approx(expected)
    assert 0 < expected < 1
    assert value(component, reference) == 1
    assert value(component, "CCO") == 0
    generic = build("scaffold_similarity", references=["c1ccccc1"], generic=True)
    assert value(generic, "C1CCNCC1") == 1, "piperidine and benzene are the same six-membered ring"
    with pytest.raises(ConfigError, match="no reference has a ring"):
        build("scaffold_similarity", references=["CCO"])


def test_novelty(tmp_path: Path) -> None:
    file = tmp_path / "known.smi"
    file.write_text("C[C@H](N)C(=O)O L-alanine\nCc1ccccc1 toluene\nno molecule\n")

    def new(level: str, smiles: str) -> float:
        return value(build("novelty", known_file=str(file), level=level), smiles)

    with pytest.warns(UserWarning, match="1 line is no molecule, the first is line 3"):
        assert new("molecule", "OC(=O)[C@H](C)N") == 0, "another spelling of L-alanine"
    file.write_text("C[C@H](N)C(=O)O L-alanine\nCc1ccccc1 toluene\n")
    assert new("molecule", "C[C@@H](N)C(=O)O") == 1
    assert new("connectivity", "C[C@@H](N)C(=O)O") == 0
    assert new("scaffold", "c1ccccc1CCN") == 0
    assert new("scaffold", "C1CCCCC1") == 1
    assert new("generic_scaffold", "C1CCCCC1") == 0
    file.write_text("")
    with pytest.raises(ConfigError, match="has no molecules"):
        build("novelty", known_file=str(file))


def test_what_is_known_as_a_salt_is_known_without_its_counter_ion(tmp_path: Path) -> None:
    file = tmp_path / "known.smi"
    file.write_text("CC(=O)Nc1ccc(O)cc1.Cl paracetamol\nCC(C)Cc1ccc(C(C)C(=O)[O-])cc1.[Na+] ibuprofen\n")
    novelty = build("novelty", known_file=str(file))
    assert value(novelty, "CC(=O)Nc1ccc(O)cc1") == 0
    assert value(novelty, "CC(C)Cc1ccc(C(C)C(=O)O)cc1") == 0
    assert value(novelty, "CC(=O)Nc1ccc(O)cc1.Cl") == 0
    assert value(novelty, "CCO") == 1
    file.write_text("CN(C)C(=N)N=C(N)N.Oc1c(Cc2c(O)c(C(=O)O)cc3ccccc23)c2ccccc2cc1C(=O)O metformin embonate\n")
    assert value(build("novelty", known_file=str(file)), "CN(C)C(=N)N=C(N)N") == 0, "the smaller part is the drug"


@pytest.mark.parametrize("name", ["tanimoto", "scaffold_similarity"])
def test_a_salt_among_references_is_named_with_its_parent(name: str) -> None:
    salt = "C[NH2+]CCc1ccccc1.[Cl-]"
    with pytest.warns(UserWarning, match=r"1 of 2 have several parts, such as .* its organic part is 'CNCCc1ccccc1'"):
        build(name, references=["Cc1ccccc1", salt])


def test_ring_systems(tmp_path: Path) -> None:
    odd = "C1CC2(C1)SSC21CC1"
    both = f"{odd}.Cc1ccccc1"
    assert [value(build("ring_systems", mode=mode), both) for mode in ("known", "share", "unknown")] == [0, 0.5, 1]
    assert value(build("ring_systems"), "CCO") == 1
    assert build("ring_systems").note(molecule(both)) == f"unknown: {odd}"
    from chemmara.workflows.rings import count_file

    (tmp_path / "m.smi").write_text(f"{odd}\n{odd}.CC\n")
    count_file(tmp_path / "m.smi", tmp_path / "own.tsv")
    own = build("ring_systems", table=str(tmp_path / "own.tsv"))
    assert [value(own, odd), value(own, "c1ccccc1")] == [1, 0]
    assert work.spec_of("ring_systems", own).key != work.spec_of("ring_systems", build("ring_systems")).key
    assert value(build("ring_systems", table=str(tmp_path / "own.tsv"), least=3), odd) == 0


def test_alerts_are_named(tmp_path: Path) -> None:
    quinone = "O=C1C=CC(=O)C=C1"
    file = tmp_path / "alerts.txt"
    file.write_text("# the house's list\nC=CC=O  Michael acceptor\n[N+](=O)[O-]\n")
    component = build("alerts", catalogues=["PAINS"], smarts_file=str(file), mode="count")
    assert value(component, quinone) == 2
    assert component.note(molecule(quinone)) == "Michael acceptor, PAINS_A quinone_A(370)"
    assert component.note(molecule("C[N+](=O)[O-]")) == "[N+](=O)[O-]"
    assert component.note(molecule("CCO")) == ""
    file.write_text("C=CC=O\n((( bad\n")
    with pytest.raises(ConfigError, match=r"smarts_file line 2: '\(\(\(' cannot be parsed"):
        build("alerts", smarts_file=str(file))
    file.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="has no alerts"):
        build("alerts", smarts_file=str(file))


def test_the_nearest_active_is_named(tmp_path: Path) -> None:
    file = tmp_path / "actives.smi"
    file.write_text("\n".join(f"{smiles} {name}" for name, smiles in DRUGS.items()))
    component = build("tanimoto", references_file=str(file))
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    query = "CC(=O)Nc1ccc(OC)cc1"
    fingerprints = {name: generator.GetFingerprint(Chem.MolFromSmiles(text)) for name, text in DRUGS.items()}
    probe = generator.GetFingerprint(Chem.MolFromSmiles(query))
    similarity = {name: DataStructs.TanimotoSimilarity(probe, found) for name, found in fingerprints.items()}
    nearest = max(similarity, key=lambda name: similarity[name])
    assert value(component, query) == similarity[nearest]
    assert component.note(molecule(query)) == f"nearest: {DRUGS[nearest]} ({similarity[nearest]:.3f})"

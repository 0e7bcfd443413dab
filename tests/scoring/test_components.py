"""One contract for every registered component, and values equal to RDKit's own on named molecules."""

from __future__ import annotations

import doctest
import importlib
import math
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rdkit import Chem
from rdkit.Chem import QED, Crippen, Descriptors, GraphDescriptors, Lipinski, rdMolDescriptors

from chemmara.chemistry.molecules import Molecule, read
from chemmara.errors import ConfigError
from chemmara.scoring import work
from chemmara.scoring.component import COMPONENTS, Component
from chemmara.scoring.evaluation import Evaluation
from chemmara.scoring.transforms import TRANSFORMS

PARACETAMOL = "CC(=O)Nc1ccc(O)cc1"
IBUPROFEN = "CC(C)Cc1ccc(cc1)C(C)C(=O)O"
QUININE = "COc1ccc2nccc([C@@H](O)[C@H]3C[C@@H]4CCN3C[C@@H]4C=C)c2c1"
NAPHTHALENE = "c1ccc2ccccc2c1"
C40 = "C" * 40
MIXED = "C1CCC2(CC1)OC1(CCCC1)C=CC2=CC=[N+](C)C"  # spiro atoms, a double bond with a geometry, a charge
SMILES = [PARACETAMOL, IBUPROFEN, QUININE, C40, "CCO", "[Na+].[O-]C(=O)c1ccccc1", MIXED]
HERE = Path(__file__).parent

# Components that need a service, a receptor or another thing that a test must first make; their own tests hold them.
ELSEWHERE = {"rest", "vina"}
# Parameters with which every registered component is held to the contract; a component without a line fails.
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    **{
        name: [{}]
        for name in (
            *("qed", "molecular_weight", "logp", "tpsa", "hbd", "hba", "rotatable_bonds", "rings", "aromatic_rings"),
            *("fraction_csp3", "stereocentres", "heavy_atoms", "sa_score", "np_score", "bertz_ct"),
            *("unassigned_stereocentres", "formal_charge", "charged_atoms", "heteroatoms", "bridgehead_atoms"),
            *("largest_ring", "molar_refractivity", "stereo_bonds", "spiro_atoms", "cns_mpo", "egan", "ring_systems"),
        )
    },
    "tanimoto": [
        {"references": [PARACETAMOL]},
        {"references": [PARACETAMOL, "CCO"], "fingerprint": "fcfp4", "counts": True, "reduce": "mean"},
        {"references": [PARACETAMOL], "fingerprint": "atom_pairs"},
    ],
    "substructure": [{"smarts": "c[OX2H]", "mode": mode} for mode in ("present", "absent", "count")],
    "alerts": [
        {"catalogues": ["PAINS", "BRENK"]},
        {"smarts": ["[OX2H]", "[#7]"], "catalogues": ["NIH"], "mode": "count"},
    ],
    "scaffold_match": [
        {"scaffold": PARACETAMOL},
        {"scaffold": PARACETAMOL, "mode": "contains"},
        {"scaffold": "C1CCCCC1", "mode": "contains", "generic": True},
        {"scaffold": "C1CCCCC1", "generic": True},
    ],
    "lipinski": [{}, {"mode": "violations", "allowed": 0}],
    "veber": [{}, {"mode": "violations"}],
    "novelty": [
        {"known_file": str(HERE / "known.smi"), "level": level}
        for level in ("molecule", "connectivity", "scaffold", "generic_scaffold")
    ],
    "scaffold_similarity": [
        {"references": [PARACETAMOL]},
        {"references": [PARACETAMOL, QUININE], "generic": True, "reduce": "mean", "counts": False},
    ],
    "property_windows": [{"windows": {"logp": {"low": 0.0, "high": 3.0}, "tpsa": {"high": 90.0}}}],
    "element_count": [{"element": "O"}, {"element": "H"}],
    "isomer": [{"formula": "C8H9NO2"}],
    "forest": [{"model": "gsk3b"}],
    "shape": [{"reference": IBUPROFEN, "conformers": 1}],
    "python": [{"function": "example_scores:carbons", "path": str(HERE)}],
    "executable": [{"command": [sys.executable, str(HERE / "example_oracle.py")], "endpoint": "length"}],
}
CASES = [(name, table) for name, tables in EXAMPLES.items() for table in tables]


def molecules(smiles: Sequence[str]) -> list[Molecule]:
    found = [read(text).molecule for text in smiles]
    return [molecule for molecule in found if molecule is not None]


def build(name: str, **parameters: Any) -> Component:
    return work.build(name, parameters, "scoring.component[0]")


def values(component: Component, smiles: Sequence[str]) -> list[float]:
    return [evaluation.value for evaluation in component(molecules(smiles))]


def test_every_component_is_held_to_the_contract() -> None:
    held = {*EXAMPLES, *ELSEWHERE}
    missing = sorted({*COMPONENTS.names()} - held)
    gone = sorted(held - {*COMPONENTS.names()})
    assert not missing, f"add a line for {', '.join(missing)} to EXAMPLES in this file ({Path(__file__).name})"
    assert not gone, f"take {', '.join(gone)} out of EXAMPLES or ELSEWHERE: no such component is registered"


@pytest.mark.parametrize(("name", "parameters"), CASES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(CASES)])
def test_contract(name: str, parameters: dict[str, Any]) -> None:
    """Finite values within the bounds, the same again, in any order, alone or together, and from a spec."""
    component = build(name, **parameters)
    batch = molecules(SMILES)
    first = component(batch)
    assert all(isinstance(evaluation, Evaluation) for evaluation in first)
    assert [evaluation.error for evaluation in first] == [None] * len(batch)
    low, high = component.bounds
    assert all((low is None or low <= e.value) and (high is None or e.value <= high) for e in first)
    assert len({e.value for e in first}) > 1, "tells no molecule from another"
    assert component(batch[::-1]) == first[::-1]
    assert component(batch[:1]) + component(batch[1:]) == first
    assert component([]) == []
    assert component.cost_us > 0
    entry = COMPONENTS[name]
    assert entry.summary
    assert all(field.description for field in entry.parameters.model_fields.values())
    spec = work.spec_of(name, component)
    assert work.evaluate(spec, [molecule.smiles for molecule in batch]) == first
    again = build(name, **spec.parameters)
    assert work.spec_of(name, again) == spec
    assert again(batch) == first


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("qed", QED.qed),
        ("molecular_weight", Descriptors.MolWt),
        ("logp", Crippen.MolLogP),
        ("tpsa", Descriptors.TPSA),
        ("hbd", Lipinski.NumHDonors),
        ("hba", Lipinski.NumHAcceptors),
        ("rotatable_bonds", Descriptors.NumRotatableBonds),
        ("rings", Lipinski.RingCount),
        ("aromatic_rings", Descriptors.NumAromaticRings),
        ("fraction_csp3", Descriptors.FractionCSP3),
        ("stereocentres", rdMolDescriptors.CalcNumAtomStereoCenters),
        ("heavy_atoms", Lipinski.HeavyAtomCount),
        ("bertz_ct", GraphDescriptors.BertzCT),
        ("unassigned_stereocentres", rdMolDescriptors.CalcNumUnspecifiedAtomStereoCenters),
        ("formal_charge", Chem.GetFormalCharge),
        ("heteroatoms", Lipinski.NumHeteroatoms),
        ("spiro_atoms", rdMolDescriptors.CalcNumSpiroAtoms),
        ("bridgehead_atoms", rdMolDescriptors.CalcNumBridgeheadAtoms),
        ("molar_refractivity", Crippen.MolMR),
    ],
)
def test_descriptors_equal_rdkits(name: str, function: Any) -> None:
    expected = [float(function(Chem.MolFromSmiles(read(text).molecule.smiles))) for text in SMILES]  # type: ignore[union-attr]
    assert values(build(name), SMILES) == expected


def test_contrib_scores_equal_rdkits() -> None:
    from rdkit.Contrib.NP_Score import npscorer
    from rdkit.Contrib.SA_Score import sascorer

    model = npscorer.readNPModel()
    mols = [molecule.mol for molecule in molecules(SMILES)]
    assert values(build("sa_score"), SMILES) == [sascorer.calculateScore(mol) for mol in mols]
    assert values(build("np_score"), SMILES) == [npscorer.scoreMol(mol, model) for mol in mols]


@pytest.mark.parametrize(
    ("name", "smiles", "published", "within"),
    [
        ("molecular_weight", PARACETAMOL, 151.16, 0.01),  # PubChem CID 1983
        ("molecular_weight", IBUPROFEN, 206.28, 0.01),  # PubChem CID 3672
        ("tpsa", PARACETAMOL, 49.3, 0.1),  # PubChem CID 1983, Ertl's method
        ("tpsa", IBUPROFEN, 37.3, 0.1),  # PubChem CID 3672
        ("heavy_atoms", QUININE, 24, 0),  # PubChem CID 3034034
        ("stereocentres", "CC(C)[C@@H]1CC[C@@H](C)C[C@H]1O", 3, 0),  # menthol, PubChem CID 16666
        ("hbd", PARACETAMOL, 2, 0),
        ("rings", NAPHTHALENE, 2, 0),
    ],
)
def test_published_values(name: str, smiles: str, published: float, within: float) -> None:
    assert values(build(name), [smiles])[0] == pytest.approx(published, abs=within + 1e-9)


def test_tanimoto_reduces_over_references(tmp_path: Path) -> None:
    one, two = (
        values(build("tanimoto", references=["CCO"]), SMILES),
        values(build("tanimoto", references=[C40]), SMILES),
    )
    assert values(build("tanimoto", references=["CCO", C40]), SMILES) == [max(p) for p in zip(one, two, strict=True)]
    mean = values(build("tanimoto", references=["CCO", C40], reduce="mean"), SMILES)
    assert mean == pytest.approx([sum(p) / 2 for p in zip(one, two, strict=True)])
    file = tmp_path / "references.smi"
    file.write_text(f"CCO ethanol\n{C40} tetracontane\n")
    from_file = build("tanimoto", references_file=str(file), reduce="mean")
    assert values(from_file, SMILES) == mean
    before = work.spec_of("tanimoto", from_file)
    file.write_text("CCO ethanol\n")
    after = work.spec_of("tanimoto", build("tanimoto", references_file=str(file), reduce="mean"))
    assert before.parameters == after.parameters
    assert before.key != after.key, "the key must follow the contents of the file"


def test_2d_pharmacophores_equal_rdkits() -> None:
    """Gobbi's 2D pharmacophore similarity is `tanimoto` with the fingerprint phco."""
    from rdkit import DataStructs
    from rdkit.Chem.Pharm2D import Generate, Gobbi_Pharm2D

    one, two, three = (
        Generate.Gen2DFingerprint(Chem.MolFromSmiles(text), Gobbi_Pharm2D.factory) for text in SMILES[:3]
    )
    expected = [DataStructs.TanimotoSimilarity(one, other) for other in (one, two, three)]
    assert values(build("tanimoto", references=[PARACETAMOL], fingerprint="phco"), SMILES[:3]) == expected
    assert expected[0] == 1 > expected[1] > 0


def test_substructure_modes() -> None:
    assert values(build("substructure", smarts="[OX2H]"), [PARACETAMOL, C40]) == [1, 0]
    assert values(build("substructure", smarts="[OX2H]", mode="absent"), [PARACETAMOL, C40]) == [0, 1]
    assert values(build("substructure", smarts="[#6]", mode="count"), [PARACETAMOL, C40]) == [8, 40]


def test_alerts() -> None:
    quinone = "O=C1C=CC(=O)C=C1"  # p-benzoquinone, PAINS' quinone_A
    assert values(build("alerts", catalogues=["PAINS"]), [PARACETAMOL, quinone]) == [1, 0]
    for twice in (["PAINS"], ["PAINS", "PAINS_A"], ["PAINS", "PAINS"]):
        count = build("alerts", catalogues=twice, mode="count")
        assert values(count, [PARACETAMOL, quinone]) == [0, 1]
        assert count.identity() == build("alerts", catalogues=["PAINS"], mode="count").identity()
    counted = build("alerts", smarts=["[OX2H]", "[#7]", "[F]"], mode="count")
    assert values(counted, [PARACETAMOL, C40]) == [2, 0]


def test_scaffold_match() -> None:
    biphenyl = "Cc1ccc(cc1)-c1ccccc1"
    batch = [PARACETAMOL, biphenyl, "CCO", "C1CCCCC1"]
    assert values(build("scaffold_match", scaffold="c1ccccc1"), batch) == [1, 0, 0, 0]
    assert values(build("scaffold_match", scaffold="c1ccccc1", mode="contains"), batch) == [1, 1, 0, 0]
    assert values(build("scaffold_match", scaffold="c1ccccc1", generic=True), batch) == [1, 0, 0, 1]
    assert values(build("scaffold_match", scaffold="c1ccccc1", mode="contains", generic=True), batch) == [1, 1, 0, 1]


def test_shape_takes_the_best_conformer() -> None:
    flexible = "CCCCOc1ccc(CCN)cc1"
    one, many = (values(build("shape", reference=IBUPROFEN, conformers=n), [flexible])[0] for n in (1, 12))
    assert many >= one


def test_shape_prefers_the_reference(tmp_path: Path) -> None:
    component = build("shape", reference=IBUPROFEN, conformers=2)
    same, ethanol = values(component, [IBUPROFEN, "CCO"])
    assert same > 0.8 > 0.5 > ethanol
    iron, hydrogen = component(molecules(["[Fe]", "[H][H]"]))
    assert iron.failed
    assert hydrogen.error == "no conformer: no heavy atoms"
    with pytest.raises(ConfigError, match="either reference"):
        build("shape")
    with pytest.raises(ConfigError, match=r"reference: '\[H\]\[H\]' has no conformer"):
        build("shape", reference="[H][H]")


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("substructure", {"smarts": "c1["}, "smarts: 'c1[' cannot be parsed as SMARTS"),
        ("alerts", {"smarts": ["C", "(("]}, "smarts[1]: '((' cannot be parsed as SMARTS"),
        ("alerts", {}, "no alerts"),
        ("alerts", {"catalogues": ["PAIN"]}, "catalogues[0]: should be 'PAINS'"),
        ("tanimoto", {}, "at least one reference"),
        ("tanimoto", {"references": ["C1C"]}, "references[0]: 'C1C' is no valid SMILES"),
        ("tanimoto", {"references": ["C"], "fingerprint": "ecfp"}, "did you mean 'ecfp"),
        ("tanimoto", {"references": ["C"], "fingerprint": "phco", "counts": True}, "no counts"),
        ("tanimoto", {"references_file": "nowhere.smi"}, "does not exist"),
        ("scaffold_match", {"scaffold": "CCO"}, "no ring"),
        ("scaffold_match", {"scaffold": "c1ccccc"}, "unclosed ring 1"),
        ("property_windows", {"windows": {"lopg": {"low": 1}}}, "unknown descriptor 'lopg'; did you mean 'logp'?"),
        ("property_windows", {"windows": {"logp": {}}}, "low, high or both"),
        ("property_windows", {"windows": {"logp": {"low": 2, "high": 1}}}, "low (2) is above high (1)"),
        ("property_windows", {"windows": {}}, "windows"),
        ("python", {"function": "no_such_module:f"}, "no module 'no_such_module'"),
        ("python", {"function": "mine.py:f"}, "no module 'mine.py' in"),
        *(
            ("python", {"function": name}, "a module is named without .py and without its folder, which `path` can")
            for name in ("mine.py:f", "mine.py", "./mine.py:f", "/abs/mine:f", "C:\\abs\\mine.py:f")
        ),
        (
            "python",
            {"function": "example_scores:carbon", "path": str(HERE)},
            "no function 'carbon'; did you mean 'carbons'?",
        ),
        ("python", {"function": "example_scores:not_a_function", "path": str(HERE)}, "no function 'not_a_function'"),
        ("python", {"function": "example_scores"}, "should read module:function"),
        ("qed", {"low": 1}, "low: unknown key"),
    ],
)
def test_bad_parameters_are_refused_at_birth(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(name, **parameters)
    assert str(error.value).startswith("scoring.component[0]")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_transform_that_a_component_suggests_is_one() -> None:
    for name, entries in EXAMPLES.items():
        example = build(name, **entries[0]).example
        TRANSFORMS.build_parameters(tomllib.loads(f"transform = {example}")["transform"], name)


def user(function: str, **kwargs: Any) -> list[Evaluation]:
    component = build("python", function=f"example_scores:{function}", path=str(HERE), kwargs=kwargs)
    return component(molecules([C40, PARACETAMOL, "CCO"]))


def test_python_functions_that_work() -> None:
    assert [e.value for e in user("carbons")] == [0.4, 0.08, 0.02]
    assert [e.value for e in user("carbons", divisor=10)] == [4.0, 0.8, 0.2]
    assert [e.value for e in user("as_array")] == [40.0, 18.0, 3.0]


@pytest.mark.parametrize(
    ("function", "failed", "reason"),
    [
        ("fails_on_rings", [False, True, False], "no value"),
        ("raises_on_rings", [False, True, False], "ValueError: no rings, please"),
        ("one_short", [True] * 3, "expected 3 values, got 2"),
        ("text", [True] * 3, "not a number: '0.5'"),
        ("nothing", [True] * 3, "NoneType, not a sequence"),
        ("frame", [True] * 3, "DataFrame, not a sequence"),
        ("a_set", [True] * 3, "set, not a sequence"),
        ("a_table", [True] * 3, "dict, not a sequence"),
        ("infinite", [True] * 3, "not a finite number"),
        ("leaves", [True] * 3, "SystemExit: bye"),
    ],
)
def test_python_functions_that_fail(function: str, failed: list[bool], reason: str) -> None:
    evaluations = user(function)
    assert [evaluation.failed for evaluation in evaluations] == failed
    assert all(reason in str(evaluation.error) for evaluation in evaluations if evaluation.failed)


def test_a_function_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("FACTOR = 2")
    (tmp_path / "late.py").write_text(
        "def f(smiles):\n    import beside_it\n    return [beside_it.FACTOR for _ in smiles]"
    )
    assert build("python", function="late:f", path=str(tmp_path))(molecules("C"))[0].value == 2
    assert str(tmp_path) not in sys.path


def make(tmp_path: Path, text: str, **kwargs: Any) -> Component:
    (tmp_path / "made.py").write_text(text)
    return build("python", function="made:f", path=str(tmp_path), kwargs=kwargs)


@pytest.mark.parametrize(
    ("text", "kwargs", "message"),
    [
        ("def f(smiles, alpha=1): ...", {"alfa": 2}, ".alfa: 'made:f' has no such argument; did you mean 'alpha'?"),
        ("def f(smiles, *, alpha): ...", {"alfa": 2}, ".alfa: 'made:f' has no such argument; did you mean 'alpha'?"),
        ("def f(smiles): ...", {"alpha": 2}, ".alpha: 'made:f' has no such argument"),
        ("def f(smiles, alpha): ...", {}, ": 'made:f' cannot be called: missing a required argument: 'alpha' (it is "),
        ("def f(smiles): ...", {"smiles": 2}, ": 'made:f' cannot be called: multiple values for argument 'smiles' (it"),
        ("def f(*, alpha=1): ...", {}, ": 'made:f' cannot be called: too many positional arguments (it is called with"),
    ],
)
def test_a_call_that_could_not_begin_is_refused_before_any_molecule(
    tmp_path: Path, text: str, kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(tmp_path, text, **kwargs)
    assert str(caught.value).startswith(f"scoring.component[0].kwargs{message}")


@pytest.mark.parametrize(
    "text",
    [
        "def f(smiles, **rest): return [1.0] * len(smiles)",
        "def f(*all, alpha): return [1.0] * len(all[0])",
        "from functools import wraps\n\ndef g(smiles, alpha, model): ...\n\n"
        "@wraps(g)\ndef f(*all, **rest): return [1.0] * len(all[0])",
        "class f(list):\n    def __init__(self, smiles, alpha): super().__init__([1.0] * len(smiles))",
    ],
)
def test_functions_that_take_it_are_called(tmp_path: Path, text: str) -> None:
    assert values(make(tmp_path, text, alpha=2), ["C", "CC"]) == [1.0, 1.0]


def test_a_function_without_a_readable_signature_is_called(tmp_path: Path) -> None:
    component = make(tmp_path, "from operator import itemgetter\nf = itemgetter(slice(None))")
    assert component(molecules(["C"]))[0].error == "not a number: 'C'"


@pytest.mark.parametrize(
    "text",
    [
        "from rdkit import Chem\ndef f(smiles): return Chem.MolFromSmiles(smiles).GetNumAtoms()",
        "def f(smiles): return smiles.count('C')  # which a list has as well\n",
        "def f(smiles): return [smiles.upper().count('C')]",
    ],
)
def test_a_function_of_one_smiles_is_told_what_it_gets(tmp_path: Path, text: str) -> None:
    found = make(tmp_path, text)(molecules(["CC", "CCC"]))
    assert all(str(each.error).endswith(" (it is called with a list of SMILES)") for each in found)


def test_arguments_that_no_config_can_hold_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"kwargs.*null has no place"):
        build("python", function="example_scores:carbons", path=str(HERE), kwargs={"a": [1, {"b": None}]})


def test_python_module_follows_its_file_and_leaves_no_trace(tmp_path: Path) -> None:
    file = tmp_path / "myscores.py"
    path = list(sys.path)
    keys = []
    for value in (0.25, 0.75):
        file.write_text(f"def f(smiles): return [{value}] * len(smiles)")
        component = build("python", function="myscores:f", path=str(tmp_path))
        assert values(component, ["C"]) == [value]
        keys.append(work.spec_of("python", component).key)
    assert keys[0] != keys[1]
    assert sys.path == path
    assert "myscores" not in sys.modules
    file.write_text("import nothing_of_the_kind")
    with pytest.raises(ConfigError, match="'myscores' cannot be imported: No module named 'nothing_of_the_kind'"):
        build("python", function="myscores:f", path=str(tmp_path))
    file.write_text("def f(:")
    with pytest.raises(ConfigError, match="'myscores' cannot be imported: SyntaxError"):
        build("python", function="myscores:f", path=str(tmp_path))


def test_one_bad_molecule_does_not_fail_its_neighbours() -> None:
    class Picky(Component):
        def _score(self, molecules: Sequence[Molecule]) -> list[float]:
            return [1 / (len(molecule.smiles) - 3) for molecule in molecules]

    evaluations = Picky(None, "")(molecules(["C", "CCO", "CC"]))
    assert [evaluation.failed for evaluation in evaluations] == [False, True, False]
    assert evaluations[1].error == "ZeroDivisionError: division by zero"


def test_text_that_is_no_molecule_fails_in_a_worker() -> None:
    spec = work.spec_of("qed", build("qed"))
    good, bad = work.evaluate(spec, [PARACETAMOL, "C1C"])
    assert not good.failed
    assert math.isnan(bad.value)
    assert "unclosed ring" in str(bad.error)


@pytest.mark.parametrize(
    "module",
    [
        "function",
        *(
            f"components.{name}"
            for name in (
                *(
                    "cns",
                    "descriptors",
                    "rings",
                    "rules",
                    "scaffold_similarity",
                    "similarity",
                    "substructure",
                    "windows",
                ),
            )
        ),
    ],
)
def test_examples_in_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"chemmara.scoring.{module}"))
    assert result.attempted
    assert result.failed == 0

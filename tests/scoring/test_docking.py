"""Docking into a peptide: same seed, same score; poses on disk; whatever goes wrong costs one molecule, or one line."""

from __future__ import annotations

import gzip
import importlib.util
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import peptides
import pytest
from rdkit import Chem

from chemmara.chemistry.coordinates import ligand_points
from chemmara.chemistry.molecules import Molecule, inchikey, read
from chemmara.chemistry.protonation import protonated
from chemmara.errors import ConfigError, RunError
from chemmara.scoring import work
from chemmara.scoring.component import Component
from chemmara.scoring.docking import engines
from chemmara.scoring.docking.box import Box
from chemmara.scoring.docking.ligand import best_model
from chemmara.scoring.executors import ProcessExecutor
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.programs import Program

# Small ones: a docking takes a second, and longer with each atom and torsion.
PHENOL, ALANINE, METHANOL = "Oc1ccccc1", "C[C@H](N)C(=O)O", "CO"
BOX: dict[str, Any] = {"center": [0, 0, 0], "size": [8, 8, 8], "exhaustiveness": 1}
TRANSFORM = {"name": "reverse_sigmoid", "low": -5, "high": 0}


def molecules(*smiles: str) -> list[Molecule]:
    return [molecule for text in smiles if (molecule := read(text).molecule) is not None]


@pytest.fixture(scope="module")
def receptor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return peptides.write(tmp_path_factory.mktemp("receptor"))


def build(receptor: Path, **changes: Any) -> Component:
    table = {"receptor": str(receptor), **BOX, **changes}
    return work.build("vina", {k: v for k, v in table.items() if v is not None}, "scoring.component[0]")


@pytest.fixture(autouse=True)
def packages() -> None:
    for name in ("vina", "meeko", "gemmi"):
        if importlib.util.find_spec(name) is None:  # importing meeko here would turn RDKit's log over to Python's
            pytest.skip(f"{name} is not installed")


# Docking --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_same_seed_same_score_alone_together_and_in_any_order(receptor: Path) -> None:
    together = [e.value for e in build(receptor)(molecules(METHANOL, "CC#N"))]
    assert all(-6 < value < 1 for value in together)
    assert together[0] != together[1]
    again = build(receptor)
    assert [e.value for m in molecules("CC#N", METHANOL) for e in again([m])] == together[::-1]


@pytest.mark.slow
def test_same_seed_same_score_in_workers(receptor: Path) -> None:
    here = [e.value for e in build(receptor)(molecules(METHANOL, "CC#N"))]
    table = {"component": [{"name": "vina", "receptor": str(receptor), **BOX, "transform": TRANSFORM}]}
    with ProcessExecutor(2) as executor:
        scores = ScoringFunction(table, executor, chunk=1)([METHANOL, "CC#N"])
    assert scores.raw["vina"].tolist() == here
    assert scores.errors == [None, None]


def test_the_pose_is_the_molecule_in_the_box(receptor: Path, tmp_path: Path) -> None:
    component = build(receptor, poses=str(tmp_path / "poses"), protonation="physiological")
    molecule = molecules(ALANINE)[0]
    value = component([molecule])[0].value
    assert [path.name for path in (tmp_path / "poses").iterdir()] == [f"{inchikey(molecule.mol)}.sdf"]
    path = tmp_path / "poses" / f"{inchikey(molecule.mol)}.sdf"
    pose = next(iter(Chem.SDMolSupplier(str(path))))
    assert pose.GetProp("_Name") == inchikey(molecule.mol)
    assert pose.GetProp("SMILES") == molecule.smiles
    assert Chem.MolToSmiles(pose) == pose.GetProp("docked_SMILES") == "C[C@H]([NH3+])C(=O)[O-]"
    assert float(pose.GetProp("affinity_kcal_mol")) == value
    assert all(abs(x) <= 6 for point in ligand_points(path, "") for x in point), "within the box, nearly"
    before = path.read_bytes()
    assert component([molecule])[0].value == value
    assert path.read_bytes() == before


@pytest.mark.slow
def test_of_two_tautomers_the_better_pose_stays(receptor: Path, tmp_path: Path) -> None:
    pair = molecules("NC=O", "N=CO")
    assert len({inchikey(m.mol) for m in pair}) == 1
    kept = []
    for order in (pair, pair[::-1]):
        folder = tmp_path / str(len(kept))
        values = {e.value: m.smiles for m, e in zip(order, build(receptor, poses=str(folder))(order), strict=True)}
        (path,) = folder.iterdir()
        kept.append(path.read_text())
        assert f">  <SMILES>\n{values[min(values)]}\n" in kept[-1]
    assert kept[0] == kept[1]


def test_poses_of_another_oracle_are_not_overwritten(receptor: Path, fake: Path, tmp_path: Path) -> None:
    def component(folder: str, seed: int) -> Component:
        return build(receptor, executable=str(fake), poses=str(tmp_path / folder), seed=seed)

    ours = component("poses", 1)
    ours(molecules("CCN"))
    with pytest.raises(
        ConfigError, match=r"component\[0\]\.poses: '.*\.sdf' is the pose of another oracle \(receptor "
    ):
        component("poses", 2)(molecules("CCC"))
    component("other", 2)(molecules("CCC"))
    (path,) = (tmp_path / "other").iterdir()
    shutil.copy(path, tmp_path / "poses")
    with pytest.raises(RunError, match=r"component\[0\]\.poses: '.*\.sdf' is the pose of another oracle \(receptor "):
        ours(molecules("CCC"))
    assert (tmp_path / "poses" / path.name).read_text() == path.read_text()


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("[Na+].[Cl-]", "not one molecule but 2"),
        ("CB(O)O", "vina: PDBQT parsing error: Atom type B"),
        ("[H][H]", "no conformer: no heavy atoms"),
        ("C" * 160, "no conformer: 160 heavy atoms"),
    ],
)
def test_what_cannot_be_docked_has_a_reason(receptor: Path, smiles: str, reason: str) -> None:
    found = build(receptor)(molecules(smiles))[0]
    assert math.isnan(found.value)
    assert str(found.error).startswith(reason)


def test_poses_that_cannot_be_written_end_the_run(receptor: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"component\[0\]\.poses: a pose cannot be written to .*: "):
        build(receptor, poses=str(tmp_path / "file"))(molecules(METHANOL))


def test_a_crash_and_a_hang_of_vina_cost_one_molecule(receptor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the child process: it dies or hangs where the ligand says so, and chatters on stdout's place."""
    text = (
        "import json, os, sys, time\n"
        "for n, line in enumerate(sys.stdin):\n"
        "    ligand = json.loads(line).get('ligand', '')\n"
        "    if 'REMARK SMILES CCS' in ligand: os.abort()\n"
        "    if 'REMARK SMILES CCO' in ligand: time.sleep(60)\n"
        "    pose = 'REMARK VINA RESULT:   -1.5  0 0' if n else ''\n"
        "    print(json.dumps({'pose': pose}), flush=True)\n"
    )
    monkeypatch.setattr(engines, "CHILD", text)
    component = build(receptor, timeout=0.5)
    found = component(molecules("CCN", "CCS", "CCO", "CCC"))
    assert [(e.value, e.error) for e in found if not e.failed] == [(-1.5, None)] * 2
    assert [e.error for e in found if e.failed] == ["vina died of SIGABRT", "timed out after 0.5 s"]


@pytest.mark.slow
def test_a_preparation_without_end_costs_one_molecule(receptor: Path, fake: Path) -> None:
    """A cage of so many rings that meeko would look for minutes at which of them to open."""
    rungs = "".join(f"CC%{number}" for number in range(10, 22))
    cage = f"C1{rungs}C1{rungs}"
    found = build(receptor, executable=str(fake), timeout=2.0)(molecules("CCN", cage, "CCC"))
    assert found[1].error == "no PDBQT: its preparation timed out after 2 s"
    assert [found[place].value for place in (0, 2)] == [-9, -9]


def test_an_interruption_leaves_no_answer_for_the_next_ligand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller may catch it and go on, in a notebook for one."""
    echo = (
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    print(json.dumps({'pose': json.loads(line).get('ligand', '')}), flush=True)\n"
    )
    monkeypatch.setattr(engines, "CHILD", echo)
    engine = engines.PackageEngine(engines.Search("", Box((0, 0, 0), (9, 9, 9)), "vina", 1, 1), 5.0, "here")
    assert engine.dock("first") == "first"

    def interrupted(self: Program, deadline: float) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Program, "line", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.dock("second")
    assert engine.dock("third") == "third"


def test_a_receptor_that_vina_refuses_is_one_line(receptor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    component = build(receptor)
    monkeypatch.setattr(component, "_search", engines.Search("ATOM nonsense\n", component._search.box, "vina", 1, 1))  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"component\[0\]: vina does not start: .*PDBQT parsing error"):
        component(molecules(PHENOL))


# A program instead of the package -------------------------------------------------------------------------------------

FAKE = """#!{python}
import os, sys, time
options = dict(part.removeprefix("--").split("=", 1) for part in sys.argv[1:])
ligand = open(options["ligand"]).read()
print("chatter " * 1000)
if "REMARK SMILES CCS" in ligand: sys.exit("tree error")
if "REMARK SMILES CCO" in ligand: time.sleep(60)
atoms = "".join(line for line in ligand.splitlines(True) if not line.startswith("REMARK"))
value = -float(options["size_x"]) - float(options["cpu"])
with open(options["out"], "w") as out:
    for model, plus in enumerate((2, 0, 1), 1):
        out.write(f"MODEL {{model}}\\nREMARK minimizedAffinity {{value + plus}}\\n{{atoms}}ENDMDL\\n")
if "REMARK SMILES CCF" in ligand: print("out of memory", flush=True), os.kill(os.getpid(), 9)
"""


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    path = tmp_path / "fake-vina"
    path.write_text(FAKE.format(python=sys.executable))
    path.chmod(0o755)
    return path


def test_a_program_with_vinas_command_line(receptor: Path, fake: Path, tmp_path: Path) -> None:
    component = build(receptor, executable=str(fake), timeout=5.0, poses=str(tmp_path / "poses"))
    found = component(molecules("CCN", "CCS"))
    assert found[0].value == -9
    assert found[1].error == "'fake-vina' ended with code 1: tree error"
    (pose,) = (tmp_path / "poses").iterdir()
    assert "\n-9.000\n" in pose.read_text()
    assert Chem.MolToSmiles(Chem.MolFromMolFile(str(pose))) == "CCN", "the map of atoms comes from the ligand"
    assert build(receptor, executable=str(fake), timeout=0.3)(molecules("CCO"))[0].error == "timed out after 0.3 s"


def test_a_program_that_dies_after_its_first_poses_gives_no_score(receptor: Path, fake: Path) -> None:
    found = build(receptor, executable=str(fake), timeout=5.0)(molecules("CCF", "CCN"))
    assert found[0].error == "'fake-vina' died of SIGKILL: out of memory"
    assert found[1].value == -9


def test_the_program_vina_itself(receptor: Path) -> None:
    if shutil.which("vina") is None:
        pytest.skip("no program vina on this machine")
    by_program = build(receptor, executable="vina")(molecules(METHANOL))[0].value
    assert by_program == pytest.approx(build(receptor)(molecules(METHANOL))[0].value, abs=0.3)


def test_programs_are_told_apart(receptor: Path, fake: Path) -> None:
    program = str(fake)
    cases: list[dict[str, Any]] = [
        {}, {"executable": program}, {"executable": program, "arguments": ["--x=1"]}, {"seed": 2},
        {"size": [8, 8, 9]}, {"protonation": "neutral"}, {"exhaustiveness": 2},
    ]  # fmt: skip
    assert len({work.spec_of("vina", build(receptor, **changes)).key for changes in cases}) == len(cases)


def test_files_among_the_options_count_by_content(
    receptor: Path, fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chemmara.scoring.settings import ScoringSettings

    def spec(**changes: Any) -> Any:
        options = {"arguments": ["--config", "dock.cfg", "--flex=side.pdbqt", "--log=mine.log"], **changes}
        one = {"name": "vina", "receptor": str(receptor), "executable": str(fake), **BOX, "transform": TRANSFORM}
        return ScoringSettings.parse({"component": [{**one, **options}]}, folder=tmp_path).components[0].spec

    (tmp_path / "dock.cfg").write_text("one")
    (tmp_path / "side.pdbqt").write_text("one")
    first = spec()
    assert first.parameters["arguments"][1:3] == [str(tmp_path / "dock.cfg"), f"--flex={tmp_path / 'side.pdbqt'}"]
    (tmp_path / "mine.log").write_text("docked")
    assert spec(unwatched=["mine.log"]).key == first.key
    for name in ("dock.cfg", "side.pdbqt"):
        before = spec(unwatched=["mine.log"]).key
        (tmp_path / name).write_text("two")
        assert spec(unwatched=["mine.log"]).key != before
    (tmp_path / "maps.fld").write_text("one")  # that dock.cfg leads to
    before = spec(watched=["maps.fld"]).key
    assert before != spec().key
    (tmp_path / "maps.fld").write_text("two")
    assert spec(watched=["maps.fld"]).key != before


def test_what_does_not_change_values_is_not_in_the_key(receptor: Path, tmp_path: Path) -> None:
    zipped = tmp_path / "other.pdbqt.gz"
    zipped.write_bytes(gzip.compress(receptor.read_bytes()))
    keys = {work.spec_of("vina", build(path, **changes)).key for path, changes in (
        (receptor, {}), (receptor, {"timeout": 9.0}), (receptor, {"poses": str(tmp_path / "p")}), (zipped, {}),
    )}  # fmt: skip
    assert len(keys) == 1


# What validate says ---------------------------------------------------------------------------------------------------


def changed(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"center": None}, ": the box is missing; give center and size, or a reference_ligand"),
        ({"size": [0, 5, 5]}, ".size: edges should be above 0 and at most 100"),
        ({"size": [5, 5]}, ".size[2]: this key is required"),
        ({"center": [60, 0, 0]}, ": the box around (60, 0, 0) is "),
        ({"reference_ligand": "x.sdf"}, ": give either center and size, or reference_ligand"),
        ({"executable": "no-such-vina"}, ".executable: 'no-such-vina' is no program that can be found"),
        ({"executable": __file__}, "is not executable"),
        ({"arguments": ["--x"]}, ".arguments: options are for an executable"),
        ({"protonation": "ph7"}, ".protonation: should be 'as_written', 'neutral' or 'physiological'"),
        ({"seed": 0}, ".seed: should be greater than or equal to 1"),
    ],
)
def test_settings_without_sense_are_refused(receptor: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(receptor, **changes)
    assert str(error.value).startswith("scoring.component[0]")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.pdb", peptides.peptide(), "should be a .pdbqt or .pdbqt.gz file; mk_prepare_receptor.py"),
        ("r.pdbqt", "", "holds 0 atoms, too few for a receptor"),
        ("r.pdbqt", "ROOT\n" + peptides.peptide(), "is a flexible molecule (ROOT, TORSDOF)"),
        ("r.pdbqt", peptides.peptide().replace(" C \n", "\n"), "has no AutoDock atom type in columns 78-79"),
        ("r.pdbqt", peptides.peptide().replace(" OA\n", " OX\n"), "has the unknown atom type 'OX'"),
        ("r.pdbqt", "ATOM      1  N   nonsense\n", "line 1 has no coordinates"),
        ("r.pdbqt", "MODEL 1\nENDMDL\nMODEL 2\n", "holds several models"),
    ],
)
def test_a_receptor_that_is_none_is_said(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(changed(tmp_path / name, text))
    assert str(error.value).startswith("scoring.component[0].receptor: ")
    assert message in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"receptor: file '.*' does not exist"):
        build(tmp_path / "nowhere.pdbqt")
    broken = tmp_path / "r.pdbqt.gz"
    broken.write_bytes(b"no gzip")
    with pytest.raises(ConfigError, match=r"receptor: file '.*' cannot be read: Not a gzipped file"):
        build(broken)


def test_missing_packages_are_one_line(receptor: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("vina", "meeko") else real(name))
    with pytest.raises(ConfigError, match=r"docking needs vina and meeko; .*'\.\[docking\]'"):
        build(receptor)


def test_a_reference_ligand_defines_the_box(receptor: Path, tmp_path: Path) -> None:
    mol = Chem.AddHs(Chem.MolFromSmiles(PHENOL))
    from rdkit.Chem import rdDistGeom

    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    points = mol.GetConformer().GetPositions()[:7]
    size = (points.max(axis=0) - points.min(axis=0) + 6).round(3)
    center = ((points.max(axis=0) + points.min(axis=0)) / 2).round(3)
    Chem.MolToMolFile(mol, str(tmp_path / "l.sdf"))
    Chem.MolToPDBFile(mol, str(tmp_path / "l.pdb"))
    (tmp_path / "l.pdb.gz").write_bytes(gzip.compress((tmp_path / "l.pdb").read_bytes()))
    atoms = "".join(
        f"{i + 1} {a.GetSymbol()}{i} {x:.3f} {y:.3f} {z:.3f} {a.GetSymbol()}.3 1 LIG 0\n"
        for i, (a, (x, y, z)) in enumerate(zip(mol.GetAtoms(), mol.GetConformer().GetPositions(), strict=True))
    )
    (tmp_path / "l.mol2").write_text(
        f"@<TRIPOS>MOLECULE\nlig\n {mol.GetNumAtoms()} 0 1\nSMALL\n\n@<TRIPOS>ATOM\n{atoms}"
    )
    for name in ("l.sdf", "l.pdb", "l.pdb.gz", "l.mol2"):
        component = build(receptor, center=None, size=None, reference_ligand=str(tmp_path / name), padding=3.0)
        box = component.identity()
        assert box["size"] == pytest.approx(size, abs=0.01), name
        assert box["center"] == pytest.approx(center, abs=0.01), name
    flat = tmp_path / "flat.sdf"
    Chem.MolToMolFile(Chem.MolFromSmiles(PHENOL), str(flat))
    for path, message in (
        (flat, "no heavy atoms with 3D"),
        (tmp_path / "l.xyz", "should be a .sdf"),
        (changed(tmp_path / "bad.sdf", "x"), "no heavy atoms"),
    ):
        path.touch()
        with pytest.raises(ConfigError, match=message):
            build(receptor, center=None, size=None, reference_ligand=str(path))


def test_a_config_finds_its_files_from_anywhere(
    receptor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chemmara.scoring.settings import ScoringSettings

    shutil.copy(receptor, tmp_path / "r.pdbqt")
    monkeypatch.chdir(receptor.parent)
    table = {"component": [{"name": "vina", "receptor": "r.pdbqt", "poses": "out", **BOX, "transform": TRANSFORM}]}
    settings = ScoringSettings.parse(table, folder=tmp_path)
    parameters = settings.components[0].spec.parameters
    assert parameters["receptor"] == str(tmp_path / "r.pdbqt")
    assert parameters["poses"] == str(receptor.parent / "out")
    assert ScoringSettings.parse(settings.to_table()).components[0].spec.key == settings.components[0].spec.key


def test_affinities_are_read_from_vina_and_smina() -> None:
    for text, value in (("VINA RESULT:    -8.502      0.000      0.000", -8.502), ("minimizedAffinity -7.5", -7.5)):
        model = f"MODEL 1\nREMARK {text}\n"
        assert best_model(model) == (value, model)
    assert best_model("MODEL 1\nREMARK VINA RESULT: no\n") is None
    assert best_model("MODEL 1\nREMARK VINA RESULT: nan\n") is None
    assert best_model("") is None


def test_the_best_affinity_need_not_be_the_first() -> None:
    """As gnina has it, which sorts by its own score."""
    models = [f"MODEL {i}\nREMARK minimizedAffinity {value}\nENDMDL\n" for i, value in enumerate((-6.5, -8, "x"))]
    assert best_model("".join(models)) == (-8, models[1])


# Protonation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("smiles", "physiological"),
    [
        ("CC(=O)O", "CC(=O)[O-]"),
        ("CCN", "CC[NH3+]"),
        ("CN(C)C", "C[NH+](C)C"),
        ("C[N+](C)(C)C", "C[N+](C)(C)C"),
        ("Nc1ccccc1", "Nc1ccccc1"),
        ("c1ccncc1", "c1ccncc1"),
        ("c1c[nH]cn1", "c1c[nH]cn1"),
        ("Cc1nnn[nH]1", "Cc1nnn[n-]1"),
        ("CC(N)=O", "CC(N)=O"),
        ("CS(N)(=O)=O", "CS(N)(=O)=O"),
        ("CC(=O)NS(C)(=O)=O", "CC(=O)[N-]S(C)(=O)=O"),
        ("N=C(N)c1ccccc1", "NC(=[NH2+])c1ccccc1"),
        ("CN=C(N)N", "C[NH+]=C(N)N"),
        ("CNC(=NC#N)NC", "CNC(=NC#N)NC"),
        ("CN=C(NC)NC#N", "CN=C(NC)NC#N"),
        ("NC(N)=NS(C)(=O)=O", "CS(=O)(=O)N=C(N)N"),
        ("COP(=O)(O)O", "COP(=O)([O-])[O-]"),
        ("NCC(=O)O", "[NH3+]CC(=O)[O-]"),
        ("[NH3+]CC(=O)[O-]", "[NH3+]CC(=O)[O-]"),
    ],
)
def test_charges_follow_the_rules(smiles: str, physiological: str) -> None:
    mol = molecules(smiles)[0].mol
    assert protonated(mol, "as_written") is mol
    assert Chem.MolToSmiles(protonated(mol, "physiological")) == physiological


def test_neutral_takes_charges_away() -> None:
    assert Chem.MolToSmiles(protonated(molecules("[NH3+]CC(=O)[O-]")[0].mol, "neutral")) == "NCC(=O)O"
    assert Chem.MolToSmiles(protonated(molecules("C[N+](C)(C)C")[0].mol, "neutral")) == "C[N+](C)(C)C"


def test_rdkit_keeps_its_log() -> None:
    script = (
        "from rdkit import Chem\n"
        "from chemmara.scoring.docking.ligand import to_pdbqt\n"
        "from chemmara.chemistry.molecules import quiet\n"
        "with quiet(): to_pdbqt(Chem.MolFromSmiles('CCO'), 'as_written', 0, False)\n"
        "import sys; assert 'meeko' in sys.modules\n"
        "Chem.MolFromSmiles('C1C')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "unclosed ring" in done.stderr

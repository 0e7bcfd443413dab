"""Scaffolds, fingerprints and conformers of named molecules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator
from rdkit.Chem.Scaffolds import MurckoScaffold

from chemmara.chemistry import conformers, fingerprints, scaffolds
from chemmara.chemistry.molecules import Molecule, read
from chemmara.errors import ConfigError


def molecule(smiles: str) -> Molecule:
    found = read(smiles).molecule
    assert found is not None
    return found


def mol(smiles: str) -> Chem.Mol:
    return molecule(smiles).mol


@pytest.mark.parametrize(
    ("smiles", "murcko", "generic"),
    [
        ("CCO", "", ""),  # ethanol: acyclic, no scaffold
        ("CC(=O)Nc1ccc(O)cc1", "c1ccccc1", "C1CCCCC1"),  # paracetamol
        ("CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "O=c1[nH]c(=O)c2[nH]cnc2[nH]1", "C1CCC2CCCC2C1"),  # caffeine
        ("O=C(c1ccccc1)c1ccccc1", "O=C(c1ccccc1)c1ccccc1", "C1CCC(CC2CCCCC2)CC1"),  # benzophenone
        ("C[C@H]1CC[C@H](O)CC1", "C1CCCCC1", "C1CCCCC1"),
    ],
)
def test_scaffolds_of_named_molecules(smiles: str, murcko: str, generic: str) -> None:
    assert scaffolds.murcko(mol(smiles)) == murcko == molecule(smiles).scaffold
    assert scaffolds.generic(mol(smiles)) == generic


@pytest.mark.parametrize("smiles", ["Cn1cnc2c1c(=O)n(C)c(=O)n2C", "O=S1(=O)CCN(c2ccccc2)CC1", "CC1=C2CC(C)(C)C2CC1"])
def test_murcko_is_rdkits_without_stereo(smiles: str) -> None:
    expected = Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(mol(smiles)), isomericSmiles=False)
    assert scaffolds.murcko(mol(smiles)) == expected
    assert scaffolds.murcko(mol(expected)) == expected


def test_stereoisomers_and_isotopes_share_a_scaffold() -> None:
    spellings = ["C[C@H]1CC[C@@H](c2ccccc2)OC1", "C[C@@H]1CC[C@@H](c2ccccc2)OC1", "CC1CCC(c2ccccc2)O[13CH2]1"]
    assert len({molecule(s).scaffold for s in spellings}) == 1


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("name", fingerprints.NAMES)
def test_similarity_contract(name: fingerprints.FingerprintName, counts: bool) -> None:
    if name == "phco" and counts:
        with pytest.raises(ValueError, match="phco"):
            fingerprints.function(name, counts)
        return
    smiles = ["CC(=O)Nc1ccc(O)cc1", "CCOc1ccc(NC(C)=O)cc1", "CCCCCCN"]  # paracetamol, phenacetin, hexylamine
    prints = [fingerprints.fingerprint(mol(s), name, counts) for s in smiles]
    matrix = np.array([fingerprints.tanimoto(one, prints) for one in prints])
    assert np.allclose(np.diag(matrix), 1)
    assert np.allclose(matrix, matrix.T)
    assert matrix.min() >= 0
    assert matrix[0, 1] > matrix[0, 2]


def test_fingerprints_equal_rdkits() -> None:
    paracetamol = mol("CC(=O)Nc1ccc(O)cc1")
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    assert fingerprints.fingerprint(paracetamol, "ecfp4") == generator.GetFingerprint(paracetamol)
    counts = fingerprints.fingerprint(paracetamol, "ecfp4", counts=True)
    assert counts == generator.GetSparseCountFingerprint(paracetamol)
    assert DataStructs.TanimotoSimilarity(counts, counts) == 1


def test_pharmacophores_of_giants_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 100 heavy atoms"):
        fingerprints.fingerprint(mol("C" * 300), "phco")


def test_unknown_fingerprint() -> None:
    with pytest.raises(ValueError, match="unknown fingerprint 'maccs'"):
        fingerprints.function("maccs")  # type: ignore[arg-type]


def test_embedding_depends_on_its_seed_alone() -> None:
    first, second, other = (conformers.embed(mol("CC(=O)Nc1ccc(O)cc1"), 2, seed).mol for seed in (3, 3, 4))
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.GetNumConformers() == 2
    positions = [m.GetConformer(1).GetPositions() for m in (first, second, other)]
    assert np.array_equal(positions[0], positions[1])
    assert not np.allclose(positions[0], positions[2])


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("[H][H]", "no heavy atoms"),
        ("*CC", "dummy atoms"),
        ("C" * 151, "151 heavy atoms"),
        ("C[C@H]1[C@@H]2C[C@H]12", "embedding failed"),  # a stereo that no geometry has
    ],
)
def test_embedding_fails_with_a_reason(smiles: str, reason: str) -> None:
    embedding = conformers.embed(mol(smiles))
    assert embedding.mol is None
    assert reason in str(embedding.error)


def test_force_field_relaxes() -> None:
    rough, relaxed = (conformers.embed(mol("CC(=O)Nc1ccc(O)cc1"), 1, 0, mmff).mol for mmff in (False, True))
    assert rough is not None
    assert relaxed is not None
    assert not np.allclose(rough.GetConformer().GetPositions(), relaxed.GetConformer().GetPositions())


def test_poses_are_read_with_their_coordinates(tmp_path: Path) -> None:
    embedded = conformers.embed(mol("CC(=O)Nc1ccc(O)cc1")).mol
    assert embedded is not None
    Chem.MolToMolFile(embedded, str(tmp_path / "pose.sdf"))
    pose = conformers.read_pose(tmp_path / "pose.sdf", "here")
    assert pose.GetConformer().Is3D()
    Chem.MolToMolFile(mol("CCO"), str(tmp_path / "flat.sdf"))
    (tmp_path / "bad.sdf").write_text("nothing")
    for name, reason in (("flat.sdf", "no 3D"), ("bad.sdf", "cannot be read"), ("none.sdf", "does not exist")):
        with pytest.raises(ConfigError, match=f"here: .*{reason}"):
            conformers.read_pose(tmp_path / name, "here")


def test_a_scaffold_has_no_atom_maps() -> None:
    assert scaffolds.murcko(mol("C[c:3]1[cH:1]cccc1")) == scaffolds.murcko(mol("Cc1ccccc1")) == "c1ccccc1"

"""3D conformers from a given seed: the same molecule and seed give the same coordinates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from chemmara.chemistry.molecules import quiet
from chemmara.errors import ConfigError
from chemmara.lazy import lazy

if TYPE_CHECKING:
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
else:
    Chem = lazy("rdkit.Chem")
    rdDistGeom = lazy("rdkit.Chem.rdDistGeom")
    rdForceFieldHelpers = lazy("rdkit.Chem.rdForceFieldHelpers")

MAX_HEAVY_ATOMS = 150
"""Larger molecules are refused: embedding time grows with the cube of the atoms, and a clock must not decide."""

_ATTEMPTS = 20  # embedding attempts a conformer; counted rather than timed, so that no result depends on the clock


class Embedding(NamedTuple):
    """A molecule with hydrogens and conformers, or the reason why there is none."""

    mol: Chem.Mol | None
    error: str | None


def embed(mol: Chem.Mol, n: int = 1, seed: int = 0, mmff: bool = False) -> Embedding:
    """Embed up to ``n`` conformers (Å) by ETKDGv3, if asked relaxed by MMFF94.

    The attempts are bounded in number; where the rules of ETKDG cannot be met a second round starts from random
    coordinates. [Riniker and Landrum, JCIM 2015, 55, 2562; Wang et al., JCIM 2020, 60, 2044]
    """
    heavy = mol.GetNumHeavyAtoms()
    if heavy == 0:
        return Embedding(None, "no conformer: no heavy atoms")
    if heavy > MAX_HEAVY_ATOMS:
        return Embedding(None, f"no conformer: {heavy} heavy atoms, at most {MAX_HEAVY_ATOMS} are embedded")
    if any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()):
        return Embedding(None, "no conformer: dummy atoms have no geometry")
    with quiet():
        try:
            return _embed(Chem.AddHs(mol), n, seed, mmff)
        except (RuntimeError, ValueError) as error:
            return Embedding(None, f"no conformer: {str(error).strip().splitlines()[0][:200]}")


def _embed(mol: Chem.Mol, n: int, seed: int, mmff: bool) -> Embedding:
    for random_coordinates in (False, True):
        parameters: Any = rdDistGeom.ETKDGv3()
        parameters.randomSeed = seed % (2**31 - 1)
        parameters.maxIterations = _ATTEMPTS
        parameters.numThreads = 1
        parameters.useRandomCoords = random_coordinates
        if rdDistGeom.EmbedMultipleConfs(mol, n, parameters):
            break
    if mol.GetNumConformers() == 0:
        return Embedding(None, "no conformer: embedding failed")
    if mmff and rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(mol, numThreads=1)
    return Embedding(mol, None)


def read_pose(path: Path, where: str) -> Chem.Mol:
    """The first molecule of an SDF or mol file with its 3D coordinates; raises :class:`ConfigError` without."""
    if not path.is_file():
        raise ConfigError(f"{where}: file '{path}' does not exist")
    with quiet():
        try:
            mol = Chem.MolFromMolFile(str(path))
        except (RuntimeError, ValueError, OSError):
            mol = None
    if mol is None or mol.GetNumHeavyAtoms() == 0:
        raise ConfigError(f"{where}: '{path}' cannot be read as an SDF with heavy atoms")
    if mol.GetNumConformers() == 0 or not mol.GetConformer().Is3D():
        raise ConfigError(f"{where}: '{path}' has no 3D coordinates")
    return mol

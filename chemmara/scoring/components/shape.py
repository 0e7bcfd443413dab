"""3D shape and colour similarity to a reference ligand: a proxy for docking that needs no receptor."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from chemmara.chemistry.conformers import embed, read_pose
from chemmara.chemistry.molecules import Molecule, parse_reference
from chemmara.config import Parameters
from chemmara.errors import ConfigError
from chemmara.lazy import lazy
from chemmara.scoring.component import COMPONENTS, Component
from chemmara.scoring.evaluation import Evaluation

if TYPE_CHECKING:
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")

_CONFORMER_US = 25_000.0


class ShapeParameters(Parameters):
    """Parameters of the shape similarity."""

    reference: str | None = Field(None, description="SMILES of the reference ligand; its conformers are embedded")
    reference_file: Path | None = Field(None, description="SDF or mol file with its 3D pose, instead of a SMILES")
    conformers: int = Field(4, ge=1, le=100, description="conformers tried for each molecule")
    reference_conformers: int = Field(1, ge=1, le=100, description="conformers of a reference given as SMILES")
    shape_weight: float = Field(0.5, ge=0, le=1, description="share of shape in the sum, the rest is colour (features)")
    seed: int = Field(0, ge=0, description="seed of the embedding, together with the molecule")


@COMPONENTS.register("shape", ShapeParameters)
class Shape(Component):
    """Best overlay of a molecule's conformers on a reference ligand: shape and colour (feature) Tanimoto, 0 to 1.

    raw = max over conformers of w shape + (1 - w) colour, each a Gaussian-volume Tanimoto.
    [Grant, Gallardo and Pickup, J. Comput. Chem. 1996, 17, 1653; RDKit's rdShapeAlign, the PubChem implementation]
    """

    parameters: ShapeParameters

    def __init__(self, parameters: ShapeParameters, where: str) -> None:
        super().__init__(parameters, where)
        if (parameters.reference is None) == (parameters.reference_file is None):
            raise ConfigError(f"{where}: give either reference (a SMILES) or reference_file (a 3D pose)")
        if parameters.reference is not None:
            ligand = parse_reference(parameters.reference, f"{where}.reference")
            mol, error = embed(ligand.mol, parameters.reference_conformers, self._seed(ligand.smiles))
            if mol is None:
                raise ConfigError(f"{where}.reference: '{parameters.reference}' has {error}")
            self._references = _shapes(mol, f"{where}.reference")
        elif parameters.reference_file is not None:
            place = f"{where}.reference_file"
            self._references = _shapes(read_pose(parameters.reference_file, place), place)
        self.cost_us = _CONFORMER_US * parameters.conformers

    def _seed(self, smiles: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self.parameters.seed} {smiles}".encode()).digest()[:4], "big")

    def _score(self, molecules: Sequence[Molecule]) -> list[Evaluation]:
        return [self._overlay(molecule) for molecule in molecules]

    def _overlay(self, molecule: Molecule) -> Evaluation:
        mol, error = embed(molecule.mol, self.parameters.conformers, self._seed(molecule.smiles))
        if mol is None:
            return Evaluation(math.nan, error)
        return Evaluation(max(self._best(mol, conformer.GetId()) for conformer in mol.GetConformers()))

    def _best(self, mol: Chem.Mol, conformer: int) -> float:
        from rdkit.Chem import rdShapeAlign

        weight = self.parameters.shape_weight
        best = 0.0
        for reference in self._references:
            # Aligning moves the conformer: each overlay starts from a copy, so that their order does not matter.
            probe = Chem.Mol(mol, confId=conformer)
            shape, colour = rdShapeAlign.AlignMol(reference, probe, conformer, True, 0.5)
            best = max(best, weight * shape + (1 - weight) * colour)
        return min(float(best), 1.0)


def _shapes(mol: Chem.Mol, where: str) -> list[Any]:
    """The reference's conformers as shapes; raises ConfigError for atoms without a van der Waals radius."""
    from rdkit.Chem import rdShapeAlign

    try:
        return [rdShapeAlign.PrepareConformer(mol, conformer.GetId()) for conformer in mol.GetConformers()]
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from None

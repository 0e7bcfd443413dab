"""Similarity of scaffolds: to hop from a scaffold, or to stay near it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from chemmara.chemistry import scaffolds
from chemmara.chemistry.fingerprints import FingerprintName, check, function, tanimoto
from chemmara.chemistry.molecules import Molecule, parse_reference, read
from chemmara.chemistry.salts import warn_of_salts
from chemmara.config import Parameters
from chemmara.errors import ConfigError
from chemmara.lazy import lazy
from chemmara.scoring.component import COMPONENTS, PerMolecule
from chemmara.scoring.components.similarity import read_references

if TYPE_CHECKING:
    import numpy as np
    from rdkit import Chem
else:
    np = lazy("numpy")


class ScaffoldSimilarityParameters(Parameters):
    """Parameters of the scaffold similarity."""

    references: list[str] = Field(default_factory=list, description="SMILES of molecules whose scaffolds are meant")
    references_file: Path | None = Field(None, description="file of more references (.smi, .csv, .sdf, also .gz)")
    generic: bool = Field(False, description="compare generic scaffolds (every atom carbon, every bond single)")
    fingerprint: Literal["ecfp4", "ecfp6", "fcfp4", "atom_pairs"] = Field(
        "ecfp4", description="ecfp4, ecfp6, fcfp4, atom_pairs"
    )
    counts: bool = Field(True, description="unhashed feature counts, which tell ring sizes and repeats apart, or bits")
    reduce: Literal["max", "mean"] = Field("max", description="how similarities to several references are joined")


@COMPONENTS.register("scaffold_similarity", ScaffoldSimilarityParameters)
class ScaffoldSimilarity(PerMolecule):
    """Tanimoto similarity of a molecule's Bemis-Murcko scaffold, or generic scaffold, to those of references.

    0 for an acyclic molecule, which has no scaffold. With ``clip(reverse = true)`` it is a scaffold hop.

    >>> from chemmara.chemistry.molecules import read
    >>> near = ScaffoldSimilarity(ScaffoldSimilarityParameters(references=["CC(=O)Nc1ccc(O)cc1"]), "")
    >>> [e.value for e in near([read("Cc1ccccc1").molecule, read("CCO").molecule])]  # toluene is benzene's scaffold
    [1.0, 0.0]
    """

    parameters: ScaffoldSimilarityParameters

    def __init__(self, parameters: ScaffoldSimilarityParameters, where: str) -> None:
        super().__init__(parameters, where)
        self._of = scaffolds.generic if parameters.generic else scaffolds.murcko
        name: FingerprintName = parameters.fingerprint
        check(name, parameters.counts)
        references = [
            parse_reference(text, f"{where}.references[{index}]") for index, text in enumerate(parameters.references)
        ]
        if parameters.references_file is not None:
            references += read_references(parameters.references_file, f"{where}.references_file")
        if not references:
            raise ConfigError(f"{where}.references: at least one reference SMILES is needed")
        warn_of_salts(references, f"{where}.references")
        found = dict.fromkeys(self._of(molecule.mol) for molecule in references)
        self._scaffolds = [scaffold for scaffold in found if scaffold]
        if not self._scaffolds:
            raise ConfigError(f"{where}.references: no reference has a ring, so there is no scaffold")
        self.cost_us = (400.0 if parameters.generic else 320.0) + 1.0 * len(self._scaffolds)

    @cached_property
    def _references(self) -> list[Any]:
        return [self._fingerprint(scaffold) for scaffold in self._scaffolds]

    def _fingerprint(self, scaffold: str) -> Any:
        molecule, error = read(scaffold)
        if molecule is None:
            raise ValueError(f"scaffold '{scaffold}': {error}")
        return function(self.parameters.fingerprint, self.parameters.counts)(molecule.mol)

    def _similarities(self, mol: Chem.Mol) -> np.ndarray[Any, Any] | None:
        scaffold = self._of(mol)
        return tanimoto(self._fingerprint(scaffold), self._references) if scaffold else None

    def _value(self, mol: Chem.Mol) -> float:
        found = self._similarities(mol)
        if found is None:
            return 0.0
        return float(np.max(found) if self.parameters.reduce == "max" else np.mean(found))

    def note(self, molecule: Molecule) -> str:
        """The nearest scaffold."""
        found = self._similarities(molecule.mol)
        if found is None:
            return "no scaffold"
        nearest = int(np.argmax(found))
        return f"nearest: {self._scaffolds[nearest]} ({found[nearest]:.3f})"

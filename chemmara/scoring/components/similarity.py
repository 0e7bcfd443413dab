"""Fingerprint similarity to one or several references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from chemmara.chemistry.files import read_records
from chemmara.chemistry.fingerprints import FingerprintName, check, function, tanimoto
from chemmara.chemistry.molecules import Molecule, parse_reference
from chemmara.chemistry.salts import warn_of_salts
from chemmara.config import Parameters
from chemmara.errors import ConfigError, UserError
from chemmara.lazy import lazy
from chemmara.scoring.component import COMPONENTS, Component

if TYPE_CHECKING:
    import numpy as np
    from rdkit import Chem
else:
    np = lazy("numpy")

_COST_US = {"ecfp4": 35.0, "ecfp6": 40.0, "fcfp4": 60.0, "atom_pairs": 60.0, "phco": 7200.0}
_PER_REFERENCE_US = 1.0


class TanimotoParameters(Parameters):
    """Parameters of the Tanimoto similarity."""

    references: list[str] = Field(default_factory=list, description="SMILES of the reference molecules")
    references_file: Path | None = Field(None, description="file of more references (.smi, .csv, .sdf, also .gz)")
    fingerprint: FingerprintName = Field("ecfp4", description="ecfp4, ecfp6, fcfp4, atom_pairs, phco")
    counts: bool = Field(False, description="unhashed feature counts instead of 2048 bits")
    reduce: Literal["max", "mean"] = Field("max", description="how similarities to several references are joined")


@COMPONENTS.register("tanimoto", TanimotoParameters)
class Tanimoto(Component):
    """Tanimoto similarity of fingerprints to the nearest reference, or on average to all of them.

    >>> parameters = TanimotoParameters(references=["CC(=O)Nc1ccc(O)cc1"])  # paracetamol
    >>> from chemmara.chemistry.molecules import read
    >>> [e.value for e in Tanimoto(parameters, "")([read("CC(=O)Nc1ccc(O)cc1").molecule])]
    [1.0]
    """

    parameters: TanimotoParameters

    def __init__(self, parameters: TanimotoParameters, where: str) -> None:
        super().__init__(parameters, where)
        try:
            check(parameters.fingerprint, parameters.counts)
        except ValueError as error:
            raise ConfigError(f"{where}.counts: {error}") from None
        references = [
            parse_reference(text, f"{where}.references[{index}]") for index, text in enumerate(parameters.references)
        ]
        if parameters.references_file is not None:
            references += read_references(parameters.references_file, f"{where}.references_file")
        if not references:
            raise ConfigError(f"{where}.references: at least one reference SMILES is needed")
        warn_of_salts(references, f"{where}.references")
        self._molecules = references
        if parameters.fingerprint == "phco":
            try:
                _ = self._references
            except ValueError as error:
                raise ConfigError(f"{where}.references: {error}") from None
        self.cost_us = _COST_US[parameters.fingerprint] + _PER_REFERENCE_US * len(references)

    @cached_property
    def _fingerprint(self) -> Callable[[Chem.Mol], Any]:
        return function(self.parameters.fingerprint, self.parameters.counts)

    @cached_property
    def _references(self) -> list[Any]:
        """Made when the first molecule is scored: a config is checked without them."""
        return [self._fingerprint(molecule.mol) for molecule in self._molecules]

    def _score(self, molecules: Sequence[Molecule]) -> list[float]:
        reduce = np.max if self.parameters.reduce == "max" else np.mean
        return [float(reduce(tanimoto(self._fingerprint(m.mol), self._references))) for m in molecules]

    def note(self, molecule: Molecule) -> str:
        """The nearest reference."""
        similarities = tanimoto(self._fingerprint(molecule.mol), self._references)
        nearest = int(np.argmax(similarities))
        return f"nearest: {self._molecules[nearest].smiles} ({similarities[nearest]:.3f})"


def read_references(path: Path, where: str) -> list[Molecule]:
    """The molecules of a file; raises ConfigError for a line that is none, and for a file without any."""
    try:
        records = list(read_records(path))
    except UserError as error:
        raise ConfigError(f"{where}: {error}") from None
    if not records:
        raise ConfigError(f"{where}: file '{path}' has no molecules")
    return [parse_reference(record.smiles, f"{where} line {record.line}") for record in records]

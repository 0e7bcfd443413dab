"""Patterns that a molecule must, or must not, contain: one SMARTS, a list of alerts, a scaffold."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from chemmara.chemistry import scaffolds
from chemmara.chemistry.molecules import Molecule, parse_reference, parse_smarts, read
from chemmara.chemistry.text import open_text
from chemmara.config import Parameters
from chemmara.errors import ConfigError
from chemmara.lazy import lazy
from chemmara.scoring.component import COMPONENTS, PerMolecule

if TYPE_CHECKING:
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")

# fmt: off
Catalogue = Literal[
    "PAINS", "PAINS_A", "PAINS_B", "PAINS_C", "BRENK", "NIH", "ZINC", "CHEMBL", "CHEMBL_Glaxo", "CHEMBL_Dundee",
    "CHEMBL_BMS", "CHEMBL_SureChEMBL", "CHEMBL_MLSMR", "CHEMBL_Inpharmatica", "CHEMBL_LINT",
]
# fmt: on
_COUNT_EXAMPLE = "{ name = 'step', low = 1, high = 2 }"


class SubstructureParameters(Parameters):
    """Parameters of the substructure match."""

    smarts: str = Field(description="the pattern, as SMARTS")
    mode: Literal["present", "absent", "count"] = Field(
        "present", description="1 where it matches; 1 where it does not; or the number of distinct matches"
    )


@COMPONENTS.register("substructure", SubstructureParameters)
class Substructure(PerMolecule):
    """Whether a molecule contains a SMARTS pattern, or how often.

    >>> from chemmara.chemistry.molecules import read
    >>> phenol = Substructure(SubstructureParameters(smarts="c[OX2H]"), "")
    >>> [e.value for e in phenol([read("CC(=O)Nc1ccc(O)cc1").molecule, read("C" * 40).molecule])]
    [1.0, 0.0]
    """

    parameters: SubstructureParameters
    cost_us = 20
    example = _COUNT_EXAMPLE

    def __init__(self, parameters: SubstructureParameters, where: str) -> None:
        super().__init__(parameters, where)
        self._pattern = parse_smarts(parameters.smarts, f"{where}.smarts")
        self.bounds = (0.0, None) if parameters.mode == "count" else (0.0, 1.0)

    def _value(self, mol: Chem.Mol) -> float:
        if self.parameters.mode == "count":
            return float(len(mol.GetSubstructMatches(self._pattern, uniquify=True, maxMatches=10_000)))
        return float(mol.HasSubstructMatch(self._pattern) == (self.parameters.mode == "present"))


class AlertsParameters(Parameters):
    """Parameters of the structural alerts."""

    smarts: list[str] = Field(default_factory=list, description="own alerts, as SMARTS")
    smarts_file: Path | None = Field(
        None, description="file of more alerts: a SMARTS and its name a line, # for a remark"
    )
    catalogues: list[Catalogue] = Field(
        default_factory=list, description="RDKit's catalogues: PAINS, BRENK, NIH, ZINC, CHEMBL, ..."
    )
    mode: Literal["clean", "count"] = Field(
        "clean", description="1 where no alert matches, else 0; or the number of alerts that match"
    )


@COMPONENTS.register("alerts", AlertsParameters)
class Alerts(PerMolecule):
    """Structural alerts: own SMARTS and RDKit's filter catalogues; 1 for a clean molecule, or the number of alerts.

    ``chemmara score --notes`` and ``--explain`` name what matched.
    [PAINS: Baell and Holloway, J. Med. Chem. 2010, 53, 2719; BRENK: Brenk et al., ChemMedChem 2008, 3, 435]
    """

    parameters: AlertsParameters
    example = "{ name = 'left_step', low = 0 }"

    def __init__(self, parameters: AlertsParameters, where: str) -> None:
        super().__init__(parameters, where)
        named = [(text, text, f"{where}.smarts[{index}]") for index, text in enumerate(parameters.smarts)]
        if parameters.smarts_file is not None:
            named += _read_alerts(parameters.smarts_file, f"{where}.smarts_file")
        if not named and not parameters.catalogues:
            raise ConfigError(f"{where}: no alerts; give smarts = [...] or catalogues = ['PAINS', ...]")
        self._patterns = [(name, parse_smarts(text, place)) for name, text, place in named]
        self._catalogue = _catalogue(parameters.catalogues) if parameters.catalogues else None
        entries = self._catalogue.GetNumEntries() if self._catalogue is not None else 0
        self.cost_us = 3.5 * entries + 5.0 * len(self._patterns)
        self.bounds = (0.0, 1.0) if parameters.mode == "clean" else (0.0, None)

    def identity(self) -> dict[str, Any]:
        """A catalogue that is named twice counts once, and did not always: that is another number of alerts."""
        distinct = _distinct(self.parameters.catalogues)
        return {**super().identity(), **({"catalogues": distinct} if self.parameters.mode == "count" else {})}

    def _value(self, mol: Chem.Mol) -> float:
        if self.parameters.mode == "clean":
            return float(not self._any(mol))
        found = sum(mol.HasSubstructMatch(pattern) for _, pattern in self._patterns)
        return float(found + (len(self._catalogue.GetMatches(mol)) if self._catalogue is not None else 0))

    def _any(self, mol: Chem.Mol) -> bool:
        if any(mol.HasSubstructMatch(pattern) for _, pattern in self._patterns):
            return True
        return self._catalogue is not None and bool(self._catalogue.HasMatch(mol))

    def note(self, molecule: Molecule) -> str:
        """The alerts that match, with the catalogue that each is from."""
        found = [name for name, pattern in self._patterns if molecule.mol.HasSubstructMatch(pattern)]
        for entry in self._catalogue.GetMatches(molecule.mol) if self._catalogue is not None else ():
            catalogue = entry.GetProp("FilterSet") if "FilterSet" in entry.GetPropList() else ""
            found.append(f"{catalogue} {entry.GetDescription()}".strip())
        return ", ".join(found)


def _read_alerts(path: Path, where: str) -> list[tuple[str, str, str]]:
    """(name, SMARTS, place) of each line of a file."""
    try:
        with open_text(path) as stream:
            lines = stream.read().splitlines()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{where}: file '{path}' cannot be read: {reason}") from None
    found = []
    for number, line in enumerate(lines, 1):
        smarts, _, name = line.strip().replace("\t", " ").partition(" ")
        if smarts and not smarts.startswith("#"):
            found.append((name.strip() or smarts, smarts, f"{where} line {number}"))
    if not found:
        raise ConfigError(f"{where}: file '{path}' has no alerts")
    return found


def _distinct(names: list[Catalogue]) -> list[Catalogue]:
    """Each catalogue once: PAINS holds PAINS_A, and CHEMBL all of CHEMBL_*, whose alerts would count twice.

    >>> _distinct(["BRENK", "PAINS_A", "PAINS", "BRENK", "CHEMBL_BMS"])
    ['BRENK', 'PAINS', 'CHEMBL_BMS']
    """
    return [name for name in dict.fromkeys(names) if (whole := name.partition("_")[0]) == name or whole not in names]


def _catalogue(names: list[Catalogue]) -> Any:
    from rdkit.Chem import FilterCatalog

    settings = FilterCatalog.FilterCatalogParams()
    for name in _distinct(names):
        settings.AddCatalog(FilterCatalog.FilterCatalogParams.FilterCatalogs.names[name])
    return FilterCatalog.FilterCatalog(settings)


class ScaffoldMatchParameters(Parameters):
    """Parameters of the scaffold match."""

    scaffold: str = Field(description="SMILES of the scaffold, or of a molecule whose Bemis-Murcko scaffold is meant")
    mode: Literal["equals", "contains"] = Field("equals", description="the same scaffold, or one that contains it")
    generic: bool = Field(False, description="compare generic scaffolds (every atom carbon, every bond single)")


@COMPONENTS.register("scaffold_match", ScaffoldMatchParameters)
class ScaffoldMatch(PerMolecule):
    """1 where the Bemis-Murcko scaffold equals, or contains, the given one, else 0."""

    parameters: ScaffoldMatchParameters

    def __init__(self, parameters: ScaffoldMatchParameters, where: str) -> None:
        super().__init__(parameters, where)
        self._of = scaffolds.generic if parameters.generic else scaffolds.murcko
        self._scaffold = self._of(parse_reference(parameters.scaffold, f"{where}.scaffold").mol)
        if not self._scaffold:
            raise ConfigError(f"{where}.scaffold: '{parameters.scaffold}' has no ring, so no scaffold")
        self._pattern = parse_reference(self._scaffold, f"{where}.scaffold").mol
        self.cost_us = 320.0 if parameters.generic else 150.0

    def identity(self) -> dict[str, Any]:
        """Atom maps of the scaffold are of no account, and were: nothing was equal to it."""
        mapped = re.search(r":\d+\]", self.parameters.scaffold)
        return {**super().identity(), **({"maps": "none"} if mapped else {})}

    def _value(self, mol: Chem.Mol) -> float:
        if self.parameters.mode == "equals":
            return float(self._of(mol) == self._scaffold)
        if not self.parameters.generic:
            return float(mol.HasSubstructMatch(self._pattern))  # a scaffold within a molecule is within its scaffold
        own = self._of(mol)
        if not own:
            return 0.0
        molecule, error = read(own)
        if molecule is None:
            raise ValueError(f"scaffold '{own}': {error}")
        return float(molecule.mol.HasSubstructMatch(self._pattern))

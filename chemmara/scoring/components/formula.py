"""Elemental composition: how often an element occurs, and how near a molecule is to a sum formula."""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from chemmara.config import Parameters
from chemmara.errors import ConfigError
from chemmara.lazy import lazy
from chemmara.scoring.component import COMPONENTS, PerMolecule

if TYPE_CHECKING:
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")

_TERM = re.compile(r"([A-Z][a-z]?)(\d*)")
_ATOM_SD = 1.0
_TOTAL_SD = 2.0


@cache
def _symbols() -> frozenset[str]:
    table = Chem.GetPeriodicTable()
    return frozenset(table.GetElementSymbol(number) for number in range(1, 119))


def composition(mol: Chem.Mol) -> Counter[str]:
    """Number of atoms of each element, hydrogens included; isotopes count with their element.

    >>> from chemmara.chemistry.molecules import read
    >>> sorted(composition(read("CC(=O)Nc1ccc(O)cc1").molecule.mol).items())  # paracetamol
    [('C', 8), ('H', 9), ('N', 1), ('O', 2)]
    """
    found: Counter[str] = Counter()
    for atom in mol.GetAtoms():
        found[atom.GetSymbol()] += 1
        found["H"] += atom.GetTotalNumHs()
    return +found


def parse_formula(text: str) -> dict[str, int]:
    """The elements of a sum formula in its order. Raises ValueError for what is none.

    >>> parse_formula("C7H8N2O2")
    {'C': 7, 'H': 8, 'N': 2, 'O': 2}
    """
    terms = _TERM.findall(text)
    if not terms or "".join(symbol + number for symbol, number in terms) != text:
        raise ValueError(f"'{text}' is no sum formula; write it like C7H8N2O2")
    formula: dict[str, int] = {}
    for symbol, number in terms:
        if symbol not in _symbols():
            raise ValueError(f"'{symbol}' in '{text}' is no element")
        if symbol in formula:
            raise ValueError(f"'{symbol}' stands twice in '{text}'")
        formula[symbol] = int(number or 1)
    return formula


class ElementCountParameters(Parameters):
    """Parameters of the element count."""

    element: str = Field(description="symbol of the element, such as F; H counts all hydrogens")

    @field_validator("element")
    @classmethod
    def _known(cls, symbol: str) -> str:
        if symbol not in _symbols():
            raise ValueError(f"'{symbol}' is no element")
        return symbol


@COMPONENTS.register("element_count", ElementCountParameters)
class ElementCount(PerMolecule):
    """Number of atoms of one element.

    >>> from chemmara.chemistry.molecules import read
    >>> fluorine = ElementCount(ElementCountParameters(element="F"), "")
    >>> [e.value for e in fluorine([read("FC(F)(F)c1ccccc1").molecule, read("CCO").molecule])]
    [3.0, 0.0]
    """

    parameters: ElementCountParameters
    bounds = (0.0, None)
    unit = "count"
    example = "{ name = 'step', low = 1, high = 3 }"

    def _value(self, mol: Chem.Mol) -> float:
        return float(composition(mol)[self.parameters.element])


class IsomerParameters(Parameters):
    """Parameters of the isomer score."""

    formula: str = Field(description="sum formula, hydrogens included, such as C9H10N2O2PF2Cl")


@COMPONENTS.register("isomer", IsomerParameters)
class Isomer(PerMolecule):
    """How near a molecule is to a sum formula: 1 for its isomers.

    Geometric mean of exp(-(n - n_E)^2 / 2) for each element E of the formula, hydrogens included, and
    exp(-((N - N_total)/2)^2 / 2) for the number of all atoms. [GuacaMol: Brown et al., JCIM 2019, 59, 1096]

    >>> from chemmara.chemistry.molecules import read
    >>> ethanol = Isomer(IsomerParameters(formula="C2H6O"), "")
    >>> [round(e.value, 3) for e in ethanol([read(s).molecule for s in ("CCO", "COC", "CC=O")])]
    [1.0, 1.0, 0.535]
    """

    parameters: IsomerParameters
    cost_us = 20

    def __init__(self, parameters: IsomerParameters, where: str) -> None:
        super().__init__(parameters, where)
        try:
            self._formula = parse_formula(parameters.formula)
        except ValueError as error:
            raise ConfigError(f"{where}.formula: {error}") from None

    def _value(self, mol: Chem.Mol) -> float:
        found = composition(mol)
        exponents = [((found[symbol] - count) / _ATOM_SD) ** 2 / 2 for symbol, count in self._formula.items()]
        total = (found.total() - sum(self._formula.values())) / _TOTAL_SD
        exponents.append(total**2 / 2)
        return math.exp(-math.fsum(exponents) / len(exponents))

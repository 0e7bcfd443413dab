"""CNS MPO: how near six properties lie to those of drugs that act in the brain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from chemmara.chemistry.ionization import acidic_pka, basic_pka
from chemmara.chemistry.molecules import Molecule
from chemmara.config import Parameters
from chemmara.lazy import lazy
from chemmara.scoring.component import COMPONENTS, PerMolecule

if TYPE_CHECKING:
    from rdkit import Chem
    from rdkit.Chem import rdMolDescriptors
else:
    rdMolDescriptors = lazy("rdkit.Chem.rdMolDescriptors")

PH = 7.4
LIMITS = {"logP": (3.0, 5.0), "logD": (2.0, 4.0), "MW": (360.0, 500.0), "HBD": (0.5, 3.5), "pKa": (8.0, 10.0)}
"""Property: up to the first value the desirability is 1, from the second on 0, straight between [Wager et al. 2010]."""

TPSA = (20.0, 40.0, 90.0, 120.0)
"""Å^2: 0 up to the first, 1 between the middle two, 0 from the last on."""


class CnsParameters(Parameters):
    """Parameters of the CNS MPO."""

    basic_pka: float | None = Field(
        None, description="pKa of the most basic centre, where a series shares it; default: estimated for each molecule"
    )


def desirabilities(logp: float, logd: float, mw: float, tpsa: float, hbd: float, pka: float | None) -> dict[str, float]:
    """The six desirabilities in [0, 1], whose sum is the CNS MPO. ``pka``: None for a molecule without a base, which
    counts 1. [Wager et al., ACS Chem. Neurosci. 2010, 1, 435]

    >>> sum(desirabilities(3, 2, 360, 60, 0, 8).values()), sum(desirabilities(4, 3, 430, 30, 2, 9).values())
    (6.0, 3.0)
    """
    values = {"logP": logp, "logD": logd, "MW": mw, "HBD": hbd, "pKa": -math.inf if pka is None else pka}
    found = {name: _falling(value, *LIMITS[name]) for name, value in values.items()}
    rise = min(max((tpsa - TPSA[0]) / (TPSA[1] - TPSA[0]), 0.0), 1.0)
    return {**found, "TPSA": min(rise, _falling(tpsa, TPSA[2], TPSA[3]))}


def _falling(value: float, low: float, high: float) -> float:
    return min(max((high - value) / (high - low), 0.0), 1.0)


def logd(logp: float, base: float | None, acid: float | None) -> float:
    """logD at pH 7.4 of a molecule whose neutral form alone goes into octanol: logP - log10(1 + 10^(pKa - pH) + ...).

    >>> round(logd(3.0, 9.4, None), 2), round(logd(3.0, None, 4.4), 2), logd(3.0, None, None)
    (1.0, -0.0, 3.0)
    """
    charged = (10 ** (base - PH) if base is not None else 0.0) + (10 ** (PH - acid) if acid is not None else 0.0)
    return logp - math.log10(1 + charged)


@COMPONENTS.register("cns_mpo", CnsParameters)
class CnsMpo(PerMolecule):
    """CNS MPO, 0 to 6, of which 4 and more is desirable [Wager et al., ACS Chem. Neurosci. 2010, 1, 435].

    Sum of the desirabilities of ClogP, ClogD at pH 7.4, molecular weight, TPSA, hydrogen-bond donors and the pKa of the
    most basic centre. The paper took them from commercial programs; here logP is Crippen's, donors are RDKit's NH and
    OH, pKa is estimated from groups (0.3 units off on average on 48 known bases, on a few more than 1; give
    ``basic_pka`` where it is known), and logD follows from logP and pKa by the share of the neutral form.

    >>> from chemmara.chemistry.molecules import read
    >>> [round(e.value, 1) for e in CnsMpo(CnsParameters(), "")([read("CC(=O)Nc1ccc(O)cc1").molecule])]
    [5.5]
    """

    parameters: CnsParameters
    version: ClassVar[int] = 3
    bounds = (0.0, 6.0)
    cost_us = 600
    example = "{ name = 'sigmoid', low = 3, high = 5 }"

    def _parts(self, mol: Chem.Mol) -> tuple[dict[str, float], dict[str, float]]:
        base = self.parameters.basic_pka if self.parameters.basic_pka is not None else basic_pka(mol)
        logp = float(rdMolDescriptors.CalcCrippenDescriptors(mol)[0])
        values = {
            "logP": logp,
            "logD": logd(logp, base, acidic_pka(mol)),
            "MW": float(rdMolDescriptors._CalcMolWt(mol)),
            "TPSA": float(rdMolDescriptors.CalcTPSA(mol)),
            "HBD": float(rdMolDescriptors.CalcNumLipinskiHBD(mol)),
        }
        found = desirabilities(values["logP"], values["logD"], values["MW"], values["TPSA"], values["HBD"], base)
        return values if base is None else {**values, "pKa": base}, found

    def _value(self, mol: Chem.Mol) -> float:
        return math.fsum(self._parts(mol)[1].values())

    def note(self, molecule: Molecule) -> str:
        """The six properties and what each gives."""
        values, found = self._parts(molecule.mol)
        shown = (f"{name} {values[name]:.1f}" if name in values else f"no {name}" for name in found)
        return ", ".join(f"{text}: {share:.2f}" for text, share in zip(shown, found.values(), strict=True))

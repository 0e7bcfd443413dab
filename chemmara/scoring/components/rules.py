"""Rules of thumb on oral absorption: Lipinski, Veber, Egan. Each passes a molecule (1) or not (0), or counts.

>>> from chemmara.chemistry.molecules import read
>>> paracetamol, c40 = (read(s).molecule for s in ("CC(=O)Nc1ccc(O)cc1", "C" * 40))
>>> [[e.value for e in rule(rule.parameters_type(), "")([paracetamol, c40])] for rule in (Lipinski, Veber, Egan)]
[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from chemmara.chemistry.molecules import Molecule
from chemmara.config import Parameters
from chemmara.lazy import lazy
from chemmara.scoring.component import COMPONENTS, PerMolecule

if TYPE_CHECKING:
    from rdkit import Chem
    from rdkit.Chem import rdMolDescriptors
else:
    rdMolDescriptors = lazy("rdkit.Chem.rdMolDescriptors")


class RuleParameters(Parameters):
    """Parameters of a rule."""

    mode: Literal["passes", "violations"] = Field(
        "passes", description="1 or 0; or the number of limits that are broken"
    )


class LipinskiParameters(RuleParameters):
    """Parameters of Lipinski's rule."""

    allowed: int = Field(1, ge=0, le=4, description="violations with which a molecule still passes; Lipinski's: 1")


class Rule(PerMolecule):
    """A set of limits. An author writes :meth:`broken`."""

    parameters_type: ClassVar[type[RuleParameters]] = RuleParameters
    parameters: RuleParameters
    example = "{ name = 'left_step', low = 0 }"
    cost_us = 240

    def __init__(self, parameters: RuleParameters, where: str) -> None:
        super().__init__(parameters, where)
        self.bounds = (0.0, 1.0) if parameters.mode == "passes" else (0.0, None)

    def _value(self, mol: Chem.Mol) -> float:
        found = len(self.broken(mol))
        return float(found) if self.parameters.mode == "violations" else float(found <= self.allowed)

    @property
    def allowed(self) -> int:
        return 0

    def note(self, molecule: Molecule) -> str:
        """The limits that are broken."""
        return ", ".join(self.broken(molecule.mol))

    @abstractmethod
    def broken(self, mol: Chem.Mol) -> list[str]:
        """The limits that a molecule breaks, each with its value."""


def _logp(mol: Chem.Mol) -> float:
    return float(rdMolDescriptors.CalcCrippenDescriptors(mol)[0])


@COMPONENTS.register("lipinski", LipinskiParameters)
class Lipinski(Rule):
    """Rule of five: molecular weight <= 500, logP <= 5, NH and OH <= 5, N and O <= 10; one violation is allowed.

    [Lipinski et al., Adv. Drug Deliv. Rev. 1997, 23, 3] Crippen's logP stands for ClogP.
    """

    parameters_type = LipinskiParameters
    parameters: LipinskiParameters

    @property
    def allowed(self) -> int:
        return self.parameters.allowed

    def broken(self, mol: Chem.Mol) -> list[str]:
        weight, logp = rdMolDescriptors._CalcMolWt(mol), _logp(mol)
        donors, acceptors = rdMolDescriptors.CalcNumLipinskiHBD(mol), rdMolDescriptors.CalcNumLipinskiHBA(mol)
        found = [f"molecular weight {weight:.1f} > 500"] if weight > 500 else []
        found += [f"logP {logp:.2f} > 5"] if logp > 5 else []
        found += [f"NH and OH {donors} > 5"] if donors > 5 else []
        return found + ([f"N and O {acceptors} > 10"] if acceptors > 10 else [])


@COMPONENTS.register("veber", RuleParameters)
class Veber(Rule):
    """Veber's rule on oral bioavailability: rotatable bonds <= 10 and TPSA <= 140 Å^2.

    [Veber et al., J. Med. Chem. 2002, 45, 2615] Rotatable bonds by RDKit's strict definition, which leaves amides
    out as the paper does; TPSA of N and O.
    """

    cost_us = 40

    def broken(self, mol: Chem.Mol) -> list[str]:
        rotatable, tpsa = rdMolDescriptors.CalcNumRotatableBonds(mol), rdMolDescriptors.CalcTPSA(mol)
        found = [f"rotatable bonds {rotatable} > 10"] if rotatable > 10 else []
        return found + ([f"TPSA {tpsa:.1f} > 140"] if tpsa > 140 else [])


@COMPONENTS.register("egan", RuleParameters)
class Egan(Rule):
    """Egan's rule on passive absorption, its rectangle: TPSA <= 131.6 Å^2 and logP <= 5.88.

    [Egan, Merz and Baldwin, J. Med. Chem. 2000, 43, 3867; the limits with Crippen's logP: Daina, Michielin and Zoete,
    Sci. Rep. 2017, 7, 42717]
    """

    def broken(self, mol: Chem.Mol) -> list[str]:
        tpsa, logp = rdMolDescriptors.CalcTPSA(mol), _logp(mol)
        found = [f"TPSA {tpsa:.1f} > 131.6"] if tpsa > 131.6 else []
        return found + ([f"logP {logp:.2f} > 5.88"] if logp > 5.88 else [])

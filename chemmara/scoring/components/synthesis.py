"""Scores learned from fragment frequencies: synthetic accessibility and natural-product likeness (RDKit's Contrib)."""

from __future__ import annotations

import contextlib
import io
from functools import cache
from typing import TYPE_CHECKING, Any

from chemmara.lazy import lazy
from chemmara.scoring.component import COMPONENTS, PerMolecule

if TYPE_CHECKING:
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")


@COMPONENTS.register("sa_score")
class SyntheticAccessibility(PerMolecule):
    """Synthetic accessibility, 1 (easy) to 10 (hard) [Ertl and Schuffenhauer, J. Cheminform. 2009, 1, 8]."""

    bounds = (1.0, 10.0)
    cost_us = 140
    example = "{ name = 'reverse_sigmoid', low = 2, high = 5 }"

    def _value(self, mol: Chem.Mol) -> float:
        from rdkit.Contrib.SA_Score import sascorer

        return float(sascorer.calculateScore(mol))


@cache
def _fragments() -> Any:
    from rdkit.Contrib.NP_Score import npscorer

    with contextlib.redirect_stderr(io.StringIO()):  # the reader announces itself
        return npscorer.readNPModel()


@COMPONENTS.register("np_score")
class NaturalProductLikeness(PerMolecule):
    """Natural-product likeness, about -5 (synthetic) to 5 (natural) [Ertl et al., JCIM 2008, 48, 68]."""

    bounds = (-5.0, 5.0)
    cost_us = 100
    example = "{ name = 'sigmoid', low = -2, high = 2 }"

    def _value(self, mol: Chem.Mol) -> float:
        from rdkit.Contrib.NP_Score import npscorer

        return float(npscorer.scoreMol(mol, _fragments()))

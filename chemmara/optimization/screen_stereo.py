"""The rule that sends no stereoisomers to a score that cannot tell them apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydantic import Field

from chemmara.chemistry.molecules import Molecule
from chemmara.config import Parameters
from chemmara.lazy import lazy
from chemmara.optimization.screening import SCREENS, ScreenRule

if TYPE_CHECKING:
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")

ALIKE = 1e-9
"""Totals are rounded to twelve digits."""


class StereoisomerParameters(Parameters):
    """When a score counts as blind to stereo."""

    pairs: int = Field(
        4, ge=1, description="pairs of stereoisomers that have to have scored alike before any is refused, and none not"
    )


@SCREENS.register("stereoisomer", StereoisomerParameters)
class Stereoisomer(ScreenRule):
    """Refuses a stereoisomer of a scored molecule, as long as the score has told none from another.

    Fingerprints, properties and most models do not see stereo: there a good molecule with three centres is worth eight
    calls and is one find. Docking and shape see it: the first pair that differs and the rule refuses nothing any more.
    """

    parameters: StereoisomerParameters

    def __init__(self, parameters: StereoisomerParameters) -> None:
        super().__init__(parameters)
        self._scores: dict[str, float] = {}  # of the first molecule of a constitution
        self._sent: set[str] = set()  # admitted in this step, without a score so far
        self._alike = 0
        self._differ = False

    def refuse(self, molecule: Molecule) -> str | None:
        if self._differ or self._alike < self.parameters.pairs:
            return None
        key = _constitution(molecule)
        known = key in self._scores or key in self._sent
        return "a stereoisomer of it has been scored, and the score does not tell them apart" if known else None

    def admit(self, molecule: Molecule) -> None:
        self._sent.add(_constitution(molecule))

    def learn(self, molecule: Molecule, score: float) -> None:
        key = _constitution(molecule)
        self._sent.discard(key)
        if math.isnan(score):
            return
        if key not in self._scores:
            self._scores[key] = score
        elif abs(score - self._scores[key]) > ALIKE:
            self._differ = True
        elif 0 < score < 1:  # what is clipped, or fails a filter, is alike whatever it is
            self._alike += 1

    def state_dict(self) -> dict[str, Any]:
        return {"scores": self._scores, "alike": self._alike, "differ": self._differ}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._scores, self._alike, self._differ = dict(state["scores"]), state["alike"], state["differ"]


def _constitution(molecule: Molecule) -> str:
    """What stereoisomers (and isotopologues) have in common."""
    if not any(mark in molecule.smiles for mark in "@/\\["):
        return molecule.smiles
    return str(Chem.MolToSmiles(molecule.mol, isomericSmiles=False))

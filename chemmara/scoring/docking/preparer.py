"""Ligands made ready in a process of their own, within a time limit.

Conformer and types are mostly done in a tenth of a second. But meeko looks for the rings to open among all that there
are, which is for ever in a cage of many, and nothing within a process can end it.
"""

from __future__ import annotations

from chemmara.chemistry.protonation import Protonation
from chemmara.scoring.docking.child import Child, running
from chemmara.scoring.docking.ligand import Unpreparable
from chemmara.scoring.programs import ProgramEnded, ProgramLate


class Preparer:
    """:func:`chemmara.scoring.docking.ligand.to_pdbqt` with a limit of ``timeout`` seconds."""

    def __init__(self, timeout: float, where: str) -> None:
        self._timeout = timeout
        self._child = Child(running("prepare"), {}, timeout, "the preparation of ligands", where)

    def start(self) -> None:
        """Load the packages, which takes seconds. Raises ConfigError."""
        self._child.start()

    def __call__(self, smiles: str, protonation: Protonation, seed: int, flexible_rings: bool) -> tuple[str, str]:
        """PDBQT and SMILES of a canonical SMILES as docked. Raises Unpreparable."""
        request = {"smiles": smiles, "protonation": protonation, "seed": seed, "flexible_rings": flexible_rings}
        try:
            answer = self._child.ask(request)
        except ProgramEnded as error:
            raise Unpreparable(f"no PDBQT: its preparation {error}") from None
        except ProgramLate:
            raise Unpreparable(f"no PDBQT: its preparation timed out after {self._timeout:g} s") from None
        if "error" in answer:
            raise Unpreparable(answer["error"])
        return answer["ligand"], answer["docked"]

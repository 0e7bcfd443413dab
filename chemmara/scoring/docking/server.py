"""What the processes of docking run, each until its standard input ends: a crash, a hang or chatter stays in there.

Lines of JSON on standard input, each answered by one on the standard output that was there at the start, which is
``{"error": text}`` where something was raised. Vina's process holds its grid maps: the first line has the keywords of
:func:`_load`, each other one a ``ligand`` (PDBQT) that is answered by a ``pose`` (PDBQT). Lines of the process that
prepares ligands have a ``smiles`` and the other arguments of :func:`to_pdbqt`, but for the first, which is empty.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from chemmara.chemistry.molecules import read
from chemmara.scoring.docking.ligand import to_pdbqt

POSES = 9
"""Poses that the search keeps, as Vina's own program does; the best one is written."""


def dock() -> None:
    """Serve as Vina."""
    vina: Any = None
    exhaustiveness = 1

    def answer(request: dict[str, Any]) -> dict[str, str]:
        nonlocal vina, exhaustiveness
        if vina is None:
            exhaustiveness = request.pop("exhaustiveness")
            vina = _load(**request)
            return {"pose": ""}
        vina.set_ligand_from_string(request["ligand"])
        vina.dock(exhaustiveness=exhaustiveness, n_poses=POSES)
        return {"pose": vina.poses(n_poses=1)}

    _serve(answer)


def prepare() -> None:
    """Serve as the one who prepares ligands."""
    _serve(_prepared)


def _serve(answer: Callable[[dict[str, Any]], dict[str, str]]) -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what C++ prints goes where errors go
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as error:
            found = {"error": " ".join(str(error).split())[:300] or type(error).__name__}
        print(json.dumps(found), file=answers, flush=True)


def _prepared(request: dict[str, Any]) -> dict[str, str]:
    if not request:  # what is loaded for the first molecule is not its time
        request = {"smiles": "CCO", "protonation": "as_written", "seed": 1, "flexible_rings": True}
    molecule = read(request.pop("smiles")).molecule
    assert molecule is not None  # what is docked is canonical
    ligand, docked = to_pdbqt(molecule.mol, **request)
    return {"ligand": ligand, "docked": docked}


def _load(receptor: str, center: Sequence[float], size: Sequence[float], scoring: str, seed: int) -> Any:
    from vina import Vina

    vina = Vina(sf_name=scoring, cpu=1, seed=seed, verbosity=0)
    vina.set_receptor(receptor)
    vina.compute_vina_maps(center=list(center), box_size=list(size))
    return vina

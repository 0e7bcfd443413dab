"""A process that holds Vina and its grid maps and docks what it is sent: a crash, a hang or chatter stays in it.

Lines of JSON on standard input; the first has the keywords of :func:`_load`, each other one a ``ligand`` (PDBQT). Each
is answered by ``{"pose": PDBQT}`` or ``{"error": text}`` on the standard output that was there at the start.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

POSES = 9
"""Poses that the search keeps, as Vina's own program does; the best one is written."""


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what Vina's C++ prints goes where errors go
    vina: Any = None
    exhaustiveness = 1
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if vina is None:
                exhaustiveness = request.pop("exhaustiveness")
                vina = _load(**request)
                answer = {"pose": ""}
            else:
                vina.set_ligand_from_string(request["ligand"])
                vina.dock(exhaustiveness=exhaustiveness, n_poses=POSES)
                answer = {"pose": vina.poses(n_poses=1)}
        except Exception as error:
            answer = {"error": " ".join(str(error).split())[:300] or type(error).__name__}
        print(json.dumps(answer), file=answers, flush=True)


def _load(receptor: str, center: Sequence[float], size: Sequence[float], scoring: str, seed: int) -> Any:
    from vina import Vina

    vina = Vina(sf_name=scoring, cpu=1, seed=seed, verbosity=0)
    vina.set_receptor(receptor)
    vina.compute_vina_maps(center=list(center), box_size=list(size))
    return vina

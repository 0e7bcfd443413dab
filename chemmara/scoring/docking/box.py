"""The receptor and the box, checked before anything is docked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chemmara.chemistry.coordinates import PdbqtAtom, Point, ligand_points, pdbqt_atoms, read_text
from chemmara.errors import ConfigError

# AutoDock's atom types and the metals, as Vina knows them (src/lib/atom_constants.h of version 1.2).
_AUTODOCK = "C A N O P S H F I NA OA SA HD Mg Mn Zn Ca Fe Cl Br Si At G0 G1 G2 G3 CG0 CG1 CG2 CG3 W"
_METALS = "Cu Na K Hg Co U Cd Ni"
TYPES = frozenset(f"{_AUTODOCK} {_METALS}".split())
MAX_EDGE = 100.0
_REACH = 4.0  # Å around the box within which a receptor atom makes sense of it
_FEW_ATOMS = 20


@dataclass(frozen=True)
class Box:
    """Centre and edges in Å, along the axes of the receptor's coordinates."""

    center: Point
    size: Point


def box_around(path: Path, padding: float, where: str) -> Box:
    """The box that reaches ``padding`` Å beyond the heavy atoms of a ligand on every side. Raises ConfigError."""
    points = ligand_points(path, where)
    low = [min(point[axis] for point in points) for axis in range(3)]
    high = [max(point[axis] for point in points) for axis in range(3)]
    center = [round((a + b) / 2, 3) for a, b in zip(low, high, strict=True)]
    size = [round(b - a + 2 * padding, 3) for a, b in zip(low, high, strict=True)]
    if max(size) > MAX_EDGE:
        raise ConfigError(
            f"{where}: the box around '{path}' has an edge of {max(size):.0f} Å; it should hold the ligand alone"
        )
    return Box((center[0], center[1], center[2]), (size[0], size[1], size[2]))


def read_receptor(path: Path, where: str) -> tuple[str, list[PdbqtAtom]]:
    """Text and atoms of a rigid receptor in PDBQT (also .gz). Raises ConfigError that says what it is instead."""
    if not path.name.lower().endswith((".pdbqt", ".pdbqt.gz")):
        hint = "; mk_prepare_receptor.py of meeko makes one of a PDB file"
        raise ConfigError(f"{where}: '{path}' should be a .pdbqt or .pdbqt.gz file{hint}")
    text = read_text(path, where)
    if any(line.startswith(("ROOT", "TORSDOF", "BEGIN_RES")) for line in text.splitlines()):
        raise ConfigError(f"{where}: '{path}' is a flexible molecule (ROOT, TORSDOF), not a rigid receptor")
    if sum(line.startswith("MODEL") for line in text.splitlines()) > 1:
        raise ConfigError(f"{where}: '{path}' holds several models; keep one of them")
    atoms = pdbqt_atoms(text, f"{where}: '{path}'")
    if len(atoms) < _FEW_ATOMS:
        raise ConfigError(f"{where}: '{path}' holds {len(atoms)} atoms, too few for a receptor")
    odd = next((atom for atom in atoms if atom.kind not in TYPES), None)
    if odd is not None:
        what = f"the unknown atom type '{odd.kind}'" if odd.kind else "no AutoDock atom type in columns 78-79"
        raise ConfigError(f"{where}: '{path}' line {odd.line} has {what}; was it made by mk_prepare_receptor.py?")
    return text, atoms


def check_box(box: Box, atoms: Sequence[PdbqtAtom], where: str) -> None:
    """Raise ConfigError where no atom of the receptor is in or near the box."""
    if min(_outside(box, atom.position) for atom in atoms) <= _REACH:
        return
    nearest = min(_outside(box, atom.position) for atom in atoms)
    spans = [f"{min(a.position[i] for a in atoms):.0f}..{max(a.position[i] for a in atoms):.0f}" for i in range(3)]
    center = ", ".join(f"{value:g}" for value in box.center)
    raise ConfigError(
        f"{where}: the box around ({center}) is {nearest:.0f} Å away from the receptor, which spans "
        f"x {spans[0]}, y {spans[1]}, z {spans[2]} Å"
    )


def _outside(box: Box, point: Point) -> float:
    """How far a point lies beyond the faces of the box, Å; 0 inside."""
    beyond = [max(0.0, abs(p - c) - s / 2) for p, c, s in zip(point, box.center, box.size, strict=True)]
    return float(sum(value**2 for value in beyond) ** 0.5)

"""Coordinates of files that are not read as molecules: the ligand that defines a box, a receptor."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from chemmara.chemistry.molecules import quiet
from chemmara.errors import ConfigError
from chemmara.lazy import lazy

if TYPE_CHECKING:
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")

Point = tuple[float, float, float]


class PdbqtAtom(NamedTuple):
    """One ATOM or HETATM line of a PDBQT: position in Å, and AutoDock's atom type ('' where there is none)."""

    position: Point
    kind: str
    line: int


def read_text(path: Path, where: str) -> str:
    """The text of a file, also of a .gz; raises ConfigError."""
    try:
        data = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{where}: file '{path}' does not exist") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(
            f"{where}: file '{path}' cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: file '{path}' is not text") from None


def pdbqt_atoms(text: str, where: str) -> list[PdbqtAtom]:
    """The atoms of a PDBQT; raises ConfigError for a line whose coordinates cannot be read."""
    atoms = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(("ATOM", "HETATM")):
            try:
                x, y, z = (float(line[start : start + 8]) for start in (30, 38, 46))
            except ValueError:
                raise ConfigError(f"{where}: line {number} has no coordinates: '{line[:60].strip()}'") from None
            atoms.append(PdbqtAtom((x, y, z), line[77:79].strip() if len(line) > 77 else "", number))
    return atoms


def ligand_points(path: Path, where: str) -> list[Point]:
    """Positions (Å) of the heavy atoms of an SDF, mol, mol2, PDB or PDBQT file (also .gz); the first molecule of it.

    Only positions are wanted: valences and bonds may be as odd as they like. Raises ConfigError.
    """
    text = read_text(path, where)
    suffix = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if suffix == "pdbqt":
        points = [atom.position for atom in pdbqt_atoms(text, where) if not atom.kind.startswith("H")]
    else:
        points = _points(_parse(text, suffix, path, where))
    if not points:
        raise ConfigError(f"{where}: '{path}' holds no heavy atoms with 3D coordinates")
    return points


def _parse(text: str, suffix: str, path: Path, where: str) -> Chem.Mol | None:
    readers = {
        "sdf": lambda: Chem.MolFromMolBlock(text, sanitize=False, strictParsing=False),
        "mol": lambda: Chem.MolFromMolBlock(text, sanitize=False, strictParsing=False),
        "mol2": lambda: Chem.MolFromMol2Block(text, sanitize=False),
        "pdb": lambda: Chem.MolFromPDBBlock(text, sanitize=False, proximityBonding=False),
    }
    if suffix not in readers:
        raise ConfigError(f"{where}: '{path}' should be a .sdf, .mol, .mol2, .pdb or .pdbqt file")
    with quiet():
        try:
            mol: Chem.Mol | None = readers[suffix]()
            return mol
        except (RuntimeError, ValueError):
            return None


def _points(mol: Chem.Mol | None) -> list[Point]:
    if mol is None or mol.GetNumConformers() == 0 or not mol.GetConformer().Is3D():
        return []
    positions = mol.GetConformer().GetPositions().tolist()
    heavy = [atom.GetAtomicNum() > 1 for atom in mol.GetAtoms()]
    return [(x, y, z) for (x, y, z), keep in zip(positions, heavy, strict=True) if keep]

"""A molecule on its way into Vina and back: conformer, PDBQT, pose as SDF. meeko does the typing and the mapping."""

from __future__ import annotations

import contextlib
import io
import math
import re
import sys
from collections.abc import Mapping
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chemmara.chemistry.conformers import embed
from chemmara.chemistry.protonation import Protonation, protonated
from chemmara.lazy import lazy
from chemmara.places import replacing

if TYPE_CHECKING:
    from rdkit import Chem, rdBase
else:
    Chem = lazy("rdkit.Chem")
    rdBase = lazy("rdkit.rdBase")

AFFINITY = "affinity_kcal_mol"
_LOOKED_AT = 20  # files of a folder of poses
# Vina's own line, and the one that smina and gnina write.
_RESULT = re.compile(r"^REMARK (?:VINA RESULT:|minimizedAffinity)\s+(\S+)", re.MULTILINE)


_MODEL = re.compile(r".*?(?:^ENDMDL[^\n]*(?:\n|\Z)|\Z)", re.MULTILINE | re.DOTALL)


class Unpreparable(Exception):
    """A molecule that cannot be docked; the message says why."""


class ForeignPose(Exception):
    """A file that is in the way; the message says which."""


def _meeko() -> Any:
    """The package. Its import would turn RDKit's log over to Python's logging, for the whole process and for good."""
    switch = rdBase.LogToPythonLogger
    vars(sys.modules["rdkit.rdBase"])["LogToPythonLogger"] = lambda: None
    try:
        import meeko
    finally:
        vars(sys.modules["rdkit.rdBase"])["LogToPythonLogger"] = switch
    return meeko


def to_pdbqt(mol: Chem.Mol, protonation: Protonation, seed: int, flexible_rings: bool) -> tuple[str, str]:
    """PDBQT and SMILES of the molecule as docked: protonated, one ETKDG conformer relaxed by MMFF94, typed by meeko.

    Raises Unpreparable.
    """
    fragments = len(Chem.GetMolFrags(mol))
    if fragments != 1:
        raise Unpreparable(f"not one molecule but {fragments}: a salt or mixture is not docked")
    docked = protonated(mol, protonation)
    embedded, error = embed(docked, 1, seed, mmff=True)
    if embedded is None:
        raise Unpreparable(error)
    meeko = _meeko()
    try:
        preparation = meeko.MoleculePreparation(rigid_macrocycles=not flexible_rings)
        # meeko prints its complaints
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            setups = preparation.prepare(embedded)
            text, fine, reason = meeko.PDBQTWriterLegacy.write_string(setups[0])
    except Exception as error:  # meeko raises plain exceptions of many kinds
        raise Unpreparable(f"no PDBQT: {_line(error)}") from None
    if not fine:
        raise Unpreparable(f"no PDBQT: {_line(reason)}")
    return text, Chem.MolToSmiles(docked)


def best_model(poses: str) -> tuple[float, str] | None:
    """The lowest affinity, kcal/mol, among the models of a docked PDBQT, and that model; None where none has any.

    Vina and smina write it first; gnina sorts by another score.
    """
    models = [model for model in _MODEL.findall(poses) if model.strip()]
    found = [(value, model) for model in models if (value := _affinity(model)) is not None]
    return min(found, key=itemgetter(0), default=None)


def _affinity(model: str) -> float | None:
    found = _RESULT.search(model)
    try:
        value = float(found[1]) if found else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def write_pose(path: Path, pose: str, ligand: str, properties: Mapping[str, str]) -> None:
    """A model of a docked PDBQT as an SDF with hydrogens, appearing whole or not at all.

    A file of the same ``oracle`` with a better affinity stays: tautomers share an InChIKey. A pose that is there
    already is otherwise replaced, by the same one where nothing has changed. A pose that cannot be mapped back to the
    molecule stays a .pdbqt. Raises OSError, and ForeignPose for a file of another oracle.
    """
    rank = (float(properties[AFFINITY]), properties["SMILES"])
    there = _properties(path)
    _check_own(path, there, properties["oracle"])
    if there.get("oracle") == properties["oracle"]:
        with contextlib.suppress(KeyError, ValueError):
            if (float(there[AFFINITY]), there["SMILES"]) < rank:
                return
    mol = _molecule(pose, ligand)
    if mol is None:
        _write(path.with_suffix(".pdbqt"), pose)
        return
    mol.SetProp("_Name", path.stem)
    block = Chem.MolToMolBlock(mol)
    _write(path, block + "".join(f">  <{name}>\n{value}\n\n" for name, value in properties.items()) + "$$$$\n")


def check_folder(folder: Path, oracle: str) -> None:
    """Raise ForeignPose where a look at some of a folder's files finds poses of another oracle."""
    with contextlib.suppress(OSError):  # none yet, or one that the first pose will complain of
        for path in islice(folder.glob("*.sdf"), _LOOKED_AT):
            _check_own(path, _properties(path), oracle)


def _check_own(path: Path, properties: Mapping[str, str], oracle: str) -> None:
    if properties.get("oracle", oracle) != oracle:
        raise ForeignPose(
            f"'{path}' is the pose of another oracle (receptor {properties.get('receptor', 'unknown')}, or other "
            "settings), which would be lost; name another folder, or move what is in this one"
        )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, shared=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _molecule(pose: str, ligand: str) -> Any:
    """The docked molecule, or None where meeko cannot map the pose to it."""
    meeko = _meeko()
    if "REMARK SMILES IDX" not in pose:  # programs that are not Vina drop the map of atoms
        remarks = "".join(line for line in ligand.splitlines(True) if line.startswith("REMARK"))
        first = re.match(r"MODEL[^\n]*\n", pose)
        head = first[0] if first else ""
        pose = f"{head}{remarks}{pose.removeprefix(head)}"
    try:
        return meeko.RDKitMolCreate.from_pdbqt_mol(meeko.PDBQTMolecule(pose, skip_typing=True))[0]
    except Exception:  # meeko raises plain exceptions of many kinds
        return None


def _properties(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return dict(re.findall(r"^>  <(\w+)>\n(.*)$", text, re.MULTILINE))


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

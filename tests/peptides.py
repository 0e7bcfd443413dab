"""A small receptor for tests: a peptide built by RDKit, as PDBQT with AutoDock's types and Gasteiger charges."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdPartialCharges


def kind(atom: Chem.Atom) -> str:
    """AutoDock's type of an atom, '' for a hydrogen on carbon, which is merged."""
    symbol = atom.GetSymbol()
    if symbol == "H":
        return "" if atom.GetNeighbors()[0].GetSymbol() == "C" else "HD"
    if symbol == "C":
        return "A" if atom.GetIsAromatic() else "C"
    bare = atom.GetIsAromatic() and atom.GetTotalNumHs(includeNeighbors=True) == 0
    return {"O": "OA", "S": "SA", "N": "NA" if bare else "N"}[symbol]


@cache
def peptide(sequence: str = "GWGSGFGK") -> str:
    """The PDBQT of a peptide, around the origin."""
    mol = Chem.AddHs(Chem.MolFromSequence(sequence))
    rdDistGeom.EmbedMolecule(mol, randomSeed=7)
    rdPartialCharges.ComputeGasteigerCharges(mol)
    positions = mol.GetConformer().GetPositions()
    positions -= positions.mean(axis=0)
    lines = []
    for atom, (x, y, z) in zip(mol.GetAtoms(), positions, strict=True):
        if kind(atom):
            charge = atom.GetDoubleProp("_GasteigerCharge")
            lines.append(
                f"ATOM  {len(lines) + 1:5d}  {atom.GetSymbol():<3s} PEP     1    {x:8.3f}{y:8.3f}{z:8.3f}"
                f"  1.00  0.00    {charge:6.3f} {kind(atom):<2s}\n"
            )
    return "".join(lines) + "TER\n"


def write(folder: Path) -> Path:
    """The peptide as a file in ``folder``."""
    path = folder / "receptor.pdbqt"
    path.write_text(peptide())
    return path

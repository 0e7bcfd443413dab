"""The charge state of a molecule before docking, by rules that are stated."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

from chemmara.chemistry.molecules import parse_smarts
from chemmara.lazy import lazy

if TYPE_CHECKING:
    from rdkit import Chem
    from rdkit.Chem.MolStandardize import rdMolStandardize
else:
    Chem = lazy("rdkit.Chem")
    rdMolStandardize = lazy("rdkit.Chem.MolStandardize.rdMolStandardize")

Protonation = Literal["as_written", "neutral", "physiological"]

# Each rule: the atom that changes (first of the pattern) and the charge that it gets. Groups are looked at one by one:
# the second amine of a piperazine is charged like the first.
RULES_VERSION = 3
RULES: tuple[tuple[str, str, int], ...] = (
    ("carboxylic, sulfonic, sulfinic and phosphoric acids", "[OX2H1]-[$([CX3]=O),$(S=O),$(P=O);!$(C(=O)[#7,#8-])]", -1),
    ("tetrazoles", "[nX3H1;$([nH]1nnnc1),$([nH]1nncn1)]", -1),
    ("imides of sulfonic acids", "[NX3H1](S(=O)=O)[CX3]=O", -1),
    (
        "aliphatic amines: nitrogen with single bonds to sp3 carbon and hydrogen only",
        "[NX3;!$(N~[!#6;!#1]);!$(N-[!$([CX4])])]",
        1,
    ),
    (
        "amidines and guanidines, at the doubly bonded nitrogen, without a nitrile or nitro group on any of them, nor "
        "a sulfonyl group on one that could have the double bond",
        "[NX2;!$(N-[!#6;!#1]);!$(N-[#6]=[O,S])]=[CX3;!$(C~N-C#N);!$(C~N~[N+]);!$(C~[N;!$(N(-[#6])-[#6])]-S=O)]"
        "-[NX3;!$(N-C=[O,S]);!$(N-S=O)]",
        1,
    ),
)


def protonated(mol: Chem.Mol, how: Protonation) -> Chem.Mol:
    """The molecule as docked.

    ``as_written``: unchanged. ``neutral``: charges removed by adding or taking hydrogens where that is possible
    (RDKit's Uncharger). ``physiological``: neutral first, then each group of :data:`RULES` gets the charge that it has
    in water of pH 7.4; no pKa is computed and no tautomer chosen.
    """
    if how == "as_written":
        return mol
    neutral: Chem.Mol = rdMolStandardize.Uncharger().uncharge(mol)
    return neutral if how == "neutral" else _charged(neutral)


def _charged(mol: Chem.Mol) -> Chem.Mol:
    changed = Chem.RWMol(mol)
    for pattern, charge in _patterns():
        for index, *_ in mol.GetSubstructMatches(pattern):
            atom = changed.GetAtomWithIdx(index)
            if atom.GetFormalCharge() == 0:
                hydrogens = atom.GetTotalNumHs() + charge
                atom.SetFormalCharge(charge)
                atom.SetNoImplicit(True)
                atom.SetNumExplicitHs(hydrogens)
    result: Chem.Mol = changed.GetMol()
    Chem.SanitizeMol(result)
    return result


@cache
def _patterns() -> tuple[tuple[Chem.Mol, int], ...]:
    return tuple((parse_smarts(smarts, name), charge) for name, smarts, charge in RULES)

"""Rough pKa from structure, for scores that need one and have no pKa program: a base value a group, and increments.

After the scheme of Perrin, Dempsey and Serjeant (pKa Prediction for Organic Acids and Bases, 1981): what stands near an
amine lowers its pKa by an increment each; heteroaromatic bases and acids have one value a group. The increments were
set by hand to textbook values; docs/components.md says how far off they are on drugs. Quaternary nitrogen is no base.

>>> from chemmara.chemistry.molecules import read
>>> round(basic_pka(read("C1COCCN1").molecule.mol), 1)  # morpholine: measured 8.5
8.6
>>> basic_pka(read("CCO").molecule.mol) is None
True
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from chemmara.chemistry.molecules import quiet
from chemmara.lazy import lazy

if TYPE_CHECKING:
    from rdkit import Chem
    from rdkit.Chem.MolStandardize import rdMolStandardize
else:
    Chem = lazy("rdkit.Chem")
    rdMolStandardize = lazy("rdkit.Chem.MolStandardize.rdMolStandardize")


class Group(NamedTuple):
    """A group by the SMARTS of its ionizing atom, and its pKa (of the conjugate acid, for bases)."""

    name: str
    smarts: str
    pka: float


# All neighbours are sp3 carbon or hydrogen: no amide, aniline, enamine, hydrazine.
_AMINE = "NX3;+0;!a;!$(N~[!#6]);!$(N-[#6X3]);!$(N-[#6X2])"
_AMINES = (
    Group("primary amine", f"[{_AMINE};H2]", 10.6),
    Group("secondary amine", f"[{_AMINE};H1]", 11.0),
    Group("tertiary amine", f"[{_AMINE};H0]", 10.3),
)
# Matches from the amine, one for each way to get to the neighbour.
_INCREMENTS = (
    Group("aryl on the next carbon", "[NX3]-[CX4]-a", -1.3),
    Group("aryl one further", "[NX3]-[CX4]-[CX4]-a", -0.6),
    Group("alkene on the next carbon", "[NX3]-[CX4]-[CX3]=[CX3]", -0.9),
    Group("alkyne on the next carbon", "[NX3]-[CX4]-[CX2]#[CX2]", -2.4),
    Group("carbonyl on the next carbon", "[NX3]-[CX4]-[#6X3]=[O,S,N]", -2.8),
    Group("carbonyl one further", "[NX3]-[CX4]-[CX4]-[#6X3]=[O,S]", -0.9),
    Group("nitrile on the next carbon", "[NX3]-[CX4]-[CX2]#N", -5.0),
    Group("oxygen one further", "[NX3]-[CX4]-[CX4]-[OX2]", -1.2),
    Group("sulfur one further", "[NX3]-[CX4]-[CX4]-[#16]", -0.9),
    Group("nitrogen one further", "[NX3]-[CX4]-[CX4]-[#7]", -0.7),
    Group("nitrogen one further, an aniline's", "[NX3]-[CX4]-[CX4]-[NX3]-a", -0.4),
    Group("halogen one further", "[NX3]-[CX4]-[CX4]-[F,Cl,Br,I]", -1.6),
    Group("oxygen or nitrogen two further", "[NX3]-[CX4]-[CX4]-[CX4]-[O,N]", -0.3),
)
# The carbon of an amidine or guanidine whose charge no acceptor on any of the nitrogens takes away, in each tautomer.
# With a nitrile, nitro or sulfonyl group there it is no base; with an acyl group a weak one.
_BASIC = "!$(C~N-C#N);!$(C~N~[N+]);!$(C~[N;!$(N(-[#6])-[#6])]-[#16](=O)=O)"
_ACYL = "$([#6;$(C~N-[#6]=O),$(C~[N;$(N(-[#6])-[#6])]-[#16](=O)=O)])"
_CREATININE = "$(C1~N~[#6](=O)~[#6]~[#7]~1)"
_GUANIDINE = f"CX3;$(C(N)N);{_BASIC}"
_OTHER_BASES = (
    Group("guanidine", f"[NX2;+0;!a]=[{_GUANIDINE};!{_ACYL};!$(C~N-a)]", 13.0),
    Group("aryl guanidine", f"[NX2;+0;!a]=[{_GUANIDINE};!{_ACYL};$(C~N-a)]", 10.8),
    Group("acyl guanidine", f"[NX2;+0;!a]=[{_GUANIDINE};{_ACYL};!{_CREATININE}]", 8.3),
    Group("creatinine", f"[NX2;+0;!a]=[{_GUANIDINE};{_CREATININE}]", 4.8),
    Group("amidine", f"[NX2;+0;!a;!$(N-[!#6])]=[CX3;!$(C(N)N);{_BASIC};!{_ACYL}]-[NX3;!a;!$(N-[!#6])]", 11.6),
    Group("4-aminopyridine", "[nX2]1cc[c;$(c-[NX3;!$(N-[#6,#16]=[O,N])])]cc1", 9.1),
    Group("2-aminopyridine", "[nX2;r6]1c([NX3;!$(N-[#6,#16]=[O,N])])cccc1", 6.9),
    Group("imidazole", "[nX2;r5]1[c;R1]n(-[#6X4])[c;R1][c;R1]1", 7.1),
    Group("imidazole, NH", "[nX2;r5]1[c;R1][nH][c;R1][c;R1]1", 7.0),
    Group("benzimidazole", "[nX2;r5]1[c]n[c]2c1cccc2", 5.5),
    Group("pyrazole", "[nX2;r5]1n[c][c][c]1", 2.5),
    Group("thiazole", "[nX2;r5]1[c]s[c][c]1", 2.5),
    Group("pyridine", "[nX2;r6]1ccccc1", 5.2),
    Group("diazine", "[nX2;r6;$(n1nccccc1),$(n1cnccc1),$(n1ccncc1)]", 1.5),
    Group("aniline", "[NX3;+0;!a;$(N-a);!$(N~[!#6]);!$(N-[#6]=[O,N,S]);!$(N(-a)-a);!$(N-C#N)]", 4.6),
)
_ACIDS = (
    Group("sulfonic acid", "[OX2H]-[#16](=O)=O", -1.0),
    Group("phosphonic acid", "[OX2H]-[#15]=O", 2.0),
    Group("carboxylic acid", "[OX2H]-[CX3]=O", 4.3),
    Group("acyl sulfonamide", "[NX3H](-[#16](=O)=O)-[#6X3]=O", 4.6),
    Group("tetrazole", "[nH]1nnnc1", 4.9),
    Group("tetrazole", "[nH]1nncn1", 4.9),
    Group("aromatic sulfonamide, N-heteroaryl", "[NX3H](-[#16](=O)=O)-c:n", 6.5),
    Group("nitrophenol", "[OX2H]-[$(c:c-[N+](=O)[O-]),$(c:c:c:c-[N+](=O)[O-])]", 7.2),
    Group("phenol", "[OX2H]-c", 9.9),
    Group("sulfonamide", "[NX3;H1,H2]-[#16](=O)=O", 10.1),
)


@cache
def _patterns() -> dict[str, list[tuple[Group, Any]]]:
    kinds = {"amine": _AMINES, "increment": _INCREMENTS, "base": _OTHER_BASES, "acid": _ACIDS}
    return {kind: [(group, Chem.MolFromSmarts(group.smarts)) for group in groups] for kind, groups in kinds.items()}


def _neutral(mol: Chem.Mol) -> Chem.Mol:
    """The molecule without charges that a proton can take or give."""
    if all(atom.GetFormalCharge() == 0 for atom in mol.GetAtoms()):
        return mol
    with quiet():
        return rdMolStandardize.Uncharger().uncharge(mol)


def basic_pka(mol: Chem.Mol) -> float | None:
    """pKa of the conjugate acid of the most basic centre; None for a molecule without a base."""
    mol = _neutral(mol)
    values = [group.pka for group, pattern in _patterns()["base"] if mol.HasSubstructMatch(pattern)]
    near: dict[int, float] = {}
    amines = {
        match[0]: group.pka
        for group, pattern in _patterns()["amine"]
        for match in mol.GetSubstructMatches(pattern, uniquify=True)
    }
    if amines:
        for group, pattern in _patterns()["increment"]:
            # Path by path: the oxygen of morpholine is near on both sides.
            for match in mol.GetSubstructMatches(pattern, uniquify=False):
                near[match[0]] = near.get(match[0], 0.0) + group.pka
        values += [pka + near.get(atom, 0.0) for atom, pka in amines.items()]
    return max(values, default=None)


def acidic_pka(mol: Chem.Mol) -> float | None:
    """pKa of the most acidic group; None for a molecule without an acid."""
    mol = _neutral(mol)
    return min((group.pka for group, pattern in _patterns()["acid"] if mol.HasSubstructMatch(pattern)), default=None)

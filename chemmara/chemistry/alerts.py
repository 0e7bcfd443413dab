"""Structural alerts of clean chemistry: bonds that a chemist would not try to make or to keep.

Deliberately few. A pattern is here because optimised generators write it and medicinal chemistry does not: chains of
heteroatoms, charges that nothing holds, strained unsaturation, hydrates and their kin. Reactive or toxic groups that
people do make on purpose (Michael acceptors, nitro, hydrazides, disulfides, isothiocyanates) pass;
catalogues such as PAINS are the ``alerts`` component of a score.

>>> from chemmara.chemistry.molecules import read
>>> first_alert(read("CCOOCC").molecule.mol), first_alert(read("CC(=O)Oc1ccccc1C(=O)O").molecule.mol)  # aspirin
('peroxide', None)
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from chemmara.chemistry import environments
from chemmara.chemistry.environments import Graph
from chemmara.lazy import lazy

if TYPE_CHECKING:
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")


class Alert(NamedTuple):
    """A pattern by name, and a molecule that has it. ``needs`` spares the search in molecules that cannot match.

    It is an element symbol, ``halogen`` (Cl, Br or I), ``charge`` (a formal charge), ``triple`` (such a bond),
    ``cumulated`` (an atom with two double bonds), ``ring of 3``, ``ring of 4``, or ''.
    """

    name: str
    needs: str
    smarts: str
    example: str


# A nitrogen that is no amide, sulfonamide, amidine or cyanamide.
_AMINE = "[NX3;!a;!$(*-[#6,#16,#15]=[#7,#8,#16]);!$(*-C#N)]"

# The rarest atom of a pattern comes first: RDKit starts to match there.
ALERTS = (
    # Charges that nothing holds. They come first, because some neutral patterns match them too.
    Alert("charged carbon", "charge", "[#6;+,-]", "[CH2-][N+](C)(C)C"),
    Alert("azide", "charge", "[#7X1]~[#7X2+]~[#7]", "CN=[N+]=[N-]"),
    Alert("diazonium", "charge", "[#7X2+]#[#7]", "N#[N+]c1ccccc1"),
    Alert("diazo", "charge", "[#7X1]~[#7+]~[#6]", "CC(=O)C=[N+]=[N-]"),
    Alert("cumulated nitrogen cation", "charge", "[#7X2+](=*)=*", "CC=[N+]=CC"),
    Alert("nitrilium", "charge", "[#7X2+]#*", "CC#[N+]C"),
    Alert("nitrogen ylide", "charge", "[#7-]~[#7+]", "C=[N+](C)[N-]C"),
    Alert("N-aminoiminium", "charge", "[#7X3+;!a;!$(*-[#8-])](-[#7;!a])=[#6]", "CC=[N+](C)NC"),
    Alert("iminium", "charge", "[#7X3+;H0;!a;!$(*-[#8-])]=[#6;!$([#6]~[#7;+0])]", "CC=[N+](C)C"),
    Alert("oxonium", "charge", "[O+]", "C[O+](C)C"),
    Alert("alkoxide or alkyl amide anion", "charge", "[O-,N-;!$(*~[!#6]);!$(*-[#6;!X4])]", "CC[O-]"),
    Alert("three-membered cation", "charge", "[#7+,#8+,#16+;r3]", "C[N+]1(C)CC1"),
    # Chains of heteroatoms.
    Alert("peroxide", "O", "[#8]-[#8]", "CCOOCC"),
    Alert("three nitrogens in a row", "N", "[#7;!a]~[#7;!a]~[#7;!a]", "CNN(C)NC"),
    Alert("N-N-O", "O", "[OX2]-[#7;+0;!a]~[#7;!a]", "CN(C)N(C)O"),
    Alert("O-N-O", "O", "[OX2]-[#7;+0;!a]~[#8]", "CON(C)OC"),
    Alert("N-O-N", "O", "[#8;!a](-[#7,#8,SX2])-[#7,#8,SX2]", "CN(C)ON(C)C"),
    Alert("nitroso", "O", "[OX1]=[#7X2]", "CN(C)N=O"),
    Alert("sulfenamide", "S", "[#16X2;!a]-[#7;!a]", "CSN(C)C"),
    Alert("sulfenate", "S", "[#16X2]-[OX2]", "CSOC"),
    Alert("thionitroso", "S", "[#16X1,#16X2;!a]=[#7;!a]", "CN=S=O"),
    Alert("sulfur(IV) ylide", "S", "[#16X3;+0](=[#6,#7])", "CS(C)=CC=O"),
    Alert("polysulfide", "S", "[#16]-[#16]-[#16]", "CSSSC"),
    Alert("S=S", "S", "[#16]=[#16]", "CS(=S)C"),
    Alert("P-P", "P", "[#15]~[#15]", "CP(C)P(C)C"),
    Alert("halogen on a heteroatom", "halogen", "[Cl,Br,I]-[#7,#8,#15,#16,#34,#9,#17,#35,#53]", "CN(C)Cl"),
    Alert("halogen on a heteroatom", "F", "F-[#7,#8,#16X2,#34,#9]", "CN(C)F"),
    Alert("hypervalent halogen", "halogen", "[Cl,Br,I;X2,X3,X4,X5]", "CI(C)C"),
    Alert("diazene", "N", "[NX2H]=[#7]", "CN=N"),
    Alert("three-membered ring with two heteroatoms", "ring of 3", "[!#6;r3]@[!#6;r3]", "CC1NN1C"),
    # Strain and unsaturation.
    Alert("azirine", "ring of 3", "[#7;r3]=[r3]", "CC1=NC1"),
    Alert("cumulated ring", "cumulated", "[#7X2,#6X2;R](=@*)=@*", "C1=NCCC=1"),
    Alert("cumulene", "cumulated", "[#6X2](=[#6])=*", "CC=C=CC"),
    Alert("heterocumulene", "cumulated", "[#6X2](=[#7])=[#7,#8]", "CN=C=NC"),
    Alert("triple bond in a ring", "triple", "*#@*", "C1CCC#CCC1"),
    Alert("cyclobutadiene", "ring of 4", "[#6;r4]1=[#6][#6]=[#6]1", "C1=CC=C1"),
    Alert("triyne", "triple", "C#CC#CC#C", "CC#CC#CC#CC"),
    # Carbons that would fall apart in water.
    Alert("carbonyl hydrate", "O", "[OX2H][CX4][OX2H]", "CC(O)O"),
    Alert("hemiaminal", "O", "[OX2H][CX4][NX3;!a;!$(*-[#6,#16,#15]=[#7,#8,#16])]", "CC(O)N(C)C"),
    Alert("hemithioacetal", "S", "[SX2][CX4][OX2H]", "CC(O)SC"),
    Alert("thiol or amine beside a heteroatom", "", "[SX2H,NX3H2][CX4][OX2,SX2]", "CC(N)OC"),
    Alert("open aminal", "N", f"{_AMINE}!@[CX4]{_AMINE}", "CC(NC)NC"),
    Alert("open aminal", "N", f"{_AMINE}!@[CX4][OX2,SX2]", "CNC(C)OC"),
    Alert("orthoester", "", "[CX4]([NX3,OX2,SX2;!a])([NX3,OX2,SX2;!a])[NX3,OX2,SX2;!a]", "CC(OC)(OC)OC"),
    Alert("halogen beside a heteroatom", "halogen", "[Cl,Br,I][CX4][NX3,OX2,SX2;!a]", "CC(Cl)OC"),
    Alert("acyl halide", "halogen", "[Cl,Br,I][#6X3;!a]=[#7,#8,#16]", "CC(=O)Cl"),
    Alert("acyl halide", "F", "F[#6X3;!a]=[#7,#8,#16]", "CC(=O)F"),
    Alert("carbamic or carbonic acid", "O", "[OX2H,OX1-]C(=O)[#7X3,OX2]", "CNC(=O)O"),
    Alert("thioacid", "S", "[SX2H,SX1-]C=[O,S]", "CC(=O)S"),
    Alert("thioaldehyde", "S", "[SX1]=[CX3;H1,H2;!$(*~[#7,#8])]", "CCC=S"),
    Alert("unsubstituted imine", "N", "[NX2H]=[CX3;!$(*-[#7,#8,#16])]", "CC(C)=N"),
)


_EXCLUSION = re.compile(r";!\$\((?:[^()]|\([^()]*\))*\)")


@cache
def _patterns() -> tuple[tuple[str, str, Chem.Mol, Chem.Mol | None], ...]:
    """(name, needs, pattern without its exclusions, whole pattern if it has any) of each alert.

    An exclusion, ``;!$(...)``, is matched against every atom before the search begins; a molecule that does not have
    the rest of the pattern, nearly every one, is spared that.
    """
    found = []
    for alert in ALERTS:
        loose = _EXCLUSION.sub("", alert.smarts)
        whole = Chem.MolFromSmarts(alert.smarts) if loose != alert.smarts else None
        found.append((alert.name, alert.needs, Chem.MolFromSmarts(loose), whole))
    return tuple(found)


def traits(graph: Graph) -> set[str]:
    """What of :attr:`Alert.needs` a molecule has."""
    found = {"", *(element.capitalize() for element in set(graph.elements))}
    if found & {"Cl", "Br", "I"}:
        found.add("halogen")
    if any(graph.charges):
        found.add("charge")
    begin, _, orders = graph.bonds
    if 3.0 in orders:
        found.add("triple")
    doubles = [i for i, order in zip(begin, orders, strict=True) if order == 2.0]
    if len(set(doubles)) < len(doubles):
        found.add("cumulated")
    return found | {f"ring of {len(ring)}" for ring in graph.rings}


def first_alert(mol: Chem.Mol, graph: Graph | None = None) -> str | None:
    """The name of the first alert that a molecule has, however its acids and amines are charged, or None.

    ``graph``: the molecule taken apart, if it is.
    """
    parts = graph or environments.graph(mol)
    has, mol = traits(parts), environments.respell(mol, parts)
    for name, needs, loose, whole in _patterns():
        if needs in has and mol.HasSubstructMatch(loose) and (whole is None or mol.HasSubstructMatch(whole)):
            return name
    return None

"""Atom environments (Morgan radius 1) as text, and a table of how many reference molecules write each.

An environment is a heavy atom with its neighbours, ``centre bond+neighbour ...``: ``O0H1D1 -C`` is an alcohol's oxygen.
The text is our own, so that a table reads the same under every version of RDKit, which its Morgan hashes do not.

>>> from chemmara.chemistry.molecules import read
>>> sorted(environments(read("CC(=O)[O-]").molecule.mol))  # acetate, counted as acetic acid
['CH0D3 -C -O =O', 'CH3D1 -C', 'OH0D1 =C', 'OH1D1 -C']
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from chemmara.errors import UserError
from chemmara.lazy import lazy

if TYPE_CHECKING:
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")

FORMAT = "chemmara-environments-1"
BUNDLED = Path(__file__).resolve().parent.parent / "assets" / "environments" / "chembl.tsv"
LEAST = 2
"""Environments of fewer reference molecules are not written to a table: a single one may be a slip of the sampler."""

_BONDS = {1.0: "-", 1.5: ":", 2.0: "=", 3.0: "#"}
_BASIC = frozenset(("N", "n"))
_ACIDIC = frozenset(("N", "n", "O", "S", "Se"))
_OXIDES = frozenset(("S", "Se", "P"))
_MATRIX = 300  # atoms up to which bonds are read from the adjacency matrix, three times faster than bond by bond


@cache
def _element(number: int, aromatic: bool) -> str:
    symbol = "*" if number == 0 else str(Chem.GetPeriodicTable().GetElementSymbol(number))
    return symbol.lower() if aromatic else symbol


@dataclass(frozen=True, slots=True)
class Graph:
    """A molecule as lists, a value an atom, with charges as if acids and amines were neutral.

    ``elements``: symbol, lower case if aromatic, '' for an explicit hydrogen (counted in ``hydrogens``). ``rings``: the
    smallest rings. ``bonds``: lists of atom, neighbour and order, each bond in both directions. ``respelled``: charges
    were taken away.
    """

    elements: list[str]
    charges: list[int]
    hydrogens: list[int]
    rings: tuple[tuple[int, ...], ...]
    bonds: tuple[list[int], list[int], list[float]]
    respelled: bool = False

    def paired(self) -> set[int]:
        """The atoms that have a neighbour of the other charge."""
        return _paired(self.charges, self.bonds)


def graph(mol: Chem.Mol) -> Graph:
    """What environments are made of. A proton is taken off a nitrogen cation that has one, and put on an anion of N, O,
    S or Se, unless it is that of an alcohol or an alkyl amine, which is no acid; a sulfoxide written ``[S+][O-]``
    becomes ``S=O``. Other atoms beside a charge of the other sign (nitro, N-oxide, azide) stay as they are. So the
    spellings of ZINC and ChEMBL are one.
    """
    elements: list[str] = []
    charges: list[int] = []
    hydrogens: list[int] = []
    for atom in mol.GetAtoms():
        number = atom.GetAtomicNum()
        explicit = number == 1 and atom.GetDegree() == 1
        elements.append("" if explicit else _element(number, atom.GetIsAromatic()))
        charges.append(atom.GetFormalCharge())
        hydrogens.append(atom.GetTotalNumHs(True))
    bonds = _bonds(mol)
    respelled = any(charges) and _neutralise(elements, charges, hydrogens, bonds)
    return Graph(elements, charges, hydrogens, mol.GetRingInfo().AtomRings(), bonds, respelled)


def respell(mol: Chem.Mol, parts: Graph) -> Chem.Mol:
    """``mol`` with the charges, hydrogens and bond orders of its graph, for a search of patterns in it."""
    if not parts.respelled:
        return mol
    if "" in parts.elements and (bare := Chem.RemoveHs(mol)).GetNumAtoms() < mol.GetNumAtoms():
        return respell(bare, graph(bare))
    neutral = Chem.RWMol(mol)
    for atom, charge, hydrogens in zip(neutral.GetAtoms(), parts.charges, parts.hydrogens, strict=True):
        if atom.GetFormalCharge() != charge:
            atom.SetFormalCharge(charge)
            atom.SetNoImplicit(True)
            written = sum(near.GetAtomicNum() == 1 for near in atom.GetNeighbors())  # deuterium
            atom.SetNumExplicitHs(max(0, hydrogens - written))
    for i, j, order in zip(*parts.bonds, strict=True):
        if order == 2.0 and (bond := neutral.GetBondBetweenAtoms(i, j)).GetBondType() == Chem.BondType.SINGLE:
            bond.SetBondType(Chem.BondType.DOUBLE)
    neutral.UpdatePropertyCache(strict=False)
    return neutral


def _bonds(mol: Chem.Mol) -> tuple[list[int], list[int], list[float]]:
    if mol.GetNumAtoms() > _MATRIX:
        found = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx(), b.GetBondTypeAsDouble()) for b in mol.GetBonds()]
        found += [(end, begin, order) for begin, end, order in found]
        return [b[0] for b in found], [b[1] for b in found], [b[2] for b in found]
    matrix = Chem.GetAdjacencyMatrix(mol, useBO=True)
    begin, end = matrix.nonzero()
    return begin.tolist(), end.tolist(), matrix[begin, end].tolist()


def _paired(charges: list[int], bonds: tuple[list[int], list[int], list[float]]) -> set[int]:
    return {i for i, j, _ in zip(*bonds, strict=True) if charges[i] * charges[j] < 0}


def _neutralise(
    elements: list[str], charges: list[int], hydrogens: list[int], bonds: tuple[list[int], list[int], list[float]]
) -> bool:
    """Change the lists; whether anything was changed."""
    oxides: set[int] = set()
    for place, (i, j, order) in enumerate(zip(*bonds, strict=True)):
        ends = {elements[i], elements[j]}
        if order == 1.0 and charges[i] * charges[j] == -1 and "O" in ends and ends & _OXIDES:
            bonds[2][place] = 2.0
            oxides |= {i, j}
    for i in oxides:
        charges[i] = 0
    paired, bases, changed = _paired(charges, bonds), _strong_bases(elements, charges, bonds), bool(oxides)
    for i, (element, charge) in enumerate(zip(elements, charges, strict=True)):
        if i in paired or i in bases:
            continue
        if charge > 0 and element in _BASIC:
            taken = min(charge, hydrogens[i])
        elif charge < 0 and element in _ACIDIC:
            taken = charge
        else:
            continue
        charges[i] -= taken
        hydrogens[i] -= taken
        changed = changed or taken != 0
    return changed


def _strong_bases(elements: list[str], charges: list[int], bonds: tuple[list[int], list[int], list[float]]) -> set[int]:
    """Anions of O and N whose neighbours are saturated carbons alone, as in an alkoxide."""
    anions = {i for i, charge in enumerate(charges) if charge < 0 and elements[i] in ("O", "N")}
    if not anions:
        return anions
    unsaturated = {i for i, _, order in zip(*bonds, strict=True) if order != 1.0}
    beside = [(i, j) for i, j, _ in zip(*bonds, strict=True) if i in anions and elements[j]]
    held = {i for i, j in beside if elements[j] != "C" or j in unsaturated}
    return {i for i, _ in beside} - held


def environments(mol: Chem.Mol) -> list[str]:
    """The environment of each heavy atom, in the order of the atoms.

    Centre: element (lower case if aromatic), charge, hydrogens (H), heavy neighbours (D), R if in a ring. Neighbours,
    sorted: bond order, element, charge. Without stereo and isotopes.
    """
    return describe(graph(mol))


def describe(parts: Graph) -> list[str]:
    """:func:`environments` of a molecule that was taken apart already."""
    names = parts.elements
    if any(parts.charges):
        names = [f"{n}{q:+d}" if n and q else n for n, q in zip(names, parts.charges, strict=True)]
    around: list[list[str]] = [[] for _ in names]
    for i, j, order in zip(*parts.bonds, strict=True):
        if names[j]:
            around[i].append(_BONDS.get(order, "~") + names[j])
    in_ring = {i for ring in parts.rings for i in ring}
    found = []
    for i, (name, h, near) in enumerate(zip(names, parts.hydrogens, around, strict=True)):
        if name:
            near.sort()
            ring = "R" if i in in_ring else ""
            found.append(" ".join((f"{name}H{h}D{len(near)}{ring}", *near)))
    return found


@dataclass(frozen=True)
class EnvironmentTable:
    """Of how many of ``molecules`` reference molecules each environment is a part. ``source`` says which they were."""

    molecules: int
    counts: dict[str, int]
    source: str

    @classmethod
    def count(cls, molecules: Iterable[Chem.Mol], source: str) -> EnvironmentTable:
        """The table of any reference molecules, repeats counted as often as they come; ``source`` is one line."""
        counts: Counter[str] = Counter()
        total = 0
        for mol in molecules:
            total += 1
            counts.update(dict.fromkeys(environments(mol), 1))
        return cls(total, {name: counts[name] for name in sorted(counts) if counts[name] >= LEAST}, source)

    def save(self, path: str | Path) -> None:
        """Write the table as text: a header, then a line ``environment<TAB>molecules`` each, sorted."""
        head = f"#{FORMAT}\t{self.molecules}\t{' '.join(self.source.split())}\n"
        lines = [f"{name}\t{number}\n" for name, number in sorted(self.counts.items())]
        Path(path).write_text(head + "".join(lines), encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, path: str | Path) -> EnvironmentTable:
        """Read a table back. Raises :class:`UserError` with the path and the line for a foreign or damaged file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"environment table '{path}' cannot be read: {error}") from None
        head, *lines = text.splitlines() or [""]
        mark, _, rest = head.partition("\t")
        total, _, source = rest.partition("\t")
        if mark != f"#{FORMAT}" or not total.isdecimal():
            raise UserError(f"'{path}' is no environment table (its first line must begin with #{FORMAT})")
        counts: dict[str, int] = {}
        for number, line in enumerate(lines, 2):
            name, tab, count = line.partition("\t")
            if not tab or not count.isdecimal():
                raise UserError(f"environment table '{path}' is damaged at line {number}")
            counts[name] = int(count)
        return cls(int(total), counts, source)


@cache
def bundled() -> EnvironmentTable:
    """The table that comes with chemmara, counted over samples of its prior ``chembl``."""
    return EnvironmentTable.load(BUNDLED)

"""Ring systems of a molecule, and a table of how many reference molecules have each.

A ring system is a set of rings that share atoms (fused, spiro, bridged), with the atoms double-bonded to them, as
SMILES without stereo and isotopes; what else was bound to it counts as hydrogen, a proton not at all. A ring that no
reference molecule has is the mark of a generator that invents: it cannot be bought and has often never been made.

>>> from chemmara.chemistry.molecules import read
>>> ring_systems(read("O=C1NC(=O)c2ccccc21").molecule.mol), ring_systems(read("CCO").molecule.mol)  # phthalimide
(['O=C1NC(=O)c2ccccc21'], [])
>>> ring_systems(read("Cc1ccc(cc1)C1CCNCC1").molecule.mol)
['C1CCNCC1', 'c1ccccc1']
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

FORMAT = "chemmara-ring-systems-1"
BUNDLED = Path(__file__).resolve().parent.parent / "assets" / "ring_systems" / "chembl.tsv"
LEAST = 2
"""Ring systems of fewer reference molecules are not written to a table: a single one may be a slip of the sampler."""


def ring_systems(mol: Chem.Mol) -> list[str]:
    """The distinct ring systems of a molecule as SMILES, sorted; none for an acyclic one."""
    found = set()
    for atoms in _joined(mol.GetRingInfo().AtomRings()):
        kept = atoms | _double_bonded(mol, atoms)
        found.add(_smiles(mol, kept))
    return sorted(found)


def _joined(rings: Iterable[tuple[int, ...]]) -> list[set[int]]:
    systems: list[set[int]] = []
    for ring in rings:
        merged = set(ring)
        apart = []
        for system in systems:
            if system & merged:
                merged |= system
            else:
                apart.append(system)
        systems = [*apart, merged]
    return systems


def _double_bonded(mol: Chem.Mol, atoms: set[int]) -> set[int]:
    """Atoms outside that a double bond holds: a pyridone is another system than a pyridine."""
    double = Chem.BondType.DOUBLE
    return {
        bond.GetOtherAtomIdx(index)
        for index in atoms
        for bond in mol.GetAtomWithIdx(index).GetBonds()
        if bond.GetBondType() == double and not bond.IsInRing()
    }


def _smiles(mol: Chem.Mol, kept: set[int]) -> str:
    part = Chem.RWMol()
    place = {index: part.AddAtom(mol.GetAtomWithIdx(index)) for index in sorted(kept)}
    for index, new in place.items():
        atom = part.GetAtomWithIdx(new)
        atom.SetIsotope(0)
        atom.SetAtomMapNum(0)
        atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
        cut = 0
        for bond in mol.GetAtomWithIdx(index).GetBonds():
            other = bond.GetOtherAtomIdx(index)
            if other not in place:
                cut += 1
            elif index < other:
                part.AddBond(new, place[other], bond.GetBondType())
        # What a substituent held becomes a hydrogen: said for atoms whose hydrogens RDKit does not work out by itself.
        if cut and (atom.GetNoImplicit() or (atom.GetIsAromatic() and atom.GetAtomicNum() != 6)):
            atom.SetNumExplicitHs(atom.GetNumExplicitHs() + cut)
        if atom.GetFormalCharge() == 1 and atom.GetNumExplicitHs():  # an ammonium is the amine, a pyridinium a pyridine
            atom.SetFormalCharge(0)
            atom.SetNumExplicitHs(atom.GetNumExplicitHs() - 1)
    part.UpdatePropertyCache(False)
    return str(Chem.MolToSmiles(part, isomericSmiles=False))


@dataclass(frozen=True)
class RingTable:
    """Of how many of ``molecules`` reference molecules each ring system is a part. ``source`` says which they were."""

    molecules: int
    counts: dict[str, int]
    source: str

    @classmethod
    def count(cls, molecules: Iterable[Chem.Mol], source: str) -> RingTable:
        """The table of any reference molecules, repeats counted as often as they come; ``source`` is one line."""
        counts: Counter[str] = Counter()
        total = 0
        for mol in molecules:
            total += 1
            counts.update(ring_systems(mol))
        return cls(total, {name: counts[name] for name in sorted(counts) if counts[name] >= LEAST}, source)

    def save(self, path: str | Path) -> None:
        """Write the table as text: a header, then a line ``SMILES<TAB>molecules`` each, the commonest first."""
        head = f"#{FORMAT}\t{self.molecules}\t{' '.join(self.source.split())}\n"
        lines = [f"{name}\t{n}\n" for name, n in sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))]
        Path(path).write_text(head + "".join(lines), encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, path: str | Path) -> RingTable:
        """Read a table back. Raises :class:`UserError` with the path and the line for a foreign or damaged file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"table of ring systems '{path}' cannot be read: {error}") from None
        head, *lines = text.splitlines() or [""]
        mark, _, rest = head.partition("\t")
        total, _, source = rest.partition("\t")
        if mark != f"#{FORMAT}" or not total.isdecimal():
            raise UserError(f"'{path}' is no table of ring systems (its first line must begin with #{FORMAT})")
        counts: dict[str, int] = {}
        for number, line in enumerate(lines, 2):
            name, tab, count = line.partition("\t")
            if not tab or not count.isdecimal():
                raise UserError(f"table of ring systems '{path}' is damaged at line {number}")
            counts[name] = int(count)
        return cls(int(total), counts, source)


@cache
def bundled() -> RingTable:
    """The table that comes with chemmara, counted over samples of its prior ``chembl``."""
    return RingTable.load(BUNDLED)

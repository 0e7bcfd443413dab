"""Reading text into molecules: the only door to RDKit's parsers.

>>> read("CC(=O)Nc1ccc(O)cc1").molecule.smiles  # paracetamol
'CC(=O)Nc1ccc(O)cc1'
>>> read("c1cccc1").error
'cannot be kekulized: aromatic atoms 0, 1, 2, 3, 4'
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from chemmara.chemistry import scaffolds
from chemmara.chemistry.diagnosis import explain, parser
from chemmara.errors import ConfigError
from chemmara.lazy import lazy

if TYPE_CHECKING:
    from rdkit import Chem, rdBase
else:
    Chem = lazy("rdkit.Chem")
    rdBase = lazy("rdkit.rdBase")

MAX_LENGTH = 5_000
"""Longest text that is read as one molecule, in characters: RDKit recurses over atoms and would exhaust the stack."""

_SETTLE = 5  # rounds of parse and write; nearly all molecules need one, a few exotic stereo centres two or three


@contextmanager
def quiet() -> Iterator[None]:
    """Silence RDKit's log inside the block and restore it as it was. Nests, and costs about a microsecond."""
    block = rdBase.BlockLogs()
    try:
        yield
    finally:
        del block


@dataclass(frozen=True)
class Molecule:
    """A valid molecule: canonical SMILES, and the RDKit molecule parsed from exactly that text.

    ``smiles`` is a fixpoint: parsing it and writing it gives it again, so that every value computed from ``mol`` can be
    recomputed from ``smiles``. Two molecules are equal when their SMILES are.
    """

    smiles: str
    mol: Chem.Mol = field(compare=False, repr=False)

    @cached_property
    def scaffold(self) -> str:
        """Bemis-Murcko scaffold SMILES without stereo, '' for an acyclic molecule."""
        return scaffolds.murcko(self.mol)


class Reading(NamedTuple):
    """What :func:`read` made of a text: a molecule, or the reason why it is none."""

    molecule: Molecule | None
    error: str | None


def read(text: str) -> Reading:
    """Read one SMILES. Never raises: whatever is not exactly one molecule comes back with a short reason.

    Strict, for text that a model wrote: a name, an extension block (CXSMILES) or white space makes it invalid. Files of
    molecules split names off before they call this.
    """
    fault = _not_smiles(text)
    if fault is not None:
        return Reading(None, fault)
    with quiet():
        try:
            return _read(text)
        except Exception as error:  # RDKit raises many kinds; a generated text must never end a run
            return Reading(None, f"cannot be read: {_first_line(error)}")


def _not_smiles(text: str) -> str | None:
    if not text.strip():
        return "empty"
    if len(text) > MAX_LENGTH:
        return f"longer than {MAX_LENGTH} characters"
    if not text.isascii() or not text.isprintable():
        return "cannot be parsed as SMILES: characters outside printable ASCII"
    if " " in text:
        return "cannot be parsed as SMILES: white space inside"
    return None


def _read(text: str) -> Reading:
    mol = _parse(text)
    if mol is None:
        return Reading(None, explain(text))
    if mol.GetNumAtoms() == 0:
        return Reading(None, "no atoms")
    for _ in range(_SETTLE):
        smiles = Chem.MolToSmiles(mol)
        if smiles == text:
            return Reading(Molecule(smiles, mol), None)
        text, mol = smiles, _parse(smiles)
        if mol is None:
            return Reading(None, f"its canonical SMILES cannot be read back: {explain(smiles)}")
    return Reading(None, "has no stable canonical SMILES")


def _parse(text: str) -> Chem.Mol | None:
    return Chem.MolFromSmiles(text, parser(sanitize=True))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def randomize(smiles: str, seed: int) -> str:
    """A random SMILES of the same molecule, from ``seed`` alone (RDKit's hidden generator is not used).

    ``smiles`` must be valid; raises ValueError else. Where RDKit gives none, ``smiles`` itself comes back.
    """
    molecule = read(smiles).molecule
    if molecule is None:
        raise ValueError(f"not a valid SMILES: {smiles!r}")
    with quiet():
        # 0 means "unseeded" to RDKit, so seeds are folded into 1 .. 2^31 - 1.
        written = Chem.MolToRandomSmilesVect(molecule.mol, 1, randomSeed=seed % (2**31 - 1) + 1)
    return str(written[0]) if written else smiles


def inchikey(mol: Chem.Mol) -> str:
    """The standard InChIKey, '' where InChI has none for the molecule (dummy atoms, for instance).

    >>> inchikey(read("CC(=O)Nc1ccc(O)cc1").molecule.mol)  # paracetamol, PubChem CID 1983
    'RZVAJINKPMORJF-UHFFFAOYSA-N'
    """
    with quiet():
        try:
            return str(Chem.MolToInchiKey(mol))  # type: ignore[no-untyped-call]
        except Exception:
            return ""


def parse_smarts(text: str, where: str) -> Chem.Mol:
    """The pattern of a SMARTS; raises :class:`ConfigError` with the place and the text where it does not parse."""
    with quiet():
        try:
            pattern = Chem.MolFromSmarts(text) if text.strip() and text.isascii() else None
        except Exception:
            pattern = None
    if pattern is None or pattern.GetNumAtoms() == 0:
        raise ConfigError(f"{where}: '{text}' cannot be parsed as SMARTS")
    return pattern


def parse_reference(text: str, where: str) -> Molecule:
    """A molecule that a config names; raises :class:`ConfigError` with the place, the text and the reason."""
    reading = read(text.strip())
    if reading.molecule is None:
        raise ConfigError(f"{where}: '{text}' is no valid SMILES ({reading.error})")
    return reading.molecule

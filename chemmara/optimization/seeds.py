"""Seed molecules: known actives that a run learns from at its start. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from chemmara.chemistry.files import read_records
from chemmara.chemistry.molecules import read
from chemmara.errors import UserError
from chemmara.language.tokenizers import UnreadableText
from chemmara.language.vocabulary import Vocabulary
from chemmara.wording import no_molecules


def read_seeds(path: Path, vocabulary: Vocabulary) -> tuple[list[str], list[str]]:
    """The seed molecules that the prior can write, canonical and distinct, and what is to be said of the others.

    Raises :class:`UserError` if none is left.
    """
    usable: dict[str, None] = {}
    invalid, foreign = [], []
    for record in read_records(path):
        molecule = read(record.smiles).molecule
        if molecule is None:
            invalid.append(f"line {record.line}: {record.smiles[:60]}")
            continue
        try:
            vocabulary.encode(molecule.smiles)
            usable[molecule.smiles] = None
        except UnreadableText as error:
            foreign.append(f"{molecule.smiles[:60]} ({error})")
    notes = []
    if invalid:
        notes.append(f"{path.name}: {no_molecules(len(invalid), 'line')}: {'; '.join(invalid[:5])}")
    if foreign:
        notes.append(f"{path.name}: the prior cannot write {len(foreign)} of its molecules: {'; '.join(foreign[:5])}")
    if not usable:
        raise UserError(f"replay.seed_molecules: no usable molecule in '{path}'" + "".join(f"; {n}" for n in notes))
    return list(usable), notes

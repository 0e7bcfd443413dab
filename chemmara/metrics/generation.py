"""What a sample of a generator looks like: validity, uniqueness, novelty. NaN where nothing was sampled."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence


def validity(valid: Sequence[bool]) -> float:
    """Share of the sampled sequences that are a molecule.

    >>> validity([True, True, False, True])
    0.75
    """
    return sum(map(bool, valid)) / len(valid) if len(valid) else math.nan


def uniqueness(smiles: Sequence[str]) -> float:
    """Share of distinct ones among canonical SMILES (of the valid sequences).

    >>> uniqueness(["CCO", "CCO", "CCN", "CCC"])
    0.75
    """
    return len(set(smiles)) / len(smiles) if smiles else math.nan


def novelty(smiles: Sequence[str], known: Collection[str]) -> float:
    """Share of the distinct canonical SMILES that are not among ``known`` (canonical too; a set, for speed).

    >>> novelty(["CCO", "CCO", "CCN"], {"CCO"})
    0.5
    """
    distinct = set(smiles)
    return sum(text not in known for text in distinct) / len(distinct) if distinct else math.nan

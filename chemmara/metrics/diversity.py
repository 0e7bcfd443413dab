"""How different molecules are from each other. Functions of canonical SMILES; ValueError for one that is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.SimDivFilters import rdSimDivPickers

from chemmara.chemistry import fingerprints
from chemmara.chemistry.molecules import read
from chemmara.chemistry.scaffolds import generic, murcko

_BLOCK = 2048
"""Molecules on either side of the pairs that are compared at once: some 120 MB."""


def ecfp4(smiles: Sequence[str], bits: int = 2048) -> list[Any]:
    """Morgan fingerprints of radius 2, one per SMILES."""
    make = fingerprints.function("ecfp4", size=bits)
    return [make(_mol(text)) for text in smiles]


def circles(smiles: Sequence[str], distance: float = 0.7) -> int:
    """#Circles: size of a greatest greedy packing with pairwise Tanimoto distance > ``distance`` (ECFP4, 2048 bits).

    A property of the set: neither order nor repeats matter. [Xie et al., ICLR 2023; Renz et al., JCIM 2024]
    """
    return pack(ecfp4(sorted(set(smiles))), distance)


def pack(prints: Sequence[Any], distance: float = 0.7) -> int:
    """:func:`circles` on fingerprints: the better of sphere exclusion in the order given and MaxMin from the first."""
    if not prints:
        return 0
    size = len(prints)
    leaders = rdSimDivPickers.LeaderPicker().LazyBitVectorPick(prints, size, distance)
    spread, _ = rdSimDivPickers.MaxMinPicker().LazyBitVectorPickWithThreshold(
        prints, size, size, distance, firstPicks=[0]
    )
    return max(len(leaders), len(spread))


def internal_diversity(smiles: Sequence[str]) -> float:
    """IntDiv1: 1 - mean Tanimoto similarity over all ordered pairs, self-pairs included (Morgan radius 2, 1024 bits).

    As MOSES has it, p = 1 [Polykovskiy et al., Front. Pharmacol. 2020]; exact, a block of pairs at a time, so that
    memory is linear. NaN for no molecules, 0 for one.
    """
    return mean_distance(ecfp4(smiles, bits=1024))


def mean_distance(prints: Sequence[Any]) -> float:
    """:func:`internal_diversity` on fingerprints."""
    if not prints:
        return math.nan
    ones = fingerprints.bits(prints)
    parts = [ones[start : start + _BLOCK] for start in range(0, len(prints), _BLOCK)]
    similar = math.fsum(
        (1 if one == other else 2) * _similarity(part, parts[other])
        for one, part in enumerate(parts)
        for other in range(one, len(parts))
    )
    return 1.0 - similar / len(prints) ** 2


def _similarity(rows: np.ndarray, others: np.ndarray) -> float:
    """Sum of the Tanimoto similarities of each of ``rows`` (n, bits) to each of ``others`` (m, bits), of 0 and 1."""
    rows, others = rows.astype(np.float32), others.astype(np.float32)
    shared = (rows @ others.T).astype(np.float64)  # whole numbers, far below what float32 holds exactly
    either = rows.sum(1)[:, None] + others.sum(1) - shared
    return float((shared / either).sum())


def scaffolds(smiles: Sequence[str]) -> int:
    """Number of distinct Bemis-Murcko scaffolds. An acyclic molecule has none and is not counted."""
    return len({murcko(_mol(text)) for text in smiles} - {""})


def generic_scaffolds(smiles: Sequence[str]) -> int:
    """Number of distinct generic scaffolds (all atoms carbon, all bonds single). Acyclic molecules are not counted."""
    return len({generic(_mol(text)) for text in smiles} - {""})


def _mol(smiles: str) -> Chem.Mol:
    molecule, error = read(smiles)
    if molecule is None:
        raise ValueError(f"not a valid SMILES: '{smiles}' ({error})")
    return molecule.mol

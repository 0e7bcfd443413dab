"""The metrics of one run, from its rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from chemmara.chemistry import fingerprints
from chemmara.chemistry.molecules import Molecule, read
from chemmara.chemistry.plausibility import standard
from chemmara.chemistry.scaffolds import generic
from chemmara.metrics import diversity, efficiency
from chemmara.reporting.runs import Run
from chemmara.scoring.rows import SAMPLED, was_sent

COMPARED = (
    *("hits", "hits_clean", "scaffolds", "scaffolds_clean", "generic_scaffolds", "circles", "circles_clean"),
    *("intdiv1", "top_10", "top_100", "top_100_clean", "burden_10", "burden_100", "validity", "uniqueness"),
)
"""The metrics of ``compare``, in the order of its table (:mod:`chemmara.metrics.table` says what they mean)."""


@dataclass(frozen=True)
class Digest:
    """What is left of a run's rows when they are counted: its oracle calls (distinct valid molecules) in order.

    ``sampled``, ``valid`` and ``distinct`` count the rows that the agent wrote, no seeds and no bred molecules:
    sequences, valid ones, and the molecules among these, sent or not.
    """

    run: Run
    sampled: int
    valid: int
    distinct: int
    smiles: list[str]
    scores: list[float]  # of the first time that the molecule had one; NaN if it never had
    scaffolds: list[str]

    def hits(self, threshold: float) -> list[int]:
        """The positions of the oracle calls with score >= threshold."""
        return [i for i, score in enumerate(self.scores) if score >= threshold]


def digest(run: Run) -> Digest:
    """Count a run's rows in one pass."""
    sampled = valid = 0
    written: set[str] = set()
    place: dict[str, int] = {}
    scores: list[float] = []
    scaffolds: list[str] = []
    for row in run.rows():
        own = row.origin == SAMPLED
        sampled += own
        valid += own and row.valid
        if own and row.valid:
            written.add(row.smiles)
        if not was_sent(row.valid, row.error):
            continue
        at = place.setdefault(row.smiles, len(scores))
        if at == len(scores):
            scores.append(row.score)
            scaffolds.append(row.scaffold)
        elif math.isnan(scores[at]):
            scores[at] = row.score
    return Digest(run, sampled, valid, len(written), list(place), scores, scaffolds)


@dataclass(frozen=True)
class _Hit:
    """What the metrics need of one molecule, worked out once for all thresholds."""

    clean: bool
    generic_scaffold: str
    print_2048: Any
    print_1024: Any


def measure(run: Digest, thresholds: Sequence[float]) -> list[dict[str, float]]:
    """The metrics of a run, by name, for each threshold; NaN where one is undefined (no hits, nothing sampled)."""
    hits = {i: _look_at(run.smiles[i]) for i in run.hits(min(thresholds))} if thresholds else {}
    best = {"top_10": efficiency.mean_top(run.scores, 10), "top_100": efficiency.mean_top(run.scores, 100)}
    best["top_100_clean"] = efficiency.mean_top([run.scores[i] for i in _best_clean(run, 100, hits)], 100)
    return [_measure_at(run, threshold, hits) | best for threshold in thresholds]


def _best_clean(run: Digest, k: int, known: dict[int, _Hit]) -> list[int]:
    """The positions of the k best clean molecules; no more are looked at than that takes."""
    scored = sorted((i for i, score in enumerate(run.scores) if not math.isnan(score)), key=lambda i: -run.scores[i])
    clean = (i for i in scored if (known[i].clean if i in known else standard().is_clean(_read(run.smiles[i]))))
    return list(islice(clean, k))


def _measure_at(run: Digest, threshold: float, known: dict[int, _Hit]) -> dict[str, float]:
    hits = sorted(run.hits(threshold), key=lambda i: run.smiles[i])  # sorted, as diversity.circles does
    clean = [i for i in hits if known[i].clean]
    circles = diversity.pack([known[i].print_2048 for i in hits])
    return {
        "oracle_calls": len(run.scores),
        "hits": len(hits),
        "hits_clean": len(clean),
        "scaffolds": len({run.scaffolds[i] for i in hits} - {""}),
        "scaffolds_clean": len({run.scaffolds[i] for i in clean} - {""}),
        "generic_scaffolds": len({known[i].generic_scaffold for i in hits} - {""}),
        "circles": circles,
        "circles_clean": circles if clean == hits else diversity.pack([known[i].print_2048 for i in clean]),
        "intdiv1": diversity.mean_distance([known[i].print_1024 for i in hits]),
        "burden_10": efficiency.oracle_burden(run.scores, threshold, 10),
        "burden_100": efficiency.oracle_burden(run.scores, threshold, 100),
        "validity": run.valid / run.sampled if run.sampled else math.nan,
        "uniqueness": run.distinct / run.valid if run.valid else math.nan,
    }


def _look_at(smiles: str) -> _Hit:
    molecule = _read(smiles)
    prints = [fingerprints.function("ecfp4", size=size)(molecule.mol) for size in (2048, 1024)]
    return _Hit(standard().is_clean(molecule), generic(molecule.mol), *prints)


def _read(smiles: str) -> Molecule:
    molecule, error = read(smiles)
    if molecule is None:
        raise ValueError(f"not a valid SMILES: '{smiles}' ({error})")
    return molecule


def scaffold_curve(run: Digest, threshold: float) -> list[int]:
    """Distinct scaffolds among the hits after each oracle call: (oracle calls + 1,), from 0."""
    seen: set[str] = set()
    curve = [0]
    for score, scaffold in zip(run.scores, run.scaffolds, strict=True):
        if score >= threshold and scaffold:
            seen.add(scaffold)
        curve.append(len(seen))
    return curve

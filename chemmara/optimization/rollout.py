"""One batch of sampled sequences and all that is known of each row. Rows are never dropped: masks say what counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chemmara.chemistry.molecules import Molecule, read
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.rows import NOT_SENT, RunRow
from chemmara.scoring.scores import Scores


@dataclass
class Seen:
    """The distinct molecules of a run, in the order in which they were met, and what the run counts of them."""

    smiles: dict[str, None]
    scaffolds: dict[str, None]
    hits: int = 0
    best: float = 0.0
    failed: int = 0

    @classmethod
    def empty(cls) -> Seen:
        return cls({}, {})

    @property
    def calls(self) -> int:
        """Oracle calls: distinct valid canonical molecules sent to scoring."""
        return len(self.smiles)


@dataclass
class Scored:
    """A batch after scoring; every field has length B.

    ``texts``: the SMILES of each row. ``sampled``: the string that the policy wrote, which the log-probabilities belong
    to; under SELFIES the two differ.
    ``first``: this row is the first of its molecule in the run. ``distinct``: the first in the batch. ``known``: such a
    first row whose molecule the run had met before this batch. ``unpaid``: new molecules past the budget, neither
    scored nor learned from.
    """

    texts: list[str]
    sampled: list[str]
    molecules: list[Molecule | None]
    scores: Scores
    errors: list[str | None]
    known: list[bool]
    distinct: NDArray[np.bool_]
    unpaid: NDArray[np.bool_]

    @property
    def valid(self) -> NDArray[np.bool_]:
        return np.array([molecule is not None for molecule in self.molecules], dtype=bool)

    @property
    def first(self) -> NDArray[np.bool_]:
        return np.asarray(self.distinct & ~np.array(self.known, dtype=bool) & ~self.unpaid)

    @property
    def learnable(self) -> NDArray[np.bool_]:
        """Rows to learn from: invalid text (reward 0) does count, failed or unpaid molecules do not."""
        return np.asarray(~self.valid | ~np.isnan(self.scores.total))


def score_batch(
    texts: Sequence[str], sampled: Sequence[str], scoring: ScoringFunction, seen: Seen, budget: int, threshold: float
) -> Scored:
    """Parse once, look the molecules up, and score those that the budget still pays for, in the order of the batch.

    Updates ``seen``. The oracle gets canonical SMILES; repeats are free.
    """
    readings = [read(text) for text in texts]
    molecules = [reading.molecule for reading in readings]
    known, distinct, unpaid = [], [], []
    in_batch: set[str] = set()
    for molecule in molecules:
        smiles = molecule.smiles if molecule else ""
        repeated = smiles in in_batch
        known.append(smiles in seen.smiles and not repeated)
        distinct.append(bool(molecule) and not repeated)
        in_batch.add(smiles)
        if molecule and smiles not in seen.smiles and seen.calls < budget:
            seen.smiles[smiles] = None
        unpaid.append(bool(molecule) and smiles not in seen.smiles)
    scores = scoring([None if skip else molecule for molecule, skip in zip(molecules, unpaid)])
    errors = [
        reading.error or (NOT_SENT if skip else error) for reading, skip, error in zip(readings, unpaid, scores.errors)
    ]
    first, skipped = np.array(distinct, bool), np.array(unpaid, bool)
    batch = Scored(list(texts), list(sampled), molecules, scores, errors, known, first, skipped)
    _count(batch, seen, threshold)
    return batch


def _count(batch: Scored, seen: Seen, threshold: float) -> None:
    for row in np.flatnonzero(batch.first):
        molecule, score = batch.molecules[row], batch.scores.total[row]
        if molecule is None:
            continue
        if np.isnan(score):
            seen.failed += 1
            continue
        seen.best = max(seen.best, float(score))
        if score >= threshold:
            seen.hits += 1
            if molecule.scaffold:
                seen.scaffolds[molecule.scaffold] = None


def ledger_rows(
    batch: Scored, step: int, agent_log_prob: NDArray[np.float32], prior_log_prob: NDArray[np.float32]
) -> list[RunRow]:
    """The batch as the ledger keeps it."""
    scores = batch.scores
    return [
        RunRow(
            step=step,
            index=row,
            smiles=molecule.smiles if molecule else text,
            sampled=batch.sampled[row],
            valid=molecule is not None,
            score=float(scores.total[row]),
            raw={label: float(values[row]) for label, values in scores.raw.items()},
            transformed={label: float(values[row]) for label, values in scores.transformed.items()},
            scaffold=molecule.scaffold if molecule else "",
            error=batch.errors[row],
            agent_log_prob=round(float(agent_log_prob[row]), 4),
            prior_log_prob=round(float(prior_log_prob[row]), 4),
        )
        for row, (text, molecule) in enumerate(zip(batch.texts, batch.molecules))
    ]

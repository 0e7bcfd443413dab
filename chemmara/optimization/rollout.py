"""One batch of sampled sequences and all that is known of each row. Rows are never dropped: masks say what counts."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from chemmara.chemistry.molecules import Molecule, Reading, read
from chemmara.optimization.screening import FULL, Screen
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.rows import BUDGET_SPENT, SAMPLED, RunRow
from chemmara.scoring.scores import Scores

CUT = Reading(None, "no end token within max_tokens")
"""What a sequence without its end is: no molecule, though its text may parse. Its log-probability is that of a
beginning; to be scored and learned from as a molecule it would have to be that of the whole string."""


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
    first row whose molecule the run had met before this batch. ``unpaid``: molecules that were not sent, be it that the
    budget is spent or that the screen refused them. ``penalised``: refused ones that are learned from with reward 0.
    ``extra``: rows sampled beyond the batch, of which only what was sent is learned from, so that the batch itself
    stays a fair sample of the agent.
    """

    texts: list[str]
    sampled: list[str]
    molecules: list[Molecule | None]
    scores: Scores
    errors: list[str | None]
    known: list[bool]
    distinct: NDArray[np.bool_]
    unpaid: NDArray[np.bool_]
    penalised: NDArray[np.bool_]
    extra: NDArray[np.bool_]

    @property
    def valid(self) -> NDArray[np.bool_]:
        return np.array([molecule is not None for molecule in self.molecules], dtype=bool)

    @property
    def first(self) -> NDArray[np.bool_]:
        return np.asarray(self.distinct & ~np.array(self.known, dtype=bool) & ~self.unpaid)

    def new_hits(self, threshold: float) -> list[bool]:
        """Of each molecule that was scored for the first time, in order, whether it is a hit."""
        new = self.scores.total[self.first]
        return [bool(hit) for hit in new[~np.isnan(new)] >= threshold]

    @property
    def learnable(self) -> NDArray[np.bool_]:
        """Rows to learn from: invalid text (reward 0) does count, failed or unsent molecules do not."""
        known = ~self.valid | ~np.isnan(self.scores.total) | self.penalised
        return np.asarray(known & (~self.extra | self.first))


@dataclass
class Sampled:
    """Text that was sampled, parsed, and judged by the screen, (B,) each.

    ``refusals``: why a molecule that is new to the run is not worth a call. ``batch_size``: rows beyond it are extra.
    """

    texts: list[str]
    strings: list[str]
    readings: list[Reading]
    refusals: list[str | None]
    penalised: list[bool]
    batch_size: int

    @property
    def admitted(self) -> NDArray[np.bool_]:
        """(B,): molecules that have a score, or are to be sent for one if the budget lasts."""
        pairs = zip(self.readings, self.refusals)
        return np.array([reading.molecule is not None and refusal is None for reading, refusal in pairs], dtype=bool)

    @property
    def extra(self) -> NDArray[np.bool_]:
        """(B,): rows beyond the batch."""
        return np.arange(len(self.texts)) >= self.batch_size


class Judge:
    """Decides, row by row in the order of sampling, what of a step's samples is sent; counts what it lets through."""

    def __init__(self, screen: Screen, seen: Seen, wanted: int) -> None:
        self.screen, self.seen, self.wanted = screen, seen, wanted
        self._met: dict[str, tuple[str | None, bool]] = {}
        self.admitted = 0

    def add(
        self, batch: Sampled, texts: Sequence[str], strings: Sequence[str], ended: Iterable[bool] = repeat(True)
    ) -> None:
        """Parse and judge further rows, and append them to ``batch``; ``ended``: those that have their end token."""
        readings = [read(text) if whole else CUT for text, whole in zip(texts, ended)]
        self.screen.look(self._unjudged(readings))
        for text, string, reading in zip(texts, strings, readings):
            refusal, penalised = self(reading.molecule)
            batch.texts.append(text)
            batch.strings.append(string)
            batch.readings.append(reading)
            batch.refusals.append(refusal)
            batch.penalised.append(penalised)

    def _unjudged(self, readings: Sequence[Reading]) -> list[Molecule]:
        """The distinct molecules that are new to the run and to the step."""
        found = dict.fromkeys(reading.molecule for reading in readings if reading.molecule)
        return [each for each in found if each.smiles not in self.seen.smiles and each.smiles not in self._met]

    def __call__(self, molecule: Molecule | None) -> tuple[str | None, bool]:
        """(why it is not sent, or None; whether the agent is penalised). A repeat is answered as the first time."""
        if molecule is None or molecule.smiles in self.seen.smiles:
            return None, False
        if molecule.smiles not in self._met:
            self._met[molecule.smiles] = self._judge(molecule)
        return self._met[molecule.smiles]

    def _judge(self, molecule: Molecule) -> tuple[str | None, bool]:
        if self.screen and self.admitted >= self.wanted:
            return FULL, False
        answer = self.screen.judge(molecule)
        self.admitted += answer[0] is None
        return answer


def score_batch(batch: Sampled, scoring: ScoringFunction, seen: Seen, budget: int, threshold: float) -> Scored:
    """Look the molecules up, and score those that the budget still pays for, in the order of the batch.

    Updates ``seen``. The oracle gets canonical SMILES; repeats are free.
    """
    molecules = [reading.molecule for reading in batch.readings]
    known, distinct, unpaid = [], [], []
    in_batch: set[str] = set()
    for molecule, refusal in zip(molecules, batch.refusals):
        smiles = molecule.smiles if molecule else ""
        repeated = smiles in in_batch
        known.append(smiles in seen.smiles and not repeated)
        distinct.append(bool(molecule) and not repeated)
        in_batch.add(smiles)
        if molecule and refusal is None and smiles not in seen.smiles and seen.calls < budget:
            seen.smiles[smiles] = None
        unpaid.append(bool(molecule) and smiles not in seen.smiles)
    scores = scoring([None if skip else molecule for molecule, skip in zip(molecules, unpaid)])
    errors = [
        reading.error or ((refusal or BUDGET_SPENT) if skip else error)
        for reading, refusal, skip, error in zip(batch.readings, batch.refusals, unpaid, scores.errors)
    ]
    scored = Scored(
        batch.texts, batch.strings, molecules, scores, errors, known,
        distinct=np.array(distinct, bool),
        unpaid=np.array(unpaid, bool),
        penalised=np.array(batch.penalised, bool),
        extra=batch.extra,
    )  # fmt: skip
    _count(scored, seen, threshold)
    return scored


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
    batch: Scored,
    step: int,
    agent_log_prob: NDArray[np.float32],
    prior_log_prob: NDArray[np.float32],
    start: int = 0,
    origin: str = SAMPLED,
) -> list[RunRow]:
    """The batch as the ledger keeps it; ``start``: rows of the step that come before it."""
    scores = batch.scores
    return [
        RunRow(
            step=step,
            index=start + row,
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
            origin=origin,
        )
        for row, (text, molecule) in enumerate(zip(batch.texts, batch.molecules))
    ]


def first_of(items: Sequence[Hashable]) -> np.ndarray:
    """(B,) bool: the first row of each item."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(item, row) == row for row, item in enumerate(items)], dtype=bool)

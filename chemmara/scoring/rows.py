"""The rows of a run, and how the ledger holds them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chemmara.scoring.database import decode, encode

COLUMNS = (
    *("step", "idx", "smiles", "sampled", "valid", "score", "raw", "transformed", "scaffold", "error"),
    *("agent_log_prob", "prior_log_prob", "origin"),
)

SAMPLED, SEED, BRED = "sampled", "seed", "bred"
"""Where a row comes from: the agent wrote it, the user gave it, or it was bred from the replay buffer's molecules."""

NOT_SENT = "not sent"
"""Begins the error of a valid molecule that was never sent to scoring: not an oracle call."""
BUDGET_SPENT = f"{NOT_SENT}: the oracle budget is spent"


def was_sent(valid: bool, error: str | None) -> bool:
    """Whether a row stands for an oracle call, or for a repeat of one."""
    return valid and not (error or "").startswith(NOT_SENT)


@dataclass(frozen=True)
class RunRow:
    """One sequence of a run: sampled, given as a seed, or bred."""

    step: int
    index: int  # place within the step's batch
    smiles: str  # canonical if valid, else as sampled
    sampled: str  # the string that the log-probabilities belong to
    valid: bool
    score: float  # total in [0, 1], NaN if there is none
    raw: Mapping[str, float]  # per component label, in the component's unit
    transformed: Mapping[str, float]  # per component label, in [0, 1]
    scaffold: str  # Bemis-Murcko SMILES, "" for none
    error: str | None  # why it is invalid or has no score
    agent_log_prob: float  # nats, total, end token included
    prior_log_prob: float
    origin: str = SAMPLED
    name: str = field(default="", repr=False, compare=False)  # where a table has one; a ledger holds none


def cell(value: float) -> float | None:
    """A number as the ledger holds it: NULL for NaN."""
    return None if math.isnan(value) else float(value)


def number(stored: float | None) -> float:
    """The inverse of :func:`cell`."""
    return math.nan if stored is None else float(stored)


def to_cells(row: RunRow) -> tuple[Any, ...]:
    """A row as the values of ``COLUMNS``."""
    return (
        int(row.step),
        int(row.index),
        encode(row.smiles),
        encode(row.sampled),
        int(row.valid),
        cell(row.score),
        json.dumps({label: float(value) for label, value in row.raw.items()}),
        json.dumps({label: float(value) for label, value in row.transformed.items()}),
        encode(row.scaffold),
        None if row.error is None else encode(row.error),
        cell(row.agent_log_prob),
        cell(row.prior_log_prob),
        row.origin,
    )


def from_cells(cells: tuple[Any, ...]) -> RunRow:
    """The inverse of :func:`to_cells`, exact to the last bit."""
    step, index, smiles, sampled, valid, score, raw, transformed, scaffold, error, agent, prior, origin = cells
    return RunRow(
        step=step,
        index=index,
        smiles=decode(smiles),
        sampled=decode(sampled),
        valid=bool(valid),
        score=number(score),
        raw=json.loads(raw),
        transformed=json.loads(transformed),
        scaffold=decode(scaffold),
        error=None if error is None else decode(error),
        agent_log_prob=number(agent),
        prior_log_prob=number(prior),
        origin=origin,
    )

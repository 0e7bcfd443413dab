"""How the score of one molecule comes about, component by component."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chemmara.chemistry.molecules import read
from chemmara.config import Table
from chemmara.errors import UserError
from chemmara.scoring.aggregation import PARTS, aggregate
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.settings import ComponentSettings
from chemmara.workflows.score import note, scoring_of


@dataclass(frozen=True)
class Part:
    """What one component says of the molecule, and what it brings into the total.

    ``raw`` is in ``unit``; ``score`` in [0, 1]; NaN where the component failed. ``part`` is what the total is
    multiplied by, or what is added to it (``sign`` "x" or "+"; "" for an aggregation that is neither); ``lost`` how
    much higher the total were with a score of 1 here. ``weight`` is None for a filter.
    """

    label: str
    component: str
    unit: str
    raw: float
    transform: Table | None
    score: float
    weight: float | None
    sign: str
    part: float
    lost: float
    note: str


@dataclass(frozen=True)
class Explanation:
    """The total of a molecule (NaN where a component failed, with the reason in ``error``) and its parts."""

    smiles: str
    total: float
    error: str | None
    aggregation: str
    parts: tuple[Part, ...]


def explain(config: str | Path | Mapping[str, Any], smiles: str) -> Explanation:
    """Score one molecule and tell how. Raises :class:`UserError` for text that is no molecule, and ConfigError."""
    with scoring_of(config) as scoring:
        return explain_by(scoring, smiles)


def explain_by(scoring: ScoringFunction, smiles: str) -> Explanation:
    """:func:`explain` by a scoring function."""
    molecule, error = read(smiles.strip())
    if molecule is None:
        raise UserError(f"'{smiles}' is no molecule: {error}")
    scores = scoring([molecule])
    components = scoring.settings.components
    transformed = {label: float(column[0]) for label, column in scores.transformed.items()}
    weights = sum(component.weight for component in components if not component.filter)
    total = float(scores.total[0])
    parts = []
    for component in components:
        label, score = component.label, transformed[component.label]
        sign, part = _part(scoring.settings.aggregation, component, score, weights)
        parts.append(
            Part(
                label,
                component.spec.name,
                component.unit,
                float(scores.raw[label][0]),
                None if component.transform is None else component.transform.to_table(),
                score,
                None if component.filter else component.weight,
                sign,
                part,
                _total(scoring, {**transformed, label: 1.0}) - total,
                note(component, molecule),
            )
        )
    return Explanation(molecule.smiles, total, scores.errors[0], scoring.settings.aggregation, tuple(parts))


def _part(aggregation: str, component: ComponentSettings, score: float, weights: float) -> tuple[str, float]:
    if component.filter:
        return "x", score
    if aggregation not in PARTS or math.isnan(score):
        return PARTS.get(aggregation, ("", None))[0], math.nan
    sign, function = PARTS[aggregation]
    return sign, function(score, component.weight, weights)


def _total(scoring: ScoringFunction, transformed: Mapping[str, float]) -> float:
    components = scoring.settings.components
    scores = np.array([[transformed[component.label]] for component in components])
    filters = np.array([component.filter for component in components])
    weights = np.array([component.weight for component in components])
    return float(aggregate(scoring.settings.aggregation, scores[~filters], weights[~filters], scores[filters])[0])

"""The scoring function: molecules in, one row of :class:`Scores` each out, no row ever dropped.

>>> scores = ScoringFunction({"component": [{"name": "qed"}]})(["CC(=O)Nc1ccc(O)cc1", "C1CC"])
>>> scores.total.round(3)
array([0.595,   nan])
>>> scores.errors
[None, 'invalid SMILES: cannot be parsed as SMILES: unclosed ring 1']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chemmara.chemistry.molecules import Molecule, read
from chemmara.config import Table, read_table
from chemmara.errors import ConfigError
from chemmara.scoring import transforms
from chemmara.scoring.aggregation import aggregate
from chemmara.scoring.evaluation import Evaluation, EvaluationStore, Executor
from chemmara.scoring.evaluator import Evaluator
from chemmara.scoring.failure import OnFailure
from chemmara.scoring.scores import Scores
from chemmara.scoring.settings import ComponentSettings, ScoringSettings

if TYPE_CHECKING:
    from chemmara.scoring.scores import Array

_SLACK = 1e-6  # rounding that a raw value in [0, 1] may bring along


class ScoringFunction:
    """Scores batches of molecules by the components of a ``[scoring]`` table.

    ``executor`` runs the components that are worth it elsewhere, in tasks of ``chunk`` molecules; without one
    everything runs in this process. ``store`` remembers evaluations; each finished chunk is in it before it is used.
    A failed evaluation is tried up to ``retry`` times again before the failure is recorded; with ``on_failure`` "stop"
    it is not recorded, and RunError ends the run. What a component says of either goes before.
    """

    def __init__(
        self,
        settings: ScoringSettings | Mapping[str, Any],
        executor: Executor | None = None,
        store: EvaluationStore | None = None,
        chunk: int = 16,
        retry: int = 0,
        on_failure: OnFailure = "blank",
    ) -> None:
        self.settings = settings if isinstance(settings, ScoringSettings) else ScoringSettings.parse(settings)
        self._evaluate = Evaluator(self.settings.components, executor, store, chunk, retry, on_failure)

    @classmethod
    def from_config(cls, config: str | Path | Mapping[str, Any], **options: Any) -> ScoringFunction:
        """From a config file, a whole config, or its ``[scoring]`` table alone; ``options`` go to the constructor."""
        return cls(ScoringSettings.parse(*_scoring_table(config)), **options)

    @property
    def labels(self) -> tuple[str, ...]:
        """The components' labels, in order."""
        return self.settings.labels

    def __call__(self, molecules: Sequence[Molecule | str | None] | str) -> Scores:
        """Score a batch, or one SMILES. Text is read first; repeats of a molecule are computed once."""
        molecules = [molecules] if isinstance(molecules, str) else molecules
        rows = [_reading(molecule) for molecule in molecules]
        distinct = {molecule.smiles: molecule for molecule, _ in rows if molecule is not None}
        known, computed = self._evaluate(distinct)
        total, raw, transformed = self._values(known, list(distinct))
        index = {smiles: number for number, smiles in enumerate(distinct)}
        at = np.array([-1 if molecule is None else index[molecule.smiles] for molecule, _ in rows], dtype=int)
        unknown = np.asarray(np.isnan(transformed).any(axis=0))
        reasons = [self._reason(known, smiles) if unknown[n] else None for n, smiles in enumerate(distinct)]
        return Scores(
            total=_spread(total, at),
            raw={label: _spread(row, at) for label, row in zip(self.labels, raw, strict=True)},
            transformed={label: _spread(row, at) for label, row in zip(self.labels, transformed, strict=True)},
            valid=at >= 0,
            errors=[error if number < 0 else reasons[number] for (_, error), number in zip(rows, at, strict=True)],
            evaluations=computed,
        )

    def _values(self, known: list[dict[str, Evaluation]], smiles: list[str]) -> tuple[Array, Array, Array]:
        """Totals (n,), raw and transformed values (components, n) of distinct molecules."""
        components = self.settings.components
        raw = np.array([[found[text].value for text in smiles] for found in known], dtype=float)
        raw = raw.reshape(len(components), len(smiles))
        scores = np.array([_transformed(component, row) for component, row in zip(components, raw, strict=True)])
        filters = np.array([component.filter for component in components], dtype=bool)
        weights = np.array([component.weight for component in components], dtype=float)
        total = aggregate(self.settings.aggregation, scores[~filters], weights[~filters], scores[filters])
        return total, raw, scores

    def _reason(self, known: list[dict[str, Evaluation]], smiles: str) -> str | None:
        reasons = [
            f"{component.label}: {reason}"
            for component, found in zip(self.settings.components, known, strict=True)
            if (reason := _failure(component, found[smiles])) is not None
        ]
        return "; ".join(reasons) or None


def _reading(molecule: Molecule | str | None) -> tuple[Molecule | None, str | None]:
    if isinstance(molecule, str):
        found, error = read(molecule)
        return found, error and f"invalid SMILES: {error}"
    return molecule, "no molecule" if molecule is None else None


def _failure(component: ComponentSettings, evaluation: Evaluation) -> str | None:
    if evaluation.failed:
        return evaluation.error or "no value"
    if component.transform is None and _outside(np.asarray(evaluation.value)):
        return f"value {evaluation.value:g} lies outside [0, 1]: give the component a transform"
    return None


def _transformed(component: ComponentSettings, raw: Array) -> Array:
    if component.transform is None:
        with np.errstate(invalid="ignore"):
            return np.where(_outside(raw), np.nan, np.clip(raw, 0.0, 1.0))
    return transforms.apply(component.transform.name, component.transform.parameters, raw)


def _outside(raw: Array) -> NDArray[np.bool_]:
    return np.asarray((raw < -_SLACK) | (raw > 1 + _SLACK))


def _spread(values: Array, at: NDArray[np.int_]) -> Array:
    """Values of distinct molecules (n,) to the rows of the batch (B,), NaN where ``at`` is -1."""
    return np.append(values, np.nan)[at]


def _scoring_table(config: str | Path | Mapping[str, Any]) -> tuple[Table, str, Path]:
    if isinstance(config, Mapping):
        inner = config.get("scoring", config)
        folder = Path(".")
    else:
        table = read_table(config)
        if "scoring" not in table:
            raise ConfigError(f"config file '{config}' has no [scoring] table")
        inner, folder = table["scoring"], Path(config).parent
    return inner, "scoring", folder

"""Figures of a surrogate: how good it is on molecules that it has not seen, and how well it knows that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chemmara.errors import UserError
from chemmara.scoring.forests import Forest, mean_of, spread_of
from chemmara.wording import counted
from chemmara.workflows.forest import roc_auc
from chemmara.workflows.surrogate_data import Data, Task
from chemmara.workflows.surrogate_models import SurrogateSettings, fit

NEAR = 0.4
"""Tanimoto similarity to the nearest training molecule from which a molecule lies inside the applicability domain."""

_BATCH = 1000
_COMPARED = 2000  # test molecules of a fold of which the nearest neighbour is looked for: the cost is quadratic

Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def schemes(data: Data, places: NDArray[np.int64], settings: SurrogateSettings) -> Iterator[tuple[str, Folds]]:
    """The random and the scaffold splits: (places to train on, places to test on) of each fold."""
    if settings.folds == 0:
        return
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

    kind = StratifiedKFold if data.task == "classification" else KFold
    random = kind(settings.folds, shuffle=True, random_state=settings.seed)
    groups = [data.scaffolds[place] for place in places]
    if len(set(groups)) < settings.folds:
        raise UserError(f"{len(set(groups))} scaffolds are too few for {settings.folds} folds; lower --folds")
    values = data.values[places]
    fewest = int(min(np.sum(values == label) for label in set(values.tolist())))
    if kind is StratifiedKFold and fewest < settings.folds:
        most = f"lower --folds to {fewest}" if fewest > 1 else "--folds 0 trains without"
        raise UserError(f"one class has {counted(fewest, 'molecule')}, too few for {settings.folds} folds; {most}")
    yield "random", [(places[a], places[b]) for a, b in random.split(places, values)]
    yield "scaffold", [(places[a], places[b]) for a, b in GroupKFold(settings.folds).split(places, values, groups)]


def cross_validated(data: Data, folds: Folds, settings: SurrogateSettings) -> dict[str, Any]:
    for train, test in folds:
        if data.task == "classification" and (len(set(data.values[train])) < 2 or len(set(data.values[test])) < 2):
            raise UserError("a fold has molecules of one class only; lower --folds, or train without by --folds 0")
    return judged(data, folds, [fit(data, train, settings) for train, _ in folds])


def judged(data: Data, folds: Folds, forests: list[Forest]) -> dict[str, Any]:
    """Figures of predictions on molecules that each forest has not seen: the mean over folds and its spread.

    Those by similarity and uncertainty are taken over up to ``_COMPARED`` molecules of each fold.
    """
    each: list[dict[str, float]] = []
    seen: list[NDArray[np.float64]] = []
    for (train, test), forest in zip(folds, forests, strict=True):
        said = _members(forest, data.rows[test])
        predicted = mean_of(said)
        each.append(_quality(data.task, data.values[test], predicted))
        few = np.linspace(0, len(test) - 1, min(len(test), _COMPARED)).astype(int)
        near = _nearest(data.rows[test[few]], data.rows[train])
        seen.append(np.stack([data.values[test[few]], predicted[few], spread_of(said[few]), near]))
    figures: dict[str, Any] = {}
    for name in dict.fromkeys(name for fold in each for name in fold):
        numbers = [fold[name] for fold in each if name in fold]
        figures[name] = rounded(float(np.mean(numbers)))
        if len(numbers) > 1:
            figures[f"{name}_deviation"] = rounded(float(np.std(numbers)))
    return figures | _trust(data.task, np.concatenate(seen, axis=1))


def rounded(value: float) -> float:
    """To four decimals, or to three digits where these would leave fewer: an error in mol/l is a small number."""
    return round(value, 4) if abs(value) >= 0.01 else float(f"{value:.3g}")


def _members(forest: Forest, rows: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.concatenate([forest.members(rows[i : i + _BATCH]) for i in range(0, len(rows), _BATCH)])


def _quality(task: Task, values: NDArray[np.float64], predicted: NDArray[np.float64]) -> dict[str, float]:
    if task == "classification":
        if len(set(values.tolist())) < 2:
            return {"brier": float(np.mean((values - predicted) ** 2))}
        return {
            "roc_auc": roc_auc(values.astype(np.int64), predicted),
            "brier": float(np.mean((values - predicted) ** 2)),
        }
    from scipy.stats import spearmanr

    error = float(np.sqrt(np.mean((values - predicted) ** 2)))
    varied = len(set(values.tolist())) > 1 and len(set(predicted.tolist())) > 1
    found = {"rmse": error}
    if len(set(values.tolist())) > 1:  # else there is nothing to explain, and no share of it
        found["r2"] = 1 - error**2 / float(np.var(values))
    return {**found, "spearman": float(spearmanr(values, predicted).statistic) if varied else 0.0}


def _trust(task: Task, seen: NDArray[np.float64]) -> dict[str, Any]:
    """How the error depends on the uncertainty and on the nearest training molecule; ``seen``: (4, n)."""
    from scipy.stats import spearmanr

    values, predicted, spread, near = seen
    error = np.abs(values - predicted)
    varied = len(set(spread.tolist())) > 1 and len(set(error.tolist())) > 1
    order = spearmanr(error, spread).statistic if varied else 0.0
    domain = {
        name: {"share": round(float(inside.mean()), 4), **{k: rounded(v) for k, v in
               (_quality(task, values[inside], predicted[inside]) if inside.any() else {}).items()}}
        for name, inside in (("near", near >= NEAR), ("far", near < NEAR))
    }  # fmt: skip
    return {"error_vs_uncertainty_spearman": round(float(order), 4), "domain": domain}


def _nearest(rows: NDArray[np.uint8], known: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Tanimoto similarity of bits to the nearest known row: (n, size), (m, size) -> (n,)."""
    from rdkit import DataStructs

    def vectors(table: NDArray[np.uint8]) -> list[Any]:
        packed = np.packbits(table > 0, axis=1, bitorder="little")
        return [DataStructs.CreateFromBinaryText(row.tobytes()) for row in packed]

    others = vectors(known)
    return np.array([max(DataStructs.BulkTanimotoSimilarity(one, others)) for one in vectors(rows)])


def summary(data: Data, places: NDArray[np.int64]) -> dict[str, Any]:
    values = data.values[places]
    if data.task == "classification":
        return {"actives": int(values.sum())}
    return {"mean": round(float(values.mean()), 4), "deviation": round(float(values.std()), 4)}

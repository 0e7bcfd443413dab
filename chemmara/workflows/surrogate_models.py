"""The models of a surrogate: scikit-learn fits them, plain arrays keep them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from chemmara.chemistry.fingerprints import FingerprintName
from chemmara.errors import UserError
from chemmara.scoring.forests import Forest
from chemmara.workflows.forest import from_sklearn
from chemmara.workflows.surrogate_data import Data, Task

Model = Literal["forest", "boosting"]


@dataclass(frozen=True)
class SurrogateSettings:
    """How a surrogate is trained."""

    model: Model = "forest"
    trees: int = 200
    repeats: int = 5
    folds: int = 5
    fingerprint: FingerprintName = "ecfp4"
    size: int = 2048
    seed: int = 0
    jobs: int = 1

    def __post_init__(self) -> None:
        for name, low, high in (("trees", 1, 10_000), ("repeats", 1, 100), ("size", 64, 65_536)):
            if not low <= getattr(self, name) <= high:
                raise UserError(f"--{name}: should be from {low} to {high} (got {getattr(self, name)})")
        if self.folds != 0 and not 2 <= self.folds <= 50:
            raise UserError(f"--folds: should be from 2 to 50, or 0 for none (got {self.folds})")
        if self.model not in ("forest", "boosting"):
            raise UserError(f"--model: should be forest or boosting (got '{self.model}')")
        if self.fingerprint not in ("ecfp4", "ecfp6", "fcfp4") or self.size % 8:
            raise UserError("--fingerprint should be ecfp4, ecfp6 or fcfp4, --size a multiple of 8")


def fit(data: Data, places: NDArray[np.int64], settings: SurrogateSettings, **meta: str) -> Forest:
    """The model of the molecules at ``places``."""
    rows, values = data.rows[places], data.values[places]
    known = np.packbits(rows > 0, axis=1, bitorder="little")
    common: dict[str, Any] = {
        "fingerprint": settings.fingerprint, "size": settings.size, "counts": True, "task": data.task,
        **{key: text for key, text in meta.items() if text},
    }  # fmt: skip
    if settings.model == "forest":
        from scipy.sparse import csc_matrix

        # The same trees as of dense rows, eight times as fast: few counts are not 0, and a column lies in one piece.
        columns = csc_matrix(rows.astype(np.float32))
        return from_sklearn(_forest(data.task, settings).fit(columns, values), known, **common)
    return _boosted(rows, values, settings, known, common)


def _forest(task: Task, settings: SurrogateSettings) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    common = {"n_estimators": settings.trees, "random_state": settings.seed, "n_jobs": settings.jobs}
    if task == "classification":
        return RandomForestClassifier(**common)
    # A third of the features, as Breiman advises for regression; all of them, scikit-learn's default, cost far more.
    return RandomForestRegressor(max_features=1 / 3, **common)


def _boosted(
    rows: NDArray[np.uint8], values: NDArray[np.float64], settings: SurrogateSettings, known: Any, meta: dict[str, Any]
) -> Forest:
    """Gradient boosting, repeated on bootstrap samples: their spread is the uncertainty."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    classifies = meta["task"] == "classification"
    make = HistGradientBoostingClassifier if classifies else HistGradientBoostingRegressor
    generator = np.random.default_rng(settings.seed)
    models = []
    for _ in range(settings.repeats):
        sample = _bootstrap(values, classifies, generator)
        model = make(
            max_iter=settings.trees, early_stopping=False, random_state=settings.seed, max_features=0.3,
            min_samples_leaf=max(2, min(20, len(values) // 20)),  # scikit-learn's 20 where there are enough molecules
        )  # fmt: skip
        models.append(model.fit(rows[sample], values[sample]))
    nodes = [predictor[0].nodes for model in models for predictor in model._predictors]
    base = [float(np.ravel(model._baseline_prediction)[0]) for model in models]
    meta = {**meta, "base": base, **({"link": "logistic"} if classifies else {})}
    forest = Forest(**_arrays(nodes), meta=meta, known=known)
    said = forest.members(rows[:200])
    for member, model in enumerate(models):  # the trees come from where scikit-learn promises nothing
        expected = model.predict_proba(rows[:200])[:, 1] if classifies else model.predict(rows[:200])
        if not np.allclose(said[:, member], expected, atol=1e-6):
            raise UserError("this version of scikit-learn keeps its boosted trees in another way; use --model forest")
    return forest


def _bootstrap(values: NDArray[np.float64], classifies: bool, generator: np.random.Generator) -> NDArray[np.int64]:
    """Places drawn with replacement, of each class as many as there are."""
    groups = [np.flatnonzero(values == label) for label in (0.0, 1.0)] if classifies else [np.arange(len(values))]
    return np.concatenate([generator.choice(group, len(group)) for group in groups])


def _arrays(trees: list[Any]) -> dict[str, NDArray[Any]]:
    def column(name: str, nodes: Any) -> Any:
        leaf = nodes["is_leaf"] > 0
        if name in ("left", "right"):
            return np.where(leaf, 0, nodes[name].astype(np.int64) - np.arange(len(nodes)))
        return np.where(leaf, nodes[name], 0.0) if name == "value" else np.where(leaf, 0, nodes[name])

    source = {"feature": "feature_idx", "threshold": "num_threshold"}
    arrays = {
        name: np.concatenate([column(source.get(name, name), nodes) for nodes in trees])
        for name in ("feature", "threshold", "left", "right", "value")
    }
    return {"start": np.concatenate([[0], np.cumsum([len(nodes) for nodes in trees])]), **arrays}

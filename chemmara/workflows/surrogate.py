"""Training a surrogate: a cheap model of a docking score or an activity, with figures that say how far to trust it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from chemmara.errors import UserError
from chemmara.places import check_directory, make_directory
from chemmara.scoring.forests import FILE, load_forest, save_forest
from chemmara.workflows.surrogate_data import Task, read_surrogate_data
from chemmara.workflows.surrogate_figures import cross_validated, judged, schemes, summary
from chemmara.workflows.surrogate_models import SurrogateSettings, fit

LEAST_SPREAD = 1e-6
"""Standard deviation of values from which on a tree splits them: scikit-learn takes 1e-8 for none."""


def train_surrogate(
    path: str | Path,
    out: str | Path,
    settings: SurrogateSettings,
    *,
    target: str = "",
    unit: str = "",
    smiles: str | None = None,
    value: str | None = None,
    split: str | None = None,
    task: Task | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train on a table, write ``out``/forest.npz and ``out``/forest.json (the figures), and return the figures.

    Cross-validated on the part to train on, by random and by scaffold splits; tested on the part "test" if there is
    one. The model that is written has seen the part to train on. Raises :class:`UserError`.
    """
    _need_sklearn()
    if (Path(out) / FILE).exists():
        raise UserError(f"'{out}' holds a surrogate already; choose another directory")
    check_directory(out)
    data = read_surrogate_data(
        path, smiles=smiles, value=value, split=split, task=task, fingerprint=settings.fingerprint, size=settings.size
    )
    say(f"values are those of the column '{data.columns['value']}'")
    if data.unread:
        say(f"{data.unread:,} of them are left out, for they are no plain numbers, such as '{data.example}'")
    train, test = data.part("train"), data.part("test")
    if 0 < (spread := float(np.std(data.values[train]))) < LEAST_SPREAD:
        raise UserError(
            f"the values of '{data.columns['value']}' differ by {spread:.1g} only, which trees take for nothing; give "
            "them in a smaller unit, or their logarithm (as pKi or pIC50)"
        )
    figures: dict[str, Any] = {
        "target": target or data.columns["value"], "unit": unit, "task": data.task, "columns": data.columns,
        "settings": {**asdict(settings), "jobs": 1}, "left_out": data.left_out,
        "train": {"molecules": len(train), **summary(data, train)},
    }  # fmt: skip
    for name, folds in schemes(data, train, settings):
        say(f"cross-validation on {name} splits")
        figures[f"{name}_splits"] = cross_validated(data, folds, settings)
    say("training on everything")
    forest = fit(data, train, settings, target=figures["target"], unit=unit)
    file = Path(out) / FILE
    make_directory(file.parent)
    save_forest(forest, file)
    forest = load_forest(file)
    if len(test):
        figures["test"] = {"molecules": len(test), **summary(data, test), **judged(data, [(train, test)], [forest])}
    figures |= {"trees": forest.trees, "nodes": len(forest.feature), "bytes": file.stat().st_size}
    file.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


def _need_sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise UserError(
            "training a surrogate needs scikit-learn; in the clone, run: pip install -c constraints.txt '.[qsar]'"
        ) from None

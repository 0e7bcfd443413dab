"""Training a forest for the component `forest`: ``python -m chemmara.workflows.forest DATA.csv -o FOLDER``.

scikit-learn's RandomForestClassifier with its default settings on fingerprint bits; needs ``chemmara[qsar]``. Writes
forest.npz, and forest.json with the figures for a model card.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from chemmara.chemistry.fingerprints import FingerprintName, function
from chemmara.chemistry.molecules import read
from chemmara.errors import ChemmaraError, UserError
from chemmara.scoring.forests import FILE, Forest, load_forest, save_forest

Data = tuple[NDArray[np.uint8], NDArray[np.int64]]


def read_data(
    path: str | Path, fingerprint: FingerprintName = "ecfp4", size: int = 2048, split: str = "Split"
) -> dict[str, Data]:
    """Bits (n, size) and labels (n,) of each part of a CSV with the columns smiles, label (0 or 1) and ``split``.

    Without that column everything is the part "train". Raises :class:`UserError` for a row that makes no sense.
    """
    make = function(fingerprint, size=size)
    rows: dict[str, list[tuple[list[int], int]]] = {}
    opener: Any = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rt", newline="", encoding="utf-8") as stream:
        table = csv.DictReader(stream)
        if not {"smiles", "label"} <= set(table.fieldnames or ()):
            raise UserError(f"file '{path}' needs the columns smiles and label (0 or 1)")
        for row in table:
            molecule, error = read(row["smiles"])
            if molecule is None or row["label"] not in ("0", "1"):
                reason = error or f"label '{row['label']}' is neither 0 nor 1"
                raise UserError(f"file '{path}' line {table.line_num}: {reason}")
            bits = list(make(molecule.mol).GetOnBits())
            rows.setdefault(row.get(split) or "train", []).append((bits, int(row["label"])))
    return {name: _dense(part, size) for name, part in rows.items()}


def _dense(rows: Sequence[tuple[list[int], int]], size: int) -> Data:
    bits = np.zeros((len(rows), size), dtype=np.uint8)
    for row, (on, _) in zip(bits, rows, strict=True):
        row[on] = 1
    return bits, np.array([label for _, label in rows])


def from_sklearn(model: Any, known: NDArray[np.uint8] | None = None, **meta: Any) -> Forest:
    """The trees of a fitted random forest: a classifier of the classes 0 and 1, or a regressor.

    ``meta`` needs fingerprint and size.
    """
    classifies = hasattr(model, "classes_")
    if classifies and list(model.classes_) != [0, 1]:
        raise UserError(f"a forest needs molecules of both classes, 0 and 1 (got {list(model.classes_)})")
    trees = [estimator.tree_ for estimator in model.estimators_]
    counts = [tree.node_count for tree in trees]

    def column(name: str, tree: Any) -> Any:
        leaf = tree.children_left < 0
        if name in ("left", "right"):
            return np.where(leaf, 0, getattr(tree, f"children_{name}") - np.arange(tree.node_count))
        if name == "value":
            inside = tree.value[:, 0]
            said = inside[:, 1] / inside.sum(axis=1) if classifies else inside[:, 0]
            return np.where(leaf, said, 0.0)
        return np.where(leaf, 0, getattr(tree, name))

    arrays = {
        name: np.concatenate([column(name, tree) for tree in trees])
        for name in ("feature", "threshold", "left", "right", "value")
    }
    return Forest(start=np.concatenate([[0], np.cumsum(counts)]), **arrays, meta=meta, known=known)


def roc_auc(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Probability that an active scores above an inactive one, ties counting half."""
    from scipy.stats import rankdata

    positive = int(labels.sum())
    rank_sum = float(rankdata(scores)[labels == 1].sum())
    return (rank_sum - positive * (positive + 1) / 2) / (positive * (len(labels) - positive))


def train_forest(
    path: str | Path,
    out: str | Path,
    *,
    target: str = "activity",
    fingerprint: FingerprintName = "ecfp4",
    size: int = 2048,
    seed: int = 0,
    jobs: int = 1,
    **settings: Any,
) -> dict[str, Any]:
    """Fit a forest to the part "train" of a CSV, write it to the folder ``out``, and return its figures.

    ``settings`` go to RandomForestClassifier. The figures hold the ROC-AUC on the part "test", as the written file
    gives it. Raises :class:`UserError`, also where scikit-learn is missing.
    """
    try:
        import sklearn
        from sklearn.ensemble import RandomForestClassifier
    except ImportError:
        raise UserError(
            "training a forest needs scikit-learn; in the clone, run: pip install -c constraints.txt '.[qsar]'"
        ) from None
    parts = read_data(path, fingerprint, size)
    if "train" not in parts:
        raise UserError(f"file '{path}' has no row of the part 'train'")
    bits, labels = parts["train"]
    model = RandomForestClassifier(random_state=seed, n_jobs=jobs, **settings).fit(bits, labels)
    file = Path(out) / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    save_forest(from_sklearn(model, fingerprint=fingerprint, size=size, target=target), file)
    forest = load_forest(file)
    figures: dict[str, Any] = {
        "target": target, "fingerprint": fingerprint, "size": size, "seed": seed, "scikit-learn": sklearn.__version__,
        "trees": forest.trees, "nodes": len(forest.feature), "bytes": file.stat().st_size,
        "train": {"molecules": len(labels), "actives": int(labels.sum())},
    }  # fmt: skip
    if "test" in parts:
        bits, labels = parts["test"]
        scores = np.concatenate([forest.predict(bits[i : i + 1000]) for i in range(0, len(bits), 1000)])
        figures["test"] = {
            "molecules": len(labels), "actives": int(labels.sum()), "roc_auc": round(roc_auc(labels, scores), 4),
            "actives_above_half": int((scores[labels == 1] >= 0.5).sum()),
            "inactives_above_half": int((scores[labels == 0] >= 0.5).sum()),
        }  # fmt: skip
    file.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and print the figures as JSON."""
    parser = argparse.ArgumentParser(description="A random forest for the scoring component 'forest'.")
    parser.add_argument("data", help="CSV (also .gz) with smiles, label (0 or 1) and, if there is one, Split")
    parser.add_argument("-o", "--out", required=True, help="folder for forest.npz and forest.json")
    parser.add_argument("--target", default="activity", help="what the probability is of, for the file's own record")
    parser.add_argument("--fingerprint", default="ecfp4", choices=[n for n in get_args(FingerprintName) if n != "phco"])
    parser.add_argument("--size", type=int, default=2048, help="fingerprint bits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processor cores")
    options = vars(parser.parse_args(arguments))
    try:
        figures = train_forest(
            options.pop("data"), options.pop("out"), fingerprint=cast(FingerprintName, options.pop("fingerprint")),
            **options,
        )  # fmt: skip
    except ChemmaraError as error:
        raise SystemExit(f"chemmara: {error}") from None
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

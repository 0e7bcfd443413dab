"""Small runs, made without any model: the reporting room knows nothing of how runs are made."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from chemmara.chemistry.molecules import read
from chemmara.scoring.ledger import Ledger, RunRow

LABELS = ("qed", "molecular weight, Da")
# (sampled, score); None: blank. Two rings, an acyclic one, a repeat in another spelling, an invalid one, a failed one.
SAMPLES: list[tuple[str, float | None]] = [
    ("Cc1ccccc1", 0.75),
    ("c1ccccc1C", 0.75),
    ("CCCCCC", 0.9),
    ("c1cc", None),
    ("c1ccncc1", None),
    ("O=C(O)c1ccccc1", 0.8),
    ("C1CCNCC1", 0.1 + 0.2),
    ("", None),
]
FAILED = "c1ccncc1"


def make_row(step: int, index: int, sampled: str, score: float | None) -> RunRow:
    molecule, error = read(sampled)
    value = math.nan if score is None else score
    return RunRow(
        step=step,
        index=index,
        smiles=molecule.smiles if molecule else sampled,
        sampled=sampled,
        valid=molecule is not None,
        score=value,
        raw={LABELS[0]: value, LABELS[1]: -0.0} if molecule else {},
        transformed={LABELS[0]: value, LABELS[1]: 1e-17} if molecule else {},
        scaffold=molecule.scaffold if molecule else "",
        error="qed: timed out" if sampled == FAILED else error,
        agent_log_prob=-12.345678901234567 - index,
        prior_log_prob=-20.0,
    )


def fill(ledger: Ledger, run: str, samples: list[tuple[str, float | None]] | None = None, batch: int = 4) -> None:
    rows = SAMPLES if samples is None else samples
    for step, start in enumerate(range(0, len(rows), batch)):
        part = [make_row(step, i, *sample) for i, sample in enumerate(rows[start : start + batch])]
        ledger.write_step(run, step, part)


MakeRuns = Callable[..., Path]


@pytest.fixture
def make_runs(tmp_path: Path) -> MakeRuns:
    def make(*names: str, folder: str = "out", samples: list[tuple[str, float | None]] | None = None) -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        with Ledger(root / "ledger.sqlite") as ledger:
            for name in names:
                (root / name).mkdir(parents=True, exist_ok=True)
                method, seed = name.split("/seed-")
                manifest = {"method": method, "seed": int(seed), "labels": list(LABELS), "threshold": 0.7}
                (root / name / "manifest.json").write_text(json.dumps(manifest))
                (root / name / "config.toml").write_text(
                    'batch_size = 4\n[scoring]\nname = "<script>alert(1)</script>"\n'
                )
                fill(ledger, name, samples)
        return root

    return make

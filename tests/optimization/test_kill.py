"""kill -9 at random moments: the resumed run is the uninterrupted one, and nothing paid for is paid for again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

HERE = Path(__file__).parent
CHUNK, WORKERS = 2, 2


@pytest.fixture
def slow_config(config: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[[str], Path]:
    import tomli_w

    def write(name: str) -> Path:
        oracle = {
            "name": "python",
            "function": "slow_oracle:score",
            "path": str(HERE),
            "kwargs": {"log": str(tmp_path / f"{name}.log")},
        }
        table = config(
            oracle_budget=1000,
            objective={"name": "reinvent", "learning_rate": 2e-3},
            augmentation={"name": "mara", "anchor": "running"},
            diversity_filter={"name": "similarity", "bucket_size": 5, "penalty": "tanh"},
            screen={"draws": 2, "rule": [{"name": "windows", "windows": {"heavy_atoms": {"high": 40}}}]},
            replay={
                "updates": 2,
                "randomize": True,
                "batch_size": 8,
                "size": 40,
                "draw": "cluster",
                "with_batch": True,
                "join": 3,
                "purge": True,
            },
            genetic={"offspring": 2, "mutation_rate": 0.5, "population": 5},
            execution={
                "threads": 1,
                "device": "cpu",
                "executor": "processes",
                "workers": WORKERS,
                "chunk": CHUNK,
                "checkpoint_seconds": 0.3,
            },
            failure={"stop_above": 0.6},
            scoring={"component": [{"name": "qed"}, oracle]},
        )
        path = tmp_path / f"{name}.toml"
        path.write_text(tomli_w.dumps(table))
        return path

    return write


def start(config: Path, out: Path, resume: bool = False) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from chemmara.workflows.optimize import optimize; "
        "optimize(sys.argv[1], sys.argv[2], methods=['custom'], resume=sys.argv[3] == 'True', report=False)"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(config), str(out), str(resume)])


def committed(out: Path) -> set[str]:
    """The molecules whose oracle value is in the ledger, read as another process would."""
    import sqlite3

    if not (out / "ledger.sqlite").exists():
        return set()
    with sqlite3.connect(f"file:{out / 'ledger.sqlite'}?mode=ro", uri=True) as db:
        try:
            keys = db.execute("SELECT key, smiles FROM evaluations").fetchall()
        except sqlite3.OperationalError:
            return set()
    by_smiles: dict[str, set[str]] = {}
    for key, smiles in keys:
        by_smiles.setdefault(smiles, set()).add(key)
    return {smiles for smiles, found in by_smiles.items() if len(found) == 2}


def calls(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_kills_change_nothing(slow_config: Callable[[str], Path], tmp_path: Path) -> None:
    assert start(slow_config("whole"), tmp_path / "whole").wait() == 0
    config, out, log = slow_config("killed"), tmp_path / "killed", tmp_path / "killed.log"
    rng = random.Random(0)
    paid: set[str] = set()
    in_flight = kills = 0
    while kills < 10:
        before = calls(log)
        process = start(config, out, resume=True)
        # A moment inside the run: after its first call since the start, for as long as a few steps take.
        while len(calls(log)) == len(before) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.6)
        assert process.poll() is None, f"the run was over after {kills} kills: give it more to do"
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        _, alive = psutil.wait_procs(workers, timeout=15)
        assert not alive, "orphaned workers go on"
        assert workers, "the pool was not there"
        after = calls(log)
        new = after[len(before) :]
        assert not paid & set(new), "a committed evaluation was paid for again"
        paid = committed(out)
        in_flight += len(set(after) - paid)
        assert len(set(new) - paid) <= WORKERS * CHUNK
    assert start(config, out, resume=True).wait() == 0
    assert not paid & set(calls(log)[len(after) :])
    assert len(calls(log)) - len(set(calls(log))) <= kills * WORKERS * CHUNK
    run = Path("custom") / "seed-0"
    whole, killed = (tmp_path / name / run / "molecules.csv" for name in ("whole", "killed"))
    assert killed.read_bytes() == whole.read_bytes()
    assert len(whole.read_text().splitlines()) > 1000


@pytest.mark.slow
def test_interrupt_saves_and_resumes(slow_config: Callable[[str], Path], tmp_path: Path) -> None:
    config, log = slow_config("stopped"), tmp_path / "stopped.log"
    process = subprocess.Popen(
        [sys.executable, "-m", "chemmara", "optimize", str(config), "-o", str(tmp_path / "out"), "--method", "custom"],
        stderr=subprocess.PIPE,
    )
    while len(calls(log)) < 60 and process.poll() is None:
        time.sleep(0.02)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - asked < 20
    assert b"Traceback" not in errors
    assert b"--resume" in errors
    assert (tmp_path / "out" / "custom" / "seed-0" / "checkpoints" / "last.ckpt").exists()

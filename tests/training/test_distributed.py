"""Two processes that share every step are one training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from chemmara.policies.checkpoints import LAST, read_checkpoint
from chemmara.policies.storage import load_policy

from .test_fit import rows

SMALL = {
    "epochs": 2, "batch-size": 7, "embedding-size": 8, "hidden-size": 16, "layers": 1, "samples": 20,
    "precision": "float32", "learning-rate": 0.01, "checkpoint-seconds": 0,
}  # fmt: skip
OPTIONS = [part for name, value in SMALL.items() for part in (f"--{name}", value)]


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    line = [sys.executable, "-m", "chemmara", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=100, check=False, env=environment)


@pytest.mark.slow
def test_two_processes_are_one_training(molecules: Path, tmp_path: Path) -> None:
    """Batches of 7 do not go round: one process has a row of padding, and the loss must not see it."""
    for devices in (1, 2):
        done = command("train", molecules, "-o", tmp_path / str(devices), "--devices", devices, *OPTIONS)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("epoch 1: loss") == 1
        assert done.stdout.count("prior written") == 1
    one, two = (load_policy(tmp_path / str(devices)).state_dict() for devices in (1, 2))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=2e-3)  # float16 on disk, and rounding
    for first, second in zip(rows(tmp_path / "1"), rows(tmp_path / "2"), strict=True):
        assert first["step"] == second["step"]
        assert float(first["train_nll"]) == pytest.approx(float(second["train_nll"]), rel=1e-4)
        assert float(first["valid_nll"]) == pytest.approx(float(second["valid_nll"]), rel=1e-4)
    assert read_checkpoint(tmp_path / "2" / "checkpoints" / LAST)["global_step"] == int(
        rows(tmp_path / "1")[-1]["step"]
    )
    again = command("train", molecules, "-o", tmp_path / "2", "--devices", 2, "--resume", *OPTIONS)
    assert "is finished: nothing to do" in again.stdout

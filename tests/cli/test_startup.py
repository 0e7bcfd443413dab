"""The light commands stay light: none of them imports a heavy package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HEAVY = ("torch", "pandas", "pytorch_lightning", "scipy", "matplotlib")
SCRIPT = f"""
import sys
from chemmara.cli.main import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
loaded = [name for name in {HEAVY!r} if name in sys.modules]
assert not loaded, loaded
"""


def check(*arguments: object, heavy: tuple[str, ...] = HEAVY) -> str:
    command = [sys.executable, "-c", SCRIPT.replace(repr(HEAVY), repr(heavy)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["optimize", "--help"], ["components"], ["components", "mara"],
                  ["priors", "list"]], ids=" ".join
)  # fmt: skip
def test_no_heavy_import(arguments: list[str]) -> None:
    assert check(*arguments)


def test_components_reads_no_molecule() -> None:
    assert "tanimoto" in check("components", heavy=(*HEAVY, "numpy", "rdkit", "rich"))


def test_validate(config: Path) -> None:
    assert "is valid" in check("validate", config, heavy=(*HEAVY, "numpy", "rich"))


def test_export(finished: tuple[Path, Path, Any], tmp_path: Path) -> None:
    check("export", finished[1], "-o", tmp_path / "hits.csv", "--one-per-scaffold")
    assert (tmp_path / "hits.csv").is_file()


def test_score(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[[scoring.component]]\nname = "qed"\n')
    (tmp_path / "m.smi").write_text("CCO\n")
    check("score", tmp_path / "c.toml", tmp_path / "m.smi", "-o", tmp_path / "s.csv")


def test_the_test_can_fail() -> None:
    script = SCRIPT.replace("import sys\n", "import sys, pandas\n", 1)
    done = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=False)
    assert "pandas" in done.stderr

"""Every config that the project ships is valid, as it stands where its prior is bundled."""

from __future__ import annotations

import shutil
from pathlib import Path

import peptides
import pytest

from chemmara.policies.catalog import bundled

from .conftest import invoke

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


def test_there_are_configs() -> None:
    assert {"quickstart", "analogues", "cns", "decorate", "docking", "scaffold_hop"} <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_valid(path: Path, tiny_prior: Path, tmp_path: Path) -> None:
    if path.stem == "docking":  # the receptor is the user's to bring
        for package in ("vina", "meeko", "gemmi"):
            pytest.importorskip(package)
        peptides.write(tmp_path)
        path = Path(shutil.copy(path, tmp_path))
    there = "chembl" in [prior.name for prior in bundled()]
    result = invoke("validate", path, *(() if there else ("--set", f"prior={tiny_prior}")))
    assert result.exit_code == 0, result.stderr
    assert "is valid" in result.stdout

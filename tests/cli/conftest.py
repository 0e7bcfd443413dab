"""The command line in this process, a toy config, and one finished optimization to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from typer.testing import CliRunner

from chemmara.cli.main import app

Invoke = Callable[..., Any]


def invoke(*arguments: object) -> Any:
    """Run `chemmara ARGUMENTS`; the result has exit_code, stdout and stderr."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def toy(prior: Path | str, **changes: Any) -> dict[str, Any]:
    """A config that runs in a second."""
    table: dict[str, Any] = {
        "prior": str(prior),
        "oracle_budget": 40,
        "batch_size": 32,
        "threshold": 0.6,
        "scoring": {
            "component": [
                {"name": "qed"},
                {"name": "molecular_weight", "transform": {"name": "double_sigmoid", "low": 150, "high": 400}},
            ]
        },
    }
    return {key: value for key, value in (table | changes).items() if value is not None}


def write(path: Path, table: dict[str, Any]) -> Path:
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    return path


@pytest.fixture
def config(tmp_path: Path, tiny_prior: Path) -> Path:
    """A valid config in an otherwise empty directory."""
    return write(tmp_path / "toy.toml", toy(tiny_prior))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> tuple[Path, Path, Any]:
    """(config, output directory, result) of an optimization with two methods and two seeds."""
    folder = tmp_path_factory.mktemp("finished")
    methods = {"vanilla": {}, "mara": {"augmentation": {"name": "mara"}}}
    path = write(folder / "toy.toml", toy(tiny_prior, methods=methods))
    result = invoke("optimize", path, "-o", folder / "out", "--seeds", "0,3", "--set", "execution.threads=1")
    return path, folder / "out", result

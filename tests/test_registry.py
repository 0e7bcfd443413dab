"""Registries: a name, its parameters, and clear errors for anything else."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

import chemmara
from chemmara.config import NoParameters, Parameters
from chemmara.errors import ConfigError
from chemmara.registry import Registry


class Width(Parameters):
    """Width of it."""

    width: float = Field(1.0, gt=0, description="in angstrom")


@pytest.fixture
def registry() -> Registry[object]:
    made: Registry[object] = Registry("shape", ())

    @made.register("square", Width)
    def square() -> None:
        """Four corners.

        More.
        """

    made.register("circle")(lambda: None)
    return made


def test_entries(registry: Registry[object]) -> None:
    assert registry.names() == ["circle", "square"]
    assert [entry.name for entry in registry] == ["circle", "square"]
    assert "square" in registry
    assert "sphere" not in registry
    assert registry["square"].summary == "Four corners."
    assert registry["circle"].parameters is NoParameters
    assert registry["circle"].summary == "Takes no parameters."


def test_a_name_is_taken_once(registry: Registry[object]) -> None:
    with pytest.raises(ValueError, match="shape 'square' is registered twice"):
        registry.register("square")(lambda: None)


@pytest.mark.parametrize("name", ["squar", None, ["square"]])
def test_unknown_names(registry: Registry[object], name: object) -> None:
    with pytest.raises(ConfigError, match="unknown shape"):
        registry[name]  # type: ignore[index]
    with pytest.raises(ConfigError, match="did you mean 'square'"):
        registry["squar"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "here: name is missing; valid: circle, square"),
        ({"name": 3}, "here: name is missing; valid: circle, square"),
        ({"name": "sqare"}, "here.name: unknown shape 'sqare'; did you mean 'square'?"),
        ({"name": "square", "widht": 1}, "here.widht: unknown key; did you mean 'width'?"),
        ({"name": "square", "width": 0}, "here.width: should be greater than 0 (got 0)"),
        ({"name": "circle", "width": 1}, "here.width: unknown key"),
    ],
)
def test_build_parameters_says_what_is_wrong_where(
    registry: Registry[object], table: dict[str, object], message: str
) -> None:
    before = dict(table)
    with pytest.raises(ConfigError) as caught:
        registry.build_parameters(table, "here")
    assert str(caught.value) == message
    assert table == before


def test_build_parameters(registry: Registry[object]) -> None:
    entry, parameters = registry.build_parameters({"name": "square", "width": 2}, "here")
    assert entry.name == "square"
    assert parameters == Width(width=2.0)


def test_modules_are_imported_on_the_first_look_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "shapes_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from chemmara.registry import Registry\nSHAPES = Registry('shape', ('shapes_of_a_test',))\n"
    )
    (package / "round.py").write_text("from shapes_of_a_test import SHAPES\nSHAPES.register('round')(print)\n")
    monkeypatch.syspath_prepend(tmp_path)
    from shapes_of_a_test import SHAPES  # type: ignore[import-not-found]

    assert "shapes_of_a_test.round" not in sys.modules
    assert SHAPES.names() == ["round"]


def test_a_module_that_cannot_be_imported_is_not_forgotten() -> None:
    broken: Registry[object] = Registry("shape", ("no_such_module_of_chemmara",))
    for _ in range(2):  # the second look-up must not call the name unknown
        with pytest.raises(ModuleNotFoundError):
            broken["square"]


PACKAGE = Path(chemmara.__file__).parent
REGISTRY = re.compile(r"^([A-Z_]+): Registry\[.*\] = Registry\(", re.MULTILINE)
REGISTRATION = re.compile(r"^@?([A-Z_]+)\.register\(", re.MULTILINE)


def found(pattern: re.Pattern[str], root: Path = PACKAGE) -> list[tuple[str, str]]:
    """(what the pattern has found, the module that it stands in), once for each module."""
    pairs = set()
    for file in root.rglob("*.py"):
        module = ".".join((root.name, *file.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
        pairs |= {(match[1], module) for match in pattern.finditer(file.read_text(encoding="utf-8"))}
    return sorted(pairs)


def unlisted(registrations: list[tuple[str, str]], homes: dict[str, str]) -> list[str]:
    """What to do about modules that register something and that no look-up imports."""
    registries: dict[str, Registry[Any]] = {
        name: getattr(importlib.import_module(home), name) for name, home in homes.items()
    }
    return [
        f"add '{module}' to the modules of {name} in {homes[name].replace('.', '/')}.py: no look-up imports it"
        for name, module in registrations
        if not registries[name].covers(module)
    ]


def test_every_registration_is_found_by_a_look_up() -> None:
    """A module's own tests import it, and so would pass without."""
    registrations, homes = found(REGISTRATION), dict(found(REGISTRY))
    assert {name for name, _ in registrations} | {"SUITES"} == homes.keys()  # suites are registered by a function
    assert ("COMPONENTS", "chemmara.scoring.components.vina") in registrations
    assert unlisted(registrations, homes) == []


def test_a_registration_that_is_not_listed_is_found(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine.py").write_text("@AUGMENTATIONS.register('mine')\nclass Mine: ...\n")
    registrations = found(REGISTRATION, tmp_path)
    assert [(name, module.removeprefix(f"{tmp_path.name}.")) for name, module in registrations] == [
        ("AUGMENTATIONS", "new.mine")
    ]
    (message,) = unlisted([("AUGMENTATIONS", "chemmara.klrl.mine")], dict(found(REGISTRY)))
    assert message.startswith(
        "add 'chemmara.klrl.mine' to the modules of AUGMENTATIONS in chemmara/klrl/augmentation_base.py"
    )

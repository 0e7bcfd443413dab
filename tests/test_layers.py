"""The rooms of the house: imports point down only, never sideways between packages of one level (docs: DESIGN)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import chemmara

ROOT = Path(chemmara.__file__).parent
LEVELS = [
    {"errors", "config", "registry", "interrupts", "lazy", "places", "processes", "wording"},
    {"klrl"},
    {"chemistry"},
    {"language", "scoring", "metrics"},
    {"policies", "reporting"},
    {"training", "optimization"},
    {"workflows", "studies"},
    {"cli"},
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
# The foundation modules may use one another, and the root package is the public API: it imports lazily from anywhere.
FOUNDATION = LEVELS[0]


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "chemmara" else set()
    return {name for name in found if name.split(".")[0] == "chemmara"}


def forbidden(importer: str, module: str) -> bool:
    target = room(module)
    if target == importer or target not in LEVEL:
        return False
    if importer in FOUNDATION and target in FOUNDATION:
        return False
    return LEVEL[target] >= LEVEL[importer]


MODULES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT or p.stem in FOUNDATION)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    relative = path.relative_to(ROOT)
    importer = relative.parts[0].removesuffix(".py")
    assert importer in LEVEL, f"{importer} has no level: add it to LEVELS and to the design"
    wrong = {module for module in imported_modules(path) if forbidden(importer, module)}
    assert not wrong, f"{relative} imports sideways or up: {sorted(wrong)}"


def test_rule_catches_a_wrong_import() -> None:
    assert forbidden("chemistry", "chemmara.scoring.ledger")
    assert forbidden("language", "chemmara.scoring")
    assert not forbidden("cli", "chemmara.workflows.optimize")


def test_only_chemistry_parses_molecules() -> None:
    """chemistry/ is the only door to RDKit's parsing."""
    for path in MODULES:
        if path.relative_to(ROOT).parts[0] == "chemistry":
            continue
        assert "MolFromSmiles" not in path.read_text(), path

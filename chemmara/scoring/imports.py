"""The modules of a user's own that another one of them imports: its values depend on what is in them as well."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path


def imported(module: Path, folders: Sequence[Path]) -> dict[str, Path]:
    """The modules in ``folders`` that the file ``module`` imports, and those that these import, by name, sorted.

    Read from the text, wherever in it the import stands; nothing is run. Installed packages are left out: their
    versions are the environment's.
    """
    found: dict[str, Path] = {}
    left = [("", module)]
    while left:
        for name in _names(*left.pop()):
            file = _file_of(name, folders)
            if file is not None and name not in found and file.resolve() != module.resolve():
                found[name] = file
                left.append((name, file))
    return dict(sorted(found.items()))


def _names(module: str, file: Path) -> Iterator[str]:
    """The dotted names that a file imports, with the packages that they lie in."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *(node.module.split(".") if node.module else [])]
            names = [".".join([*base, alias.name]) for alias in node.names]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _file_of(name: str, folders: Sequence[Path]) -> Path | None:
    place = Path(*name.split("."))
    if place.parts[0] == "chemmara":
        return None
    candidates = (folder / each for folder in folders for each in (place.with_suffix(".py"), place / "__init__.py"))
    return next((file for file in candidates if file.is_file()), None)

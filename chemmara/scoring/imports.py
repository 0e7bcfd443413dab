"""The modules of a user's own that another one of them imports: its values depend on what is in them as well."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_INSTALLED = {"site-packages", "dist-packages"}


def imported(name: str, file: Path, first: Path | None) -> dict[str, Path]:
    """The modules of a user's own that the module ``name`` in ``file`` imports, those that these import, and the
    packages that they lie in, by name, sorted.

    They are looked for in ``first`` and where the module itself is found, never in the working directory: what belongs
    to a module does not depend on from where it is used. Read from the text, wherever in it the import stands; nothing
    is run. Installed packages are left out: their versions are the environment's.
    """
    parts = name.split(".")
    if parts[0] in sys.stdlib_module_names or _INSTALLED & set(file.parts):
        return {}
    root = file.parents[len(parts) - 1 + (file.name == "__init__.py")]
    folders = [root] if first is None else [first, root]
    found: dict[str, Path] = {}
    left = [(name, file)]
    while left:
        module, text = left.pop()
        for each in (*_packages(module), *_names(module, text)):
            beside = _file_of(each, folders)
            if beside is not None and each not in found and beside.resolve() != file.resolve():
                found[each] = beside
                left.append((each, beside))
    return dict(sorted(found.items()))


def _packages(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


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
            yield from (*_packages(name), name)


def _file_of(name: str, folders: Sequence[Path]) -> Path | None:
    parts = name.split(".")
    if parts[0] in ("", "chemmara") or parts[0] in sys.stdlib_module_names:
        return None
    place = Path(*parts)
    candidates = (folder / each for folder in folders for each in (place.with_suffix(".py"), place / "__init__.py"))
    return next((file for file in candidates if file.is_file()), None)

"""What a user's module imports from beside it, read from its text."""

from __future__ import annotations

import statistics
from pathlib import Path

from chemmara.scoring.imports import imported


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "mine.py"


def test_modules_beside_it_and_what_they_import(tmp_path: Path) -> None:
    mine = write(
        tmp_path,
        mine="import os, helper\nfrom pkg.deep import thing\nfrom . import nothing\nimport chemmara.errors\n",
        helper="def late():\n    import other\n    import mine\n",
        other="import numpy\nfrom helper import late\n",
        unused="",
        pkg__in____init__="",
        pkg__in__deep="from . import sibling\nfrom .cousin import x\nfrom .. import unused\n",
        pkg__in__sibling="",
        pkg__in__cousin="this is no Python",
    )
    assert list(imported("mine", mine, None)) == [
        "helper",
        "other",
        "pkg",
        "pkg.cousin",
        "pkg.deep",
        "pkg.sibling",
        "unused",
    ]


def test_the_first_folder_wins_and_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    mine = write(tmp_path / "b", mine="import helper\nimport gone\nimport beside\n", helper="", beside="")
    write(tmp_path / "a", helper="")
    found = imported("mine", mine, tmp_path / "a")
    assert found == {"beside": tmp_path / "b" / "beside.py", "helper": tmp_path / "a" / "helper.py"}


def test_a_module_depends_on_the_package_that_it_lies_in(tmp_path: Path) -> None:
    write(tmp_path, pkg__in____init__="", pkg__in__alone="")
    assert list(imported("pkg.alone", tmp_path / "pkg" / "alone.py", None)) == ["pkg"]


def test_what_is_installed_is_the_environments(tmp_path: Path) -> None:
    mine = write(tmp_path / "site-packages", mine="import helper\n", helper="")
    assert imported("mine", mine, tmp_path / "site-packages") == {}
    assert imported("statistics", Path(statistics.__file__), None) == {}
    shadow = write(tmp_path, mine="import random, math\n", random="")
    assert imported("mine", shadow, None) == {}

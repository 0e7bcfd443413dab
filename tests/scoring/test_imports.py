"""What a user's module imports from beside it, read from its text."""

from __future__ import annotations

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
    assert list(imported(mine, [tmp_path])) == [
        "helper",
        "other",
        "pkg",
        "pkg.cousin",
        "pkg.deep",
        "pkg.sibling",
        "unused",
    ]


def test_the_first_folder_wins_and_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    mine = write(tmp_path / "a", mine="import helper\nimport gone\n", helper="")
    write(tmp_path / "b", helper="", gone="")
    found = imported(mine, [tmp_path / "a", tmp_path / "b"])
    assert found == {"gone": tmp_path / "b" / "gone.py", "helper": tmp_path / "a" / "helper.py"}
    assert imported(mine, []) == {}

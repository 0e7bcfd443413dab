"""Files that are put in place whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chemmara.errors import RunError, UserError
from chemmara.places import replacing, replacing_text, write_whole


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("shared", [False, True])
def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path, shared: bool) -> None:
    path = tmp_path / "weights"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path, shared=shared) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["weights"]


@pytest.mark.parametrize("shared", [False, True])
def test_a_block_that_ends_well_takes_its_place_and_not_before(tmp_path: Path, shared: bool) -> None:
    path = tmp_path / "weights"
    path.write_text("old")
    with replacing(path, shared=shared) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["weights"]


def test_what_a_killed_writer_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".weights.partial").write_text("of one that was killed, and longer")
    with replacing(tmp_path / "weights") as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == ["weights"]
    assert (tmp_path / "weights").read_text() == "new"


def test_two_that_write_one_file_at_once_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hits.csv"
    with replacing(path, shared=True) as mine:
        monkeypatch.setattr(os, "getpid", lambda: 7)
        with replacing(path, shared=True) as other:
            assert mine != other
            other.write_text("other")
        mine.write_text("mine")
    assert path.read_text() == "mine"


def test_it_is_on_the_disk_before_it_takes_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename that reaches the disk before the content would leave an empty file after a power cut."""
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append("sync") or sync(descriptor))
    monkeypatch.setattr(os, "replace", lambda a, b: done.append("replace") or replace(a, b))
    write_whole(tmp_path / "manifest.json", "{}")
    assert done[:2] == ["sync", "replace"]
    assert done[2:] == (["sync"] if os.name == "posix" else [])


def test_a_users_mistake_and_a_full_disk_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, words in ((tmp_path, "is a directory"), (tmp_path / "none" / "a.csv", "No such file")):
        with pytest.raises(UserError, match=words), replacing_text(path) as stream:
            stream.write("a")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RunError, match="No space left"), replacing_text(tmp_path / "a.csv") as stream:
        stream.write("a")
    with pytest.raises(RunError, match="No space left"):
        write_whole(tmp_path / "a.csv", "a")
    assert names(tmp_path) == []


def test_lone_surrogates_of_a_file_name_are_written_as_they_came(tmp_path: Path) -> None:
    with replacing_text(tmp_path / "a.csv") as stream:
        stream.write("caf\udce9\r\n")
    assert (tmp_path / "a.csv").read_bytes() == b"caf\xed\xb3\xa9\r\n"

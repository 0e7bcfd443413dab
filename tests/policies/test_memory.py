"""The allocator's setting: taken where there is glibc, harmless elsewhere."""

from __future__ import annotations

import platform
import sys

from chemmara.policies import memory


def test_setting_is_taken_on_glibc_and_only_there() -> None:
    glibc = sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc"
    assert memory.keep_freed_memory() is glibc
    memory.give_back_memory()


def test_without_glibc_nothing_happens(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    assert memory.keep_freed_memory.__wrapped__() is False
    memory.give_back_memory()

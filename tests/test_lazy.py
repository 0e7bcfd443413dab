"""Modules that are imported at their first use."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest

from chemmara.lazy import lazy


def test_nothing_is_imported_before_the_first_use() -> None:
    script = (
        "import sys; from chemmara.lazy import lazy; made = lazy('wave')\n"
        "assert 'wave' not in sys.modules\n"
        "import wave; assert made.open is wave.open"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_not_there_is_said_at_use() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        _ = lazy("no_such_module").anything
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = lazy("math").no_such_name


def test_an_attribute_is_looked_up_once() -> None:
    math = lazy("math")
    assert "pi" not in vars(math)
    assert math.pi == 3.141592653589793
    assert vars(math)["pi"] == math.pi


def test_can_be_copied_and_pickled() -> None:
    assert pickle.loads(pickle.dumps(lazy("math"))).pi == copy.copy(lazy("math")).pi

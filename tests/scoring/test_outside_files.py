"""A file in a program's command that changes while the run goes on."""

from __future__ import annotations

import sys
from pathlib import Path

from chemmara.scoring.executors import ProcessExecutor
from chemmara.scoring.function import ScoringFunction

ORACLE = Path(__file__).with_name("example_oracle.py")


def test_a_program_may_write_a_file_of_its_command(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("start\n")
    clip = {"name": "clip", "low": 0, "high": 10}
    command = [sys.executable, str(ORACLE), "exit", str(log)]
    scoring = {"component": [{"name": "executable", "endpoint": "length", "command": command, "transform": clip}]}
    with ProcessExecutor(1) as executor:
        function = ScoringFunction(scoring, executor)
        log.write_text("start\nand more\n")
        assert function(["CCO"]).raw["executable"].tolist() == [3.0]

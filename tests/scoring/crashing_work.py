"""Stands in for chemmara.scoring.work in the tests of the executors: molecules that misbehave in every way."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from chemmara.errors import ConfigError
from chemmara.scoring.evaluation import ComponentSpec, Evaluation

_loaded: list[str] = []


def prepare(spec: ComponentSpec) -> None:
    if spec.name == "broken":
        raise ConfigError("receptor 'gone.pdbqt' does not exist")
    if spec.name not in _loaded:
        time.sleep(spec.parameters.get("load", 0.0))
        _loaded.append(spec.name)


def evaluate(spec: ComponentSpec, smiles: Sequence[str]) -> list[Evaluation]:
    prepare(spec)
    log = spec.parameters.get("log")
    return [_one(text, log) for text in smiles]


def _one(text: str, log: str | None) -> Evaluation:
    if log:
        with Path(log).open("a") as stream:
            stream.write(f"{os.getpid()} {text}\n")
    if text == "segfault":
        ctypes.string_at(0)
    elif text == "exit":
        os._exit(7)
    elif text == "sys.exit":
        sys.exit("enough")
    elif text == "kill parent":
        os.kill(os.getppid(), 9)
        time.sleep(1000)
    elif text == "raise":
        raise RuntimeError("no such conformer\nat all")
    elif text == "hang":
        time.sleep(1000)
    elif text == "hang with a child":
        subprocess.run(["sleep", "1000"], check=False)
    elif text == "print":
        print("noise", flush=True)
        os.system("echo noise")
    elif text == "fails":
        return Evaluation(math.nan, "no pose")
    elif text == "torch":
        return Evaluation(float("torch" in sys.modules or "pandas" in sys.modules))
    elif text == "pid":
        return Evaluation(float(os.getpid()))
    elif text.startswith("sleep "):
        time.sleep(float(text[6:]))
    elif text.startswith("crash once "):
        marker = Path(text[11:])
        if not marker.exists():
            marker.touch()
            os._exit(9)
    return Evaluation(float(len(text)))

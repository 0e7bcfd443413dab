"""chemmara doctor: whether this installation can do its work."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import typer

State = Literal["ok", "note", "broken"]
NEEDED = ("torch", "rdkit", "pytorch_lightning", "numpy", "pandas", "scipy", "pydantic", "safetensors", "selfies")


class Finding(NamedTuple):
    """One line: what was looked at, what was found, and what to do about it."""

    subject: str
    state: State
    found: str
    hint: str = ""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(doctor)


def doctor() -> None:
    """Look at versions, processor, GPU, priors and disk; exit code 1 if something is broken."""
    from rich.markup import escape
    from rich.table import Table

    from chemmara.cli.console import console

    findings = list(look())
    table = Table("what", "", "found", "hint")
    colours = {"ok": "green", "note": "yellow", "broken": "red"}
    for finding in findings:
        state = f"[{colours[finding.state]}]{finding.state}[/]"
        table.add_row(finding.subject, state, escape(finding.found), escape(finding.hint))
    console().print(table)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def look() -> Iterator[Finding]:
    """All findings, in order. A check that fails is a finding, never an exception."""
    yield _python()
    for name in NEEDED:
        yield _package(name)
    for check in (_threads, _bfloat16, _gpu, _drawing, _tensorboard):
        yield _guarded(check)
    yield from _priors()
    yield _disk()


def _guarded(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:
        return Finding(check.__name__.strip("_"), "broken", f"{type(error).__name__}: {str(error)[:200]}")


def _python() -> Finding:
    good = sys.version_info >= (3, 11)
    hint = "" if good else "chemmara needs Python 3.11 or newer"
    return Finding("python", "ok" if good else "broken", f"{platform.python_version()} on {platform.platform()}", hint)


def _package(name: str) -> Finding:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a broken installation raises anything
        hint = f"pip install --force-reinstall {name.replace('_', '-')}"
        return Finding(name, "broken", f"cannot be imported: {str(error)[:200]}", hint)
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # a package that no installer has put there
        version = str(getattr(module, "__version__", "unknown version"))
    return Finding(name, "ok", version)


def _threads() -> Finding:
    import torch

    threads = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = f"{threads} threads of torch on {cores} available cores"
    if threads < cores:
        limit = os.environ.get("OMP_NUM_THREADS")
        hint = f"OMP_NUM_THREADS is set to {limit}" if limit else "torch takes physical cores; see execution.threads"
        return Finding("processor", "note", found, hint)
    return Finding("processor", "ok", found)


def _bfloat16() -> Finding:
    import torch

    from chemmara.policies.precision import gains_from_bfloat16

    if gains_from_bfloat16(torch.device("cpu")):
        return Finding("bfloat16", "ok", "the processor multiplies bfloat16 matrices: precision = 'auto' uses it")
    return Finding("bfloat16", "ok", "the processor gains nothing from bfloat16: precision = 'auto' means float32")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        torch.zeros(1, device="cuda")
        return Finding("gpu", "ok", ", ".join(names))
    if torch.version.cuda is None:
        return Finding("gpu", "ok", "none used: this is a CPU build of torch")
    return Finding("gpu", "note", "none found", "with an NVIDIA GPU: is its driver new enough for torch's CUDA?")


def _drawing() -> Finding:
    try:
        importlib.import_module("rdkit.Chem.Draw.rdMolDraw2D")
    except ImportError as error:
        hint = "reports come without drawings; on Debian or Ubuntu: apt install libxrender1 libxext6 libexpat1"
        return Finding("drawing", "note", str(error)[:200], hint)
    return Finding("drawing", "ok", "reports have drawings of molecules")


def _tensorboard() -> Finding:
    if importlib.util.find_spec("tensorboard") is None:
        return Finding("tensorboard", "note", "not installed", "pip install tensorboard, to follow runs in a browser")
    return Finding("tensorboard", "ok", "installed: runs write event files")


def _priors() -> Iterator[Finding]:
    from chemmara.errors import ChemmaraError
    from chemmara.policies.catalog import bundled

    found = bundled()
    if not found:
        yield Finding("priors", "note", "none bundled", "name a prior by its path; `chemmara train` makes one")
    for prior in found:
        subject = f"prior {prior.name}"
        try:
            from chemmara.policies.storage import load_policy

            load_policy(prior)
        except (ChemmaraError, ImportError) as error:
            yield Finding(subject, "broken", str(error), "install chemmara again")
        else:
            yield Finding(subject, "ok", f"{prior.parameter_count():,} parameters, {len(prior.vocabulary())} tokens")


def _disk() -> Finding:
    here = os.getcwd()
    try:
        with tempfile.TemporaryFile(dir=here) as stream:
            stream.write(b"chemmara")
    except OSError as error:
        hint = "go to a directory of your own, or name one with -o"
        return Finding("directory", "broken", f"'{here}' is not writable: {error.strerror}", hint)
    from chemmara.scoring.database import NETWORK_FILE_SYSTEMS, file_system_type

    kind = file_system_type(Path(here))
    if kind.removeprefix("fuse.") in NETWORK_FILE_SYSTEMS:
        return Finding("directory", "note", f"'{here}' is a network file system ({kind})", "a local disk is faster")
    return Finding("directory", "ok", f"'{here}' is writable")

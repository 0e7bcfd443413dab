"""Finding priors by name, directory or file, and reading what a weights file says of itself, without torch."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from chemmara.errors import UserError, nearest
from chemmara.language.vocabulary import Vocabulary

FORMAT = "chemmara-policy-1"
ASSETS = Path(__file__).resolve().parent.parent / "assets" / "priors"
WEIGHTS = "policy.safetensors"
CARD = "MODEL_CARD.md"
MAX_HEADER = 100_000_000
_FOREIGN = "'{}' is no weights file of chemmara"


@dataclass(frozen=True)
class Prior:
    """A weights file and the name under which the user knows it."""

    name: str
    path: Path

    def header(self) -> dict[str, Any]:
        """Architecture, parameters, tokenizer, tokens and history. Raises :class:`UserError` on a foreign file."""
        return _read_header(self.path)

    def vocabulary(self) -> Vocabulary:
        """The tokens that it can write. Raises :class:`UserError` on a damaged header."""
        header = self.header()
        try:
            return Vocabulary(header["tokens"], header["tokenizer"])
        except (KeyError, TypeError, UserError) as error:
            raise UserError(f"weights file '{self.path}' has a damaged header: {error}") from None

    def parameter_count(self) -> int:
        """Numbers in the weights."""
        table = _read_table(self.path)
        return sum(math.prod(entry["shape"]) for name, entry in table.items() if name != "__metadata__")

    def card(self) -> str:
        """The model card beside the weights, or nothing."""
        card = self.path.parent / CARD
        return card.read_text(encoding="utf-8") if card.is_file() else ""

    def sha256(self) -> str:
        """Hash of the weights file, for manifests."""
        return _sha256(self.path, self.path.stat().st_mtime_ns)


@cache
def _sha256(path: Path, _changed: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def bundled() -> list[Prior]:
    """The priors that came with chemmara."""
    return [Prior(p.parent.name, p) for p in sorted(ASSETS.glob(f"*/{WEIGHTS}"))]


def find_prior(where: str | Path) -> Prior:
    """The prior meant by a bundled name, a directory (``policy.safetensors``, ``agent/``) or a weights file.

    Raises :class:`UserError` if there is none, with the nearest bundled name.
    """
    by_name = {prior.name: prior for prior in bundled()}
    if str(where) in by_name:
        return by_name[str(where)]
    path = Path(where).expanduser()
    if path.is_dir():
        for candidate in (path / WEIGHTS, path / "agent" / WEIGHTS):
            if candidate.is_file():
                return Prior(path.name, candidate)
        near = [each for depth in ("*", "*/*") for each in path.glob(f"{depth}/agent/{WEIGHTS}")]
        agents = sorted(each.parent.parent for each in near)
        hint = f"; it holds runs with agents: '{agents[0]}'{_more(len(agents) - 1)}" if agents else ""
        raise UserError(f"directory '{path}' holds no prior (no {WEIGHTS}){hint}")
    if path.is_file():
        if path.suffix.lower() == ".prior" and zipfile.is_zipfile(path):
            raise UserError(
                f"{_FOREIGN.format(path)}, but may be a prior of REINVENT; chemmara priors import {path} -o DIR makes "
                "one of chemmara"
            )
        return Prior(path.stem, path)
    hint = nearest(str(where), by_name)
    raise UserError(f"unknown prior '{where}': neither a bundled prior nor a file or directory{hint}")


def _more(number: int) -> str:
    return f" and {number} more" if number else ""


def _read_header(path: Path) -> dict[str, Any]:
    try:
        header = json.loads(_read_table(path)["__metadata__"]["chemmara"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{_FOREIGN.format(path)} (its header is missing or damaged)") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(
            f"{_FOREIGN.format(path)} (format '{header.get('format') if isinstance(header, dict) else '?'}')"
        )
    return header


def _read_table(path: Path) -> dict[str, Any]:
    """The table at the head of a safetensors file: shapes, places and metadata; the file must be as long as it says."""
    try:
        with open(path, "rb") as stream:
            size, whole = int.from_bytes(stream.read(8), "little"), path.stat().st_size
            if not 2 <= size <= min(MAX_HEADER, whole):
                raise UserError(f"{_FOREIGN.format(path)} (not a safetensors file, or damaged)")
            table = json.loads(stream.read(size).decode("utf-8"))
        end = max(_end(entry) for name, entry in table.items() if name != "__metadata__")
    except OSError as error:
        raise UserError(f"weights file '{path}' cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        raise UserError(f"{_FOREIGN.format(path)} (not a safetensors file, or its header is damaged)") from None
    if whole != 8 + size + end:
        raise UserError(f"weights file '{path}' is damaged: {whole:,} bytes instead of {8 + size + end:,}")
    return dict(table)


def _end(entry: dict[str, Any]) -> int:
    """Where a tensor ends. Raises TypeError unless place and shape are whole numbers."""
    if not all(type(number) is int and number >= 0 for number in [*entry["data_offsets"], *entry["shape"]]):
        raise TypeError("place and shape are whole numbers")
    return int(entry["data_offsets"][1])

"""Finding priors by name, directory or file, and reading what a weights file says of itself, without torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from chemmara.errors import UserError, nearest

FORMAT = "chemmara-policy-1"
ASSETS = Path(__file__).resolve().parent.parent / "assets" / "priors"
WEIGHTS = "policy.safetensors"
CARD = "MODEL_CARD.md"
MAX_HEADER = 100_000_000


@dataclass(frozen=True)
class Prior:
    """A weights file and the name under which the user knows it."""

    name: str
    path: Path

    def header(self) -> dict[str, Any]:
        """Architecture, parameters, tokenizer, tokens and history. Raises :class:`UserError` on a foreign file."""
        return _read_header(self.path)

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
        raise UserError(f"directory '{path}' holds no prior (no {WEIGHTS})")
    if path.is_file():
        return Prior(path.stem, path)
    raise UserError(f"unknown prior '{where}': neither a bundled prior nor a file or directory{nearest(str(where), by_name)}")


def _read_header(path: Path) -> dict[str, Any]:
    foreign = f"'{path}' is no weights file of chemmara"
    try:
        with open(path, "rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if not 2 <= size <= min(MAX_HEADER, path.stat().st_size):
                raise UserError(f"{foreign} (not a safetensors file, or damaged)")
            table = json.loads(stream.read(size).decode("utf-8"))
        header = json.loads(table["__metadata__"]["chemmara"])
    except OSError as error:
        raise UserError(f"weights file '{path}' cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{foreign} (not a safetensors file, or its header is missing or damaged)") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(f"{foreign} (format '{header.get('format') if isinstance(header, dict) else '?'}')")
    return header

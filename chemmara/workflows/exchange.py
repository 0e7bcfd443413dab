"""What `chemmara priors import` and `export` do: priors of other programs to and from chemmara's own format."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import chemmara
from chemmara.errors import UserError, nearest
from chemmara.places import check_directory, write_whole
from chemmara.policies.catalog import CARD, WEIGHTS, bundled, find_prior

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMATS = ("reinvent4",)


@dataclass(frozen=True)
class Imported:
    """A prior that came in: where it lies, and what it is."""

    path: Path
    architecture: str
    tokens: int
    max_sequence_length: int
    agreement: Agreement | None = None


def import_prior(file: str | Path, out: str | Path, check: str | Path | None = None) -> Imported:
    """Convert a REINVENT 4 ``.prior`` into a prior's directory ``out``; no code of the file runs.

    ``check``: a table for :func:`compare_log_probs`, read and compared before anything is written. Raises
    :class:`UserError` with what was refused or is wrong, and for a directory that holds a prior already.
    """
    out = Path(out)
    check_directory(out)
    if (out / WEIGHTS).exists():
        raise UserError(f"'{out}' holds a prior already; choose another directory")
    if str(out) in [prior.name for prior in bundled()]:
        raise UserError(f"'{out}' is the name of a bundled prior; choose another directory")
    if check is not None:
        read_log_probs(check)  # a mistake there is said first
    from chemmara.policies.reinvent import read_reinvent, to_policy
    from chemmara.policies.storage import save_policy

    prior = read_reinvent(file)
    policy = to_policy(prior)
    agreement = _agreement(policy, check) if check is not None else None
    history = {
        "imported_from": "REINVENT 4", "file": Path(file).name, "max_sequence_length": prior.max_sequence_length,
        "metadata": prior.metadata,
    }  # fmt: skip
    save_policy(policy, out / WEIGHTS, history=history)
    write_whole(out / CARD, _card(policy, history))
    return Imported(out / WEIGHTS, policy.architecture, len(policy.vocabulary), prior.max_sequence_length, agreement)


def _card(policy: Any, history: dict[str, Any]) -> str:
    size = sum(p.numel() for p in policy.parameters()) / 1e6
    metadata = history["metadata"]
    comments = "; ".join(metadata.get("comments", [])) or "none"
    return f"""# Model card

A {policy.architecture} language model of SMILES with {size:.2f} million parameters and {len(policy.vocabulary)}
tokens, written by REINVENT 4 and imported by chemmara {chemmara.__version__}.

- File: {history["file"]}
- Data, as REINVENT's metadata has it: {metadata.get("origina_data_source", "unknown")}
- Comments there: {comments}
- Longest sequence there: {history["max_sequence_length"]} tokens, start and end included.
"""


def export_prior(prior: str | Path, out: str | Path, format: str = "reinvent4") -> Path:
    """Write a prior or agent as a REINVENT 4 ``.prior``. Raises :class:`UserError` for one that has no such form."""
    if format not in FORMATS:
        raise UserError(f"unknown format '{format}'{nearest(format, FORMATS)}")
    out = Path(out)
    if out.is_dir():
        raise UserError(f"cannot write '{out}': it is a directory")
    check_directory(out.parent)
    found = find_prior(prior)
    history = found.header().get("history", {})
    from chemmara.policies.reinvent import from_policy
    from chemmara.policies.reinvent_file import write_reinvent
    from chemmara.policies.storage import load_policy

    comment = f"exported by chemmara {chemmara.__version__} from {found.name}"
    longest = history.get("max_sequence_length", 256)
    converted = from_policy(load_policy(found), longest if type(longest) is int else 256, comment)
    source = ", ".join(map(str, history.get("files", []))) or "unknown"
    return write_reinvent(converted, out, created=time.time(), source=source)


@dataclass(frozen=True)
class Agreement:
    """Largest differences in nats between a table of REINVENT's log-probabilities and an imported prior's."""

    molecules: int
    plain: float
    padded: float


def compare_log_probs(prior: str | Path, table: str | Path) -> Agreement:
    """How far a prior's log-probabilities are from those in a CSV with the columns SMILES and log_prob.

    REINVENT pads a batch with end tokens and counts them too, so what it reports for a molecule depends on the longest
    molecule beside it. ``plain`` compares the log-probability of each sequence up to its end token, ``padded`` what
    REINVENT would report for the whole table as one batch. Raises :class:`UserError`.
    """
    from chemmara.policies.storage import load_policy

    return _agreement(load_policy(prior), table)


def _agreement(policy: Any, table: str | Path) -> Agreement:
    import torch

    from chemmara.language.tokenizers import UnreadableText
    from chemmara.language.vocabulary import END, PAD

    texts, expected = read_log_probs(table)
    policy.precision = "float32"
    try:
        ids = torch.from_numpy(policy.vocabulary.encode_batch(texts))
    except UnreadableText as error:
        raise UserError(f"table '{table}' has a molecule that the prior cannot write: {error}") from None
    with torch.no_grad():
        plain = policy.log_prob(ids).numpy()
        padded = policy.log_prob(ids.masked_fill(ids == PAD, END)).numpy()
    return Agreement(len(texts), *(float(np.abs(values - expected).max()) for values in (plain, padded)))


def read_log_probs(path: str | Path) -> tuple[list[str], NDArray[np.float64]]:
    """SMILES and log-probabilities (nats) of a CSV with the columns SMILES and log_prob. Raises :class:`UserError`."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
        values = np.array([float(row["log_prob"]) for row in rows])
        if not np.isfinite(values).all():
            raise ValueError("nan")
        texts = [row["SMILES"] for row in rows]
    except FileNotFoundError:
        raise UserError(f"file '{path}' does not exist") from None
    except (KeyError, ValueError, TypeError, csv.Error):
        raise UserError(f"table '{path}' should have the columns SMILES and log_prob (nats, numbers)") from None
    if not texts:
        raise UserError(f"table '{path}' has no rows")
    return texts, values

"""What `chemmara sample` does: sequences of a prior or agent to a file, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chemmara.chemistry.molecules import Molecule, read
from chemmara.config import check
from chemmara.errors import UserError
from chemmara.places import replacing_text
from chemmara.policies.catalog import find_prior
from chemmara.policies.decoding import Decoding
from chemmara.policies.starts import likeliest_starts, prefix_start
from chemmara.processes import in_order
from chemmara.reporting.tables import number, quote
from chemmara.workflows.seen import Seen
from chemmara.workflows.settings import SampleSettings

if TYPE_CHECKING:
    import torch

BATCH = 512
GPU_BATCH = 16_384  # a GPU is at its best with sequences waiting for the places of those that have ended
CHUNK = 512  # texts that a process parses at a time
SUFFIXES = (".smi", ".csv", ".sdf")

Text = tuple[str, float]
"""A sequence as sampled, and its log-probability."""
Looked = tuple[bool, str, str]
"""(whether it is a molecule; what tells it from others; the entry of the file, an SDF's without its name)."""


@dataclass
class Sampled:
    """How many sequences were drawn, how many of them are molecules or have no end, and what became of them."""

    drawn: int = 0
    valid: int = 0
    cut: int = 0
    written: int = 0
    dropped_invalid: int = 0
    dropped_repeated: int = 0


def sample_file(
    prior: str | Path,
    out: str | Path,
    *,
    n: int,
    valid_only: bool = False,
    unique: bool = False,
    workers: int = 1,
    progress: Callable[[int], None] = lambda rows: None,
    **settings: Any,
) -> Sampled:
    """Draw ``n`` raw sequences and write them to ``out``: .smi (one text a line), .csv (SMILES,log_prob,valid) or .sdf.

    ``valid_only`` drops what is no molecule (an .sdf can hold nothing else), ``unique`` every further sequence of a
    molecule (or of an invalid text) that was written before: both write fewer than ``n``. ``settings`` are those of
    :class:`SampleSettings`. SMILES are as sampled, log_prob (nats, total) is theirs under the distribution drawn from,
    given the beginning that was asked for. A sequence without end within ``max_tokens`` is kept and counted; it is
    valid if its text is, and its log_prob is that of the beginning that is there. ``workers`` processes look at what
    was sampled, which changes no result. Whatever ``n``, a few batches are in memory, and with ``unique`` eight bytes a
    molecule. Raises :class:`UserError`.
    """
    checked = check(SampleSettings, {"n": n, **settings}, "sample")
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"samples are written as .smi, .csv or .sdf (got '{out}')")
    found = find_prior(prior)
    found.header()
    import torch

    from chemmara.policies.device import pick_device
    from chemmara.policies.storage import load_policy

    policy = load_policy(found, pick_device(checked.device))
    policy.precision = checked.precision
    generator = torch.Generator(device=policy.device).manual_seed(checked.seed)
    starts = _starts(policy, checked)
    done, seen = Sampled(), Seen()
    with replacing_text(out) as stream:
        if out.suffix.lower() == ".csv":
            stream.write("SMILES,log_prob,valid\n")
        look = partial(_look, suffix=out.suffix.lower())
        for chunk in in_order(look, _draw(policy, generator, checked, starts, done), workers):
            for valid, key, entry in chunk:
                done.drawn += 1
                done.valid += valid
                if not valid and (valid_only or out.suffix.lower() == ".sdf"):
                    done.dropped_invalid += 1
                elif unique and not seen.add(key):
                    done.dropped_repeated += 1
                else:
                    done.written += 1
                    stream.write(f"sample-{done.written:07d}{entry}" if out.suffix.lower() == ".sdf" else entry)
            progress(len(chunk))
    return done


def _starts(policy: Any, settings: SampleSettings) -> list[list[int]]:
    """The ids of each beginning, without an end token; one empty one where nothing was asked for."""
    if settings.prefix and settings.scaffold:
        raise UserError("--prefix and --scaffold exclude each other")
    if settings.prefix:
        return [prefix_start(policy.vocabulary, settings.prefix, settings.max_tokens)]
    if settings.scaffold:
        texts = likeliest_starts(policy, settings.scaffold, settings.max_tokens)
        return [policy.vocabulary.encode(text)[:-1] for text in texts]
    return [[]]


def _look(chunk: list[Text], suffix: str) -> list[Looked]:
    """Parse sequences, and write each as it will stand in the file."""
    molecules = [read(text).molecule for text, _ in chunk]
    return [
        (
            molecule is not None,
            molecule.smiles if molecule else f" {text}",
            _entry(suffix, text, log_prob, molecule),
        )
        for (text, log_prob), molecule in zip(chunk, molecules, strict=True)
    ]


def _entry(suffix: str, text: str, log_prob: float, molecule: Molecule | None) -> str:
    if suffix == ".csv":
        return f"{quote(text)},{number(log_prob)},{molecule is not None}\n"
    if suffix == ".smi" or molecule is None:
        return f"{text}\n"
    from rdkit import Chem
    from rdkit.Chem import rdDepictor

    mol = Chem.Mol(molecule.mol)
    rdDepictor.Compute2DCoords(mol)
    for key, value in {"_Name": "", "SMILES": text, "log_prob": number(log_prob)}.items():
        mol.SetProp(key, value)
    return str(Chem.SDWriter.GetText(mol))


def _draw(
    policy: Any, generator: torch.Generator, settings: SampleSettings, starts: list[list[int]], done: Sampled
) -> Iterator[list[Text]]:
    """Chunks of batches that begin with each of ``starts`` in turn. Counts in ``done`` the sequences without end."""
    left, turn = settings.n, 0
    batch = GPU_BATCH if policy.device.type == "cuda" else BATCH
    largest = min(batch, -(-settings.n // len(starts)))
    options = (settings.temperature, settings.max_tokens, settings.top_k, settings.top_p)
    decodings = [Decoding(*options, prefix=tuple(start)) for start in starts]
    while left > 0:
        size = min(largest, left)
        sampled = policy.sample(size, generator=generator, decoding=decodings[turn % len(decodings)])
        done.cut += int((~sampled.ended).sum())
        texts = policy.vocabulary.decode(sampled.ids.cpu().numpy())
        both = list(zip(texts, sampled.log_prob.tolist(), strict=True))
        yield from (both[at : at + CHUNK] for at in range(0, size, CHUNK))
        left -= size
        turn += 1

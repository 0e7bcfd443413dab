"""What `chemmara sample` does: sequences of a prior or agent to a file, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chemmara.chemistry.molecules import read
from chemmara.config import check
from chemmara.errors import UserError
from chemmara.policies.catalog import find_prior
from chemmara.reporting.export import replacing
from chemmara.reporting.tables import number, quote
from chemmara.workflows.settings import SampleSettings

if TYPE_CHECKING:
    import torch

BATCH = 512


@dataclass
class Sampled:
    """How many sequences were drawn, how many of them are molecules, and what became of them."""

    drawn: int = 0
    valid: int = 0
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
    progress: Callable[[int], None] = lambda rows: None,
    **settings: Any,
) -> Sampled:
    """Draw ``n`` raw sequences and write them to ``out``: .smi (one text a line) or .csv (SMILES,log_prob,valid).

    ``valid_only`` drops what is no molecule, ``unique`` every further sequence of a molecule (or of an invalid text)
    that was written before: both write fewer than ``n``. ``settings`` are those of :class:`SampleSettings`. SMILES are
    as sampled, log_prob (nats, total) is theirs under the distribution sampled from. Raises :class:`UserError`.
    """
    checked = check(SampleSettings, {"n": n, **settings}, "sample")
    out = Path(out)
    if out.suffix not in (".smi", ".csv"):
        raise UserError(f"samples are written as .smi or .csv (got '{out}')")
    found = find_prior(prior)
    found.header()
    import torch

    from chemmara.policies.device import pick_device
    from chemmara.policies.storage import load_policy

    policy = load_policy(found, pick_device(checked.device))
    policy.precision = checked.precision
    generator = torch.Generator(device=policy.device).manual_seed(checked.seed)
    done = Sampled()
    seen: set[str] = set()
    with replacing(out) as stream:
        if out.suffix == ".csv":
            stream.write("SMILES,log_prob,valid\n")
        for text, log_prob in _draw(policy, generator, checked):
            molecule = read(text).molecule
            done.drawn += 1
            done.valid += molecule is not None
            if done.drawn % BATCH == 0:
                progress(BATCH)
            identity = molecule.smiles if molecule else f" {text}"
            if valid_only and molecule is None:
                done.dropped_invalid += 1
            elif unique and identity in seen:
                done.dropped_repeated += 1
            else:
                done.written += 1
                if unique:
                    seen.add(identity)
                cells = [quote(text), number(log_prob), str(molecule is not None)] if out.suffix == ".csv" else [text]
                stream.write(",".join(cells) + "\n")
    return done


def _draw(policy: Any, generator: torch.Generator, settings: SampleSettings) -> Iterator[tuple[str, float]]:
    left = settings.n
    while left > 0:
        size = min(BATCH, left)
        sampled = policy.sample(
            size, generator=generator, temperature=settings.temperature, max_tokens=settings.max_tokens
        )
        texts = policy.vocabulary.decode(sampled.ids.cpu().numpy())
        yield from zip(texts, sampled.log_prob.tolist(), strict=True)
        left -= size

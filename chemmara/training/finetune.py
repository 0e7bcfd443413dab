"""Transfer learning: a prior brought close to a set of molecules, and what that did to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chemmara.chemistry.fingerprints import fingerprint, tanimoto
from chemmara.chemistry.molecules import Molecule, read
from chemmara.language.batches import spread_batches
from chemmara.language.corpus import HELD_OUT, Corpus
from chemmara.places import write_whole
from chemmara.policies.catalog import find_prior
from chemmara.policies.decoding import Decoding
from chemmara.policies.storage import load_policy
from chemmara.training.epochs import VALIDATION_ROWS, Say
from chemmara.training.fit import train
from chemmara.training.likelihood import mean_nll
from chemmara.training.settings import FinetuneSettings

REPORT = "finetune.md"
FIGURES = "finetune.json"
COMPARED = 2000  # molecules of the data that the similarity is to


@dataclass(frozen=True)
class Figures:
    """What a policy is to the data. Losses in nats a molecule; the rest of raw samples at temperature 1.

    similarity: mean over the distinct valid samples of the highest Tanimoto similarity (ECFP4) to a molecule of the
    data; NaN without a valid sample. new: share of the distinct valid samples that are not in the data.
    """

    train_nll: float
    valid_nll: float
    validity: float
    uniqueness: float
    similarity: float
    new: float


def finetune(
    files: Sequence[str | Path],
    out: str | Path,
    settings: FinetuneSettings,
    *,
    validation: str | Path | None = None,
    resume: bool = False,
    say: Say = print,
    progress: bool = True,
    command: str = "",
) -> Path:
    """Fit the prior ``settings.initial`` to ``files`` in ``out``; returns the path of its weights.

    Beside them lie the report (``finetune.md``) and its figures (``finetune.json``), before and after. Raises as
    :func:`chemmara.training.fit.train`. Lines whose tokens the prior has not are left out and said.
    """
    out = Path(out)
    weights = train(
        files, out, settings, validation=validation, resume=resume, say=say, progress=progress, command=command
    )
    if not (out / REPORT).is_file():
        corpus, held_out = Corpus(out / "corpus"), Corpus(out / "corpus" / HELD_OUT)
        before, after = (measure(load_policy(p), corpus, held_out, settings) for p in (settings.initial, weights))
        write_whole(out / FIGURES, json.dumps({"before": asdict(before), "after": asdict(after)}, indent=2) + "\n")
        write_whole(out / REPORT, _report(before, after, corpus, held_out, settings))
        say(
            f"validation loss {before.valid_nll:.2f} -> {after.valid_nll:.2f} nats a molecule; similarity of samples "
            f"to the data {before.similarity:.3f} -> {after.similarity:.3f}; validity {before.validity:.3f} -> "
            f"{after.validity:.3f}; report in {out / REPORT}"
        )
    return weights


def measure(policy: Any, corpus: Corpus, held_out: Corpus, settings: FinetuneSettings) -> Figures:
    """The figures of a policy, with the same draws for every policy of one set of settings."""
    policy.precision = settings.precision
    generator = torch.Generator(device=policy.device).manual_seed(settings.seed)
    sampled = policy.sample(settings.samples, generator=generator, decoding=Decoding(max_tokens=settings.max_tokens))
    readings = [read(text) for text in policy.vocabulary.decode(sampled.ids.cpu().numpy())]
    valid = [reading.molecule for reading in readings if reading.molecule]
    distinct = list(dict.fromkeys(valid))
    known = corpus.known([molecule.smiles for molecule in distinct])
    return Figures(
        train_nll=_loss(policy, corpus, settings),
        valid_nll=_loss(policy, held_out if len(held_out) else corpus, settings),
        validity=len(valid) / len(readings),
        uniqueness=len(distinct) / len(valid) if valid else float("nan"),
        similarity=_similarity(distinct, _molecules(corpus)),
        new=1 - float(known.mean()) if distinct else float("nan"),
    )


def _loss(policy: Any, corpus: Corpus, settings: FinetuneSettings) -> float:
    return mean_nll(policy, spread_batches(corpus, settings.batch_size, VALIDATION_ROWS))


def _molecules(corpus: Corpus) -> list[Molecule]:
    """Molecules of the corpus, evenly spread over it if it is large."""
    rows = np.unique(np.linspace(0, len(corpus) - 1, min(len(corpus), COMPARED)).astype(np.int64))
    texts = corpus.vocabulary.decode(corpus.batch(rows))
    return [reading.molecule for reading in map(read, texts) if reading.molecule]


def _similarity(samples: Sequence[Molecule], data: Sequence[Molecule]) -> float:
    if not samples or not data:
        return float("nan")
    references = [fingerprint(molecule.mol) for molecule in data]
    return float(np.mean([tanimoto(fingerprint(molecule.mol), references).max() for molecule in samples]))


def _report(before: Figures, after: Figures, corpus: Corpus, held_out: Corpus, settings: FinetuneSettings) -> str:
    names = {
        "train_nll": "loss of the training molecules, nats a molecule",
        "valid_nll": "loss of the molecules held out, nats a molecule",
        "validity": "validity of raw samples",
        "uniqueness": "uniqueness of the valid ones",
        "similarity": "mean highest Tanimoto similarity (ECFP4) of distinct samples to the training molecules",
        "new": "share of distinct samples that are not among the training molecules",
    }
    if not len(held_out):
        names["valid_nll"] += " (none: the training molecules)"
    rows = "\n".join(
        f"| {label} | {getattr(before, name):.3f} | {getattr(after, name):.3f} |" for name, label in names.items()
    )
    return f"""# Fine-tuning of {find_prior(settings.initial).name}

{len(corpus):,} training molecules, {len(held_out):,} held out; {settings.samples:,} samples at temperature 1 for each
column.

| figure | before | after |
|---|---|---|
{rows}
"""

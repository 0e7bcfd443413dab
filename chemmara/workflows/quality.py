"""The figures of a prior's model card: ``python -m chemmara.workflows.quality PRIOR [TRAINING FILES] [-n 10000]``."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chemmara.chemistry.files import read_records
from chemmara.chemistry.molecules import read
from chemmara.language.corpus import hash_smiles


def prior_quality(
    prior: str | Path, n: int = 10_000, training: Sequence[str | Path] = (), seed: int = 0, precision: str = "auto"
) -> dict[str, float]:
    """Figures of ``n`` raw samples at temperature 1, nothing filtered.

    ``validity``: share of all samples that are molecules. ``uniqueness``: share of the valid ones that are distinct
    (canonical SMILES). ``novelty``: share of the distinct ones that are in none of the ``training`` files, which are
    streamed; left out without files. ``molecules_per_second``: sampling and decoding, strings out.
    """
    import torch

    from chemmara.policies.storage import load_policy

    policy = load_policy(prior)
    policy.precision = precision
    generator = torch.Generator().manual_seed(seed)
    start = time.perf_counter()
    texts = policy.vocabulary.decode(policy.sample(n, generator=generator).ids.numpy())
    seconds = time.perf_counter() - start
    valid = [reading.molecule.smiles for reading in map(read, texts) if reading.molecule]
    distinct = dict.fromkeys(valid)
    figures = {"samples": n, "validity": len(valid) / n, "uniqueness": len(distinct) / max(len(valid), 1)}
    if training:
        figures["novelty"] = share_new(distinct, hashes_of(training))
    return {**figures, "molecules_per_second": n / seconds, "threads": torch.get_num_threads()}


def hashes_of(files: Sequence[str | Path]) -> NDArray[np.uint64]:
    """Of the molecules in files of any number, which are streamed: eight bytes each, sorted."""
    readings = (read(record.smiles) for path in files for record in read_records(path))
    found = (hash_smiles(reading.molecule.smiles) for reading in readings if reading.molecule)
    return np.unique(np.fromiter(found, np.uint64))


def share_new(smiles: Iterable[str], known: NDArray[np.uint64]) -> float:
    """Share of the distinct canonical SMILES whose hash is not among ``known``; NaN for none."""
    own = np.fromiter({hash_smiles(text) for text in smiles}, np.uint64)
    return float(np.isin(own, known, invert=True).mean()) if len(own) else math.nan


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description="Validity, uniqueness and novelty of a prior's raw samples.")
    parser.add_argument("prior")
    parser.add_argument("training", nargs="*", help="files of molecules that do not count as new")
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    options = parser.parse_args(arguments)
    figures = prior_quality(options.prior, options.n, options.training, options.seed, options.precision)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

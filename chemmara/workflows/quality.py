"""The figures of a prior's model card: ``python -m chemmara.workflows.quality PRIOR [TRAINING FILES] [-n 10000]``."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from chemmara.chemistry.files import read_records
from chemmara.chemistry.molecules import read


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
        figures["novelty"] = share_new(distinct, training)
    return {**figures, "molecules_per_second": n / seconds, "threads": torch.get_num_threads()}


def share_new(smiles: Iterable[str], training: Sequence[str | Path]) -> float:
    """Share of the distinct canonical SMILES that are in none of the files, which are streamed; NaN for none."""
    unknown = dict.fromkeys(smiles)
    distinct = len(unknown)
    for path in training:
        for record in read_records(path):
            # A file of canonical SMILES needs no parsing; any other line is read first.
            if unknown.pop(record.smiles, 0) is None:
                continue
            molecule = read(record.smiles).molecule
            if molecule is not None:
                unknown.pop(molecule.smiles, None)
    return len(unknown) / distinct if distinct else math.nan


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

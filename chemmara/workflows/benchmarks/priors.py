"""`chemmara benchmark priors`: what the raw samples of priors are like, beside reference files, as a table."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chemmara.chemistry.files import read_records
from chemmara.chemistry.molecules import Molecule, read
from chemmara.errors import UserError
from chemmara.places import make_directory
from chemmara.policies.catalog import Prior, bundled, find_prior
from chemmara.workflows.quality import hashes_of, share_new

BATCH = 512
LIKELIHOOD_BATCH = 128  # every token of a batch is in memory with all gates of a layer
DIVERSE = 2000  # molecules that the internal diversity is of: its cost grows with the square
REFERENCE = 10_000  # molecules of the test file that distributions are compared with
FCD_PACKAGES = ("fcd_torch", "fcd")


class Figure(NamedTuple):
    """A column of the table; ``format`` is how it is written."""

    name: str
    label: str
    meaning: str
    format: str


RINGS = 2
"""Rings from which a scaffold counts in ``scaffold_overlap``."""
FIGURES = (
    Figure("validity", "valid", "share of all samples that are a molecule", ".4f"),
    Figure("uniqueness", "unique", "share of distinct ones among the valid", ".4f"),
    Figure("novelty", "novel", "share of the distinct ones that are in no --train file", ".4f"),
    Figure(
        "intdiv", "IntDiv1", f"internal diversity of the first {DIVERSE:,} distinct ones (Morgan, 1024 bits)", ".4f"
    ),
    Figure("scaffolds", "scaffolds", "distinct Bemis-Murcko scaffolds for each distinct molecule", ".4f"),
    Figure(
        "scaffold_overlap",
        "Scaf",
        "cosine of the counts of scaffolds of two rings and more with --test (MOSES' Scaf)",
        ".4f",
    ),
    Figure("logp", "W(logP)", "Wasserstein-1 distance of logP to --test", ".3f"),
    Figure("qed", "W(QED)", "the same of QED", ".4f"),
    Figure("sa_score", "W(SA)", "the same of synthetic accessibility", ".3f"),
    Figure("molecular_weight", "W(MW)", "the same of the molecular weight, g/mol", ".2f"),
    Figure("nll", "NLL", "mean negative log-likelihood of --test, nats a molecule, as its canonical SMILES", ".3f"),
    Figure("unreadable", "outside", "molecules of --test that the prior's tokens cannot write, left out of NLL", ".0f"),
    Figure("fcd", "FCD", "Frechet ChemNet distance to --test", ".3f"),
)
PROPERTIES = ("logp", "qed", "sa_score", "molecular_weight")


@dataclass(frozen=True)
class Request:
    """What `chemmara benchmark priors` was asked for; no names: all bundled priors."""

    out: Path
    names: tuple[str, ...] = ()
    train: tuple[Path, ...] = ()
    test: Path | None = None
    n: int = 10_000
    seed: int = 0
    precision: str = "auto"


def run(request: Request, say: Callable[[str], None]) -> list[Path]:
    """Measure the priors one after another; the table grows with each. Returns the files written.

    Raises :class:`UserError` for an unknown prior or a file that holds no molecule, before anything is measured.
    """
    if request.n < 1:
        raise UserError(f"-n must be at least 1 (got {request.n})")
    priors = [find_prior(name) for name in request.names] or bundled()
    if not priors:
        raise UserError("this installation came without priors; name some with --prior")
    for prior in priors:
        prior.vocabulary()
    for path in request.train:
        next(read_records(path), None)
    reference = _reference(request.test)
    known = hashes_of(request.train) if request.train else None
    distance = _fcd(say) if request.test else None
    make_directory(request.out)
    rows: list[dict[str, Any]] = []
    for prior in priors:
        rows.append({"prior": prior.name, "samples": request.n, **_measure(prior, request, known, reference, distance)})
        files = _write(request, rows)
        say(f"{prior.name}: {', '.join(f'{f.label} {_shown(rows[-1], f)}' for f in FIGURES if f.name in rows[-1])}")
    return files


def _reference(path: Path | None) -> list[Molecule]:
    if path is None:
        return []
    found = [m for record in islice(read_records(path), REFERENCE) if (m := read(record.smiles).molecule)]
    if not found:
        raise UserError(f"no molecule in '{path}'")
    return found


def _measure(
    prior: Prior,
    request: Request,
    known: NDArray[np.uint64] | None,
    reference: list[Molecule],
    distance: Callable[..., float] | None,
) -> dict[str, float]:
    import torch

    from chemmara.metrics.diversity import internal_diversity
    from chemmara.policies.storage import load_policy

    policy = load_policy(prior)
    policy.precision = request.precision
    generator = torch.Generator().manual_seed(request.seed)
    valid = list(_sampled(policy, request.n, generator))
    distinct = list(dict.fromkeys(valid))
    texts = [molecule.smiles for molecule in distinct]
    own = Counter(molecule.scaffold for molecule in distinct)
    own.pop("", None)
    figures = {
        "validity": len(valid) / request.n,
        "uniqueness": len(distinct) / len(valid) if valid else math.nan,
        "intdiv": internal_diversity(texts[:DIVERSE]),
        "scaffolds": len(own) / len(distinct) if distinct else math.nan,
    }
    if known is not None:
        figures["novelty"] = share_new(texts, known)
    if reference:
        figures["scaffold_overlap"] = _cosine(_ringed(distinct), _ringed(reference))
        figures |= _distances(distinct, reference)
        figures |= _likelihood(policy, reference)
    if distance and distinct:
        figures["fcd"] = distance(texts, [molecule.smiles for molecule in reference])
    return figures


def _ringed(molecules: Sequence[Molecule]) -> Counter[str]:
    """Scaffolds by how many molecules have them. Those of one ring are left out, as in MOSES: benzene is in everything,
    and says nothing of a prior."""
    return Counter(m.scaffold for m in molecules if m.mol.GetRingInfo().NumRings() >= RINGS)


def _sampled(policy: Any, n: int, generator: Any) -> Iterator[Molecule]:
    """The valid ones of ``n`` raw samples."""
    for start in range(0, n, BATCH):
        sampled = policy.sample(min(BATCH, n - start), generator=generator)
        for text in policy.vocabulary.decode(sampled.ids.cpu().numpy()):
            molecule = read(text).molecule
            if molecule is not None:
                yield molecule


def _cosine(one: Counter[str], other: Counter[str]) -> float:
    length = math.sqrt(sum(v * v for v in one.values()) * sum(v * v for v in other.values()))
    return sum(count * other[key] for key, count in one.items()) / length if length else math.nan


def _distances(molecules: Sequence[Molecule], reference: Sequence[Molecule]) -> dict[str, float]:
    from scipy.stats import wasserstein_distance

    from chemmara.scoring.component import COMPONENTS

    result = {}
    for name in PROPERTIES:
        entry = COMPONENTS[name]
        component = entry.item(entry.parameters(), name)
        one, other = ([e.value for e in component(part) if not e.failed] for part in (molecules, reference))
        result[name] = float(wasserstein_distance(one, other)) if one and other else math.nan
    return result


def _likelihood(policy: Any, reference: Sequence[Molecule]) -> dict[str, float]:
    import torch

    from chemmara.language.tokenizers import UnreadableText
    from chemmara.language.vocabulary import pad

    rows, unreadable = [], 0
    for molecule in reference:
        try:
            rows.append(policy.vocabulary.encode(molecule.smiles))
        except UnreadableText:
            unreadable += 1
    rows.sort(key=len)  # little padding
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(rows), LIKELIHOOD_BATCH):
            ids = torch.from_numpy(pad(rows[start : start + LIKELIHOOD_BATCH]))
            total -= float(policy.log_prob(ids).double().sum())
    return {"nll": total / len(rows) if rows else math.nan, "unreadable": unreadable}


def _fcd(say: Callable[[str], None]) -> Callable[[list[str], list[str]], float] | None:
    """The distance of an installed package, or nothing, which is said."""
    import importlib
    import importlib.util

    for name in FCD_PACKAGES:
        if importlib.util.find_spec(name) is None:
            continue
        package = importlib.import_module(name)
        if name == "fcd_torch":
            return lambda ours, theirs: float(package.FCD(device="cpu", n_jobs=1, batch_size=BATCH)(ours, theirs))
        return lambda ours, theirs: float(package.get_fcd(ours, theirs))
    say("no FCD: install a package for it (fcd-torch or fcd), and its column appears")
    return None


def _shown(row: dict[str, Any], figure: Figure) -> str:
    value = row.get(figure.name, math.nan)
    return "" if math.isnan(value) else format(value, figure.format)


def _write(request: Request, rows: list[dict[str, Any]]) -> list[Path]:
    shown = [figure for figure in FIGURES if any(figure.name in row for row in rows)]
    table, data = request.out / "priors.md", request.out / "priors.csv"
    with open(data, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["prior", "samples", *(figure.name for figure in shown)])
        writer.writeheader()
        writer.writerows(rows)
    lines = [
        f"# Priors\n\n{request.n:,} raw samples of each at temperature 1, seed {request.seed}, nothing filtered.\n",
        f"| prior | {' | '.join(figure.label for figure in shown)} |",
        f"|---|{'---|' * len(shown)}",
        *(f"| {row['prior']} | {' | '.join(_shown(row, figure) for figure in shown)} |" for row in rows),
        "",
        *(f"- {figure.label}: {figure.meaning}." for figure in shown),
    ]
    if request.train:
        lines.append(f"- --train: {', '.join(path.name for path in request.train)}.")
    if request.test:
        lines.append(f"- --test: {request.test.name}, its first {REFERENCE:,} lines.")
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [table, data]

"""The table behind "clean" chemistry, and how many molecules of a file are clean.

``python -m chemmara.workflows.clean table PRIOR [-n 50000] [--seed 0] [-o FILE]`` counts the atom environments of the
first N valid samples of a prior; without ``-o`` it replaces the bundled table and its card.
``python -m chemmara.workflows.clean check FILE... [--rare-below 1e-4]`` prints the share of each file that is refused,
by reason.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rdkit import Chem

from chemmara import __version__
from chemmara.chemistry.environments import BUNDLED, LEAST, EnvironmentTable
from chemmara.chemistry.files import read_records
from chemmara.chemistry.molecules import read
from chemmara.chemistry.plausibility import KINDS, RARE_BELOW, Plausibility, standard
from chemmara.workflows.reference import Samples

CARD = """# Reference table of atom environments

`{file}` says in how many of {molecules:,} molecules each atom environment (an atom with its neighbours: Morgan radius
1) occurs. An environment of fewer than one molecule in ten thousand makes a molecule "not clean": docs/clean.md.

- Made from: the first {molecules:,} valid ones of {drawn:,} samples of the prior `{prior}`, temperature 1, repeats
  kept, which chemmara drew itself. No molecule of a data set was counted; the prior's data and licence are in its
  model card.
- Weights: SHA-256 `{sha256}`.
- Environments: {environments:,}; those of fewer than {least} molecules are not listed.
- Format: text, our own notation (chemmara/chemistry/environments.py), so no version of RDKit's hashes is in it.
- Made by chemmara {version}, RDKit {rdkit}, {threads} thread(s), precision {precision}.

Regenerate: `python -m chemmara.workflows.clean table {prior} -n {molecules} --seed {seed}`
"""


def make_table(
    prior: str | Path, out: str | Path = BUNDLED, n: int = 50_000, seed: int = 0, precision: str = "auto"
) -> EnvironmentTable:
    """Count the environments of the first ``n`` valid samples of a prior and write the table, and README.md beside it.

    Raises :class:`UserError` for an unknown prior, and for one that writes hardly any molecule.
    """
    import torch

    drawn = Samples(prior, n, seed, precision)
    table = EnvironmentTable.count(drawn.molecules(), drawn.source)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    table.save(out)
    figures: dict[str, Any] = {"prior": drawn.name, "sha256": drawn.sha256, "seed": seed, "precision": precision}
    figures |= {
        "molecules": n,
        "drawn": drawn.drawn,
        "environments": len(table.counts),
        "least": LEAST,
        "file": out.name,
    }
    figures |= {"version": __version__, "rdkit": Chem.rdBase.rdkitVersion, "threads": torch.get_num_threads()}
    (out.parent / "README.md").write_text(CARD.format(**figures), encoding="utf-8", newline="\n")
    return table


def check_file(path: str | Path, plausibility: Plausibility | None = None) -> dict[str, Any]:
    """The molecules of a file, the share that is not clean, the shares by kind, and microseconds a molecule."""
    judge = plausibility or standard()
    molecules = [reading.molecule for reading in (read(r.smiles) for r in read_records(path)) if reading.molecule]
    start = time.process_time()
    faults = [judge.fault(molecule) for molecule in molecules]
    seconds = time.process_time() - start
    count, kinds = max(len(molecules), 1), Counter(fault.kind for fault in faults if fault)
    figures: dict[str, Any] = {"molecules": len(molecules), "refused": round(kinds.total() / count, 5)}
    return {**figures, **{k: round(kinds[k] / count, 5) for k in KINDS}, "microseconds": round(seconds / count * 1e6)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Make a table, or print figures as JSON."""
    parser = argparse.ArgumentParser(description="The table behind clean chemistry, and how many molecules are clean.")
    commands = parser.add_subparsers(dest="command", required=True)
    table = commands.add_parser("table", help="count the atom environments of a prior's samples")
    table.add_argument("prior")
    table.add_argument("-n", type=int, default=50_000, help="valid samples")
    table.add_argument("--seed", type=int, default=0)
    table.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    table.add_argument("-o", "--out", default=BUNDLED, type=Path)
    check = commands.add_parser("check", help="share of refused molecules, by reason")
    check.add_argument("files", nargs="+")
    check.add_argument("--rare-below", type=float, default=RARE_BELOW, help="share of the reference molecules")
    options = parser.parse_args(arguments)
    if options.command == "table":
        made = make_table(options.prior, options.out, options.n, options.seed, options.precision)
        print(f"{len(made.counts):,} environments of {made.molecules:,} molecules written to {options.out}")
    else:
        judge = replace(standard(), rare_below=options.rare_below)
        print(json.dumps({Path(path).name: check_file(path, judge) for path in options.files}, indent=2))


if __name__ == "__main__":
    main()

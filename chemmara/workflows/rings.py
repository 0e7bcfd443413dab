"""The table behind the component ``ring_systems``: how many of a prior's samples have each ring system.

``python -m chemmara.workflows.rings table PRIOR [-n 50000] [--seed 0] [-o FILE]`` replaces the bundled table and its
card where no ``-o`` is given. ``python -m chemmara.workflows.rings file MOLECULES -o FILE`` counts the molecules of a
file instead, for the component's ``table``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from rdkit import Chem

from chemmara import __version__
from chemmara.chemistry.files import read_records
from chemmara.chemistry.molecules import read
from chemmara.chemistry.ring_systems import BUNDLED, LEAST, RingTable
from chemmara.errors import ChemmaraError, UserError
from chemmara.workflows.reference import Samples

CARD = """# Reference table of ring systems

`{file}` says in how many of {molecules:,} molecules each ring system occurs; the component `ring_systems` of a score
asks it whether the rings of a molecule are known.

- Made from: the first {molecules:,} valid ones of {drawn:,} samples of the prior `{prior}`, temperature 1, repeats
  kept, which chemmara drew itself. No molecule of a data set was counted; the prior's data and licence are in its
  model card.
- Weights: SHA-256 `{sha256}`.
- Ring systems: {systems:,}; those of fewer than {least} molecules are not listed.
- Format: text, a SMILES and a count a line (chemmara/chemistry/ring_systems.py says what a ring system is).
- Made by chemmara {version}, RDKit {rdkit}, precision {precision}.

Regenerate: `python -m chemmara.workflows.rings table {prior} -n {molecules} --seed {seed}`
"""


def make_table(
    prior: str | Path, out: str | Path = BUNDLED, n: int = 50_000, seed: int = 0, precision: str = "auto"
) -> RingTable:
    """Count the ring systems of the first ``n`` valid samples of a prior; write the table, and README.md beside it.

    Raises :class:`UserError` for an unknown prior, and for one that writes hardly any molecule.
    """
    drawn = Samples(prior, n, seed, precision)
    table = RingTable.count(drawn.molecules(), drawn.source)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    table.save(out)
    card = CARD.format(
        file=out.name, molecules=n, drawn=drawn.drawn, prior=drawn.name, sha256=drawn.sha256, systems=len(table.counts),
        least=LEAST, version=__version__, rdkit=Chem.rdBase.rdkitVersion, precision=precision, seed=seed,
    )  # fmt: skip
    (out.parent / "README.md").write_text(card, encoding="utf-8", newline="\n")
    return table


def count_file(molecules: str | Path, out: str | Path) -> RingTable:
    """Count the ring systems of the molecules of a file. Raises :class:`UserError` for a file without any."""

    def valid() -> Iterator[Chem.Mol]:
        for record in read_records(molecules):
            molecule = read(record.smiles).molecule
            if molecule is not None:
                yield molecule.mol

    table = RingTable.count(valid(), f"molecules of {Path(molecules).name}")
    if not table.molecules:
        raise UserError(f"file '{molecules}' has no molecules")
    table.save(out)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Make a table."""
    parser = argparse.ArgumentParser(description="Tables of ring systems, for the component ring_systems.")
    commands = parser.add_subparsers(dest="command", required=True)
    table = commands.add_parser("table", help="count the ring systems of a prior's samples")
    table.add_argument("prior")
    table.add_argument("-n", type=int, default=50_000, help="valid samples")
    table.add_argument("--seed", type=int, default=0)
    table.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    table.add_argument("-o", "--out", default=BUNDLED, type=Path)
    file = commands.add_parser("file", help="count the ring systems of the molecules of a file")
    file.add_argument("molecules", type=Path)
    file.add_argument("-o", "--out", required=True, type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "table":
            made = make_table(options.prior, options.out, options.n, options.seed, options.precision)
        else:
            made = count_file(options.molecules, options.out)
    except ChemmaraError as error:
        parser.exit(error.exit_code, f"{parser.prog}: {error}\n")
    print(f"{len(made.counts):,} ring systems of {made.molecules:,} molecules written to {options.out}")


if __name__ == "__main__":
    main()

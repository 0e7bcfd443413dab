"""Taking molecules away: molecules.csv of a run, and selections of them as CSV, SMILES or SD file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from chemmara.chemistry.molecules import inchikey, read
from chemmara.chemistry.plausibility import standard
from chemmara.errors import UserError
from chemmara.places import replacing_text
from chemmara.reporting.runs import Run
from chemmara.reporting.tables import columns, number, quote
from chemmara.scoring.ledger import Ledger, RunRow
from chemmara.scoring.rows import was_sent

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".smi", ".sdf")


@dataclass(frozen=True)
class Entry:
    """One row of an export: a sampled row and the run that it comes from."""

    run: Run
    row: RunRow

    @property
    def name(self) -> str:
        if self.row.name:
            return self.row.name
        seed = "" if self.run.seed is None else f"-s{self.run.seed}"
        return f"{self.run.method}{seed}-{self.row.step:05d}-{self.row.index:03d}"


@dataclass
class Exported:
    """What an export did: rows written, and rows left out by reason. ``selected``: molecules, not all rows."""

    path: Path
    selected: bool = False
    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def export(
    runs: Run | Sequence[Run],
    out: str | Path,
    min_score: float | None = None,
    one_per_scaffold: bool = False,
    top: int | None = None,
    clean: bool = False,
    min_distance: float | None = None,
) -> Exported:
    """Write the rows of one or more runs to ``out``, whose suffix (.csv, .smi, .sdf) names the format.

    Without a selection, .csv has every sampled row in order. With ``min_score``, ``clean``,
    ``one_per_scaffold``, ``min_distance`` or ``top`` there is one row per distinct molecule that has a score, its
    first, the best score first. Acyclic molecules have no scaffold and are left out by ``one_per_scaffold``; ``clean``
    leaves out those with a fault of chemistry (:mod:`chemmara.chemistry.plausibility`), counted by kind, before the
    others choose. ``min_distance`` (0 to 1) leaves out what is within that Tanimoto distance (ECFP4) of a better one
    that stays: sphere exclusion, the best first [as #Circles, Xie et al., ICLR 2023]; ``top`` chooses last. .smi and
    .sdf hold valid molecules only.

    The file appears whole or not at all. Raises :class:`UserError` for an unknown suffix, a place that cannot be
    written, a selection that makes no sense or leaves nothing, and :class:`RunError` for a full disk.
    """
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"cannot export to '{out}': the name must end in {', '.join(SUFFIXES)}")
    if min_score is not None and not math.isfinite(min_score):
        raise UserError(f"--min-score must be a finite number (got {min_score})")
    if top is not None and top < 1:
        raise UserError(f"--top must be at least 1 (got {top})")
    if min_distance is not None and not 0 <= min_distance < 1:
        raise UserError(f"--min-distance must be from 0 up to, and below, 1 (got {min_distance})")
    runs = [runs] if isinstance(runs, Run) else list(runs)
    entries: Iterator[Entry] = (Entry(run, row) for run in runs for row in run.rows())
    distinct = one_per_scaffold or clean or any(choice is not None for choice in (min_score, top, min_distance))
    done = Exported(out, selected=distinct or out.suffix.lower() != ".csv")
    if distinct:
        entries = _distinct(entries, -math.inf if min_score is None else min_score, done.left_out)
    if clean:
        entries = _clean(entries, done.left_out)
    if distinct:
        entries = iter(_best(entries, one_per_scaffold, min_distance, top, done.left_out))
    labels = _labels(runs)
    with replacing_text(out) as stream:
        for text in _FORMATS[out.suffix.lower()](entries, labels, done):
            stream.write(text)
        if not done.written and done.selected:
            why = ", ".join(f"{number:,} {reason}" for reason, number in done.left_out.items())
            raise UserError(f"no molecule is left for '{out}', which is not written" + (f": {why}" if why else ""))
    return done


def write_molecules(
    ledger: Ledger, run: str, path: str | Path, method: str, seed: int, labels: Sequence[str]
) -> Exported:
    """Write molecules.csv of the run ``run`` of an open ledger, every sampled row in order."""
    source = Run(method, seed, tuple(labels), None, ledger.path, None, lambda: ledger.rows(run))
    return export(source, path)


def frame(runs: Run | Sequence[Run]) -> pd.DataFrame:
    """The rows of one or more runs as a DataFrame with the columns of molecules.csv."""
    import pandas as pd

    runs = [runs] if isinstance(runs, Run) else list(runs)
    labels = _labels(runs)
    return pd.DataFrame(
        [values(Entry(run, row), labels) for run in runs for row in run.rows()], columns=columns(labels)
    )


def _labels(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(label for run in runs for label in run.labels))


def _distinct(entries: Iterable[Entry], min_score: float, left_out: Counter[str]) -> Iterator[Entry]:
    seen: set[str] = set()
    for entry in entries:
        row = entry.row
        if not row.valid:
            left_out["invalid"] += 1
        elif math.isnan(row.score):
            left_out["without a score"] += 1
        elif row.smiles in seen:
            left_out["repeated"] += 1
        else:
            seen.add(row.smiles)
            if row.score >= min_score:
                yield entry
            else:
                left_out["below the least score"] += 1


def _clean(entries: Iterable[Entry], left_out: Counter[str]) -> Iterator[Entry]:
    for entry in entries:
        molecule = read(entry.row.smiles).molecule
        fault = standard().fault(molecule) if molecule else None  # a valid row of ours always reads back
        if fault is None:
            yield entry
        else:
            left_out[f"not clean ({fault.kind})"] += 1


def _best(
    entries: Iterable[Entry],
    one_per_scaffold: bool,
    min_distance: float | None,
    top: int | None,
    left_out: Counter[str],
) -> list[Entry]:
    ordered = sorted(entries, key=lambda entry: -entry.row.score)  # stable: the first occurrence wins a tie
    if one_per_scaffold:
        chosen: dict[str, Entry] = {}
        for entry in ordered:
            if not entry.row.scaffold:
                left_out["without a scaffold"] += 1
            elif entry.row.scaffold in chosen:
                left_out["of a scaffold that is there already"] += 1
            else:
                chosen[entry.row.scaffold] = entry
        ordered = list(chosen.values())
    if min_distance is not None:
        apart = _apart(ordered, min_distance)
        if len(apart) < len(ordered):
            left_out["near a better one"] += len(ordered) - len(apart)
        ordered = apart
    if top is not None and len(ordered) > top:
        left_out["below the best"] += len(ordered) - top
    return ordered[:top]


def _apart(entries: Sequence[Entry], distance: float) -> list[Entry]:
    """Those that are farther than ``distance`` from each one before them that is among these itself."""
    from rdkit.SimDivFilters import rdSimDivPickers

    from chemmara.metrics.diversity import ecfp4

    prints = ecfp4([entry.row.smiles for entry in entries])
    picks = rdSimDivPickers.LeaderPicker().LazyBitVectorPick(prints, len(prints), distance) if prints else ()
    return [entries[pick] for pick in sorted(picks)]


@lru_cache(maxsize=20_000)  # repeats are common, and InChI costs more than all the rest
def _inchikey(smiles: str) -> str:
    molecule = read(smiles).molecule
    return inchikey(molecule.mol) if molecule else ""


def values(entry: Entry, labels: Sequence[str]) -> list[str | int | float | bool | None]:
    """The values of one row, in the order of :func:`~chemmara.reporting.tables.columns`; NaN or None for none."""
    run, row = entry.run, entry.row
    # A screen may refuse four of five rows, and InChIKeys are most of what writing a table takes.
    key = _inchikey(row.smiles) if was_sent(row.valid, row.error) else ""
    return [
        *(row.smiles, key, entry.name, row.step, row.score),
        *(table.get(label, math.nan) for label in labels for table in (row.raw, row.transformed)),
        *(row.scaffold, row.valid, row.error, run.method, run.seed, row.sampled),
        *(row.agent_log_prob, row.prior_log_prob, row.origin),
    ]


def _cell(value: str | int | float | bool | None) -> str:
    if isinstance(value, float):
        return number(value)
    return "" if value is None else quote(str(value))


def _csv(entries: Iterable[Entry], labels: Sequence[str], done: Exported) -> Iterator[str]:
    yield ",".join(map(quote, columns(labels))) + "\n"
    for entry in entries:
        yield ",".join(map(_cell, values(entry, labels))) + "\n"
        done.written += 1


def _smi(entries: Iterable[Entry], labels: Sequence[str], done: Exported) -> Iterator[str]:
    for entry in entries:
        if not entry.row.valid:
            done.left_out["invalid"] += 1
            continue
        yield f"{entry.row.smiles} {entry.name}\n"
        done.written += 1


def _sdf(entries: Iterable[Entry], labels: Sequence[str], done: Exported) -> Iterator[str]:
    from rdkit import Chem
    from rdkit.Chem import rdDepictor

    for entry in entries:
        run, row = entry.run, entry.row
        molecule = read(row.smiles).molecule if row.valid else None
        if molecule is None:
            done.left_out["invalid"] += 1
            continue
        mol = Chem.Mol(molecule.mol)
        rdDepictor.Compute2DCoords(mol)
        mol.SetProp("_Name", entry.name)
        properties = {"SMILES": row.smiles, "step": str(row.step), "score": number(row.score)}
        for label in labels:
            properties[label] = number(row.raw.get(label, math.nan))
            properties[f"{label}_score"] = number(row.transformed.get(label, math.nan))
        properties |= {
            "scaffold": row.scaffold,
            "method": run.method,
            "seed": "" if run.seed is None else str(run.seed),
        }
        for key, value in properties.items():
            if value:  # an SD file has no blank values
                mol.SetProp(key, value)
        yield Chem.SDWriter.GetText(mol)
        done.written += 1


_FORMATS: dict[str, Callable[[Iterable[Entry], Sequence[str], Exported], Iterator[str]]] = {
    ".csv": _csv,
    ".smi": _smi,
    ".sdf": _sdf,
}

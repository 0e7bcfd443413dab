"""One self-contained HTML page about a run: no network, no other file."""

from __future__ import annotations

import heapq
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chemmara import __version__
from chemmara.chemistry.molecules import quiet, read
from chemmara.metrics.table import METRICS, metric
from chemmara.places import replacing_text
from chemmara.reporting.compare import DEFAULT_THRESHOLD
from chemmara.reporting.measures import COMPARED, Digest, digest, measure, scaffold_curve
from chemmara.reporting.runs import Run, find_run, read_manifest
from chemmara.scoring.component import COMPONENTS
from chemmara.scoring.rows import SAMPLED, RunRow, was_sent

TOP = 24
TEMPLATE = "report.html.jinja"
COLUMN_MEANINGS = {
    "SMILES": "canonical SMILES if the sequence is a molecule, else the text as sampled",
    "InChIKey": "standard InChIKey; blank for an invalid sequence, and for what was not sent to scoring",
    "name": "method, seed, step and place in the batch: unique in the run",
    "step": "number of the step, from 1; 0 for the seed molecules, if there are any",
    "score": "total score in [0, 1] before any diversity filter; blank if there is none",
    "<label>": "raw value of a component, in its own unit",
    "<label>_score": "the same after its transform, in [0, 1]",
    "scaffold": "Bemis-Murcko scaffold SMILES; blank for an acyclic molecule",
    "valid": "whether the sequence is a molecule",
    "error": "why a sequence is invalid, or a molecule has no score",
    "method": "the method of the config that made the run",
    "seed": "the seed of the run",
    "sampled": "the text that the agent wrote, which the log-probabilities belong to",
    "agent_log_prob": "log-probability of the text under the agent when it was sampled, nats, total; blank where a "
    "screen refused what was bred",
    "prior_log_prob": "log-probability of the text under the prior, nats, total; blank where a screen refused what was "
    "bred, or sampled beyond the batch",
    "origin": "sampled: the agent wrote it; seed: given in seed_molecules; bred: made from the buffer's molecules",
}


@dataclass(frozen=True)
class _Steps:
    """Means by step over what the agent wrote, for the curves."""

    calls: list[float]  # oracle calls up to and with the step
    score: list[float]  # mean over the rows that have a score
    validity: list[float]
    fresh: list[float]  # molecules that are new to the run, as a share of the valid rows


def write_report(
    run: Run | str | Path, out: str | Path | None = None, manifest: Mapping[str, Any] | None = None
) -> Path:
    """Write the report of a run (default: report.html in its directory); the path.

    ``manifest``: what the run's is going to be, where that file is to be written last. Raises :class:`UserError` if
    there is no such run or the place cannot be written, RunError for a full disk.
    """
    run = run if isinstance(run, Run) else find_run(run)
    path = Path(out) if out is not None else (run.directory or run.source.parent) / "report.html"
    page = render(run, manifest)
    with replacing_text(path) as stream:
        stream.write(page)
    return path


def render(run: Run, manifest: Mapping[str, Any] | None = None) -> str:
    """The page as text; ``manifest`` takes the place of the file's."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    threshold = run.threshold if run.threshold is not None else DEFAULT_THRESHOLD
    counted = digest(run)
    (values,) = measure(counted, [threshold])
    if manifest is None:
        manifest = read_manifest(run.directory) if run.directory else {}
    return environment.get_template(TEMPLATE).render(
        run=run,
        threshold=threshold,
        version=__version__,
        figures=[(metric(name), _shown(values[name], metric(name).unit)) for name in ("oracle_calls", *COMPARED)],
        sampled=counted.sampled,
        curves=_curves(run, counted, threshold),
        molecules=list(_molecules(run, _top(run))),
        settings=list(_settings(run)),
        manifest=list(_flat(manifest)),
        columns=COLUMN_MEANINGS,
        metrics=METRICS,
    )


def _shown(value: float, unit: str) -> str:
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "not reached"
    return f"{value:.3f}" if unit in ("0 to 1", "score") else f"{value:,.0f}"


def _top(run: Run) -> list[RunRow]:
    """The best distinct molecules, the first occurrence of each."""
    seen: set[str] = set()

    def fresh() -> Iterator[RunRow]:
        for row in run.rows():
            if row.valid and not math.isnan(row.score) and row.smiles not in seen:
                seen.add(row.smiles)
                yield row

    return heapq.nsmallest(TOP, fresh(), key=lambda row: (-row.score, row.step, row.index))


def _molecules(run: Run, rows: Sequence[RunRow]) -> Iterator[dict[str, Any]]:
    known = _units_and_weights(run)
    for row in rows:
        values = [(label, row.raw.get(label, math.nan), row.transformed.get(label, math.nan)) for label in run.labels]
        yield {
            "svg": _draw(row.smiles),
            "row": row,
            "score": f"{row.score:.3f}",
            "values": [
                (label, f"{_brief(raw)} {known.get(label, ('', ''))[0]}", _brief(score), known.get(label, ("", ""))[1])
                for label, raw, score in values
            ],
        }


def _units_and_weights(run: Run) -> dict[str, tuple[str, str]]:
    """By label what config.toml says: the unit of the raw values, and the weight or "filter"; {} where it is gone."""
    path = run.directory / "config.toml" if run.directory else None
    manifest = read_manifest(run.directory) if run.directory else {}
    units = dict(zip(manifest.get("labels", ()), manifest.get("units", ()), strict=False))  # as components were built
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")) if path else {}
        components = table["scoring"]["component"]
        return {
            component["label"]: (
                units.get(component["label"])
                or (COMPONENTS[component["name"]].item.unit if component["name"] in COMPONENTS else ""),
                "filter" if component.get("filter") else f"{component['weight']:g}",
            )
            for component in components
        }
    except (ValueError, OSError, KeyError, TypeError):
        return {}


def _brief(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _draw(smiles: str) -> Any:
    """The drawing as trusted markup: RDKit writes it from the atoms alone, no text of ours goes in."""
    from markupsafe import Markup

    molecule = read(smiles).molecule
    if molecule is None:
        return ""
    try:
        from rdkit.Chem.Draw import rdMolDraw2D
    except (
        ImportError
    ):  # RDKit's drawing needs libraries of X that a bare container has not: no reason to lose a report
        return ""
    drawer = rdMolDraw2D.MolDraw2DSVG(220, 160)
    with quiet():
        rdMolDraw2D.PrepareAndDrawMolecule(drawer, molecule.mol)
    drawer.FinishDrawing()
    text = drawer.GetDrawingText()
    return Markup(text[text.index("<svg") :])


def _curves(run: Run, counted: Digest, threshold: float) -> list[tuple[str, Any]]:
    from markupsafe import Markup

    from chemmara.reporting.plots import line_svg

    steps = _by_step(run)
    if not steps.calls:
        return []
    scaffolds = scaffold_curve(counted, threshold)
    hits = [0.0]
    for score in counted.scores:
        hits.append(hits[-1] + (score >= threshold))
    calls = list(map(float, range(len(hits))))
    found = {"hits": (calls, hits), "distinct scaffolds": (calls, list(map(float, scaffolds)))}
    shares = {"valid": (steps.calls, steps.validity), "new among the valid": (steps.calls, steps.fresh)}
    plots = {
        f"Hits (score ≥ {threshold:g}) and their scaffolds": (found, "molecules"),
        "Mean score of a step": ({"score": (steps.calls, steps.score)}, "score"),
        "Validity and share of new molecules": (shares, "share"),
    }
    return [(title, Markup(line_svg(lines, "oracle calls", y))) for title, (lines, y) in plots.items()]


def _by_step(run: Run) -> _Steps:
    steps = _Steps([], [], [], [])
    met: set[str] = set()  # refused by the screen or not
    sent: set[str] = set()
    batch: list[RunRow] = []

    def close() -> None:
        written = [row for row in batch if row.origin == SAMPLED]
        valid = [row for row in written if row.valid]
        scores = [row.score for row in valid if not math.isnan(row.score)]
        fresh = {row.smiles for row in valid} - met
        met.update(row.smiles for row in batch if row.valid)
        sent.update(row.smiles for row in batch if was_sent(row.valid, row.error))
        if written:
            steps.calls.append(float(len(sent)))
            steps.score.append(math.fsum(scores) / len(scores) if scores else math.nan)
            steps.validity.append(len(valid) / len(written))
            steps.fresh.append(len(fresh) / len(valid) if valid else math.nan)

    for row in run.rows():
        if batch and row.step != batch[0].step:
            close()
            batch = []
        batch.append(row)
    if batch:
        close()
    return steps


def _settings(run: Run) -> Iterator[tuple[str, str]]:
    path = run.directory / "config.toml" if run.directory else None
    if path is None or not path.is_file():
        return
    try:
        yield from _flat(tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValueError, OSError) as error:
        yield "config.toml", f"cannot be read: {error}"


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A nested table as (dotted name, text) pairs, in order."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{name}[{index}]")
    else:
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)

"""Figures. They are made without pyplot, so no state is shared with anything else that plots in the process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from chemmara.reporting.measures import Digest, scaffold_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 200


def comparison_figure(digests: Sequence[Digest], thresholds: Sequence[float]) -> Figure:
    """Distinct scaffolds among the hits against oracle calls: per method the mean over seeds, and a band of one sd."""
    figure = _figure(5.2 * len(thresholds), 4.0)
    axes = figure.subplots(1, len(thresholds), squeeze=False)[0]
    methods = list(dict.fromkeys(digest.run.method for digest in digests))
    for axis, threshold in zip(axes, thresholds, strict=True):
        for method in methods:
            _band(axis, [d for d in digests if d.run.method == method], threshold, method)
        axis.set_xlabel("oracle calls")
        axis.set_ylabel("distinct scaffolds among hits")
        axis.set_title(f"hit: score ≥ {threshold:g}", fontsize=10)
        axis.legend(frameon=False)
    return figure


def _band(axis: Axes, digests: Sequence[Digest], threshold: float, label: str) -> None:
    import numpy as np

    curves = [np.asarray(scaffold_curve(digest, threshold), dtype=float) for digest in digests]
    calls = np.unique(np.linspace(0, max(len(curve) for curve in curves) - 1, _POINTS).astype(int))
    # A run that stopped early holds its last value.
    values = np.array([curve[np.minimum(calls, len(curve) - 1)] for curve in curves])
    mean = values.mean(axis=0)
    (line,) = axis.plot(calls, mean, label=f"{label} ({len(curves)})")
    if len(curves) > 1:
        sd = values.std(axis=0, ddof=1)
        axis.fill_between(calls, mean - sd, mean + sd, alpha=0.2, color=line.get_color(), linewidth=0)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def line_svg(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str) -> str:
    """A small line plot as an SVG element; ``lines`` maps a label to (x values, y values)."""
    import io

    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "chemmara", "svg.fonttype": "path"}):
        # Margins and the place of the legend are given: to have them found takes longer than all of the drawing.
        figure = Figure(figsize=(4.6, 2.9))
        axis = figure.subplots(gridspec_kw={"left": 0.19, "right": 0.97, "bottom": 0.16, "top": 0.86})
        for label, (xs, ys) in lines.items():
            axis.plot(xs, ys, label=label)
        axis.set_xlabel(x)
        axis.set_ylabel(y)
        if len(lines) > 1:
            axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(lines), borderaxespad=0.2)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

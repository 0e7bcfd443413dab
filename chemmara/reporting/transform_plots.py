"""Every transform as a curve: what a raw value scores, with the parameters that the curve was drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from chemmara.config import check
from chemmara.errors import UserError
from chemmara.scoring.transforms import TRANSFORMS, apply

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg", ".pdf")
_POINTS = 801


class Sketch(NamedTuple):
    """Parameters of a transform, the raw values between which it is drawn, and what they could be."""

    parameters: dict[str, Any]
    low: float
    high: float
    axis: str


SKETCHES: dict[str, list[Sketch]] = {
    "sigmoid": [Sketch({"low": 5.0, "high": 8.0, "k": k}, 3, 10, "pIC50") for k in (0.25, 0.5)],
    "reverse_sigmoid": [Sketch({"low": -11.0, "high": -7.0, "k": k}, -14, -4, "kcal/mol") for k in (0.25, 0.5)],
    "double_sigmoid": [
        Sketch({"low": 200.0, "high": 500.0}, 100, 600, "g/mol"),
        Sketch({"low": 200.0, "high": 500.0, "coef_div": 300.0, "coef_si": 5.0, "coef_se": 5.0}, 100, 600, "g/mol"),
    ],
    "step": [Sketch({"low": 1.0, "high": 3.0}, -1, 5, "logP")],
    "left_step": [Sketch({"low": 5.0}, 0, 10, "count")],
    "right_step": [Sketch({"high": 2.0}, 0, 10, "count")],
    "exponential_decay": [Sketch({"k": k}, -1, 5, "count") for k in (0.5, 1.0)],
    "value_mapping": [Sketch({"mapping": {"0": 1.0, "1": 0.6, "2": 0.2}}, -0.5, 4.5, "count")],
    "gaussian": [
        Sketch({"mean": 700.0, "sd": 200.0, "plateau": side}, 0, 1400, "BertzCT") for side in ("none", "below")
    ],
    "clip": [Sketch({"low": 0.3, "high": 0.7, "reverse": turned}, 0, 1, "similarity") for turned in (False, True)],
}

GENERIC = {"low": 0.0, "high": 1.0}
"""Values of required parameters with which a transform without a sketch can be drawn."""

NO_SKETCH = "cannot be drawn: it has no line in SKETCHES (chemmara/reporting/transform_plots.py)"


def sketches(name: str) -> list[Sketch]:
    """What to draw of a transform: its lines in SKETCHES, else its defaults with ``low`` 0 and ``high`` 1.

    None where it asks for other parameters, which nobody but its author can choose.
    """
    if name in SKETCHES:
        return SKETCHES[name]
    wanted = [key for key, field in TRANSFORMS[name].parameters.model_fields.items() if field.is_required()]
    if not {*wanted} <= GENERIC.keys():
        return []
    return [Sketch({key: GENERIC[key] for key in wanted}, -0.5, 1.5, "without a unit")]


def plot_transforms(out: str | Path, names: Sequence[str] = ()) -> tuple[list[Path], list[str]]:
    """Draw transforms (all by default) into one file, or each into a file of its own in a directory.

    Returns the files, and the names that were left out because there is no sketch of them. Raises :class:`UserError`
    for a name that is no transform, where nothing is left to draw, and for a file that cannot be written.
    """
    from matplotlib.figure import Figure

    out = Path(out)
    asked = [TRANSFORMS[name].name for name in names] or TRANSFORMS.names()
    chosen = [name for name in asked if sketches(name)]
    left_out = [name for name in asked if name not in chosen]
    if not chosen:
        raise UserError(f"transform '{left_out[0]}' {NO_SKETCH}")
    single = out.suffix.lower() in SUFFIXES
    if out.suffix and not single and not out.is_dir():
        raise UserError(f"'{out}' is neither a directory nor a file that ends in {', '.join(SUFFIXES)}")
    try:
        if not single:
            out.mkdir(parents=True, exist_ok=True)
            files = [out / f"{name}.png" for name in chosen]
            for name, file in zip(chosen, files, strict=True):
                figure = Figure(figsize=(4.2, 3.0), layout="constrained")
                _draw(figure.subplots(), name)
                figure.savefig(file, dpi=120)
            return files, left_out
        across = min(len(chosen), 3)
        down = -(-len(chosen) // across)
        figure = Figure(figsize=(4.2 * across, 3.0 * down), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for axis, name in zip(axes, chosen):
            _draw(axis, name)
        for axis in axes[len(chosen) :]:
            axis.set_visible(False)
        figure.savefig(out, dpi=120)
    except OSError as error:
        raise UserError(f"cannot write '{error.filename or out}': {error.strerror or error}") from None
    return [out], left_out


def _draw(axis: Axes, name: str) -> None:
    import numpy as np

    drawn = sketches(name)
    for sketch in drawn:
        parameters = check(TRANSFORMS[name].parameters, sketch.parameters, name)
        if name == "value_mapping":
            x = np.arange(np.ceil(sketch.low), np.floor(sketch.high) + 1)
        else:
            x = np.linspace(sketch.low, sketch.high, _POINTS)
        label = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                          for key, value in sketch.parameters.items())  # fmt: skip
        axis.plot(x, apply(name, parameters, x), "o" if name == "value_mapping" else "-", label=label)
    axis.set_title(name, fontsize=10)
    axis.set_xlabel(f"raw value, here {drawn[0].axis}")
    axis.set_ylabel("score")
    axis.set_ylim(-0.05, 1.05)
    if any(sketch.parameters for sketch in drawn):
        axis.legend(frameon=False, fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.22))

"""Transforms: a raw value in its unit becomes a score in [0, 1].

Each is a function ``(values (n,), parameters) -> (n,)`` in a registry; :func:`apply` calls one. NaN stays NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from chemmara.config import Parameters
from chemmara.lazy import lazy
from chemmara.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Transform = Callable[[Array, Any], Array]
else:
    np = lazy("numpy")

TRANSFORMS: Registry[Transform] = Registry("transform", ("chemmara.scoring.transforms",))

_LN10 = math.log(10.0)


def apply(name: str, parameters: Parameters, values: Array) -> Array:
    """Transform ``values`` (n,) into scores (n,) in [0, 1]; NaN where ``values`` is NaN."""
    known = np.asarray(values, dtype=float)
    with np.errstate(over="ignore", under="ignore"):  # exp saturates to the right limits
        scores = TRANSFORMS[name].item(known, parameters)
    return np.where(np.isnan(known), np.nan, np.clip(scores, 0.0, 1.0))


def span(name: str, parameters: Parameters, low: float, high: float) -> tuple[float, float]:
    """The least and the highest score of raw values from ``low`` to ``high``, on a grid with the parameters' own
    numbers in it: a window may be narrower than the grid."""
    own = [value for _, value in parameters if isinstance(value, float)]
    own += [float(key) for _, value in parameters if isinstance(value, dict) for key in value]
    scores = apply(name, parameters, np.clip([*np.linspace(low, high, 1001), *own], low, high))
    return float(scores.min()), float(scores.max())


def _logistic10(x: Array) -> Array:
    """1 / (1 + 10^-x), stable on both sides."""
    small = np.exp(-_LN10 * np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


class Range(Parameters):
    """Takes two raw values, ``low < high``."""

    low: float = Field(description="lower raw value")
    high: float = Field(description="upper raw value")

    _may_be_equal: ClassVar[bool] = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not (self.low < self.high or (self._may_be_equal and self.low == self.high)):
            asked = "not be above" if self._may_be_equal else "be below"
            raise ValueError(f"low ({self.low:g}) must {asked} high ({self.high:g})")
        return self

    @property
    def middle(self) -> float:
        return self.low / 2 + self.high / 2


class Slope(Range):
    """Parameters of the sigmoids."""

    k: float = Field(0.25, gt=0, description="steepness; 0.25 puts the ends of the range at 0.053 and 0.947")


@TRANSFORMS.register("sigmoid", Slope)
def sigmoid(x: Array, p: Slope) -> Array:
    """More is better: 1 / (1 + 10^(-10 k (x - (low + high)/2) / (high - low))), 0.5 in the middle of the range."""
    return _logistic10(10.0 * p.k * ((x - p.middle) / (p.high - p.low)))


@TRANSFORMS.register("reverse_sigmoid", Slope)
def reverse_sigmoid(x: Array, p: Slope) -> Array:
    """Less is better: 1 - sigmoid."""
    return _logistic10(-10.0 * p.k * ((x - p.middle) / (p.high - p.low)))


class TwoSlopes(Range):
    """Parameters of the double sigmoid."""

    coef_div: float = Field(100.0, gt=0, description="common divisor of both steepnesses, in raw units")
    coef_si: float = Field(150.0, gt=0, description="steepness of the rise at low")
    coef_se: float = Field(150.0, gt=0, description="steepness of the fall at high")


@TRANSFORMS.register("double_sigmoid", TwoSlopes)
def double_sigmoid(x: Array, p: TwoSlopes) -> Array:
    """A window with soft edges: rises at low, falls at high, each edge 0.5.

    Left of the middle 1/(1 + 10^(-coef_si (x - low)/coef_div)), else 1 - 1/(1 + 10^(-coef_se (x - high)/coef_div)).
    """
    rise = _logistic10(p.coef_si * ((x - p.low) / p.coef_div))
    fall = _logistic10(-p.coef_se * ((x - p.high) / p.coef_div))
    return np.where(x < p.middle, rise, fall)


class Closed(Range):
    """Takes two raw values, ``low <= high``."""

    _may_be_equal: ClassVar[bool] = True


@TRANSFORMS.register("step", Closed)
def step(x: Array, p: Closed) -> Array:
    """A window with hard edges: 1 where low <= x <= high, else 0."""
    return ((p.low <= x) & (x <= p.high)).astype(float)


class Low(Parameters):
    """Takes the raw value up to which the score is 1."""

    low: float = Field(description="highest raw value that scores 1")


@TRANSFORMS.register("left_step", Low)
def left_step(x: Array, p: Low) -> Array:
    """Less is better, hard edge: 1 where x <= low, else 0."""
    return (x <= p.low).astype(float)


class High(Parameters):
    """Takes the raw value from which the score is 1."""

    high: float = Field(description="lowest raw value that scores 1")


@TRANSFORMS.register("right_step", High)
def right_step(x: Array, p: High) -> Array:
    """More is better, hard edge: 1 where x >= high, else 0."""
    return (x >= p.high).astype(float)


class Decay(Parameters):
    """Takes the rate of the decay."""

    k: float = Field(1.0, gt=0, description="rate, per raw unit")


@TRANSFORMS.register("exponential_decay", Decay)
def exponential_decay(x: Array, p: Decay) -> Array:
    """Less is better: exp(-k x), 1 where x < 0."""
    return np.exp(-p.k * np.maximum(x, 0.0))


class Mapping(Parameters):
    """Takes a table of raw values and their scores."""

    mapping: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        min_length=1, description="score of each raw value, for example { 0 = 1.0, 1 = 0.3 }"
    )
    default: float = Field(0.0, ge=0, le=1, description="score of every other raw value")

    @field_validator("mapping")
    @classmethod
    def _numbers(cls, mapping: dict[str, float]) -> dict[str, float]:
        for key in mapping:
            try:
                number = float(key)
            except ValueError:
                raise ValueError(f"'{key}' is not a number: the keys are raw values") from None
            if not math.isfinite(number):
                raise ValueError(f"'{key}' is not a finite number")
        return mapping


@TRANSFORMS.register("value_mapping", Mapping)
def value_mapping(x: Array, p: Mapping) -> Array:
    """A table: the score that stands beside the raw value, else the default."""
    scores = np.full(x.shape, p.default)
    for key, score in p.mapping.items():
        scores[x == float(key)] = score
    return scores


class Bell(Parameters):
    """Parameters of the Gaussian."""

    mean: float = Field(description="raw value that scores 1")
    sd: float = Field(gt=0, description="standard deviation, in raw units")
    plateau: Literal["none", "below", "above"] = Field(
        "none", description="side of the mean on which the score stays 1"
    )


@TRANSFORMS.register("gaussian", Bell)
def gaussian(x: Array, p: Bell) -> Array:
    """Nearer is better: exp(-((x - mean)/sd)^2 / 2)."""
    z = (x - p.mean) / p.sd
    if p.plateau == "below":
        z = np.maximum(z, 0.0)
    elif p.plateau == "above":
        z = np.minimum(z, 0.0)
    return np.exp(-0.5 * z * z)


class Ramp(Range):
    """Takes the ends of the ramp."""

    low: float = Field(0.0, description="raw value that scores 0")
    high: float = Field(1.0, description="raw value that scores 1")
    reverse: bool = Field(False, description="score 1 at low and 0 at high instead")


@TRANSFORMS.register("clip", Ramp)
def clip(x: Array, p: Ramp) -> Array:
    """A straight ramp from 0 at low to 1 at high, flat outside."""
    ramp = np.clip((x - p.low) / (p.high - p.low), 0.0, 1.0)
    return 1.0 - ramp if p.reverse else ramp

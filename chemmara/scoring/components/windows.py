"""Several descriptors, each within its window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from chemmara.chemistry.molecules import Molecule
from chemmara.config import Parameters
from chemmara.errors import ConfigError, nearest
from chemmara.lazy import lazy
from chemmara.scoring.component import COMPONENTS, PerMolecule
from chemmara.scoring.components.descriptors import DESCRIPTORS

if TYPE_CHECKING:
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")


class Window(Parameters):
    """An interval, ends included; one of them may be open."""

    low: float | None = Field(None, description="lowest value inside")
    high: float | None = Field(None, description="highest value inside")

    @model_validator(mode="after")
    def _some_end(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError("a window needs low, high or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low ({self.low:g}) is above high ({self.high:g})")
        return self

    def holds(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


class WindowsParameters(Parameters):
    """Parameters of the property windows."""

    windows: dict[str, Window] = Field(
        min_length=1, description="for each descriptor an interval, for example { logp = { low = 1, high = 3 } }"
    )


@COMPONENTS.register("property_windows", WindowsParameters)
class PropertyWindows(PerMolecule):
    """Share of the given descriptors that lie within their windows, ends included.

    >>> from chemmara.chemistry.molecules import read
    >>> windows = {"molecular_weight": Window(high=500), "logp": Window(high=5), "hbd": Window(high=5)}  # Lipinski's
    >>> component = PropertyWindows(WindowsParameters(windows=windows), "")
    >>> [round(e.value, 2) for e in component([read("CC(=O)Nc1ccc(O)cc1").molecule, read("C" * 40).molecule])]
    [1.0, 0.33]
    """

    parameters: WindowsParameters

    def __init__(self, parameters: WindowsParameters, where: str) -> None:
        super().__init__(parameters, where)
        for name in parameters.windows:
            if name not in DESCRIPTORS:
                raise ConfigError(f"{where}.windows: unknown descriptor '{name}'{nearest(name, DESCRIPTORS)}")
        self.cost_us = sum(DESCRIPTORS[name].cost_us for name in parameters.windows)

    def _value(self, mol: Chem.Mol) -> float:
        windows = self.parameters.windows
        return sum(window.holds(DESCRIPTORS[name].function(mol)) for name, window in windows.items()) / len(windows)

    def note(self, molecule: Molecule) -> str:
        """The descriptors outside their windows, each with its value."""
        windows = self.parameters.windows.items()
        values = {name: float(DESCRIPTORS[name].function(molecule.mol)) for name, _ in windows}
        outside = [f"{name} {values[name]:.4g}" for name, window in windows if not window.holds(values[name])]
        return f"outside: {', '.join(outside)}" if outside else ""

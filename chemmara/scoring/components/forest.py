"""A model of one's own data as a component: what an ensemble of trees says, how sure it is, how near its data are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field

from chemmara.chemistry.fingerprints import FingerprintName, function, tanimoto
from chemmara.chemistry.molecules import Molecule
from chemmara.config import Parameters
from chemmara.errors import ConfigError, UserError
from chemmara.lazy import lazy
from chemmara.scoring.component import COMPONENTS, Component, file_hash
from chemmara.scoring.forests import BUNDLED, FILE, features, find_forest, load_forest, mean_of, spread_of

if TYPE_CHECKING:
    import numpy as np
    from rdkit import DataStructs
else:
    np = lazy("numpy")
    DataStructs = lazy("rdkit.DataStructs")

_FINGERPRINT_US = 35.0
_TREE_US = 2.0
_KNOWN_US = 0.1


Output = Literal["value", "lower", "upper", "uncertainty", "similarity"]


class ForestParameters(Parameters):
    """Parameters of the ensemble of trees."""

    model: str = Field(
        description="a bundled forest by name (gsk3b), or what `chemmara surrogate train` wrote: the folder or its .npz"
    )
    output: Output = Field(
        "value",
        description="value; lower or upper: the value less or plus deviations times the uncertainty; uncertainty: the "
        "spread of the ensemble; similarity: Tanimoto to the nearest training molecule, the applicability domain",
    )
    deviations: float = Field(1.0, ge=0, le=10, description="of lower and upper: how many times the uncertainty")


@COMPONENTS.register("forest", ForestParameters)
class TreeEnsemble(Component):
    """A model of your own data: probability of activity, or any value, from trees on Morgan fingerprints.

    `chemmara surrogate train data.csv` makes one (docs/surrogates.md): a random forest [Breiman, Mach. Learn. 2001, 45,
    5] or gradient boosting. The bundled `gsk3b` tells inhibitors of GSK3-beta from decoys (ExCAPE-DB); its model card
    has the figures. A model of values, not of classes, needs a transform.

    >>> from chemmara.chemistry.molecules import read
    >>> gsk3b = TreeEnsemble(ForestParameters(model="gsk3b"), "")
    >>> smiles = ["Cn1cc(C2=C(c3c[nH]c4ccccc34)C(=O)NC2=O)c2ccccc21", "CC(=O)Nc1ccc(O)cc1"]  # bisindolylmaleimide
    >>> [round(e.value, 1) for e in gsk3b([read(text).molecule for text in smiles])]
    [1.0, 0.0]
    """

    parameters: ForestParameters

    def __init__(self, parameters: ForestParameters, where: str) -> None:
        super().__init__(parameters, where)
        try:
            self._file = find_forest(parameters.model)
            self._forest = load_forest(self._file)
            name = cast(FingerprintName, self._forest.meta.get("fingerprint"))
            if name == "phco":
                raise ValueError("phco bits have no fixed size")
            self._fingerprint = function(name, size=self._forest.size, folded_counts=self._forest.counts)
            self._bits = function(name, size=self._forest.size)
        except (UserError, ValueError) as error:
            raise ConfigError(f"{where}.model: {error}") from None
        if parameters.output == "similarity" and self._forest.known is None:
            raise ConfigError(f"{where}.output: '{parameters.model}' holds no training molecules to be similar to")
        self.cost_us = _FINGERPRINT_US + _TREE_US * self._forest.trees
        if parameters.output == "similarity":
            self.cost_us = _FINGERPRINT_US + _KNOWN_US * len(self._known)
        elif parameters.output == "uncertainty":
            self.bounds = (0.0, 1.0 if self._forest.classifies else None)
        elif not self._forest.classifies:
            self.bounds = (None, None)
        if parameters.output != "similarity":
            self.unit = str(self._forest.meta.get("unit", ""))

    @cached_property
    def _known(self) -> list[Any]:
        known = self._forest.known
        return [] if known is None else [DataStructs.CreateFromBinaryText(row.tobytes()) for row in known]

    @classmethod
    def resolve(cls, parameters: ForestParameters, folder: Path) -> ForestParameters:
        """A file or a folder with one is looked for in ``folder`` first, then from the working directory; a bundled
        name stays a name."""
        beside = folder / parameters.model
        if (beside.suffix == ".npz" and beside.is_file()) or (beside / FILE).is_file():
            return parameters.model_copy(update={"model": str(beside.absolute())})
        with suppress(UserError):  # the constructor says so better
            found = find_forest(parameters.model)
            if not found.is_relative_to(BUNDLED):
                return parameters.model_copy(update={"model": str(found.absolute())})
        return parameters

    def identity(self) -> dict[str, Any]:
        """What is in the file, and what is asked of it; where it lies does not matter."""
        asked = {} if self.parameters.output == "value" else self.parameters.model_dump(exclude={"model"})
        return {"model": file_hash(self._file), **asked}

    def _score(self, molecules: Sequence[Molecule]) -> np.ndarray[Any, Any] | list[float]:
        output = self.parameters.output
        if output == "similarity":
            return [float(tanimoto(self._bits(molecule.mol), self._known).max()) for molecule in molecules]
        rows = np.zeros((len(molecules), self._forest.size), dtype=np.uint8)
        for row, molecule in zip(rows, molecules, strict=True):
            row[:] = features(self._fingerprint(molecule.mol), self._forest.size, self._forest.counts)
        said = self._forest.members(rows)
        if output == "value":
            return mean_of(said)
        if output == "uncertainty":
            return spread_of(said)
        sign = 1 if output == "upper" else -1
        bound = mean_of(said) + sign * self.parameters.deviations * spread_of(said)
        return np.clip(bound, 0.0, 1.0) if self._forest.classifies else bound

"""A QSAR model as a component: the probability that a random forest gives to the active class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import Field

from chemmara.chemistry.fingerprints import FingerprintName, function
from chemmara.chemistry.molecules import Molecule
from chemmara.config import Parameters
from chemmara.errors import ConfigError, UserError
from chemmara.lazy import lazy
from chemmara.scoring.component import COMPONENTS, Component, file_hash
from chemmara.scoring.forests import find_forest, load_forest

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

_FINGERPRINT_US = 35.0
_TREE_US = 2.0


class ForestParameters(Parameters):
    """Parameters of the random forest."""

    model: str = Field(
        description="a bundled forest by name (gsk3b), or an .npz file written by python -m chemmara.workflows.forest"
    )


@COMPONENTS.register("forest", ForestParameters)
class RandomForest(Component):
    """Probability of activity from a random forest on fingerprint bits [Breiman, Mach. Learn. 2001, 45, 5].

    The bundled `gsk3b` tells inhibitors of GSK3-beta from decoys (ExCAPE-DB); its model card has the figures.

    >>> from chemmara.chemistry.molecules import read
    >>> gsk3b = RandomForest(ForestParameters(model="gsk3b"), "")
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
            self._fingerprint = function(name, size=self._forest.size)
        except (UserError, ValueError) as error:
            raise ConfigError(f"{where}.model: {error}") from None
        self.cost_us = _FINGERPRINT_US + _TREE_US * self._forest.trees

    @classmethod
    def resolve(cls, parameters: ForestParameters, folder: Path) -> ForestParameters:
        """A file is looked for in ``folder`` first; a bundled name stays a name."""
        beside = folder / parameters.model
        if parameters.model.endswith(".npz") and beside.is_file():
            return parameters.model_copy(update={"model": str(beside.absolute())})
        return parameters

    def identity(self) -> dict[str, Any]:
        """What is in the file; where it lies does not matter."""
        return {"model": file_hash(self._file)}

    def _score(self, molecules: Sequence[Molecule]) -> np.ndarray[Any, Any]:
        bits = np.zeros((len(molecules), self._forest.size), dtype=np.uint8)
        for row, molecule in zip(bits, molecules, strict=True):
            row[list(self._fingerprint(molecule.mol).GetOnBits())] = 1
        return self._forest.predict(bits)

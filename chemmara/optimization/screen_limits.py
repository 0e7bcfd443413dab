"""Rules of a screen that hold from the first step on: what is known already, and limits that no molecule may pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from chemmara.chemistry.files import read_records
from chemmara.chemistry.fingerprints import function, tanimoto
from chemmara.chemistry.molecules import Molecule, parse_reference, parse_smarts, read
from chemmara.chemistry.salts import parents
from chemmara.config import Parameters
from chemmara.errors import ConfigError, UserError, nearest
from chemmara.lazy import lazy
from chemmara.optimization.screening import SCREENS, ScreenRule
from chemmara.scoring.components.descriptors import DESCRIPTORS
from chemmara.scoring.components.windows import Window

if TYPE_CHECKING:
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")


def molecules_of(path: Path, where: str) -> tuple[Molecule, ...]:
    """The molecules of a file. Raises :class:`ConfigError`; read once a process, as long as the file stays the same."""
    try:
        stamp = path.stat()
    except OSError:
        raise ConfigError(f"{where}: file '{path}' does not exist") from None
    return _molecules_of(path, where, stamp.st_size, stamp.st_mtime_ns)


@cache
def _molecules_of(path: Path, where: str, size: int, changed: int) -> tuple[Molecule, ...]:
    try:
        records = list(read_records(path))
    except UserError as error:
        raise ConfigError(f"{where}: {error}") from None
    if not records:
        raise ConfigError(f"{where}: file '{path}' has no molecules")
    return tuple(parse_reference(record.smiles, f"{where} line {record.line}") for record in records)


class KnownParameters(Parameters):
    """Molecules that are known."""

    file: Path = Field(description="file of molecules (.smi, .csv, .sdf, also .gz)")
    ignore_stereo: bool = Field(False, description="a stereoisomer of a known molecule is known as well")


@SCREENS.register("known", KnownParameters)
class Known(ScreenRule):
    """Refuses the molecules of a file, in whatever spelling it has them, and the organic parts of salts among them."""

    parameters: KnownParameters

    def __init__(self, parameters: KnownParameters) -> None:
        super().__init__(parameters)
        known = molecules_of(parameters.file, "file")
        alone = (part for molecule in known for part in parents(molecule))
        self._known = frozenset(self._key(molecule) for molecule in (*known, *alone))

    def refuse(self, molecule: Molecule) -> str | None:
        return f"known from {self.parameters.file.name}" if self._key(molecule) in self._known else None

    def _key(self, molecule: Molecule) -> str:
        if not self.parameters.ignore_stereo:
            return molecule.smiles
        return str(Chem.MolToSmiles(molecule.mol, isomericSmiles=False))


class SimilarParameters(Parameters):
    """Molecules that are too similar to others."""

    references_file: Path | None = Field(None, description="file of molecules to keep away from; default: none")
    known: bool = Field(False, description="keep away from what the run has scored, too")
    similarity: float = Field(0.7, gt=0, le=1, description="Tanimoto similarity from which a molecule is refused")
    fingerprint: Literal["ecfp4", "ecfp6", "fcfp4", "atom_pairs"] = Field("ecfp4", description="bits of these")


@SCREENS.register("similar", SimilarParameters)
class Similar(ScreenRule):
    """Refuses molecules that are too similar to those of a file, or to what the run has scored."""

    parameters: SimilarParameters

    def __init__(self, parameters: SimilarParameters) -> None:
        super().__init__(parameters)
        if parameters.references_file is None and not parameters.known:
            raise ConfigError("known: nothing to be similar to; set references_file, known = true, or both")
        file = parameters.references_file
        self._smiles: list[str] = []
        self._prints: list[Any] = []
        self._scored: dict[str, None] = {}
        self._references = molecules_of(file, "references_file") if file else ()

    def refuse(self, molecule: Molecule) -> str | None:
        self._prepare()
        if not self._prints:
            return None
        similarity = tanimoto(self._print(molecule.mol), self._prints)
        nearest_one = int(similarity.argmax())
        if similarity[nearest_one] < self.parameters.similarity:
            return None
        return f"its similarity to {self._smiles[nearest_one]} is {similarity[nearest_one]:.2f}"

    def admit(self, molecule: Molecule) -> None:
        if self.parameters.known and molecule.smiles not in self._scored:
            self._prepare()
            self._scored[molecule.smiles] = None
            self._add(molecule)

    def learn(self, molecule: Molecule, score: float) -> None:
        """Seed molecules were never admitted."""
        self.admit(molecule)

    @property
    def _print(self) -> Callable[[Chem.Mol], Any]:
        return function(self.parameters.fingerprint)

    def _prepare(self) -> None:
        """Fingerprints of the references, made with the first molecule: a config is checked without them."""
        for molecule in self._references if not self._prints else ():
            self._add(molecule)

    def _add(self, molecule: Molecule) -> None:
        self._smiles.append(molecule.smiles)
        self._prints.append(self._print(molecule.mol))

    def state_dict(self) -> dict[str, Any]:
        return {"scored": list(self._scored)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._smiles, self._prints, self._scored = [], [], {}
        for smiles in state["scored"]:
            molecule = read(smiles).molecule
            if molecule is not None:
                self.admit(molecule)


class LimitParameters(Parameters):
    """A limit that is learned from or not."""

    penalise: bool = Field(True, description="learn from a refused molecule with reward 0, as from invalid text")


class WindowsRuleParameters(LimitParameters):
    """Windows of descriptors."""

    windows: dict[str, Window] = Field(
        min_length=1, description="for each descriptor an interval, for example { logp = { low = 1, high = 3 } }"
    )


@SCREENS.register("windows", WindowsRuleParameters)
class Windows(ScreenRule):
    """Refuses molecules with a descriptor outside of its window, ends included; those of the `property_windows` score.

    A hard limit that costs no oracle call, where the score would be a soft one that does.
    """

    parameters: WindowsRuleParameters

    def __init__(self, parameters: WindowsRuleParameters) -> None:
        super().__init__(parameters)
        self.penalise = parameters.penalise
        for name in parameters.windows:
            if name not in DESCRIPTORS:
                raise ConfigError(f"windows: unknown descriptor '{name}'{nearest(name, DESCRIPTORS)}")

    def refuse(self, molecule: Molecule) -> str | None:
        for name, window in self.parameters.windows.items():
            value = DESCRIPTORS[name].function(molecule.mol)
            if not window.holds(value):
                return f"{name} {value:g} is outside of {_interval(window)}"
        return None


def _interval(window: Window) -> str:
    low = "" if window.low is None else f"{window.low:g}"
    return f"{low}..{'' if window.high is None else f'{window.high:g}'}"


class SmartsParameters(LimitParameters):
    """Patterns that are wanted or not."""

    match: list[str] = Field([], description="SMARTS that must all be there")
    avoid: list[str] = Field([], description="SMARTS of which none may be there")


@SCREENS.register("smarts", SmartsParameters)
class Smarts(ScreenRule):
    """Refuses molecules that lack a pattern, or have one that they should not."""

    parameters: SmartsParameters

    def __init__(self, parameters: SmartsParameters) -> None:
        super().__init__(parameters)
        self.penalise = parameters.penalise
        if not parameters.match and not parameters.avoid:
            raise ConfigError("match: no SMARTS is given, in match or in avoid")
        self._match = _patterns(parameters.match, "match")
        self._avoid = _patterns(parameters.avoid, "avoid")

    def refuse(self, molecule: Molecule) -> str | None:
        for text, pattern in self._match.items():
            if not molecule.mol.HasSubstructMatch(pattern):
                return f"lacks {text}"
        for text, pattern in self._avoid.items():
            if molecule.mol.HasSubstructMatch(pattern):
                return f"has {text}"
        return None


def _patterns(texts: list[str], where: str) -> Mapping[str, Chem.Mol]:
    return {text: parse_smarts(text, f"{where}[{number}]") for number, text in enumerate(texts)}

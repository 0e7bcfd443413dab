"""What a scoring component is: one public call, one private hook. A new one is a file in ``components/``."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from chemmara.chemistry.molecules import Molecule, quiet
from chemmara.errors import ChemmaraError
from chemmara.lazy import lazy
from chemmara.registry import Registry
from chemmara.scoring.evaluation import Evaluation, SharedEvaluation
from chemmara.scoring.paths import plain, with_paths

if TYPE_CHECKING:
    import numpy as np
    from rdkit import Chem
else:
    np = lazy("numpy")
    Chem = lazy("rdkit.Chem")

EXPENSIVE_US = 300.0
"""Microseconds per molecule from which a component is worth spreading over processes."""

_LARGE = 1 << 26  # bytes, from which a hash takes long enough to be kept


class Component(ABC):
    """Gives molecules a raw value in ``unit``. An author writes only :meth:`_score`.

    ``bounds`` are the ends of the raw range (None: unbounded), ``cost_us`` an estimate in microseconds per molecule,
    and ``example`` a transform to suggest to users. ``version`` goes up whenever the values of the same settings
    change, so that stored ones are not mistaken for new ones. A constructor may set each of them on the instance,
    where they depend on the parameters, and raises ConfigError (naming ``where``) for parameters that make no sense.
    Components with equal parameters but for ``endpoint`` are answered by one call, where ``_score`` returns
    :class:`SharedEvaluation`; ``asked`` are the endpoints of them all.

    The value of a molecule may depend on nothing but the molecule and the parameters: not on its neighbours, the
    worker, the order or the clock.
    """

    unit: str = ""
    version: ClassVar[int] = 1
    bounds: tuple[float | None, float | None] = (0.0, 1.0)
    cost_us: float = 10.0
    example: str = "{ name = 'sigmoid', low = 0, high = 1 }"
    endpoint: str = ""
    asked: tuple[str, ...] = ()

    def __init__(self, parameters: Any, where: str) -> None:
        self.parameters = parameters
        self.where = where

    @classmethod
    def resolve(cls, parameters: Any, folder: Path) -> Any:
        """The parameters with relative paths made absolute: looked for in ``folder``, the config's own, then in the
        working directory. A resolved config gives the same values from anywhere."""
        return with_paths(parameters, lambda path: path if path.is_absolute() else locate(path, folder))

    def identity(self) -> dict[str, Any]:
        """Everything that the values depend on, as a plain table; a file stands by a hash of what is in it."""
        table: dict[str, Any] = plain(self.parameters, file_hash)
        return table

    def former_identity(self) -> dict[str, Any] | None:
        """The identity of these settings under an earlier version of chemmara that left something out; None: the same.

        Values kept under it are taken over, once, as those of what is there now: they were paid for.
        """
        return None

    def __call__(self, molecules: Sequence[Molecule]) -> list[Evaluation]:
        """One evaluation per molecule, in order. Never raises for a molecule: a failure is NaN with its reason.

        Where the batch raises, each molecule is tried alone, so that one cannot fail its neighbours. A ChemmaraError
        passes through: it is the user's to repair (a program that does not start), not the molecules' fault.
        """
        with quiet():
            try:
                return self._evaluate(molecules)
            except ChemmaraError:
                raise
            except Exception as error:
                if len(molecules) == 1:
                    return [failure(error)]
            return [evaluation for molecule in molecules for evaluation in self._alone(molecule)]

    def prepare(self) -> None:  # noqa: B027 - most components have nothing to do
        """Do what the first molecule would wait for, such as starting a program. Raises ConfigError.

        Called where a clock runs for each molecule: what is done here does not count as a molecule's time.
        """

    def note(self, molecule: Molecule) -> str:
        """What a chemist would ask about the value: names of alerts that match, the nearest reference; '' for nothing.

        Not part of the score, and asked for only where somebody looks: ``chemmara score --explain`` and ``--notes``.
        """
        return ""

    def _alone(self, molecule: Molecule) -> list[Evaluation]:
        try:
            return self._evaluate([molecule])
        except ChemmaraError:
            raise
        except Exception as error:
            return [failure(error)]

    def _evaluate(self, molecules: Sequence[Molecule]) -> list[Evaluation]:
        values = self._score(molecules)
        if len(values) != len(molecules):
            reason = f"expected {len(molecules)} values, got {len(values)}"
            return [Evaluation(math.nan, reason)] * len(molecules)
        return [evaluation_of(value) for value in values]

    @abstractmethod
    def _score(self, molecules: Sequence[Molecule]) -> Sequence[float | Evaluation] | np.ndarray[Any, Any]:
        """Raw values, one per molecule, in order: numbers, NaN, or an Evaluation with its reason for a failure."""


class PerMolecule(Component):
    """A component that looks at one molecule at a time. An author writes only :meth:`_value`."""

    def _score(self, molecules: Sequence[Molecule]) -> Sequence[float | Evaluation]:
        return [self._value(molecule.mol) for molecule in molecules]

    @abstractmethod
    def _value(self, mol: Chem.Mol) -> float:
        """The raw value of one molecule."""


COMPONENTS: Registry[type[Component]] = Registry("component", ("chemmara.scoring.components",))


def evaluation_of(value: Any) -> Evaluation:
    """The evaluation that a raw value stands for: whatever is no finite number is NaN with the reason."""
    if type(value) is float and math.isfinite(value):  # nearly every one
        return Evaluation(value)
    if isinstance(value, SharedEvaluation):
        return value
    if isinstance(value, Evaluation):
        if value.failed:
            return Evaluation(math.nan, value.error or "no value")
        value = value.value
    if value is None:
        return Evaluation(math.nan, "no value")
    if isinstance(value, (str, bytes)):
        return Evaluation(math.nan, f"not a number: {value!r:.80}")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return Evaluation(math.nan, f"not a number: {type(value).__name__}")
    if math.isfinite(number):
        return Evaluation(number)
    return Evaluation(math.nan, "not a number (NaN)" if math.isnan(number) else f"not a finite number ({number})")


def failure(error: BaseException) -> Evaluation:
    """A failed evaluation that tells what was raised, on one line."""
    text = " ".join(str(error).split())[:300]
    return Evaluation(math.nan, f"{type(error).__name__}: {text}" if text else type(error).__name__)


def locate(path: Path, folder: Path) -> Path:
    """``path`` made absolute: under ``folder``, unless it is in the working directory alone."""
    beside = folder / path
    return (path if path.exists() and not beside.exists() else beside).absolute()


def placeless(value: Any, stand_in: Callable[[Path], str]) -> Any:
    """A value of a config with ``stand_in`` in place of each absolute path: its files may lie elsewhere the next time.

    >>> placeless(["-m", "/here/model.pt", 3], lambda path: path.name)
    ['-m', 'model.pt', 3]
    """
    if isinstance(value, list):
        return [placeless(each, stand_in) for each in value]
    if isinstance(value, dict):
        return {name: placeless(each, stand_in) for name, each in value.items()}
    return stand_in(Path(value)) if isinstance(value, str) and Path(value).is_absolute() else value


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes; '' where it cannot be read. A large file that stays as it is is read once."""
    try:
        status = path.stat()
        if status.st_size > _LARGE:
            return _kept_hash(path, status.st_size, status.st_mtime_ns, status.st_ino)
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


@lru_cache(maxsize=64)
def _kept_hash(path: Path, *status: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

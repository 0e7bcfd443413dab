"""A user's own Python function as a component."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import Field, field_validator

from chemmara.chemistry.molecules import Molecule
from chemmara.config import Parameters
from chemmara.errors import ConfigError, nearest
from chemmara.scoring.arguments import WATCHED, check_watched, contents, is_file, located_files
from chemmara.scoring.component import COMPONENTS, Component, failure, file_hash
from chemmara.scoring.evaluation import Evaluation
from chemmara.scoring.imports import imported

_NO_FILE = "; a module is named without .py and without its folder, which `path` can name"


class PythonParameters(Parameters):
    """Parameters of a user's function."""

    function: str = Field(description="module:function, for example my_scores:solubility")
    kwargs: dict[str, Any] = Field(default_factory=dict, description="keyword arguments passed on to the function")
    path: Path | None = Field(None, description="folder searched first for the module; default: the config's own")
    watched: list[Path] | None = Field(None, description=WATCHED)

    @field_validator("function")
    @classmethod
    def _two_names(cls, text: str) -> str:
        module, colon, function = text.partition(":")
        if not colon or not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
            file = ".py:" in f"{text}:" or "/" in text or "\\" in text
            raise ValueError(f"should read module:function{_NO_FILE if file else ''}")
        return text

    @field_validator("kwargs")
    @classmethod
    def _can_be_written(cls, table: dict[str, Any]) -> dict[str, Any]:
        """A run's config is kept as TOML, which has no null; left out silently, the values would be others there."""
        if _has_null(table):
            raise ValueError("null has no place in a run's config.toml; leave the argument out, or give it a value")
        return table


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_null(each) for each in value.values())
    return value is None or (isinstance(value, list) and any(_has_null(each) for each in value))


TAKES_A_LIST = "it is called with a list of SMILES"
_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD


@COMPONENTS.register("python", PythonParameters)
class PythonFunction(Component):
    """Your own function: a list of canonical SMILES in, one number for each out (None or NaN for a failure).

    The module is looked for in ``path``, in the working directory, then among the installed packages. A value may
    depend on nothing but its SMILES and ``kwargs``. Where the call raises, each molecule of the batch is called alone;
    return None for a molecule that fails to avoid that. Values outside [0, 1] need a transform, else they are failures.
    Stored values are used again until the module changes, one beside it that it imports, or a file that is ``watched``.
    """

    parameters: PythonParameters
    cost_us = 1000
    example = "{ name = 'clip', low = 0, high = 10 }"

    def __init__(self, parameters: PythonParameters, where: str) -> None:
        super().__init__(parameters, where)
        name, _, function = parameters.function.partition(":")
        self._folders = [folder for folder in (parameters.path, Path.cwd()) if folder is not None]
        self._module = _load(name, self._folders, f"{where}.function")
        found = getattr(self._module, function, None)
        if not callable(found):
            names = [key for key, value in vars(self._module).items() if callable(value) and not key.startswith("_")]
            hint = nearest(function, names)
            raise ConfigError(f"{where}.function: module '{name}' has no function '{function}'{hint}")
        self._function: Callable[..., Any] = found
        self._answered = False  # whether it has taken a list
        check_watched(parameters.watched, where)
        self._tell_of_files()
        _check_arguments(found, parameters, f"{where}.kwargs")

    @classmethod
    def resolve(cls, parameters: PythonParameters, folder: Path) -> PythonParameters:
        path = folder if parameters.path is None else folder / parameters.path
        return parameters.model_copy(
            update={"path": path.absolute(), "watched": located_files(parameters.watched, folder)}
        )

    def _tell_of_files(self) -> None:
        """Say of a file in the arguments that it is not watched: it may be a model, and as well a log."""
        named = {path.resolve() for path in self.parameters.watched or ()}
        for text in _texts(self.parameters.kwargs):
            places = [folder / text for folder in self._folders] if Path(text).suffix else []
            file = next((place for place in places if is_file(place)), None)
            if file is not None and file.resolve() not in named:
                warnings.warn(
                    f"{self.where}.kwargs: what is in '{text}' is not watched; if values depend on it, name it in "
                    f"watched = ['{text}']",
                    stacklevel=2,
                )

    def identity(self) -> dict[str, Any]:
        """The function, its arguments, and what is in its module, in those beside it that it imports, and in watched
        files; where they lie does not matter."""
        watched = {"watched": contents(self.parameters.watched)} if self.parameters.watched else {}
        beside = {name: file_hash(path) for name, path in self._beside().items()}
        return {**self._of_itself(), **({"imports": beside} if beside else {}), **watched}

    def former_identity(self) -> dict[str, Any] | None:
        """Without the modules beside it, which were not looked at until version 0.1."""
        return self._of_itself() if self._beside() else None

    def _of_itself(self) -> dict[str, Any]:
        file = getattr(self._module, "__file__", None)
        table = self.parameters.model_dump(mode="json", exclude={"path", "watched"})
        return {**table, "module": file_hash(Path(file)) if file else ""}

    def _beside(self) -> dict[str, Path]:
        file = getattr(self._module, "__file__", None)
        name = self.parameters.function.partition(":")[0]
        return imported(name, Path(file), self.parameters.path) if file else {}

    def _score(self, molecules: Sequence[Molecule]) -> Sequence[Any]:
        try:
            with _search(self._folders):  # for an import within the function
                answer = self._function([molecule.smiles for molecule in molecules], **self.parameters.kwargs)
        except SystemExit as error:
            return [failure(error)] * len(molecules)
        except (TypeError, AttributeError) as error:  # what a function of one SMILES does with a list
            if len(molecules) > 1 or self._answered:
                raise
            return [Evaluation(math.nan, f"{failure(error).error} ({TAKES_A_LIST})")]
        unordered = isinstance(answer, (str, bytes, Mapping, Set)) or hasattr(answer, "columns")  # a DataFrame
        if unordered or not hasattr(answer, "__len__"):
            reason = f"the function returned {type(answer).__name__}, not a sequence of numbers ({TAKES_A_LIST})"
            return [Evaluation(math.nan, reason)] * len(molecules)
        self._answered = True
        return list(answer)


def _check_arguments(function: Callable[..., Any], parameters: PythonParameters, where: str) -> None:
    """Raise :class:`ConfigError` where the call could not even begin: an argument misspelt, or one left out."""
    try:
        # As it stands: a decorator may well fill in arguments of the function that it wraps.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # many functions of compiled modules tell nobody
        return
    taken = list(signature.parameters.values())
    named = [each.name for each in taken if each.kind in (_EITHER, inspect.Parameter.KEYWORD_ONLY)]
    if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in taken):
        first = taken[0] if taken else None
        free = named[1:] if first is not None and first.kind is _EITHER else named  # the first takes the SMILES
        for key in parameters.kwargs:
            if key not in named:
                raise ConfigError(f"{where}.{key}: '{parameters.function}' has no such argument{nearest(key, free)}")
    try:
        signature.bind([], **parameters.kwargs)
    except TypeError as error:
        raise ConfigError(f"{where}: '{parameters.function}' cannot be called: {error} ({TAKES_A_LIST})") from None


def _load(name: str, folders: list[Path], where: str) -> ModuleType:
    try:
        with _search(folders):
            for folder in folders:
                file = folder / f"{name}.py"
                if file.is_file():
                    return _load_file(file)
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            places = " or ".join(f"'{folder}'" for folder in dict.fromkeys(folders))
            hint = _NO_FILE if name.endswith(".py") else ""
            raise ConfigError(f"{where}: no module '{name}' in {places}, nor installed{hint}") from None
        raise ConfigError(f"{where}: module '{name}' cannot be imported: {error}") from None
    except (Exception, SystemExit) as error:
        reason = failure(error).error
        raise ConfigError(f"{where}: module '{name}' cannot be imported: {reason}") from None


def _load_file(file: Path) -> ModuleType:
    """A module from its file, under a name of its own: two configs may each have a ``scores.py``."""
    name = f"_chemmara_{file.stem}_{file_hash(file)[:16]}"
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(file):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"'{file}' is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _search(folders: list[Path]) -> Iterator[None]:
    """Let imports look into ``folders`` first, for the time of the block."""
    before = list(sys.path)
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = before

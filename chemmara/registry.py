"""Named implementations (components, transforms, objectives, ...), found by the config, the CLI and the docs alike.

Registering is all that a new implementation needs: the name becomes valid in a config, ``chemmara components`` lists
it with its parameters, and error messages offer it. A registry imports its modules on the first look-up, so importing
:mod:`chemmara` stays cheap.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from chemmara.config import NoParameters, Parameters
from chemmara.errors import ConfigError, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered implementation: its name, the thing itself, and the model of its parameters."""

    name: str
    item: T
    parameters: type[Parameters]

    def built(self, parameters: Any, where: str) -> Any:
        """The implementation made from its parameters.

        Raises :class:`ConfigError` that begins with the place, where the constructor's begins with the key.
        """
        make: Any = self.item
        try:
            return make(parameters)
        except ConfigError as error:
            raise ConfigError(f"{where}.{error}") from None

    @property
    def summary(self) -> str:
        """The first line of the implementation's docstring, for tables."""
        text = inspect.getdoc(self.item) or inspect.getdoc(self.parameters) or ""
        return text.strip().split("\n")[0]

    @property
    def description(self) -> str:
        """The implementation's docstring without what only a programmer reads."""
        return readable(inspect.getdoc(self.item) or self.summary)


def readable(text: str) -> str:
    """A docstring for a reader who knows neither Python nor Sphinx: without doctests and roles.

    >>> readable("Maps ``x`` by :func:`~a.b.f`.\\n\\n>>> f(1)\\n2")
    'Maps `x` by `f`.'
    """
    paragraphs = [part for part in text.split("\n\n") if not part.lstrip().startswith(">>>")]
    plain = re.sub(r":\w+:`(?:~[\w.]*\.)?([^`]+)`", r"`\1`", "\n\n".join(paragraphs))
    return plain.replace("``", "`").strip()


class Registry(Generic[T]):
    """Implementations of one kind by name.

    ``kind`` is the word in error messages ("component"); ``modules`` are the modules, or packages with all their
    modules, that register into it, imported on the first look-up.
    """

    def __init__(self, kind: str, modules: tuple[str, ...]) -> None:
        self.kind = kind
        self._modules = modules
        self._entries: dict[str, Entry[T]] = {}
        self._loaded = False

    def register(self, name: str, parameters: type[Parameters] = NoParameters) -> Callable[[T], T]:
        """Decorator. A name that is taken is a programming error, and refused."""

        def decorate(item: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self._entries[name] = Entry(name, item, parameters)
            return item

        return decorate

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        try:
            for name in self._modules:
                module = importlib.import_module(name)
                for info in pkgutil.iter_modules(getattr(module, "__path__", [])):
                    importlib.import_module(f"{name}.{info.name}")
        except BaseException:  # else the next look-up would call every name unknown
            self._loaded = False
            raise

    def covers(self, module: str) -> bool:
        """Whether the first look-up imports ``module``, by its own name or as one of a package."""
        return module in self._modules or module.rpartition(".")[0] in self._modules

    def __getitem__(self, name: str) -> Entry[T]:
        self._load()
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            raise ConfigError(f"unknown {self.kind} '{name}'{nearest(name, self._entries)}") from None

    def __iter__(self) -> Iterator[Entry[T]]:
        self._load()
        return iter([self._entries[name] for name in sorted(self._entries)])

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def names(self) -> list[str]:
        """All names, sorted."""
        return [entry.name for entry in self]

    def build_parameters(self, table: dict[str, Any], where: str) -> tuple[Entry[T], Any]:
        """Read ``{name = "...", **parameters}`` into (entry, validated parameters).

        Raises :class:`ConfigError` that names the place, the key and the nearest valid name.
        """
        from chemmara.config import check

        rest = dict(table)
        name = rest.pop("name", None)
        if not isinstance(name, str):
            raise ConfigError(f"{where}: name is missing; valid: {', '.join(self.names())}")
        try:
            entry = self[name]
        except ConfigError as error:
            raise ConfigError(f"{where}.name: {error}") from None
        return entry, check(entry.parameters, rest, where)

"""Modules that are imported at their first use.

Commands that only list or check things end before a molecule is read; numpy and RDKit alone would be a third of their
time. A module that light commands load says::

    if TYPE_CHECKING:
        import numpy as np
    else:
        np = lazy("numpy")
"""

from __future__ import annotations

import importlib
from typing import Any


class _Lazy:
    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, attribute: str) -> Any:
        """Looked up once: what was found becomes the object's own and later costs what any attribute costs."""
        if attribute.startswith("__"):  # doctest, pickle and copy ask every object for such; a module has none for us
            raise AttributeError(attribute)
        value = getattr(importlib.import_module(self.__name__), attribute)
        self.__dict__[attribute] = value
        return value


def lazy(name: str) -> Any:
    """The module ``name``, imported when one of its attributes is first asked for."""
    return _Lazy(name)

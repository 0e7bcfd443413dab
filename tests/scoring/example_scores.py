"""A user's module of scores, as the tests of the python component have it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

not_a_function = 3


def carbons(smiles: list[str], divisor: float = 100.0) -> list[float]:
    return [text.upper().count("C") / divisor for text in smiles]


def as_array(smiles: list[str]) -> np.ndarray:
    return np.array([len(text) for text in smiles])


def fails_on_rings(smiles: list[str]) -> list[float | None]:
    return [None if "1" in text else 0.5 for text in smiles]


def raises_on_rings(smiles: list[str]) -> list[float]:
    if any("1" in text for text in smiles):
        raise ValueError("no rings,\nplease")
    return [0.25] * len(smiles)


def one_short(smiles: list[str]) -> list[float]:
    return [0.5] * (len(smiles) - 1)


def text(smiles: list[str]) -> list[str]:
    return ["0.5" for _ in smiles]


def nothing(smiles: list[str]) -> None:
    return None


def infinite(smiles: list[str]) -> list[float]:
    return [float("inf") for _ in smiles]


def leaves(smiles: list[str]) -> list[float]:
    raise SystemExit("bye")


def prints(smiles: list[str]) -> list[int]:
    """Text on standard output, also below Python's own buffer."""
    print("working on it")
    os.write(1, b"\xff\x80 and at it\n")
    return [len(text) for text in smiles]


def frame(smiles: list[str]) -> Any:
    """Three columns for three molecules: as a sequence it is its columns' names."""
    import pandas as pd

    return pd.DataFrame(0.7, index=range(len(smiles)), columns=range(3))


def a_set(smiles: list[str]) -> set[float]:
    return {0.1 * len(text) for text in smiles}


def a_table(smiles: list[str]) -> dict[float, float]:
    return dict.fromkeys(map(float, range(len(smiles))), 0.5)

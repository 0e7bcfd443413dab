"""A small file of molecules in every format, with lines that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chemmara.language.corpus import Corpus
from chemmara.language.intake import prepare

MOLECULES = [
    "CC(=O)Oc1ccccc1C(=O)O",  # aspirin
    "CC(=O)Nc1ccc(O)cc1",  # paracetamol
    "Cn1cnc2c1c(=O)n(C)c(=O)n2C",  # caffeine
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",  # ibuprofen
    "CN1CCC[C@H]1c1cccnc1",  # nicotine
    "O=C(O)c1ccccc1O",  # salicylic acid
    "NCCc1ccc(O)c(O)c1",  # dopamine
    "BrCCCl",
]


@pytest.fixture(scope="session")
def chains() -> list[str]:
    """1,100 distinct molecules of 2 to 41 atoms, cheap to read."""
    heads = ["C" * i for i in range(1, 23)]
    tails = ["O", "N", "F", "Cl", "Br"]
    middles = ["C(=O)", "S", "C(F)", "C(O)", "C(N)", "OC", "C=C", "C#C", "c1ccccc1", "NC"]
    rings = {"c1ccccc1": "c1ccc(cc1)"}
    return [head + rings.get(middle, middle) + tail for head in heads for middle in middles for tail in tails]


@pytest.fixture
def make_corpus(tmp_path: Path) -> Callable[..., Corpus]:
    """A corpus of these lines of a .smi file."""

    def make(lines: list[str], name: str = "corpus", **options: object) -> Corpus:
        path = tmp_path / f"{name}.smi"
        path.write_text("\n".join(lines) + "\n")
        return prepare([path], tmp_path / name, **options)[0]  # type: ignore[arg-type]

    return make

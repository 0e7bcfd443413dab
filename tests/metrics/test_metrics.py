"""Metrics against values worked out by hand."""

from __future__ import annotations

import doctest
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import DataStructs

from chemmara.errors import UserError
from chemmara.metrics import diversity, efficiency, generation, table

NAN = math.nan
BENZENE, TOLUENE, PYRIDINE, HEXANE = "c1ccccc1", "Cc1ccccc1", "c1ccncc1", "CCCCCC"
DIVERSE = [BENZENE, TOLUENE, PYRIDINE, HEXANE, "O=C(O)c1ccccc1", "C1CCNCC1", "CC(=O)Oc1ccccc1C(=O)O", "CCO", "CN"]


@pytest.mark.parametrize("module", [generation, efficiency])
def test_examples_in_docstrings(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_nothing_sampled_is_nan() -> None:
    for value in (
        generation.validity([]),
        generation.uniqueness([]),
        generation.novelty([], {"C"}),
        diversity.internal_diversity([]),
        efficiency.mean_top([NAN], 10),
    ):
        assert math.isnan(value)


def test_scaffolds_of_named_molecules() -> None:
    assert diversity.scaffolds([BENZENE, TOLUENE, PYRIDINE, HEXANE]) == 2  # hexane has none
    assert diversity.generic_scaffolds([BENZENE, TOLUENE, PYRIDINE, HEXANE]) == 1
    assert diversity.scaffolds([HEXANE]) == diversity.scaffolds([]) == 0


@pytest.mark.parametrize("block", [1, 4, 9, 2048])
def test_internal_diversity_is_the_mean_over_the_whole_matrix(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(diversity, "_BLOCK", block)
    prints = diversity.ecfp4(DIVERSE, bits=1024)
    matrix = [[DataStructs.TanimotoSimilarity(a, b) for b in prints] for a in prints]
    assert diversity.internal_diversity(DIVERSE) == pytest.approx(1 - np.mean(matrix), abs=1e-12)
    assert diversity.internal_diversity([BENZENE]) == 0.0
    # Methane and water share no bit: half of the four pairs are self-pairs.
    assert diversity.internal_diversity(["C", "O"]) == 0.5


def bits(*on: int) -> DataStructs.ExplicitBitVect:
    vector = DataStructs.ExplicitBitVect(64)
    for bit in on:
        vector.SetBit(bit)
    return vector


def test_packing_needs_a_distance_above_the_limit() -> None:
    first = bits(*range(6))
    assert diversity.pack([first, bits(3, 4, 5, 6, 7, 8, 9)]) == 1  # 3 of 10 bits shared: distance 0.7 exactly
    assert diversity.pack([first, bits(4, 5, 6, 7, 8, 9)]) == 2  # 2 of 10: 0.8
    assert diversity.pack([first, first]) == 1
    assert diversity.pack([]) == 0


def test_circles_of_named_molecules() -> None:
    assert diversity.circles(["C", "O", "C"]) == 2
    prints = diversity.ecfp4([BENZENE, TOLUENE])
    similarity = DataStructs.TanimotoSimilarity(*prints)
    assert diversity.circles([BENZENE, TOLUENE], distance=1 - similarity - 1e-6) == 2
    assert diversity.circles([BENZENE, TOLUENE], distance=1 - similarity + 1e-6) == 1


@settings(max_examples=25, deadline=None)
@given(st.permutations(DIVERSE), st.floats(0.3, 0.95))
def test_circles_are_a_packing_and_a_property_of_the_set(order: list[str], distance: float) -> None:
    count = diversity.circles(order, distance)
    assert count == diversity.circles(DIVERSE + DIVERSE[:3], distance)
    prints = diversity.ecfp4(DIVERSE)
    apart = np.array([[1 - DataStructs.TanimotoSimilarity(a, b) > distance for b in prints] for a in prints])
    best = max(
        bin(chosen).count("1")
        for chosen in range(1, 1 << len(prints))
        if all(apart[i, j] for i in range(9) for j in range(i) if chosen >> i & 1 and chosen >> j & 1)
    )
    assert 1 <= count <= best


def test_what_is_no_molecule_is_refused() -> None:
    for function in (diversity.circles, diversity.internal_diversity, diversity.scaffolds):
        with pytest.raises(ValueError, match="c1cc"):
            function(["c1cc"])


def test_oracle_burden_and_yield() -> None:
    scores = [0.9, NAN, 0.1, 0.8, 0.7]
    assert efficiency.hits(scores, 0.8) == 2
    assert efficiency.oracle_burden(scores, 0.8, 1) == 1
    assert efficiency.oracle_burden(scores, 0.8, 2) == 4  # the failed call was paid for
    assert efficiency.oracle_burden(scores, 0.8, 3) == math.inf


def test_mean_of_the_best() -> None:
    assert efficiency.mean_top([0.1, 0.9, NAN, 0.5], 2) == pytest.approx(0.7)
    assert efficiency.mean_top([0.1, 0.9], 10) == pytest.approx(0.5)


def reference_auc(scores: list[float], k: int, budget: int, every: int) -> float:
    """The benchmark's own recipe, written out."""
    area = previous = 0.0
    called = 0
    for calls in range(every, min(len(scores), budget), every):
        now = float(np.mean(sorted(scores[:calls], reverse=True)[:k]))
        area += every * (now + previous) / 2
        previous, called = now, calls
    now = float(np.mean(sorted(scores, reverse=True)[:k]))
    area += (len(scores) - called) * (now + previous) / 2
    return (area + max(0, budget - len(scores)) * now) / budget


def test_auc_by_hand() -> None:
    # Two calls with score 1, then held to 4: a triangle of 2 x 1 / 2, then 2 x 1, over 4.
    assert efficiency.auc_top([1.0, 1.0], 1, budget=4, every=2) == 0.75
    assert efficiency.auc_top([], 10, budget=100) == 0.0
    assert efficiency.auc_top([NAN, NAN], 10, budget=100) == 0.0
    assert efficiency.auc_top([0.5, 1.0, 1.0], 1, budget=2, every=2) == efficiency.auc_top([0.5, 1.0], 1, 2, 2) == 0.5


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 5), st.integers(1, 10))
def test_auc_is_the_benchmarks(scores: list[float], k: int, every: int) -> None:
    assert efficiency.auc_top(scores, k, 30, every) == pytest.approx(reference_auc(scores, k, 30, every))


def test_every_metric_is_named_once() -> None:
    names = [metric.name for metric in table.METRICS]
    assert len(names) == len(set(names))
    assert all(name in table.markdown() for name in names)
    assert table.metric("hits").better == "higher"
    with pytest.raises(UserError, match="did you mean 'circles'"):
        table.metric("circle")


def test_metrics_import_nothing_heavy() -> None:
    code = (
        "import sys; from chemmara.metrics import diversity, efficiency, generation, table; "
        "print([m for m in ('torch', 'pandas', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"

"""Strange text never gets the better of the score, and the commands behind the docs' figures give figures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chemmara.scoring.function import ScoringFunction
from chemmara.workflows.throughput import FUZZ_SEEDS, REFERENCES, TYPICAL, fuzz, main, strange


def test_bytes_and_mutated_smiles() -> None:
    """A small part of what ``python -m chemmara.workflows.throughput fuzz`` does with 100,000 rows."""
    found = fuzz(1500, 11, REFERENCES + FUZZ_SEEDS)
    assert found["scored"] + found["invalid"] + found.get("failed", 0) == 1500
    assert found["scored"] > 100
    assert found["invalid"] > 500


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=[]), max_size=30),  # surrogates and NUL included
            st.text("CNOcno()[]=#123+-@.%/\\H", max_size=30),
            st.sampled_from(
                [*FUZZ_SEEDS, "", " ", "C" * 6000, "(" * 400, "[" * 400, "C1" * 200, "%99", "[" + "H" * 99]
            ),
        ),
        max_size=6,
    )
)
def test_any_text_is_answered(batch: list[str]) -> None:
    scores = FUNCTION(batch)
    assert len(scores) == len(scores.errors) == len(batch)
    for row in range(len(batch)):
        total = scores.total[row]
        assert 0 <= total <= 1 if not math.isnan(total) else scores.errors[row]
        alone = FUNCTION([batch[row]])
        assert alone.errors[0] == scores.errors[row]
        assert np.array_equal(alone.total, [total], equal_nan=True)


FUNCTION = ScoringFunction(TYPICAL)


def test_strange_text_is_the_same_each_time() -> None:
    assert list(strange(200, 3, FUZZ_SEEDS)) == list(strange(200, 3, FUZZ_SEEDS))


def test_a_wrong_answer_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    original = ScoringFunction.__call__

    def silent(self: ScoringFunction, molecules: list[str]) -> object:
        scores = original(self, molecules)
        scores.errors[:] = [None] * len(scores)
        return scores

    monkeypatch.setattr(ScoringFunction, "__call__", silent)
    with pytest.raises(AssertionError):
        fuzz(50, 0, FUZZ_SEEDS)


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["overhead", "--repeats", "1"], {"store", "best_us", "median_us", "load_per_core"}),
        (["fuzz", "-n", "20"], {"rows", "invalid", "slowest_batch_s"}),
        pytest.param(["score", "-n", "130"], {"executor", "processes", "per_second"}, marks=pytest.mark.slow),
        pytest.param(
            ["efficiency", "--repeats", "1", "--ms", "1"], {"executor", "chunk", "best"}, marks=pytest.mark.slow
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_figures(arguments: list[str], keys: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines
    assert all(keys <= set(line) for line in lines)

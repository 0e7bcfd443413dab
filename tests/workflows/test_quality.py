"""The figures of a model card, counted again by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chemmara import load_prior
from chemmara.chemistry.molecules import read
from chemmara.workflows.quality import main, prior_quality


def test_figures_agree_with_counting_by_hand(tiny_prior: Path, tmp_path: Path) -> None:
    texts = load_prior(tiny_prior).sample_smiles(300, seed=3)
    valid = [reading.molecule.smiles for reading in map(read, texts) if reading.molecule]
    distinct = list(dict.fromkeys(valid))
    training = tmp_path / "known.smi"
    training.write_text("\n".join([*distinct[:5], "no molecule"]) + "\n")
    figures = prior_quality(tiny_prior, 300, [training], seed=3, precision="auto")
    assert figures["validity"] == pytest.approx(len(valid) / 300)
    assert figures["uniqueness"] == pytest.approx(len(distinct) / len(valid))
    assert figures["novelty"] == pytest.approx(1 - 5 / len(distinct))


def test_command_prints_json(tiny_prior: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(tiny_prior), "-n", "50"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["samples"] == 50
    assert "novelty" not in printed

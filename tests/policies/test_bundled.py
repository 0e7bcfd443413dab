"""The priors inside the wheel: there, small enough, with a card, and as good as the card says."""

from __future__ import annotations

import pytest

from chemmara.policies.catalog import Prior, bundled, find_prior
from chemmara.workflows.quality import prior_quality

LIMIT_MB = 60


def test_chembl_is_bundled() -> None:
    assert "chembl" in [prior.name for prior in bundled()]
    assert sum(prior.path.stat().st_size for prior in bundled()) < LIMIT_MB * 2**20


@pytest.mark.parametrize("prior", bundled(), ids=lambda prior: prior.name)
def test_card_names_data_licence_and_command(prior: Prior) -> None:
    card = prior.card()
    for word in ("Data", "icen", "chemmara train", "Epochs", "validity", "uniqueness", "novelty"):
        assert word in card, word
    assert prior.name != "chembl" or "CC BY-SA" in card


@pytest.mark.parametrize(("name", "least"), [("chembl", 0.93), ("zinc250k", 0.91)])
def test_samples_are_molecules_and_distinct(name: str, least: float) -> None:
    """The bound is more than three standard errors below the card's figure."""
    figures = prior_quality(find_prior(name), n=500, seed=1)
    assert figures["validity"] > least
    assert figures["uniqueness"] > 0.99

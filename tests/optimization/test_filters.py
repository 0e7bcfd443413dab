"""Diversity filters: the shapes of the penalty, similar scaffolds, and molecules that are met again."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chemmara.chemistry.fingerprints import fingerprint, tanimoto
from chemmara.chemistry.molecules import Molecule, read
from chemmara.errors import ConfigError
from chemmara.optimization.filters import DIVERSITY_FILTERS, PENALTIES, BucketParameters, DiversityFilter
from chemmara.optimization.similarity_filter import SimilarityParameters

PHENYLS = ["Cc1ccccc1", "CCc1ccccc1", "CCCc1ccccc1", "CCCCc1ccccc1"]
INDOLE, METHYLINDOLE, BENZIMIDAZOLE = "CCc1c[nH]c2ccccc12", "CCc1cn(C)c2ccccc12", "CCc1nc2ccccc2[nH]1"


def molecules(*texts: str) -> list[Molecule | None]:
    return [read(text).molecule for text in texts]


def build(name: str, **parameters: Any) -> DiversityFilter:
    entry, checked = DIVERSITY_FILTERS.build_parameters({"name": name, **parameters}, "diversity_filter")
    built: DiversityFilter = entry.item(checked)
    return built


def rewards(of: DiversityFilter, texts: list[str], score: float = 0.8, fresh: bool = True) -> list[float]:
    return list(of(molecules(*texts), np.full(len(texts), score), [fresh] * len(texts)))


def test_every_penalty_can_be_named() -> None:
    assert set(get_args(BucketParameters.model_fields["penalty"].annotation)) == set(PENALTIES)


@pytest.mark.parametrize(
    ("penalty", "shares"),
    [
        ("step", [1, 1, 1, 1, 0]),
        ("linear", [0.75, 0.5, 0.25, 0, 0]),
        ("sigmoid", [1 - 1 / (1 + math.exp((1 - n / 2) / 0.15)) for n in (1, 2, 3, 4, 5)]),
        ("tanh", [1 - math.tanh(0.75 * n) for n in range(5)]),
    ],
)
def test_what_the_nth_molecule_of_a_bucket_of_four_earns(penalty: str, shares: list[float]) -> None:
    filter_ = build("murcko", bucket_size=4, penalty=penalty)
    assert rewards(filter_, [*PHENYLS, "OCc1ccccc1"]) == pytest.approx([0.8 * share for share in shares])
    assert rewards(filter_, ["OCCc1ccccc1"], score=0.3) == [0.3], "below the minimum score nothing is taken"
    assert rewards(filter_, ["Cc1ccncc1"]) == pytest.approx([0.8 * shares[0]]), "another scaffold begins anew"


@given(penalty=st.sampled_from(sorted(PENALTIES)), size=st.integers(1, 60), n=st.integers(1, 200))
def test_no_penalty_leaves_its_range_or_forgives_a_fuller_bucket(penalty: str, size: int, n: int) -> None:
    share = PENALTIES[penalty]
    assert 0 <= share(n + 1, size) <= share(n, size) <= 1
    assert share(3 * size + 1, size) < 0.02


def test_similar_scaffolds_share_a_bucket_and_others_do_not() -> None:
    filter_ = build("similarity", bucket_size=2, similarity=0.5)
    assert rewards(filter_, [INDOLE, METHYLINDOLE, BENZIMIDAZOLE, "Cc1ccccc1"]) == [0.8, 0.8, 0.0, 0.8]
    assert rewards(build("murcko", bucket_size=2), [INDOLE, METHYLINDOLE, BENZIMIDAZOLE]) == [0.8] * 3
    assert filter_.full("CCCc1c[nH]c2ccccc12")
    assert filter_.full("Nc1nc2ccccc2[nH]1")
    assert not filter_.full("CCc1ccccc1")
    assert not filter_.full("CCCCCCCN")


def test_a_scaffold_that_was_only_asked_for_leads_no_bucket() -> None:
    """Else a resumed run, which asks at other times, would find other buckets."""
    asked, other = (build("similarity", bucket_size=1) for _ in range(2))
    asked.full(METHYLINDOLE)
    asked.full("Cc1ccccc1")
    for filter_ in (asked, other):
        assert rewards(filter_, [INDOLE]) == [0.8]
    assert asked.state_dict() == other.state_dict()


def test_buckets_survive_json_with_the_scaffolds_that_joined_them() -> None:
    first = build("similarity", bucket_size=3, penalty="linear", similarity=0.4)
    rewards(first, [INDOLE, METHYLINDOLE, *PHENYLS, "CCCCCCN"])
    second = build("similarity", bucket_size=3, penalty="linear", similarity=0.4)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    later = [BENZIMIDAZOLE, INDOLE, "c1ccc2ccccc2c1", "CCCCCCCN", "Cc1ccncc1"]
    assert rewards(second, later) == rewards(first, later)
    assert second.state_dict() == first.state_dict()


def test_a_molecule_met_again_earns_less() -> None:
    filter_ = build("same_molecule", factor=0.25)
    assert rewards(filter_, PHENYLS) == [0.8] * 4
    assert rewards(filter_, PHENYLS, fresh=False) == [0.2] * 4
    assert np.isnan(rewards(filter_, ["CCO"], score=float("nan"), fresh=False)[0])


def test_a_molecule_that_has_its_place_earns_nothing_again_as_in_reinvent() -> None:
    """REINVENT remembers what has reached the minimum score, and gives 0 for it from then on."""
    filter_ = build("murcko", bucket_size=25, minimum_score=0.4, repeat=0.0)
    batch = molecules("Cc1ccccc1", "Cc1ccccc1", "CCc1ccccc1")
    found = filter_(batch, np.array([0.8, 0.8, 0.3]), [True, False, True])
    assert found.tolist() == [0.8, 0.0, 0.3]
    later = build("murcko", bucket_size=25, minimum_score=0.4, repeat=0.0)
    later.load_state_dict(json.loads(json.dumps(filter_.state_dict())))
    for each in (filter_, later):
        assert each(batch[1:], np.array([0.8, 0.3]), [False, False]).tolist() == [0.0, 0.3]
    half = build("murcko", bucket_size=25, minimum_score=0.4, repeat=0.5)
    assert half(batch[:2], np.array([0.8, 0.8]), [True, False]).tolist() == [0.8, 0.4]
    assert rewards(build("murcko"), ["Cc1ccccc1"] * 2, fresh=False) == [0.8, 0.8], "unless that is asked for"


def test_scaffolds_are_as_similar_as_reinvent_has_them() -> None:
    """Dice on RDKit's atom pairs, also of atoms far apart: d = 2 t / (1 + t)."""
    from rdkit import DataStructs
    from rdkit.Chem.AtomPairs import Pairs

    far = [
        read(text).molecule.mol  # type: ignore[union-attr]
        for text in ("c1ccc(CCCCCCCCCCCCc2ccccn2)cc1", "c1ccc(CCCCCCCCCCCCCCCc2ccncc2)cc1", "c1ccccc1")
    ]
    name = SimilarityParameters().fingerprint
    own = [fingerprint(mol, name, counts=True) for mol in far]
    theirs = [Pairs.GetAtomPairFingerprint(mol) for mol in far]
    for a, b in itertools.combinations(range(3), 2):
        similarity = float(tanimoto(own[a], [own[b]])[0])
        assert 2 * similarity / (1 + similarity) == pytest.approx(DataStructs.DiceSimilarity(theirs[a], theirs[b]))
    short = [fingerprint(mol, "atom_pairs", counts=True) for mol in far[:2]]
    assert float(tanimoto(short[0], short[1:])[0]) != pytest.approx(float(tanimoto(own[0], own[1:2])[0]), abs=0.01)


def test_a_bucket_that_never_pays_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"diversity_filter.*never earns"):
        build("murcko", bucket_size=1, penalty="linear")
    with pytest.raises(ConfigError, match=r"diversity_filter\.penalty.*did you mean 'sigmoid'"):
        build("murcko", penalty="sigmod")

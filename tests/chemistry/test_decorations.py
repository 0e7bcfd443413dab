"""Molecules written so that their text begins with a scaffold."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chemmara.chemistry.decorations import Beginning
from chemmara.chemistry.molecules import randomize, read
from chemmara.chemistry.openends import open_spellings

SCAFFOLDS = [
    "*c1ccncc1", "O=C(*)c1ccccc1", "*N1CCN(C)CC1", "*n1cccc1", "*=C1CCCC1", "C[C@H](*)O", "O=C(N*)c1ccccc1", "*C(=O)O",
    "*[N+](C)(C)C", "*c1cccc2[nH]ccc12", "Cl/C=C/*", "*C1CC1", "BrC*", "*S(N)(=O)=O", "*P(=O)(O)O",
]  # fmt: skip
ENDS = {scaffold: open_spellings(scaffold)[0] for scaffold in SCAFFOLDS}
DECORATIONS = [
    "C", "CC", "-c1ccccc1", "N(C)C", "C(F)(F)F", "C/C=C/C", "CC#N", "C1CC1", "[C@H](C)N", "OC", "NC(=O)c1ccco1", "Br",
    "-c1ccncc1", "1CC1", "(C)C", "CC(C)(C)[N+](=O)[O-]", "=C", "=CC", "[15NH2]", "%10CCCC%10", "(F)(F)F",
]  # fmt: skip


@settings(deadline=None, max_examples=60)
@example("*C1CC1", 0, "=C", 0)
@given(st.sampled_from(SCAFFOLDS), st.integers(0, 99), st.sampled_from(DECORATIONS), st.integers(0, 2**30))
def test_whatever_is_written_on_a_beginning_is_found_again(scaffold: str, number: int, rest: str, seed: int) -> None:
    """Any spelling of it; for a random one, too, the text is that of the very molecule."""
    beginning = ENDS[scaffold][number % len(ENDS[scaffold])]
    molecule = read(beginning + rest).molecule
    if molecule is None:
        return
    for text in (molecule.smiles, randomize(molecule.smiles, seed)):
        written = Beginning(beginning).continued(text)
        assert written is not None
        assert written.startswith(beginning)
        assert read(written).molecule == molecule


@pytest.mark.parametrize("scaffold", SCAFFOLDS)
def test_what_is_tried_above_is_mostly_a_molecule(scaffold: str) -> None:
    written = [read(ENDS[scaffold][0] + rest).molecule for rest in DECORATIONS]
    assert sum(molecule is not None for molecule in written) >= 5


@pytest.mark.parametrize(
    ("scaffold", "smiles"),
    [
        ("*c1ccncc1", "CCO"),  # it has it not
        ("*c1ccncc1", "Cc1cc(F)ncc1"),  # decorated elsewhere as well
        ("*c1ccncc1", "Cc1ccnc(F)c1"),
        ("*c1ccncc1", "c1ccc2ncccc2c1"),  # it is part of a larger ring system
        ("*c1ccncc1", "Cc1cc[n+]([O-])cc1"),
        ("*N1CCNCC1", "CN1CCN(C)CC1"),  # its hydrogen is gone
        ("C[C@H](*)O", "C[C@H](O)F"),  # the other hand: C[C@H](F)O is this one
        ("C[C@H](*)O", "CC(O)F"),
        ("CC(*)O", "C[C@H](F)O"),
        ("*C(=O)O", "CC(=O)[O-]"),
        ("*CC[13CH3]", "CCCC"),
    ],
)
def test_what_is_not_the_scaffold_with_a_decoration(scaffold: str, smiles: str) -> None:
    assert all(Beginning(text).continued(smiles) is None for text in open_spellings(scaffold)[0][:10])


def test_the_hand_of_a_centre_is_kept() -> None:
    right, left = "C[C@H](O)CN", "C[C@@H](O)CN"
    found = [bool(Beginning(open_spellings("C[C@H](*)O")[0][0]).continued(smiles)) for smiles in (right, left)]
    assert sorted(found) == [False, True]


def test_a_canonical_text_gives_one_spelling_and_random_ones_give_several() -> None:
    smiles = read("c1cc(S(N)(=O)=O)ccc1CC(C)(N)Cc1ccco1").molecule.smiles  # type: ignore[union-attr]
    beginning = Beginning("c1cc(S(N)(=O)=O)ccc1")
    assert beginning.continued(smiles) == beginning.continued(smiles)
    assert len({beginning.continued(randomize(smiles, seed)) for seed in range(20)}) > 3


@pytest.mark.parametrize("text", ["", "not a molecule", "c1cccc1", "C" * 6000])
def test_what_is_no_molecule_has_no_spelling(text: str) -> None:
    assert Beginning("CC").continued(text) is None

"""Scaffolds written so that text can go on where they are open."""

from __future__ import annotations

import pytest
from rdkit import Chem

from chemmara.chemistry.molecules import read
from chemmara.chemistry.openends import open_spellings
from chemmara.errors import UserError


@pytest.mark.parametrize(
    ("scaffold", "decorated"),
    [
        ("*c1ccncc1", "Fc1ccncc1"),
        ("O=C(*)c1ccccc1", "O=C(F)c1ccccc1"),
        ("*N1CCN(C)CC1", "FN1CCN(C)CC1"),
        ("*n1cccc1", "Fn1cccc1"),
        ("[*:1]c1ccncc1", "Fc1ccncc1"),
        ("[1*]c1ccncc1", "Fc1ccncc1"),
        ("C[C@H](*)O", "C[C@H](F)O"),
    ],
)
def test_what_follows_is_bonded_to_the_open_atom(scaffold: str, decorated: str) -> None:
    [spellings] = open_spellings(scaffold)
    assert len(spellings) > 1
    assert {read(f"{text}F").molecule for text in spellings} == {read(decorated).molecule}


def test_a_double_bond_stays_open() -> None:
    [spellings] = open_spellings("*=C1CCCC1")
    assert {read(f"{text}O").molecule for text in spellings} == {read("O=C1CCCC1").molecule}


def test_without_a_mark_each_kind_of_open_atom_has_its_turn() -> None:
    found = {read(f"{spellings[0]}F").molecule for spellings in open_spellings("c1ccncc1")}
    assert found == {read(text).molecule for text in ("Fc1ccncc1", "c1cc(F)ncc1", "c1ccnc(F)c1")} | {
        read("c1ccncc1F").molecule
    }
    indole = [read(f"{spellings[0]}F").molecule for spellings in open_spellings("c1ccc2[nH]ccc2c1")]
    assert len(indole) == len(set(indole)) == 7
    assert read("c1ccc2n(F)ccc2c1").molecule in indole


def test_every_beginning_holds_the_whole_scaffold() -> None:
    for spellings in open_spellings("Cc1ccc(C(N)=O)cc1"):
        for text in spellings:
            molecule = read(f"{text}F").molecule
            assert molecule is not None
            assert molecule.mol.HasSubstructMatch(Chem.MolFromSmarts("[#6]c1ccc(C(~[#7])=O)cc1"))


@pytest.mark.parametrize(
    ("text", "words"),
    [("c1ccccc1.Cl", "several fragments; give one"), ("*c1ccccc1.[Na+]", "several fragments"),
     ("C1CC", "no valid SMILES"), ("*CC*", "2 attachment points"), ("C*C", "bonded to one atom"),
     ("FC(F)(F)F", "no atom at which"), ("", "no valid SMILES"), ("*", "bonded to one atom")],
)  # fmt: skip
def test_what_cannot_be_decorated(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        open_spellings(text)

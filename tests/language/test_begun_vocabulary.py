"""A vocabulary that writes molecules upon a scaffold."""

from __future__ import annotations

import pytest

from chemmara.language.begun import BegunVocabulary
from chemmara.language.tokenizers import UnreadableText
from chemmara.language.vocabulary import Vocabulary

OWN = Vocabulary.from_tokens(list("CNOcn12()=F"))


@pytest.fixture(scope="module")
def begun() -> BegunVocabulary:
    return BegunVocabulary(OWN, ["c1cnccc1", "O=C(O)C"])


@pytest.mark.parametrize(
    ("smiles", "text"),
    [
        ("c1cnccc1CC", "c1cnccc1CC"),  # it begins so
        ("CCc1ccncc1", "c1cnccc1CC"),
        ("CNCC(=O)O", "O=C(O)CNC"),
        ("CC(N)C(=O)O", "O=C(O)C(C)N"),  # two bonds at the open atom
        ("c1cnccc1", "c1cnccc1"),  # the scaffold alone
    ],
)
def test_what_is_encoded_begins_with_the_scaffold(begun: BegunVocabulary, smiles: str, text: str) -> None:
    assert begun.encode(smiles) == OWN.encode(text)


@pytest.mark.parametrize("smiles", ["CCO", "Cc1cnccc1C", "c1ccc2ncccc2c1"])
def test_other_molecules_have_no_text(begun: BegunVocabulary, smiles: str) -> None:
    with pytest.raises(UnreadableText, match="not the scaffold"):
        begun.encode(smiles)


def test_a_token_that_is_missing_is_said_as_ever(begun: BegunVocabulary) -> None:
    with pytest.raises(UnreadableText, match="not in the vocabulary: Br"):
        begun.encode("BrCC(=O)O")


def test_it_is_the_vocabulary_of_the_weights_still(begun: BegunVocabulary) -> None:
    assert begun == OWN
    assert [tuple(start) for start in begun.starts] == [
        tuple(OWN.encode(text)[:-1]) for text in ("c1cnccc1", "O=C(O)C")
    ]

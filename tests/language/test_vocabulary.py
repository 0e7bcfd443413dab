"""Tokens to ids and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chemmara.errors import UserError
from chemmara.language.vocabulary import END, PAD, SPECIAL, START, UnknownTokens, Vocabulary, pad

VOCABULARY = Vocabulary.from_tokens(["C", "Br", "C", "(", ")", "=", "O", "c", "1"])


def test_ids_follow_first_appearance_after_the_special_tokens() -> None:
    assert VOCABULARY.tokens[:5] == (*SPECIAL, "C", "Br")
    assert VOCABULARY.encode("CBr") == [3, 4, END]
    assert len(VOCABULARY) == 11


@given(st.lists(st.lists(st.sampled_from(VOCABULARY.tokens[3:]), max_size=8), min_size=1, max_size=5))
def test_encode_and_decode_are_inverse(rows: list[list[str]]) -> None:
    texts = ["".join(row) for row in rows]
    ids = VOCABULARY.encode_batch(texts)
    assert ids.shape == (len(rows), max(len(VOCABULARY.encode(text)) for text in texts))
    assert VOCABULARY.decode(ids) == texts
    assert VOCABULARY.written(ids) == texts


def test_decoding_ends_at_the_first_end_or_padding() -> None:
    ids = np.array([[3, END, 3, 3], [3, 3, 3, 3], [END, 3, 3, 3], [3, PAD, 4, 4]])
    assert VOCABULARY.decode(ids) == ["C", "CCCC", "", "C"]
    assert VOCABULARY.decode(np.zeros((2, 0), np.int64)) == ["", ""]


def test_unknown_tokens_are_listed_once_each() -> None:
    with pytest.raises(UnknownTokens, match=r"N \[nH\]") as caught:
        VOCABULARY.encode("CN[nH]NC")
    assert caught.value.tokens == ["N", "[nH]"]


def test_special_tokens_are_no_text() -> None:
    with pytest.raises(ValueError, match="<"):
        VOCABULARY.encode("C<end>")


def test_written_shows_selfies_and_decode_shows_smiles() -> None:
    vocabulary = Vocabulary.from_tokens(["[C]", "[=O]"], "selfies")
    ids = vocabulary.encode_batch(["C=O"])
    assert vocabulary.written(ids) == ["[C][=O]"]
    assert vocabulary.decode(ids) == ["C=O"]


@pytest.mark.parametrize(
    "tokens", [[], ["C"], [*SPECIAL, "C", "C"], [*SPECIAL, 5], [*SPECIAL, ""], [*SPECIAL, ["C"]], "text"]
)
def test_a_damaged_list_of_tokens_is_refused(tokens: list[str]) -> None:
    with pytest.raises(UserError, match="a vocabulary"):
        Vocabulary(tokens)


def test_unknown_tokenizer_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'smiles'"):
        Vocabulary(SPECIAL, "smile")


def test_equal_if_tokens_and_tokenizer_are() -> None:
    same = Vocabulary(VOCABULARY.tokens)
    assert same == VOCABULARY
    assert hash(same) == hash(VOCABULARY)
    assert Vocabulary([*SPECIAL, "[C]"], "selfies") != Vocabulary([*SPECIAL, "[C]"], "smiles")


def test_padding() -> None:
    assert pad([[3], [3, 4, END]]).tolist() == [[3, PAD, PAD], [3, 4, END]]
    assert pad([]).shape == (0, 0)
    assert (PAD, START, END) == (0, 1, 2)


def test_vocabulary_travels_with_the_weights(tmp_path: Path) -> None:
    from chemmara.policies.catalog import find_prior
    from chemmara.policies.lstm import LstmPolicy
    from chemmara.policies.recurrent import LstmParameters
    from chemmara.policies.storage import load_policy, save_policy

    path = tmp_path / "policy.safetensors"
    save_policy(LstmPolicy(VOCABULARY, LstmParameters(embedding_size=2, hidden_size=2, layers=1)), path)
    assert load_policy(path).vocabulary == VOCABULARY
    assert find_prior(path).vocabulary() == VOCABULARY

"""Text to tokens and back: lossless, or a clear refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chemmara.chemistry.molecules import read
from chemmara.language.tokenizers import SMILES_TOKEN, TOKENIZERS, SelfiesTokenizer, SmilesTokenizer, UnreadableText

SMILES = SmilesTokenizer()
SELFIES = SelfiesTokenizer()
TOKENS = [
    *"BCNOPSFIbcnops*", "Br", "Cl", "[nH]", "[C@@H]", "[O-]", "[13CH4]", "[Na+]", "[Fe+2]", "[*:1]", *"0123456789",
    "%10", "%99", "%(100)", *"=#-+\\/:~@?>.()$",
]  # fmt: skip
NAMED = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "caffeine": "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "nicotine": "CN1CCC[C@H]1c1cccnc1",
    "chloramphenicol": "O=C(N[C@H](CO)[C@H](O)c1ccc([N+](=O)[O-])cc1)C(Cl)Cl",
    "bromocriptine fragment": "CC(C)C[C@H]1C(=O)N2CCC[C@H]2C(O)=C1Br",
    "glycinate": "NCC(=O)[O-]",
    "tamoxifen": "CC/C(=C(/c1ccccc1)c1ccc(OCCN(C)C)cc1)c1ccccc1",
}


@given(st.lists(st.sampled_from(TOKENS)))
def test_smiles_tokens_are_lossless(tokens: list[str]) -> None:
    text = "".join(tokens)
    assert SMILES.join(SMILES.split(text)) == text


@given(st.text(alphabet="CNOBrl[]()@+-123%=#cno! \té", max_size=30))
def test_any_text_is_split_losslessly_or_refused(text: str) -> None:
    try:
        tokens = SMILES.split(text)
    except UnreadableText:
        assert SMILES_TOKEN.sub("", text) != ""
    else:
        assert SMILES.join(tokens) == text


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("BrCCCl", ["Br", "C", "C", "Cl"]),
        ("CBr", ["C", "Br"]),
        ("BC", ["B", "C"]),
        ("c1c[nH]cn1", ["c", "1", "c", "[nH]", "c", "n", "1"]),
        ("[C@@H](F)Cl", ["[C@@H]", "(", "F", ")", "Cl"]),
        ("C%10CC%10", ["C", "%10", "C", "C", "%10"]),
        ("C%(100)C%(100)", ["C", "%(100)", "C", "%(100)"]),
        ("C%123", ["C", "%12", "3"]),
        ("F/C=C\\F", ["F", "/", "C", "=", "C", "\\", "F"]),
        ("[Na+].[Cl-]", ["[Na+]", ".", "[Cl-]"]),
        ("", []),
    ],
)
def test_multi_character_tokens(text: str, tokens: list[str]) -> None:
    assert SMILES.split(text) == tokens


@pytest.mark.parametrize(
    ("text", "position"), [("C C", 2), ("!C", 1), ("CC[nH", 3), ("CC]", 3), ("C%1", 2), ("Cé", 2), ("[]C", 1)]
)
def test_text_without_tokens_is_refused_with_its_position(text: str, position: int) -> None:
    with pytest.raises(UnreadableText, match=f"position {position} of"):
        SMILES.split(text)


@pytest.mark.parametrize("smiles", NAMED.values(), ids=NAMED.keys())
@pytest.mark.parametrize("name", TOKENIZERS.names())
def test_named_molecules_survive_every_tokenizer(name: str, smiles: str) -> None:
    tokenizer = TOKENIZERS[name].item()
    canonical = read(smiles).molecule
    again = read(tokenizer.join(tokenizer.split(smiles))).molecule
    assert canonical is not None
    assert again == canonical


def test_selfies_refuses_what_it_cannot_express() -> None:
    with pytest.raises(UnreadableText, match="SELFIES cannot express"):
        SELFIES.split("C[*]")  # a dummy atom
    with pytest.raises(UnreadableText, match="SELFIES cannot express"):
        SELFIES.split("F[Cl](F)(F)(F)F")  # beyond the default valence of chlorine


@given(st.lists(st.sampled_from(["[C]", "[=C]", "[Branch1]", "[Ring1]", "[N+1]", "[#N]", "[O]", "[foo]"]), max_size=12))
def test_any_selfies_tokens_join_to_a_text(tokens: list[str]) -> None:
    text = SELFIES.join(tokens)
    assert isinstance(text, str)
    if tokens and "[foo]" not in tokens and text:
        assert read(text).molecule is not None

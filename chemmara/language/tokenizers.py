"""From SMILES to tokens and back. A tokenizer is lossless or says that it cannot read a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from chemmara.registry import Registry

TOKENIZERS: Registry[type[Tokenizer]] = Registry("tokenizer", ("chemmara.language.tokenizers",))

SMILES_TOKEN = re.compile(r"\[[^\[\]]+\]|Br|Cl|%\(\d+\)|%\d\d|[A-Za-z*]|\d|[=#\-+\\/:~@?>.()$]")


class UnreadableText(ValueError):
    """A text that the tokenizer has no tokens for."""


class Tokenizer(Protocol):
    """Splits SMILES into tokens and joins tokens into SMILES."""

    def split(self, smiles: str) -> list[str]:
        """The tokens of ``smiles``. Raises :class:`UnreadableText`."""
        ...

    def join(self, tokens: Sequence[str]) -> str:
        """The SMILES that ``tokens`` stand for; any sequence of tokens gives some text."""
        ...


@TOKENIZERS.register("smiles")
class SmilesTokenizer:
    """SMILES: atoms in brackets, two-letter halogens and ring numbers above 9 are one token each; lossless.

    >>> SmilesTokenizer().split("C[C@@H](Br)C%10")
    ['C', '[C@@H]', '(', 'Br', ')', 'C', '%10']
    """

    def split(self, smiles: str) -> list[str]:
        tokens = SMILES_TOKEN.findall(smiles)
        if sum(map(len, tokens)) != len(smiles):
            raise UnreadableText(f"no SMILES token at position {_first_gap(smiles) + 1} of '{smiles[:80]}'")
        return tokens

    def join(self, tokens: Sequence[str]) -> str:
        return "".join(tokens)


REINVENT_TOKEN = re.compile(r"\[[^\]]*\]|%\d\d|Br|Cl|.", re.DOTALL)
REINVENT_START, REINVENT_END = "^", "$"


@TOKENIZERS.register("reinvent")
class ReinventTokenizer:
    """SMILES as REINVENT 4 splits them, for priors that come from there; any text has tokens.

    Unlike ``smiles``, ring numbers in parentheses fall into single characters, and nothing is refused. The start token,
    which such a model may write with a tiny probability, is left out of the text, as REINVENT leaves it out.

    >>> ReinventTokenizer().split("[nH]%10Br%(11)")
    ['[nH]', '%10', 'Br', '%', '(', '1', '1', ')']
    """

    def split(self, smiles: str) -> list[str]:
        return REINVENT_TOKEN.findall(smiles)

    def join(self, tokens: Sequence[str]) -> str:
        return "".join(token for token in tokens if token != REINVENT_START)


@TOKENIZERS.register("selfies")
class SelfiesTokenizer:
    """SELFIES 2: every sequence of tokens decodes to a molecule (Krenn et al. 2020, package selfies).

    Decoding writes SMILES; a molecule outside SELFIES' default constraints cannot be read.
    """

    def split(self, smiles: str) -> list[str]:
        import selfies

        try:
            return list(selfies.split_selfies(selfies.encoder(smiles)))
        except (selfies.EncoderError, ValueError, IndexError, KeyError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UnreadableText(f"SELFIES cannot express '{smiles[:80]}': {reason}") from None

    def join(self, tokens: Sequence[str]) -> str:
        import selfies

        try:
            return str(selfies.decoder("".join(tokens)))
        except selfies.DecoderError:  # a foreign token: keep the text, so that nothing sampled is lost
            return "".join(tokens)


def _first_gap(smiles: str) -> int:
    position = 0
    for match in SMILES_TOKEN.finditer(smiles):
        if match.start() != position:
            return position
        position = match.end()
    return position

"""The vocabulary and the tokenizer that it belongs to: text to ids and back. It travels with the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from chemmara.errors import UserError
from chemmara.language.tokenizers import TOKENIZERS, Tokenizer, UnreadableText
from chemmara.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy("numpy")

PAD, START, END = 0, 1, 2
SPECIAL = ("<pad>", "<start>", "<end>")


class UnknownTokens(UnreadableText):
    """Tokens of a text that the vocabulary does not hold; ``tokens`` lists them."""

    def __init__(self, tokens: list[str]) -> None:
        super().__init__(f"not in the vocabulary: {' '.join(tokens)}")
        self.tokens = tokens


class Vocabulary:
    """Token ids of one tokenizer. Ids 0, 1, 2 are padding, start and end; a sequence of ids ends with the end token.

    ``tokens`` holds every token in id order, the three special ones first. Raises :class:`UserError` for anything
    else, and for a tokenizer that is not registered.
    """

    def __init__(self, tokens: Sequence[str], tokenizer: str = "smiles") -> None:
        if tuple(tokens[:3]) != SPECIAL or not all(isinstance(t, str) and t for t in tokens):
            raise UserError(f"a vocabulary starts with {' '.join(SPECIAL)} and holds text alone")
        if len(set(tokens)) != len(tokens):
            raise UserError("a vocabulary holds every token once")
        self.tokens = tuple(tokens)
        self.tokenizer_name = TOKENIZERS[tokenizer].name
        self._ids = {token: number for number, token in enumerate(self.tokens)}

    @classmethod
    def from_tokens(cls, tokens: Sequence[str], tokenizer: str = "smiles") -> Vocabulary:
        """A vocabulary of these tokens, each taken once, in the order of first appearance."""
        return cls((*SPECIAL, *dict.fromkeys(tokens)), tokenizer)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return TOKENIZERS[self.tokenizer_name].item()

    def __len__(self) -> int:
        return len(self.tokens)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Vocabulary)
            and self.tokens == other.tokens
            and self.tokenizer_name == other.tokenizer_name
        )

    def __hash__(self) -> int:
        return hash((self.tokens, self.tokenizer_name))

    def encode(self, smiles: str) -> list[int]:
        """Ids of ``smiles``, the end token included. Raises :class:`UnreadableText` or :class:`UnknownTokens`."""
        tokens = self.tokenizer.split(smiles)
        try:
            return [*map(self._ids.__getitem__, tokens), END]
        except KeyError:
            unknown = dict.fromkeys(token for token in tokens if token not in self._ids)
            raise UnknownTokens(list(unknown)) from None

    def encode_batch(self, smiles: Sequence[str]) -> NDArray[np.int64]:
        """Padded ids of shape (B, longest), the end tokens included. Raises as :meth:`encode`."""
        return pad([self.encode(text) for text in smiles])

    def decode(self, ids: NDArray[np.int64]) -> list[str]:
        """SMILES of padded ids (B, T): each row up to its first end or padding token (the whole row without one)."""
        return self._join(ids, self.tokenizer.join)

    def written(self, ids: NDArray[np.int64]) -> list[str]:
        """The strings as sampled, token after token: for SELFIES not the SMILES that they stand for."""
        return self._join(ids, "".join)

    def _join(self, ids: NDArray[np.int64], join: Callable[[list[str]], str]) -> list[str]:
        if ids.size == 0:
            return ["" for _ in range(len(ids))]
        stop = (ids == END) | (ids == PAD)
        lengths = np.where(stop.any(axis=1), stop.argmax(axis=1), ids.shape[1])
        words = self._words[ids]
        return [join(row[:length].tolist()) for row, length in zip(words, lengths)]

    @cached_property
    def _words(self) -> NDArray[np.object_]:
        return np.array(self.tokens, dtype=object)


def pad(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Rows of ids side by side, padded at the end: (B, longest)."""
    width = max((len(row) for row in rows), default=0)
    result = np.full((len(rows), width), PAD, dtype=np.int64)
    for number, row in enumerate(rows):
        result[number, : len(row)] = row
    return result

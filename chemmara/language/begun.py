"""A vocabulary that writes every molecule upon a scaffold: text that begins with it, or none at all."""

from __future__ import annotations

from collections.abc import Sequence

from chemmara.chemistry.decorations import Beginning
from chemmara.language.tokenizers import UnreadableText
from chemmara.language.vocabulary import Vocabulary


class BegunVocabulary(Vocabulary):
    """The tokens of another vocabulary; what it encodes begins with one of ``texts``, beginnings of open scaffolds."""

    def __init__(self, vocabulary: Vocabulary, texts: Sequence[str]) -> None:
        super().__init__(vocabulary.tokens, vocabulary.tokenizer_name)
        self.starts = [tuple(vocabulary.encode(text)[:-1]) for text in texts]
        self._beginnings = [Beginning(text) for text in texts]

    def encode(self, smiles: str) -> list[int]:
        """The ids of ``smiles`` if they begin so, else those of a spelling of the molecule that does.

        Raises :class:`UnreadableText` for a molecule that is not the scaffold with something at its open atom alone.
        """
        ids = super().encode(smiles)
        if any(tuple(ids[: len(start)]) == start for start in self.starts):
            return ids
        for beginning in self._beginnings:
            text = beginning.continued(smiles)
            if text is not None:
                return super().encode(text)
        raise UnreadableText("it is not the scaffold with something at its open atom alone")

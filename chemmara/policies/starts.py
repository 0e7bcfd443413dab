"""What sampled sequences begin with: nothing, a text, or a scaffold written so that it can be decorated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chemmara.chemistry.openends import open_spellings
from chemmara.errors import UserError
from chemmara.language.tokenizers import UnreadableText

if TYPE_CHECKING:
    from chemmara.language.vocabulary import Vocabulary


def check_smiles(vocabulary: Vocabulary) -> None:
    """Raise :class:`UserError` for a prior whose texts are no SMILES."""
    if vocabulary.tokenizer_name == "selfies":
        raise UserError("this prior writes SELFIES: a SMILES cannot be continued; take a prior of SMILES")


def readable(vocabulary: Vocabulary, scaffold: str, max_tokens: int) -> list[list[str]]:
    """For each open end of a scaffold the beginnings that a vocabulary can write in fewer than ``max_tokens``.

    Raises :class:`UserError` where an end has none.
    """
    check_smiles(vocabulary)
    ends = []
    for spellings in open_spellings(scaffold):
        found, reason = list[str](), ""
        for text in spellings:
            try:
                length = len(_encode(vocabulary, text))
            except UserError as error:
                reason = str(error)
                continue
            if length < max_tokens:
                found.append(text)
            else:
                reason = f"the beginning is {length} tokens long; sequences end at {max_tokens}"
        if not found:
            raise UserError(reason)
        ends.append(found)
    return ends


def likeliest_starts(policy: Any, scaffold: str, max_tokens: int) -> list[str]:
    """A beginning for each open end of a scaffold: its ``*``, or each atom with a hydrogen.

    Of a hundred random spellings it is the one that the policy finds likeliest. Nothing else is promised: the model
    writes on as it would, from the open atom alone, and may end at once or write what is no molecule. One that goes on
    from another one is left out: what follows it would follow the other as well. Raises :class:`UserError`.
    """
    texts = [_likeliest(policy, spellings) for spellings in readable(policy.vocabulary, scaffold, max_tokens)]
    rows = {text: _encode(policy.vocabulary, text) for text in dict.fromkeys(texts)}
    return [text for text, ids in rows.items() if not any(_goes_on(ids, other) for other in rows.values())]


def prefix_start(vocabulary: Vocabulary, prefix: str, max_tokens: int) -> list[int]:
    """The ids of a text that sequences are to begin with, without an end token. Raises :class:`UserError`."""
    check_smiles(vocabulary)
    _check_branches(prefix)
    ids = _encode(vocabulary, prefix)
    if len(ids) >= max_tokens:
        raise UserError(f"the beginning is {len(ids)} tokens long; sequences end at {max_tokens}")
    return ids


def _goes_on(ids: Sequence[int], other: Sequence[int]) -> bool:
    return len(other) < len(ids) and ids[: len(other)] == other


def _check_branches(prefix: str) -> None:
    """Raise :class:`UserError` for a branch that is closed before it is opened: no text that follows mends that."""
    depth = 0
    for place, character in enumerate(prefix, 1):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            raise UserError(f"--prefix: '{prefix[:80]}' closes at position {place} a branch that it has not opened")


def _encode(vocabulary: Vocabulary, text: str) -> list[int]:
    try:
        return vocabulary.encode(text)[:-1]
    except UnreadableText as error:
        raise UserError(f"the prior cannot write '{text[:80]}': {error}") from None


def _likeliest(policy: Any, spellings: Sequence[str]) -> str:
    import torch

    from chemmara.language.vocabulary import pad

    rows = [_encode(policy.vocabulary, text) for text in spellings]
    with torch.no_grad():
        return spellings[int(policy.log_prob(torch.from_numpy(pad(rows))).argmax())]

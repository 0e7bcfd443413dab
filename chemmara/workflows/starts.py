"""What sampled sequences begin with: nothing, a text, or a scaffold written so that it can be decorated."""

from __future__ import annotations

from typing import Any

from chemmara.chemistry.openends import open_spellings
from chemmara.errors import UserError
from chemmara.language.tokenizers import UnreadableText
from chemmara.workflows.settings import SampleSettings


def find_starts(policy: Any, settings: SampleSettings) -> list[list[int]]:
    """The ids of each beginning, without an end token; one empty one where nothing was asked for.

    A scaffold begins each sequence in the spelling, of a hundred random ones, that the policy finds likeliest; without
    a ``*``, there is one beginning for each of its open atoms. Nothing else is promised: the model writes on as it
    would, from the open atom alone, and may end at once or write what is no molecule. Raises :class:`UserError`.
    """
    if not settings.prefix and not settings.scaffold:
        return [[]]
    if settings.prefix and settings.scaffold:
        raise UserError("--prefix and --scaffold exclude each other")
    if policy.vocabulary.tokenizer_name == "selfies":
        raise UserError("this prior writes SELFIES: a SMILES cannot be continued; take a prior of SMILES")
    if settings.prefix:
        _check_branches(settings.prefix)
        starts = [_encode(policy, settings.prefix)]
    else:
        starts = [_likeliest(policy, spellings) for spellings in open_spellings(settings.scaffold)]
    longest = max(map(len, starts))
    if longest >= settings.max_tokens:
        raise UserError(f"the beginning is {longest} tokens long; sequences end at {settings.max_tokens}")
    return starts


def _check_branches(prefix: str) -> None:
    """Raise :class:`UserError` for a branch that is closed before it is opened: no text that follows mends that."""
    depth = 0
    for place, character in enumerate(prefix, 1):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            raise UserError(f"--prefix: '{prefix[:80]}' closes at position {place} a branch that it has not opened")


def _encode(policy: Any, text: str) -> list[int]:
    try:
        ids: list[int] = policy.vocabulary.encode(text)
    except UnreadableText as error:
        raise UserError(f"the prior cannot write '{text[:80]}': {error}") from None
    return ids[:-1]


def _likeliest(policy: Any, spellings: list[str]) -> list[int]:
    """The ids of the likeliest of the spellings that the vocabulary holds."""
    import torch

    from chemmara.language.vocabulary import pad

    rows, reason = [], ""
    for text in spellings:
        try:
            rows.append(_encode(policy, text))
        except UserError as error:
            reason = str(error)
    if not rows:
        raise UserError(reason)
    with torch.no_grad():
        return rows[int(policy.log_prob(torch.from_numpy(pad(rows))).argmax())]

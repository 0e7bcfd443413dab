"""Other spellings of a molecule, and the prior's log-probability of them and of what MARA makes equally likely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from chemmara.chemistry.molecules import randomize
from chemmara.klrl.augmentation import Spelling
from chemmara.language.tokenizers import UnreadableText
from chemmara.language.vocabulary import pad
from chemmara.optimization.labels import label, unpadded
from chemmara.optimization.repeats import once_each
from chemmara.optimization.replay import Remembered
from chemmara.policies.policy import Policy

RANDOM_SPELLINGS = 4


def encode_texts(policy: Policy, texts: Sequence[str], fallback: Tensor) -> tuple[Tensor, list[bool]]:
    """Padded ids of ``texts``, and which of them the vocabulary has not: these took a row of ``fallback`` (B, T)."""
    rows, unwritable = list[Sequence[int]](), []
    for text, other in zip(texts, fallback.tolist()):
        ids = _encoded(policy, text)
        rows.append(other if ids is None else ids)
        unwritable.append(ids is None)
    return torch.from_numpy(pad(rows)), unwritable


@torch.no_grad()
def canonical_rows(
    prior: Policy, rows: Sequence[tuple[int, ...]], log_ref: Sequence[float], smiles: Sequence[str | None]
) -> tuple[list[tuple[int, ...]], list[float]]:
    """The rows' ids and log pi_ref in nats, those of the canonical spelling in place of others where it can be written.

    ``smiles``: canonical ones, None for a row that is no molecule and stays as it is.
    """
    rows, log_ref = list(rows), list(log_ref)
    other = {}
    for number, text in enumerate(smiles):
        ids = _encoded(prior, text) if text is not None else None
        if ids is not None and ids != rows[number]:
            other[number] = ids
    if other:
        found = once_each(prior.log_prob, torch.from_numpy(pad(list(other.values()))))
        for number, nats in zip(other, found.tolist()):
            rows[number], log_ref[number] = other[number], nats
    return rows, log_ref


def canonical_entries(prior: Policy, entries: Sequence[Remembered]) -> list[Remembered]:
    """Molecules of the buffer by :func:`canonical_rows`."""
    rows, nats = [entry.ids for entry in entries], [entry.prior_log_prob for entry in entries]
    spelled = zip(*canonical_rows(prior, rows, nats, [entry.smiles for entry in entries]), strict=True)
    return [
        replace(entry, ids=ids, prior_log_prob=log_prob)
        for entry, (ids, log_prob) in zip(entries, spelled, strict=True)
    ]


def _encoded(policy: Policy, text: str) -> tuple[int, ...] | None:
    try:
        return tuple(policy.vocabulary.encode(text))
    except UnreadableText:
        return None


@torch.no_grad()
def mode_log_ref(
    prior: Policy,
    spelling: Spelling,
    ids: Tensor,
    texts: Sequence[str],
    smiles: Sequence[str | None],
    log_ref: Tensor,
    seeds: Sequence[int],
) -> Tensor:
    """(B,) nats: ``log_ref`` itself, log pi_ref of the canonical string, or of all spellings of the molecule.

    ``smiles``: canonical ones, None where ``texts`` has no molecule.

    The last one is a lower bound: the sum over the distinct ones, token by token, among the sampled string, the
    canonical string and ``RANDOM_SPELLINGS`` random ones (``seeds`` (B,) settles which), as far as the vocabulary has
    them. A prior trained on canonical SMILES has nearly all of its mass there. Rows without a molecule keep
    ``log_ref``.
    """
    if spelling == "sampled" or not len(texts):
        return log_ref
    canonical = [own or text for own, text in zip(smiles, texts)]
    if spelling == "canonical":
        return once_each(prior.log_prob, encode_texts(prior, canonical, ids)[0]).to(log_ref)
    columns = [list(texts), canonical]
    for number in range(RANDOM_SPELLINGS):
        columns.append(
            [randomize(own, seed + number) if own else text for own, text, seed in zip(smiles, texts, seeds)]
        )
    parts = [log_ref]
    # By ids: other SMILES may be one text in the policy's own tokens, as Kekule and aromatic ones are in SELFIES.
    met = [{row} for row in unpadded(ids)]
    for column in columns[1:]:
        spelled, unwritable = encode_texts(prior, column, ids)
        rows = unpadded(spelled)
        left_out = torch.tensor([row in before for row, before in zip(rows, met)]) | torch.tensor(unwritable)
        met = [before | {row} for row, before in zip(rows, met)]
        parts.append(
            once_each(prior.log_prob, spelled).to(log_ref).masked_fill(left_out.to(log_ref.device), -torch.inf)
        )
    return torch.logsumexp(torch.stack(parts), dim=0)


class BufferModes:
    """What :func:`mode_log_ref` says of the replay buffer's molecules, computed once each.

    It is the run's state: computed anew after a resumption, in another batch, it might differ in the last digit.
    """

    def __init__(self, prior: Policy, spelling: Spelling) -> None:
        self.prior, self.spelling = prior, spelling
        self._known: dict[str, float] = {}

    def __call__(self, entries: Sequence[Remembered]) -> Tensor:
        """(B,) nats. The random spellings of a molecule are its own, whenever it is asked for."""
        if self.spelling == "sampled":
            return torch.tensor([entry.prior_log_prob for entry in entries])
        known = {entry.smiles: self._known[entry.smiles] for entry in entries if entry.smiles in self._known}
        new = [entry for entry in entries if entry.smiles not in known]
        if new:
            ids = torch.from_numpy(pad([entry.ids for entry in new]))
            texts, smiles = self.prior.vocabulary.decode(ids.numpy()), [entry.smiles for entry in new]
            log_ref = torch.tensor([entry.prior_log_prob for entry in new])
            seeds = [label(each) % (2**31 - 16) for each in smiles]
            found = mode_log_ref(self.prior, self.spelling, ids, texts, smiles, log_ref, seeds)
            known |= zip(smiles, found.tolist())
        self._known = known
        return torch.tensor([known[entry.smiles] for entry in entries])

    def state_dict(self) -> dict[str, Any]:
        return {"known": self._known} if self._known else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._known = dict(state.get("known", {}))

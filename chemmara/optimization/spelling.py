"""The prior's log-probability of what MARA makes equally likely: a string, its canonical string, or the molecule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from chemmara.chemistry.molecules import randomize
from chemmara.klrl.augmentation import Spelling
from chemmara.language.tokenizers import UnreadableText
from chemmara.language.vocabulary import pad
from chemmara.policies.policy import Policy

RANDOM_SPELLINGS = 4


def encode_texts(policy: Policy, texts: Sequence[str], fallback: Tensor) -> Tensor:
    """Padded ids of ``texts``; a text outside the vocabulary takes its row of ``fallback`` (B, T)."""
    rows = []
    for text, other in zip(texts, fallback.tolist()):
        try:
            rows.append(policy.vocabulary.encode(text))
        except UnreadableText:
            rows.append(other)
    return torch.from_numpy(pad(rows))


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

    The last one is a lower bound: the sum over the distinct ones among the sampled string, the canonical string and
    ``RANDOM_SPELLINGS`` random ones (``seeds`` (B,) settles which). A prior trained on canonical SMILES has nearly all
    of its mass there. Rows without a molecule keep ``log_ref``.
    """
    if spelling == "sampled" or not len(texts):
        return log_ref
    canonical = [own or text for own, text in zip(smiles, texts)]
    if spelling == "canonical":
        return prior.log_prob(encode_texts(prior, canonical, ids)).to(log_ref)
    columns = [list(texts), canonical]
    for number in range(RANDOM_SPELLINGS):
        columns.append(
            [randomize(own, seed + number) if own else text for own, text, seed in zip(smiles, texts, seeds)]
        )
    parts = [log_ref]
    for number in range(1, len(columns)):
        repeated = [
            any(columns[earlier][row] == text for earlier in range(number)) for row, text in enumerate(columns[number])
        ]
        log_probs = prior.log_prob(encode_texts(prior, columns[number], ids)).to(log_ref)
        parts.append(log_probs.masked_fill(torch.tensor(repeated, device=log_ref.device), -torch.inf))
    return torch.logsumexp(torch.stack(parts), dim=0)

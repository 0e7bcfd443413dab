"""Sampling sequences in batches: one loop for every policy that can step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from chemmara.language.vocabulary import END, PAD, START
from chemmara.policies.policy import MAX_TOKENS, Sequences

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Rows that have ended are dropped from the batch when this share of it is done: each drop copies the state. A batch
# keeps a multiple of ROWS: oneDNN makes, and remembers, a kernel for each size that it meets.
DROP_SHARE = 0.125
ROWS = 16


class Stepper(Protocol):
    """The state of a batch that is being written, one token at a time."""

    def step(self, ids: Tensor) -> Tensor:
        """Feed the last token of each row, (B,); return the logits of the next one, (B, V) float32."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only, (K,) indices into the current batch."""
        ...


def sample_sequences(
    stepper: Stepper,
    n: int,
    *,
    generator: torch.Generator,
    temperature: float = 1.0,
    max_tokens: int = MAX_TOKENS,
    top_k: int = 0,
    top_p: float = 1.0,
    prefix: Sequence[int] = (),
) -> Sequences:
    """Draw ``n`` sequences from one stepper; ends as soon as every row has its end token.

    Padding and the start token are never drawn. Tokens are drawn by the exponential race: argmax of p / E with
    E ~ Exp(1), one pass without a sort or a cumulative sum. ``top_k`` keeps the k likeliest tokens at each place (0:
    all), ``top_p`` the fewest likeliest ones whose probabilities reach p; what is left is normalised. Every sequence
    begins with the ids ``prefix``, which count for ``max_tokens`` and add nothing to ``log_prob``. Raises ValueError
    unless ``temperature`` and ``max_tokens`` are positive, ``top_p`` is in (0, 1], and the prefix leaves room.
    """
    import torch

    check_options(temperature, max_tokens, top_k, top_p, prefix)
    device = generator.device
    written = torch.full((n, max_tokens), PAD, dtype=torch.int64, device=device)
    total = torch.zeros(n, dtype=torch.float32, device=device)
    rows = torch.arange(n, device=device)
    ids = torch.full((n,), START, dtype=torch.int64, device=device)
    alive = torch.ones(n, dtype=torch.bool, device=device)
    for token in prefix:
        stepper.step(ids)
        ids = torch.full_like(ids, token)
    if prefix:
        written[:, : len(prefix)] = torch.tensor(prefix, device=device)
    for position in range(len(prefix), max_tokens):
        logits = stepper.step(ids)
        noise = torch.empty_like(logits).exponential_(generator=generator)
        ids, chosen = choose(logits, noise, temperature, top_k, top_p)
        written[rows[alive], position] = ids[alive]
        total[rows[alive]] += chosen[alive]
        alive &= ids != END
        living = int(alive.sum())
        if living == 0:
            break
        size = -(-living // ROWS) * ROWS
        if size <= (1 - DROP_SHARE) * len(rows):
            kept = torch.argsort(~alive, stable=True)[:size]  # the living, and as many others as fill the size
            stepper.keep(kept)
            rows, ids, alive = rows[kept], ids[kept], alive[kept]
    return Sequences(written[:, : position + 1], total)


def check_options(temperature: float, max_tokens: int, top_k: int, top_p: float, prefix: Sequence[int]) -> None:
    """Raise ValueError as :func:`sample_sequences` says."""
    if not temperature > 0 or max_tokens < 1:
        raise ValueError(f"temperature and max_tokens must be positive, got {temperature} and {max_tokens}")
    if top_k < 0 or not 0 < top_p <= 1 or len(prefix) >= max_tokens:
        raise ValueError(f"top_k {top_k}, top_p {top_p} or a prefix of {len(prefix)} tokens is out of range")


def choose(
    logits: Tensor, noise: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> tuple[Tensor, Tensor]:
    """A token (B,) of each row of logits (B, V), never padding or start, and its log-probability (B,) float32.

    ``noise``: (B, V), drawn from Exp(1).
    """
    import torch

    logits = logits / temperature
    logits[:, : START + 1] = -torch.inf
    if top_k or top_p < 1:
        logits = _likeliest(logits, top_k, top_p)
    log_probs = torch.log_softmax(logits, dim=-1)
    ids = (log_probs - noise.log()).argmax(dim=-1)
    return ids, log_probs.gather(1, ids[:, None])[:, 0]


def _likeliest(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """``logits`` (B, V) with -inf in place of all but the likeliest; the likeliest of all always stays."""
    import torch

    ordered, order = logits.sort(dim=-1, descending=True)
    if top_k:
        ordered[:, top_k:] = -torch.inf
    if top_p < 1:
        probabilities = ordered.softmax(dim=-1)
        ordered.masked_fill_(probabilities.cumsum(dim=-1) - probabilities >= top_p, -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter(1, order, ordered)


def concatenate(parts: list[Sequences]) -> Sequences:
    """Batches of sequences as one, padded to the longest."""
    import torch

    if not parts:
        return Sequences(torch.zeros((0, 0), dtype=torch.int64), torch.zeros(0))
    width = max(part.ids.shape[1] for part in parts)
    ids = [torch.nn.functional.pad(part.ids, (0, width - part.ids.shape[1]), value=PAD) for part in parts]
    return Sequences(torch.cat(ids), torch.cat([part.log_prob for part in parts]))

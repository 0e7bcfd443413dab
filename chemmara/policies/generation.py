"""Sampling sequences in batches: one loop for every policy that can step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from chemmara.language.vocabulary import END, PAD, START
from chemmara.policies.policy import MAX_TOKENS, Sequences

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Rows that have ended are dropped from the batch when this share of it is done: each drop copies the state.
DROP_SHARE = 0.125


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
) -> Sequences:
    """Draw ``n`` sequences from one stepper; ends as soon as every row has its end token.

    Padding and the start token are never drawn. Tokens are drawn by the exponential race: argmax of p / E with
    E ~ Exp(1), one pass without a sort or a cumulative sum. Raises ValueError unless ``temperature`` and
    ``max_tokens`` are positive.
    """
    import torch

    if not temperature > 0 or max_tokens < 1:
        raise ValueError(f"temperature and max_tokens must be positive, got {temperature} and {max_tokens}")

    device = generator.device
    written = torch.full((n, max_tokens), PAD, dtype=torch.int64, device=device)
    total = torch.zeros(n, dtype=torch.float32, device=device)
    rows = torch.arange(n, device=device)
    ids = torch.full((n,), START, dtype=torch.int64, device=device)
    alive = torch.ones(n, dtype=torch.bool, device=device)
    for position in range(max_tokens):
        logits = stepper.step(ids) / temperature
        logits[:, : START + 1] = -torch.inf
        log_probs = torch.log_softmax(logits, dim=-1)
        noise = torch.empty_like(log_probs).exponential_(generator=generator)
        ids = (log_probs - noise.log()).argmax(dim=-1)
        chosen = log_probs.gather(1, ids[:, None])[:, 0]
        written[rows[alive], position] = ids[alive]
        total[rows[alive]] += chosen[alive]
        alive &= ids != END
        living = int(alive.sum())
        if living == 0:
            break
        if living <= (1 - DROP_SHARE) * len(rows):
            stepper.keep(alive.nonzero()[:, 0])
            rows, ids, alive = rows[alive], ids[alive], alive[alive]
    return Sequences(written[:, : position + 1], total)


def concatenate(parts: list[Sequences]) -> Sequences:
    """Batches of sequences as one, padded to the longest."""
    import torch

    if not parts:
        return Sequences(torch.zeros((0, 0), dtype=torch.int64), torch.zeros(0))
    width = max(part.ids.shape[1] for part in parts)
    ids = [torch.nn.functional.pad(part.ids, (0, width - part.ids.shape[1]), value=PAD) for part in parts]
    return Sequences(torch.cat(ids), torch.cat([part.log_prob for part in parts]))

"""How the next token is drawn from a network's logits: temperature, top-k, top-p, where a sequence starts and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chemmara.language.vocabulary import START

if TYPE_CHECKING:
    from torch import Tensor

MAX_TOKENS = 160


@dataclass(frozen=True)
class Decoding:
    """The distribution that is sampled from, beside the network.

    temperature: divides the logits. max_tokens: of a sequence, end token and prefix included. top_k: the k likeliest
    tokens at each place are drawn from (0: all); top_p: the fewest likeliest ones whose probabilities reach p; what is
    left is normalised. prefix: ids that every sequence begins with, which add nothing to its log-probability. Raises
    ValueError unless temperature and max_tokens are positive, top_p is in (0, 1], and the prefix leaves room.
    """

    temperature: float = 1.0
    max_tokens: int = MAX_TOKENS
    top_k: int = 0
    top_p: float = 1.0
    prefix: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.temperature > 0 or self.max_tokens < 1:
            raise ValueError(
                f"temperature and max_tokens must be positive, got {self.temperature} and {self.max_tokens}"
            )
        if self.top_k < 0 or not 0 < self.top_p <= 1 or len(self.prefix) >= self.max_tokens:
            raise ValueError(
                f"top_k {self.top_k}, top_p {self.top_p} or a prefix of {len(self.prefix)} tokens is out of range"
            )


PLAIN = Decoding()


def choose(logits: Tensor, noise: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """A token (B,) of each row of logits (B, V), never padding or start, and its log-probability (B,) float32.

    ``noise``: (B, V), drawn from Exp(1). Tokens are drawn by the exponential race: argmax of p / E with E ~ Exp(1), one
    pass without a sort or a cumulative sum.
    """
    import torch

    logits = logits / decoding.temperature
    logits[:, : START + 1] = -torch.inf
    if decoding.top_k or decoding.top_p < 1:
        logits = _likeliest(logits, decoding.top_k, decoding.top_p)
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

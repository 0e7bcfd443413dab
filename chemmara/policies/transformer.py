"""The transformer policy's network. Only imported where a model is built or loaded: this module needs torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chemmara.language.vocabulary import Vocabulary
from chemmara.policies.attention import TransformerParameters
from chemmara.policies.generation import Stepper
from chemmara.policies.network import TokenNetwork
from chemmara.policies.slots import SlotStepper

ROTARY_BASE = 10_000.0
SPREAD = 0.02  # of the weights at the start, as in GPT-2
CACHE_CHUNK = 32


class TransformerPolicy(TokenNetwork):
    """Embedding, layers of causal attention and feed-forward with RMS norm before each, norm, tied output."""

    architecture = "transformer"
    slot_limit = 512  # each has a cache of keys and values

    def __init__(self, vocabulary: Vocabulary, parameters: TransformerParameters | None = None) -> None:
        super().__init__(vocabulary, parameters or TransformerParameters())
        p = self.parameters_
        self.embedding = nn.Embedding(len(vocabulary), p.width)
        self.layers = nn.ModuleList(Layer(p) for _ in range(p.layers))
        self.norm = nn.RMSNorm(p.width)
        self.dropout = nn.Dropout(p.dropout)
        self.output = nn.Linear(p.width, len(vocabulary), bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                # What is added to the stream of a deep stack is smaller at first (Radford et al. 2019).
                depth = (2 * p.layers) ** -0.5 if name.endswith(("back.weight", "down.weight")) else 1.0
                nn.init.normal_(weight, std=SPREAD * depth)
        if p.tied:
            del self.output

    @property
    def output_weight(self) -> Tensor:
        """(V, width)."""
        return self.embedding.weight if self.parameters_.tied else self.output.weight

    def logits(self, inputs: Tensor) -> Tensor:
        p = self.parameters_
        x = self.dropout(self.embedding(inputs))
        turn = rotary(torch.arange(inputs.shape[1], device=inputs.device), p.width // p.heads)
        for layer in self.layers:
            x = layer(x, turn)
        return F.linear(self.norm(x), self.output_weight)

    def stepper(self, size: int, dtype: torch.dtype) -> Stepper:
        return CachedStepper(self, size, dtype)

    def slots(self, size: int, dtype: torch.dtype, max_tokens: int) -> SlotStepper:
        return TransformerSlots(self, size, dtype, max_tokens)

    def step_weights(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Copies in ``dtype`` of what is multiplied with; the embedding and the norms are as they are."""
        weights = {
            "embedding": self.embedding.weight,
            "norm.weight": self.norm.weight,
            "out": self.output_weight.to(dtype),
        }
        for number, layer in enumerate(self.layers):
            for name, weight in layer.named_parameters():
                weights[f"{number}.{name}"] = weight if "norm" in name else weight.to(dtype)
        return weights


class Layer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, p: TransformerParameters) -> None:
        super().__init__()
        self.heads = p.heads
        self.norm, self.norm2 = nn.RMSNorm(p.width), nn.RMSNorm(p.width)
        self.qkv = nn.Linear(p.width, 3 * p.width, bias=False)
        self.back = nn.Linear(p.width, p.width, bias=False)
        self.up = nn.Linear(p.width, p.feed_forward * p.width, bias=False)
        self.down = nn.Linear(p.feed_forward * p.width, p.width, bias=False)
        self.dropout = nn.Dropout(p.dropout)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        b, t, width = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(rotate(q, turn), rotate(k, turn), v, is_causal=True)
        x = x + self.dropout(self.back(mixed.transpose(1, 2).reshape(b, t, width)))
        result: Tensor = x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))
        return result


def rotary(positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T, size/2), float32, of the angles by which positions (T,) turn pairs of numbers.

    Rotary positions: a product of two turned vectors depends on the distance of their positions alone
    [arXiv 2104.09864, equation 34].
    """
    speeds = ROTARY_BASE ** (-torch.arange(0, size, 2, device=positions.device, dtype=torch.float32) / size)
    angles = positions[:, None].float() * speeds
    return angles.cos(), angles.sin()


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """``x`` (B, heads, T, size) with number i and number i + size/2 turned as one pair, in float32."""
    cos, sin = turn
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


class TransformerStep:
    """One time step on copies of the weights; the stream between layers and the norms are float32."""

    def __init__(self, policy: TransformerPolicy, dtype: torch.dtype) -> None:
        p = policy.parameters_
        self.depth, self.heads, self.size, self.dtype = p.layers, p.heads, p.width // p.heads, dtype
        self.weights = policy.step_weights(dtype)

    def step_at(self, ids: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Logits (B, V) after ids (B,), whose queries and keys are turned by ``turn``."""
        weights = self.weights
        x = weights["embedding"][ids]
        for k in range(self.depth):
            qkv = self._product(self._norm(x, f"{k}.norm.weight"), f"{k}.qkv.weight")
            x = x + self._product(self._attend(k, qkv, turn), f"{k}.back.weight").float()
            up = self._product(self._norm(x, f"{k}.norm2.weight"), f"{k}.up.weight")
            x = x + self._product(F.gelu(up), f"{k}.down.weight").float()
        return self._product(self._norm(x, "norm.weight"), "out").float()

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weights[name]).to(self.dtype)

    def _product(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[name])

    def _attend(self, number: int, qkv: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Attention (B, width) of the newest token to itself and all before; its key and value join the cache."""
        raise NotImplementedError


class CachedStepper(TransformerStep):
    """All sequences at one position, their keys and values in a cache that grows with them."""

    def __init__(self, policy: TransformerPolicy, size: int, dtype: torch.dtype) -> None:
        super().__init__(policy, dtype)
        self.length = 0
        self.cache = torch.zeros((self.depth, 2, size, self.heads, 0, self.size), dtype=dtype, device=policy.device)

    def step(self, ids: Tensor) -> Tensor:
        if self.length == self.cache.shape[4]:
            self.cache = F.pad(self.cache, (0, 0, 0, CACHE_CHUNK))
        logits = self.step_at(ids, rotary(torch.tensor([self.length], device=ids.device), self.size))
        self.length += 1
        return logits

    def _attend(self, number: int, qkv: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = qkv.view(len(qkv), 3, self.heads, 1, self.size).unbind(1)
        cache = self.cache[number]
        cache[0, :, :, self.length] = rotate(k, turn)[:, :, 0]
        cache[1, :, :, self.length] = v[:, :, 0]
        keys, values = cache[:, :, :, : self.length + 1].unbind(0)
        return F.scaled_dot_product_attention(rotate(q, turn), keys, values).flatten(1)

    def keep(self, rows: Tensor) -> None:
        self.cache = self.cache[:, :, rows]


class TransformerSlots(TransformerStep):
    """Each sequence at a position of its own; what the cache holds of those before it is hidden by a mask."""

    def __init__(self, policy: TransformerPolicy, size: int, dtype: torch.dtype, max_tokens: int) -> None:
        super().__init__(policy, dtype)
        # A weight that is of this dtype already is the policy's own, and an update may not change it under a graph.
        self.weights = {name: weight.detach().clone() for name, weight in self.weights.items()}
        shape = (self.depth, 2, size, max_tokens, self.heads, self.size)
        self.cache = torch.zeros(shape, dtype=dtype, device=policy.device)
        self.rows, self.places = (torch.arange(number, device=policy.device) for number in (size, max_tokens))

    def load(self, policy: TransformerPolicy) -> None:
        for name, weight in policy.step_weights(self.dtype).items():
            self.weights[name].copy_(weight)

    def step(self, ids: Tensor, position: Tensor) -> Tensor:
        self.position = position
        self.seen = (self.places <= position[:, None])[:, None, None]  # (S, 1, 1, T)
        cos, sin = rotary(position, self.size)
        return self.step_at(ids, (cos[:, None, None], sin[:, None, None]))

    def _attend(self, number: int, qkv: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = qkv.view(len(qkv), 3, self.heads, 1, self.size).unbind(1)
        keys, values = self.cache[number].unbind(0)
        keys[self.rows, self.position] = rotate(k, turn)[:, :, 0]
        values[self.rows, self.position] = v[:, :, 0]
        mixed = F.scaled_dot_product_attention(
            rotate(q, turn), keys.transpose(1, 2), values.transpose(1, 2), attn_mask=self.seen
        )
        return mixed.flatten(1)

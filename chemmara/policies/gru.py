"""The GRU policy's network. Only imported where a model is built or loaded: this module needs torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chemmara.language.vocabulary import Vocabulary
from chemmara.policies.generation import Stepper
from chemmara.policies.recurrent import GruParameters
from chemmara.policies.rnn import PlainStepper, RecurrentNetwork


class GruPolicy(RecurrentNetwork):
    """A GRU over tokens."""

    architecture = "gru"
    kind = nn.GRU

    def __init__(self, vocabulary: Vocabulary, parameters: GruParameters | None = None) -> None:
        super().__init__(vocabulary, parameters or GruParameters())

    def stepper(self, size: int, dtype: torch.dtype) -> Stepper:
        return PlainStepper(self) if dtype == torch.float32 else FusedStepper(self, size, dtype)


class FusedStepper:
    """One time step on reduced copies of the weights, made once a batch.

    The embedding and the first layer's input product are one table look-up. The state is kept in float32, so that
    rounding does not build up along the sequence; the products take a reduced copy of it.
    """

    def __init__(self, policy: GruPolicy, size: int, dtype: torch.dtype) -> None:
        layers = policy.parameters_.layers
        get = policy.recurrent.get_parameter
        self.dtype = dtype
        self.table = F.linear(policy.embedding.weight, get("weight_ih_l0"), get("bias_ih_l0")).to(dtype)
        self.outer = [(get(f"weight_ih_l{k}").to(dtype), get(f"bias_ih_l{k}").to(dtype)) for k in range(1, layers)]
        self.inner = [(get(f"weight_hh_l{k}").to(dtype), get(f"bias_hh_l{k}").to(dtype)) for k in range(layers)]
        self.out_weight, self.out_bias = policy.output.weight.to(dtype), policy.output.bias.to(dtype)
        shape = (size, policy.parameters_.hidden_size)
        self.hidden = [torch.zeros(shape, dtype=torch.float32, device=policy.device) for _ in range(layers)]

    def step(self, ids: Tensor) -> Tensor:
        given = self.table[ids]
        for k, state in enumerate(self.hidden):
            if k:
                given = F.linear(self.hidden[k - 1].to(self.dtype), *self.outer[k - 1])
            r, z, n = given.float().chunk(3, 1)
            from_r, from_z, from_n = F.linear(state.to(self.dtype), *self.inner[k]).float().chunk(3, 1)
            new = torch.tanh(n + torch.sigmoid(r + from_r) * from_n)
            self.hidden[k] = torch.lerp(new, state, torch.sigmoid(z + from_z))
        return F.linear(self.hidden[-1].to(self.dtype), self.out_weight, self.out_bias).float()

    def keep(self, rows: Tensor) -> None:
        self.hidden = [h[rows] for h in self.hidden]

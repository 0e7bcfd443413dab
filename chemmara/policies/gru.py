"""The GRU policy's network. Only imported where a model is built or loaded: this module needs torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chemmara.language.vocabulary import Vocabulary
from chemmara.policies.generation import Stepper
from chemmara.policies.recurrent import GruParameters
from chemmara.policies.rnn import PlainStepper, RecurrentNetwork, RecurrentSlots
from chemmara.policies.slots import SlotStepper


class GruPolicy(RecurrentNetwork):
    """A GRU over tokens."""

    architecture = "gru"
    kind = nn.GRU
    cell = staticmethod(torch.gru)

    def __init__(self, vocabulary: Vocabulary, parameters: GruParameters | None = None) -> None:
        super().__init__(vocabulary, parameters or GruParameters())

    def stepper(self, size: int, dtype: torch.dtype) -> Stepper:
        return PlainStepper(self) if dtype == torch.float32 else FusedStepper(self, size, dtype)

    def slots(self, size: int, dtype: torch.dtype, max_tokens: int) -> SlotStepper:
        return RecurrentSlots(FusedStepper(self, size, dtype), dtype)

    def step_weights(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Copies; the embedding and the first layer's input product are one table."""
        get = self.recurrent.get_parameter
        weights = {"table": F.linear(self.embedding.weight, get("weight_ih_l0"), get("bias_ih_l0"))}
        for k in range(self.parameters_.layers):
            if k:
                weights |= {f"outer{k}": get(f"weight_ih_l{k}"), f"outer_bias{k}": get(f"bias_ih_l{k}")}
            weights |= {f"inner{k}": get(f"weight_hh_l{k}"), f"inner_bias{k}": get(f"bias_hh_l{k}")}
        weights |= {"out": self.output.weight, "out_bias": self.output.bias}
        return {name: weight.to(dtype) for name, weight in weights.items()}


class FusedStepper:
    """One time step on reduced copies of the weights, made once a batch.

    ``state``: of each layer, in float32, so that rounding does not build up along the sequence; the products take a
    reduced copy of it.
    """

    def __init__(self, policy: GruPolicy, size: int, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.weights = policy.step_weights(dtype)
        shape = (size, policy.parameters_.hidden_size)
        layers = range(policy.parameters_.layers)
        self.state = [torch.zeros(shape, dtype=torch.float32, device=policy.device) for _ in layers]

    def step(self, ids: Tensor) -> Tensor:
        weights = self.weights
        given = weights["table"][ids]
        for k, state in enumerate(self.state):
            if k:
                given = F.linear(self.state[k - 1].to(self.dtype), weights[f"outer{k}"], weights[f"outer_bias{k}"])
            r, z, n = given.float().chunk(3, 1)
            inner = F.linear(state.to(self.dtype), weights[f"inner{k}"], weights[f"inner_bias{k}"])
            from_r, from_z, from_n = inner.float().chunk(3, 1)
            new = torch.tanh(n + torch.sigmoid(r + from_r) * from_n)
            self.state[k] = torch.lerp(new, state, torch.sigmoid(z + from_z))
        return F.linear(self.state[-1].to(self.dtype), weights["out"], weights["out_bias"]).float()

    def keep(self, rows: Tensor) -> None:
        self.state = [part[rows] for part in self.state]

"""The LSTM policy's network. Only imported where a model is built or loaded: this module needs torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chemmara.language.vocabulary import PAD, START, Vocabulary
from chemmara.policies.generation import Stepper
from chemmara.policies.packed import Packing, packed_lstm
from chemmara.policies.precision import resolve
from chemmara.policies.recurrent import LstmParameters
from chemmara.policies.rnn import PlainStepper, RecurrentNetwork, RecurrentSlots
from chemmara.policies.slots import SlotStepper


class LstmPolicy(RecurrentNetwork):
    """An LSTM over tokens."""

    architecture = "lstm"
    kind = nn.LSTM
    cell = staticmethod(torch.lstm)

    def __init__(self, vocabulary: Vocabulary, parameters: LstmParameters | None = None) -> None:
        super().__init__(vocabulary, parameters or LstmParameters())

    def token_log_probs(self, ids: Tensor) -> Tensor:
        """As of every policy; on a CPU without a step on padding. A GPU's own kernels beat a Python loop over time."""
        ids = ids.to(self.device)
        if self.device.type != "cpu" or not bool((ids != PAD).any()):
            return super().token_log_probs(ids)
        dtype = torch.bfloat16 if resolve(self.precision, self.device) == "bfloat16" else torch.float32
        packing = Packing((ids != PAD).sum(1))
        inputs = packing.pack(F.pad(ids[:, :-1], (1, 0), value=START))
        hidden = packed_lstm(self.recurrent, self.embedding(inputs), packing, dtype)
        logits = F.linear(hidden, self.output.weight.to(dtype), self.output.bias.to(dtype))
        logits = logits[: len(inputs), START + 1 :].float()
        losses = F.cross_entropy(logits, packing.pack(ids) - (START + 1), reduction="none")
        return packing.unpack(-losses, ids.shape[1])

    def stepper(self, size: int, dtype: torch.dtype) -> Stepper:
        return PlainStepper(self) if dtype == torch.float32 else FusedStepper(self, size, dtype)

    def slots(self, size: int, dtype: torch.dtype, max_tokens: int) -> SlotStepper:
        return RecurrentSlots(FusedStepper(self, size, dtype), dtype)

    def step_weights(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Copies: the embedding and the first layer's input product as one table, and each further layer's products
        as one on [input, hidden]."""
        get = self.recurrent.get_parameter
        bias = [get(f"bias_ih_l{k}") + get(f"bias_hh_l{k}") for k in range(self.parameters_.layers)]
        weights = {"table": F.linear(self.embedding.weight, get("weight_ih_l0"), bias[0]), "l0": get("weight_hh_l0")}
        for k in range(1, self.parameters_.layers):
            weights[f"l{k}"] = torch.cat([get(f"weight_ih_l{k}"), get(f"weight_hh_l{k}")], 1)
            weights[f"bias{k}"] = bias[k]
        weights |= {"out": self.output.weight, "out_bias": self.output.bias}
        return {name: weight.to(dtype) for name, weight in weights.items()}


class FusedStepper:
    """One time step on reduced copies of the weights, made once a batch.

    ``state``: hidden of each layer, then cell of each layer. The cell is kept in float32, so that rounding does not
    build up along the sequence.
    """

    def __init__(self, policy: LstmPolicy, size: int, dtype: torch.dtype) -> None:
        self.layers = policy.parameters_.layers
        self.weights = policy.step_weights(dtype)
        shape = (size, policy.parameters_.hidden_size)
        kinds = [dtype] * self.layers + [torch.float32] * self.layers
        self.state = [torch.zeros(shape, dtype=kind, device=policy.device) for kind in kinds]

    def step(self, ids: Tensor) -> Tensor:
        weights, state = self.weights, self.state
        for k in range(self.layers):
            if k == 0:
                gates = weights["table"][ids] + F.linear(state[0], weights["l0"])
            else:
                gates = F.linear(torch.cat([state[k - 1], state[k]], 1), weights[f"l{k}"], weights[f"bias{k}"])
            i, f, g, o = gates.float().chunk(4, 1)
            cell = torch.sigmoid(f) * state[self.layers + k] + torch.sigmoid(i) * torch.tanh(g)
            state[self.layers + k] = cell
            state[k] = (torch.sigmoid(o) * torch.tanh(cell)).to(state[k].dtype)
        return F.linear(state[self.layers - 1], weights["out"], weights["out_bias"]).float()

    def keep(self, rows: Tensor) -> None:
        self.state = [part[rows] for part in self.state]

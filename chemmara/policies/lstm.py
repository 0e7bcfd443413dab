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
from chemmara.policies.rnn import PlainStepper, RecurrentNetwork


class LstmPolicy(RecurrentNetwork):
    """An LSTM over tokens."""

    architecture = "lstm"
    kind = nn.LSTM

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


class FusedStepper:
    """One time step on reduced copies of the weights, made once a batch.

    The embedding and the first layer's input product are one table look-up, and each further layer is one product on
    [input, hidden]. The cell state is kept in float32, so that rounding does not build up along the sequence.
    """

    def __init__(self, policy: LstmPolicy, size: int, dtype: torch.dtype) -> None:
        layers = policy.parameters_.layers
        get = policy.recurrent.get_parameter
        biases = [get(f"bias_ih_l{k}") + get(f"bias_hh_l{k}") for k in range(layers)]
        self.table = F.linear(policy.embedding.weight, get("weight_ih_l0"), biases[0]).to(dtype)
        self.weights = [get("weight_hh_l0").to(dtype)]
        for k in range(1, layers):
            self.weights.append(torch.cat([get(f"weight_ih_l{k}"), get(f"weight_hh_l{k}")], 1).to(dtype))
        self.biases = [bias.to(dtype) for bias in biases]
        self.out_weight, self.out_bias = policy.output.weight.to(dtype), policy.output.bias.to(dtype)
        shape = (size, policy.parameters_.hidden_size)
        self.hidden = [torch.zeros(shape, dtype=dtype, device=policy.device) for _ in range(layers)]
        self.cell = [torch.zeros(shape, dtype=torch.float32, device=policy.device) for _ in range(layers)]

    def step(self, ids: Tensor) -> Tensor:
        for k in range(len(self.hidden)):
            if k == 0:
                gates = self.table[ids] + F.linear(self.hidden[0], self.weights[0])
            else:
                joined = torch.cat([self.hidden[k - 1], self.hidden[k]], 1)
                gates = F.linear(joined, self.weights[k], self.biases[k])
            i, f, g, o = gates.float().chunk(4, 1)
            self.cell[k] = torch.sigmoid(f) * self.cell[k] + torch.sigmoid(i) * torch.tanh(g)
            self.hidden[k] = (torch.sigmoid(o) * torch.tanh(self.cell[k])).to(self.hidden[k].dtype)
        return F.linear(self.hidden[-1], self.out_weight, self.out_bias).float()

    def keep(self, rows: Tensor) -> None:
        self.hidden = [h[rows] for h in self.hidden]
        self.cell = [c[rows] for c in self.cell]

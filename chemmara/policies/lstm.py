"""The LSTM policy's network. Only imported where a model is built or loaded: this module needs torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chemmara.language.vocabulary import PAD, START, Vocabulary
from chemmara.policies.generation import concatenate, sample_sequences
from chemmara.policies.memory import keep_freed_memory
from chemmara.policies.packed import Packing, packed_lstm
from chemmara.policies.policy import MAX_TOKENS, Sequences
from chemmara.policies.precision import Precision, autocast, resolve
from chemmara.policies.recurrent import LstmParameters

SAMPLE_BATCH = 512


class LstmPolicy(nn.Module):
    """pi(token | tokens before), a :class:`chemmara.policies.policy.Policy`.

    ``precision`` sets the format of the matrix products in training, sampling and log_prob alike; sums over tokens and
    the softmax are float32 always.
    """

    architecture = "lstm"

    def __init__(self, vocabulary: Vocabulary, parameters: LstmParameters | None = None) -> None:
        super().__init__()
        keep_freed_memory()
        self.vocabulary = vocabulary
        self.parameters_ = parameters or LstmParameters()
        p = self.parameters_
        self.precision: Precision = "auto"
        self.embedding = nn.Embedding(len(vocabulary), p.embedding_size)
        self.lstm = nn.LSTM(
            p.embedding_size, p.hidden_size, p.layers, batch_first=True, dropout=p.dropout if p.layers > 1 else 0.0
        )
        self.output = nn.Linear(p.hidden_size, len(vocabulary))

    @property
    def device(self) -> torch.device:
        return self.output.weight.device

    def token_log_probs(self, ids: Tensor) -> Tensor:
        """log pi of each token given those before it, (B, T) float32; 0 at padding."""
        ids = ids.to(self.device)
        if self.device.type == "cpu" and bool((ids != PAD).any()):
            return self._packed_log_probs(ids)
        inputs = F.pad(ids[:, :-1], (1, 0), value=START)
        with autocast(self.precision, self.device):
            hidden, _ = self.lstm(self.embedding(inputs))
            logits = self.output(hidden)
        # Padding and start are never sampled, so the distribution leaves them out here as well.
        logits = logits.float()[..., START + 1 :]
        targets = (ids - (START + 1)).masked_fill(ids == PAD, -100)
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none")
        return -losses.view_as(ids)

    def _packed_log_probs(self, ids: Tensor) -> Tensor:
        """The same without a step on padding. A GPU's own kernels do better than a Python loop over time."""
        dtype = torch.bfloat16 if resolve(self.precision, self.device) == "bfloat16" else torch.float32
        packing = Packing((ids != PAD).sum(1))
        inputs = packing.pack(F.pad(ids[:, :-1], (1, 0), value=START))
        hidden = packed_lstm(self.lstm, self.embedding(inputs), packing, dtype)
        logits = F.linear(hidden, self.output.weight.to(dtype), self.output.bias.to(dtype)).float()[:, START + 1 :]
        losses = F.cross_entropy(logits, packing.pack(ids) - (START + 1), reduction="none")
        return packing.unpack(-losses, ids.shape[1])

    def log_prob(self, ids: Tensor) -> Tensor:
        """Total log-probability of padded ids (B, T) in nats, end token included: (B,) float32."""
        return self.token_log_probs(ids).sum(dim=1)

    @torch.no_grad()
    def sample(
        self, n: int, *, generator: torch.Generator, temperature: float = 1.0, max_tokens: int = MAX_TOKENS
    ) -> Sequences:
        """``n`` sequences at ``temperature`` with their log-probabilities under the distribution sampled from."""
        reduced = resolve(self.precision, self.device) == "bfloat16"
        parts = []
        for start in range(0, n, SAMPLE_BATCH):
            size = min(SAMPLE_BATCH, n - start)
            stepper = FusedStepper(self, size) if reduced else PlainStepper(self, size)
            parts.append(
                sample_sequences(stepper, size, generator=generator, temperature=temperature, max_tokens=max_tokens)
            )
        return concatenate(parts)


class PlainStepper:
    """One time step through the module itself, in float32."""

    def __init__(self, policy: LstmPolicy, size: int) -> None:
        self.policy = policy
        self.state: tuple[Tensor, Tensor] | None = None

    def step(self, ids: Tensor) -> Tensor:
        hidden, self.state = self.policy.lstm(self.policy.embedding(ids[:, None]), self.state)
        logits: Tensor = self.policy.output(hidden[:, 0])
        return logits

    def keep(self, rows: Tensor) -> None:
        assert self.state is not None
        h, c = self.state
        self.state = (h[:, rows].contiguous(), c[:, rows].contiguous())


class FusedStepper:
    """One time step on bfloat16 copies of the weights, made once a batch.

    The embedding and the first layer's input product are one table look-up, and each further layer is one product on
    [input, hidden]. The cell state is kept in float32, so that rounding does not build up along the sequence.
    """

    def __init__(self, policy: LstmPolicy, size: int) -> None:
        dtype = torch.bfloat16
        lstm, layers = policy.lstm, policy.parameters_.layers
        get = lstm.get_parameter
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

"""What LSTM and GRU policies share: embedding, a stack of recurrent layers, a linear output. Needs torch."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from chemmara.language.vocabulary import Vocabulary
from chemmara.policies.network import TokenNetwork


class RecurrentNetwork(TokenNetwork):
    """Embedding, recurrent layers (kept under the architecture's name, as in the weights file), linear output."""

    kind: type[nn.RNNBase]

    def __init__(self, vocabulary: Vocabulary, parameters: Any) -> None:
        super().__init__(vocabulary, parameters)
        p = parameters
        self.embedding = nn.Embedding(len(vocabulary), p.embedding_size)
        dropout = p.dropout if p.layers > 1 else 0.0
        layers = self.kind(p.embedding_size, p.hidden_size, p.layers, batch_first=True, dropout=dropout)
        self.add_module(self.architecture, layers)
        self.output = nn.Linear(p.hidden_size, len(vocabulary))

    @property
    def recurrent(self) -> nn.RNNBase:
        """The recurrent layers."""
        layers: nn.RNNBase = getattr(self, self.architecture)
        return layers

    def logits(self, inputs: Tensor) -> Tensor:
        hidden, _ = self.recurrent(self.embedding(inputs))
        result: Tensor = self.output(hidden)
        return result


class PlainStepper:
    """One time step through the module itself, in float32."""

    def __init__(self, policy: RecurrentNetwork) -> None:
        self.policy = policy
        self.state: Any = None

    def step(self, ids: Tensor) -> Tensor:
        hidden, self.state = self.policy.recurrent(self.policy.embedding(ids[:, None]), self.state)
        logits: Tensor = self.policy.output(hidden[:, 0])
        return logits

    def keep(self, rows: Tensor) -> None:
        if isinstance(self.state, tuple):
            self.state = tuple(part[:, rows].contiguous() for part in self.state)
        else:
            self.state = self.state[:, rows].contiguous()

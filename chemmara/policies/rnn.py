"""What LSTM and GRU policies share: embedding, a stack of recurrent layers, a linear output. Needs torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from chemmara.language.vocabulary import Vocabulary
from chemmara.policies.network import TokenNetwork


class RecurrentNetwork(TokenNetwork):
    """Embedding, recurrent layers (kept under the architecture's name, as in the weights file), linear output."""

    kind: type[nn.RNNBase]
    cell: Callable[..., Any]
    """torch's function of all layers, which the module calls."""

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
        embedded = self.embedding(inputs)
        hidden = self._on_a_gpu(embedded) if self.device.type == "cuda" else self.recurrent(embedded)[0]
        result: Tensor = self.output(hidden)
        return result

    def _on_a_gpu(self, embedded: Tensor) -> Tensor:
        """The recurrent layers by cuDNN, in the precision of the surrounding context.

        torch's autocast would run them in float16 whatever dtype it is told, where small gradients vanish, and its
        module refuses a gradient in evaluation mode.
        """
        layers = self.recurrent
        dtype = torch.bfloat16 if torch.is_autocast_enabled(embedded.device.type) else torch.float32
        size = (layers.num_layers, len(embedded), layers.hidden_size)
        with torch.autocast(embedded.device.type, enabled=False):
            start = torch.zeros(size, dtype=dtype, device=embedded.device)
            hidden, *_ = self.cell(
                embedded.to(dtype),
                (start, start) if self.architecture == "lstm" else start,
                self._in_one_piece(dtype),
                has_biases=True,
                num_layers=layers.num_layers,
                dropout=layers.dropout if self.training else 0.0,
                train=torch.is_grad_enabled(),
                bidirectional=False,
                batch_first=True,
            )
        result: Tensor = hidden
        return result

    def _in_one_piece(self, dtype: torch.dtype) -> list[Tensor]:
        """The layers' weights in ``dtype``, in torch.lstm's order, in one piece of memory as cuDNN wants."""
        weights: list[Tensor] = [weight for layer in self.recurrent.all_weights for weight in layer]
        if dtype == weights[0].dtype:
            return weights
        order = sorted(range(len(weights)), key=lambda number: weights[number].data_ptr())
        piece = torch.cat([weights[number].reshape(-1) for number in order]).to(dtype)
        parts = torch.split(piece, [weights[number].numel() for number in order])
        found = {number: part.view_as(weights[number]) for number, part in zip(order, parts, strict=True)}
        return [found[number] for number in range(len(weights))]


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


class StateStepper(Protocol):
    """A stepper whose weights and state are lists of tensors."""

    weights: dict[str, Tensor]
    state: list[Tensor]

    def step(self, ids: Tensor) -> Tensor: ...


class RecurrentSlots:
    """Slots over a recurrent stepper: a state is zero where a sequence begins, and stays where it is in memory."""

    def __init__(self, stepper: StateStepper, dtype: torch.dtype) -> None:
        self.stepper, self.dtype = stepper, dtype
        # A weight that is of this dtype already is the policy's own, and an update may not change it under a graph.
        stepper.weights = {name: weight.detach().clone() for name, weight in stepper.weights.items()}

    def load(self, policy: Any) -> None:
        for name, weight in policy.step_weights(self.dtype).items():
            self.stepper.weights[name].copy_(weight)

    def step(self, ids: Tensor, position: Tensor) -> Tensor:
        state = list(self.stepper.state)
        going = (position > 0)[:, None]
        for part in state:
            part.mul_(going)
        logits = self.stepper.step(ids)
        for part, new in zip(state, self.stepper.state, strict=True):
            part.copy_(new)
        self.stepper.state = state
        return logits

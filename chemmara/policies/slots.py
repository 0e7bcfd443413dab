"""Sampling on a GPU: one step, captured once as a CUDA graph, replayed until all sequences are written.

A step of a small network is some sixty kernels of microseconds. To ask for them one by one takes longer than to run
them, and to read back which sequences have ended stops the GPU. A graph is asked for at once and needs tensors of fixed
size: so the places of sequences that have ended are not dropped, they take up the next ones. The same steps run without
a graph on any device, which is how they are tested where there is no GPU.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from chemmara.language.vocabulary import END, PAD, START
from chemmara.policies.capture import Room, captured
from chemmara.policies.decoding import PLAIN, Decoding, choose
from chemmara.policies.generation import concatenate
from chemmara.policies.policy import Sequences

if TYPE_CHECKING:
    from chemmara.policies.network import TokenNetwork

LEAST = 64  # slots: fewer take a GPU as long
MOST = 65_536  # sequences written in one go
LOOK = 16  # steps between two looks at whether all is written: each look stops the GPU for a moment
GRAPHS = 8  # of a policy that are kept, one for each size and set of options


class SlotStepper(Protocol):
    """A fixed number of slots that are written side by side, each at a place of its own."""

    def load(self, policy: Any) -> None:
        """Take over the weights that the policy has now."""
        ...

    def step(self, ids: Tensor, position: Tensor) -> Tensor:
        """Logits (S, V) float32 of the next tokens, after ids (S,) at positions (S,). Position 0 begins anew.

        All memory that outlives the step stays where it is.
        """
        ...


_kept: WeakKeyDictionary[Any, OrderedDict[Any, Slots]] = WeakKeyDictionary()


def sample_in_slots(
    policy: TokenNetwork,
    n: int,
    dtype: torch.dtype,
    *,
    generator: torch.Generator,
    decoding: Decoding = PLAIN,
) -> Sequences:
    """As :func:`chemmara.policies.generation.sample_sequences`, with weights of ``dtype`` on the policy's device."""
    parts = []
    for start in range(0, n, MOST):
        size = min(MOST, n - start)
        capacity = max(LEAST, 1 << (size - 1).bit_length())
        key = (capacity, dtype, policy.device, decoding)
        kept = _kept.setdefault(policy, OrderedDict())
        if key not in kept:
            kept[key] = Slots(policy, capacity, dtype, decoding)
        kept.move_to_end(key)
        while len(kept) > GRAPHS:
            kept.popitem(last=False)
        parts.append(kept[key].write(policy, size, generator))
    return concatenate(parts)


def forget(network: TokenNetwork) -> None:
    """Give back the memory of the network's slots."""
    _kept.pop(network, None)


class Slots:
    """Places for ``capacity`` sequences of ``max_tokens``, and the slots that write them."""

    def __init__(self, policy: TokenNetwork, capacity: int, dtype: torch.dtype, decoding: Decoding) -> None:
        self.capacity, self.decoding, max_tokens = capacity, decoding, decoding.max_tokens
        size, device = min(capacity, policy.slot_limit), policy.device
        self.stepper = policy.slots(size, dtype, max_tokens)
        self.noise = torch.ones((size, len(policy.vocabulary)), dtype=torch.float32, device=device)
        # The spare last row takes what idle slots write.
        self.written = torch.full((capacity + 1, max_tokens), PAD, dtype=torch.int64, device=device)
        self.total = torch.zeros(capacity + 1, dtype=torch.float32, device=device)
        self.numbers = torch.arange(size, device=device)
        self.row, self.ids, self.position = (torch.zeros_like(self.numbers) for _ in range(3))
        self.next, self.limit = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
        # -1 stands for any token.
        self.prefix = torch.tensor([*decoding.prefix, -1], device=device) if decoding.prefix else None
        (self._step,) = captured((self._advance,), device, Room.on(device))

    def write(self, policy: TokenNetwork, n: int, generator: torch.Generator) -> Sequences:
        """``n`` sequences, n <= capacity, by the policy's present weights."""
        self.stepper.load(policy)
        self._begin(n)
        while bool((self.row < n).any()):
            for _ in range(LOOK):
                self.noise.exponential_(generator=generator)
                self._step()
        width = int((self.written[:n] != PAD).any(0).sum())
        return Sequences(self.written[:n, :width].clone(), self.total[:n].clone())

    def _begin(self, n: int) -> None:
        self.written.fill_(PAD)
        self.total.zero_()
        self.limit.fill_(n)
        self.next.fill_(len(self.numbers))
        self.row.copy_(torch.where(self.numbers < n, self.numbers, self.capacity))
        self.ids.fill_(START)
        self.position.zero_()

    def _advance(self) -> None:
        """One token in each slot; a slot whose sequence has ended is given the next, or idles."""
        logits = self.stepper.step(self.ids, self.position)
        ids, gain = choose(logits, self.noise, self.decoding)
        if self.prefix is not None:
            given = self.prefix[self.position.clamp(max=len(self.prefix) - 1)]
            ids, gain = torch.where(given < 0, ids, given), gain.masked_fill(given >= 0, 0.0)
        self.written[self.row, self.position] = ids
        self.total[self.row] = self.total[self.row] + gain
        self.position += 1
        ended = (ids == END) | (self.position == self.decoding.max_tokens)
        number = self.next + ended.cumsum(0) - 1
        number = torch.where(number < self.limit, number, self.capacity)
        self.next += ended.sum()
        self.row.copy_(torch.where(ended, number, self.row))
        self.ids.copy_(ids.masked_fill(ended, START))
        self.position.masked_fill_(ended, 0)

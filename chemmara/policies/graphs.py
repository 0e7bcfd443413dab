"""Learning on a GPU: a pass of one shape through a network and back, captured once as CUDA graphs, then replayed.

The passes of a recurrent network of 3 x 512 are a thousand kernels of microseconds, which a processor takes three times
as long to ask for as a GPU to run. Two graphs, one of the way there and one of the way back, are asked for at once.
They need tensors of fixed size: ids are padded, rows and tokens, to the next of few shapes, with or without a graph, so
that the kernels are the same whenever a shape was captured.
"""

from __future__ import annotations

import warnings
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from chemmara.language.vocabulary import PAD
from chemmara.policies.capture import Room, captured
from chemmara.policies.precision import resolve

if TYPE_CHECKING:
    from chemmara.policies.network import TokenNetwork

ROWS, TOKENS = 32, 8  # what rows and tokens are padded to a multiple of: few rows take a GPU as long as some more
LARGEST = 65_536  # places of a batch: a larger one keeps a GPU busy by itself, and its memory full
SHAPES = 32  # of a network that are kept
SIGHTINGS = 4  # of a shape until it is captured, which costs as much as seven passes without a graph lose

_kept: weakref.WeakKeyDictionary[Any, Passes] = weakref.WeakKeyDictionary()


def token_log_probs(network: TokenNetwork, ids: Tensor) -> Tensor:
    """What the network gives for ids (B, T) on its device, by a graph where that is sooner done."""
    rows, tokens = ids.shape
    if not worth_it(network, rows, tokens):
        return plain(network, ids)
    padded = F.pad(ids, (0, -tokens % TOKENS, 0, -rows % ROWS), value=PAD)
    return _kept.setdefault(network, Passes())(network, padded)[:rows, :tokens]


def worth_it(network: TokenNetwork, rows: int, tokens: int) -> bool:
    """Whether a pass is one to learn from, small, and the same kernels each time, as it is not with dropout."""
    return (
        torch.is_grad_enabled()
        and 0 < rows * tokens <= LARGEST
        and all(parameter.requires_grad for parameter in network.parameters())
        and not (network.training and network.drops)
        # A caller's own autocast keeps the weights that it has cast, and a graph would go on reading those.
        and not torch.is_autocast_enabled(network.device.type)
    )


def forget(network: TokenNetwork) -> None:
    """Give back the memory of the network's graphs."""
    _kept.pop(network, None)


def plain(network: TokenNetwork, ids: Tensor) -> Tensor:
    """One operation after the other."""
    return cast(Tensor, network(ids))


class Claim:
    """Held by a pass that waits for its way back: until then no other may run in its memory."""


class Passes:
    """The shapes of a network that were captured; they share one piece of memory, so one is on its way at a time."""

    def __init__(self) -> None:
        self.made_for: Any = None
        self._claim: Callable[[], Claim | None] = lambda: None

    def __call__(self, network: TokenNetwork, ids: Tensor) -> Tensor:
        found = self._pass(network, ids) if self._claim() is None else None
        if found is None:
            return plain(network, ids)
        claim = Claim()
        self._claim = weakref.ref(claim)
        return cast(Tensor, Replay.apply(found, claim, ids, *network.parameters()))  # type: ignore[no-untyped-call]

    def _pass(self, network: TokenNetwork, ids: Tensor) -> Pass | None:
        """The captured pass of the shape of ``ids``; None the first times, since many a shape comes seldom."""
        device = network.device
        # A graph reads the weights where they lay when it was captured, and in the precision of then.
        now = (resolve(network.precision, device), *(weight.data_ptr() for weight in network.parameters()))
        if now != self.made_for:
            self._start_again(network)
            self.made_for = now
        shape = tuple(ids.shape)
        self.seen[shape] += 1
        if self.works and shape not in self.captured and self.seen[shape] >= SIGHTINGS:
            self._capture(network, shape)
        if shape in self.captured:
            self.captured.move_to_end(shape)
        return self.captured.get(shape)

    def _start_again(self, network: TokenNetwork) -> None:
        self.works = True
        self.seen: Counter[tuple[int, ...]] = Counter()
        self.captured: OrderedDict[tuple[int, ...], Pass] = OrderedDict()
        self.gradients = [torch.zeros_like(weight) for weight in network.parameters()]
        self.room = Room.on(network.device)

    def _capture(self, network: TokenNetwork, shape: tuple[int, ...]) -> None:
        try:
            self.captured[shape] = Pass(network, shape, self.gradients, self.room)
        except RuntimeError as error:  # a driver that refuses, or too little memory: then for the graphs there are, too
            self._start_again(network)
            self.works, self.gradients = False, []
            warnings.warn(f"no CUDA graph could be made, learning is slower: {error}", RuntimeWarning, stacklevel=2)
        while len(self.captured) > SHAPES:
            del self.seen[self.captured.popitem(last=False)[0]]


class Pass:
    """Ids of one shape through the network, and a gradient back to its weights, whose gradients are then ``gradients``.

    Off a GPU both ways are the plain ones, which is how they are tested where there is none.
    """

    def __init__(self, network: TokenNetwork, shape: tuple[int, ...], gradients: list[Tensor], room: Room) -> None:
        self.ids = torch.full(shape, PAD, dtype=torch.int64, device=network.device)
        self.slope = torch.zeros(shape, dtype=torch.float32, device=network.device)
        self.gradients = gradients
        # Names of its own for the weights: where another pass has met them, on another stream, none can be captured.
        names = {name: weight.detach().requires_grad_() for name, weight in network.named_parameters()}
        weights = list(names.values())

        def there() -> None:
            with torch.enable_grad():
                self.found = functional_call(network, names, (self.ids,))

        def back() -> None:
            torch._foreach_copy_(gradients, torch.autograd.grad(self.found, weights, self.slope))

        self.there, self.back = captured((there, back), network.device, room)


class Replay(torch.autograd.Function):
    """A pass as one node: its way there and, once, its way back."""

    @staticmethod
    def forward(ctx: Any, found: Pass, claim: Claim, ids: Tensor, *weights: Tensor) -> Tensor:
        ctx.found, ctx.claim, ctx.weights, ctx.version = found, claim, weights, _version(weights)
        found.ids.copy_(ids)
        found.there()
        return cast(Tensor, found.found.detach().clone())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.claim is None:
            raise RuntimeError("a pass on a GPU goes back once; compute the log-probabilities again")
        if ctx.version != _version(ctx.weights):
            raise RuntimeError("the weights were modified by an in-place operation before the pass went back")
        found: Pass = ctx.found
        found.slope.copy_(slope)
        found.back()
        ctx.claim = None
        # Copies: what a gradient is added to must not be where the next pass writes its own.
        return None, None, None, *(gradient.clone() for gradient in found.gradients)


def _version(weights: Iterable[Tensor]) -> int:
    """A number that grows with each change of the weights in place."""
    return sum(weight._version for weight in weights)

"""What the networks of all policies share. Only imported where a model is built or loaded: this module needs torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chemmara.language.vocabulary import PAD, START, Vocabulary
from chemmara.policies import graphs, slots
from chemmara.policies.decoding import PLAIN, Decoding
from chemmara.policies.dropout import dropouts
from chemmara.policies.generation import Stepper, concatenate, sample_sequences
from chemmara.policies.memory import keep_freed_memory
from chemmara.policies.policy import Sequences
from chemmara.policies.precision import Precision, autocast, resolve
from chemmara.policies.slots import SlotStepper, sample_in_slots

SAMPLE_BATCH = 512


class TokenNetwork(nn.Module):
    """pi(token | tokens before), a :class:`chemmara.policies.policy.Policy`.

    A network adds :meth:`logits` and :meth:`stepper`, and for speed on a GPU :meth:`slots`. ``precision`` sets the
    format of the matrix products in training, sampling and log_prob alike; sums over tokens and the softmax are float32
    always.
    """

    architecture: str
    slot_limit = 4096
    """Sequences that a GPU writes side by side."""

    def __init__(self, vocabulary: Vocabulary, parameters: Any) -> None:
        super().__init__()
        keep_freed_memory()
        self.vocabulary = vocabulary
        self.parameters_ = parameters
        self.precision: Precision = "auto"

    def logits(self, inputs: Tensor) -> Tensor:
        """Logits (B, T, V) of the token after each of ``inputs`` (B, T), given those up to it."""
        raise NotImplementedError

    def stepper(self, size: int, dtype: torch.dtype) -> Stepper:
        """The state of ``size`` sequences that are being written, with weights of ``dtype``."""
        raise NotImplementedError

    def slots(self, size: int, dtype: torch.dtype, max_tokens: int) -> SlotStepper:
        """``size`` sequences that a GPU writes, with weights of ``dtype``; ``max_tokens`` positions at most.

        A network without it writes on a GPU by :meth:`stepper`, which is slower.
        """
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def drops(self) -> bool:
        """Whether a pass in training mode leaves out units by chance."""
        return any(value > 0 for _, _, value in dropouts(self))

    def token_log_probs(self, ids: Tensor) -> Tensor:
        """log pi of each token given those before it, (B, T) float32; 0 at padding."""
        ids = ids.to(self.device)
        return graphs.token_log_probs(self, ids) if ids.device.type == "cuda" else self(ids)

    def forward(self, ids: Tensor) -> Tensor:
        """:meth:`token_log_probs` of ids on the network's device, one operation after the other."""
        inputs = F.pad(ids[:, :-1], (1, 0), value=START)
        with autocast(self.precision, self.device):
            logits = self.logits(inputs)
        # Padding and start are never sampled, so the distribution leaves them out here as well.
        logits = logits.float()[..., START + 1 :]
        targets = (ids - (START + 1)).masked_fill(ids == PAD, -100)
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none")
        return -losses.view_as(ids)

    def log_prob(self, ids: Tensor) -> Tensor:
        """Total log-probability of padded ids (B, T) in nats, end token included: (B,) float32."""
        return self.token_log_probs(ids).sum(dim=1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator,
        decoding: Decoding = PLAIN,
    ) -> Sequences:
        """``n`` sequences, as :func:`sample_sequences` draws them, with their log-probabilities."""
        reduced = resolve(self.precision, self.device) == "bfloat16"
        dtype = torch.bfloat16 if reduced else torch.float32
        has_slots = type(self).slots is not TokenNetwork.slots
        draw = sample_in_slots if has_slots and in_slots(self.device) else _in_turn
        return draw(self, n, dtype, generator=generator, decoding=decoding)

    def release(self) -> None:
        """Give back what a GPU keeps for this network beside its weights; it is made again where it is needed."""
        graphs.forget(self)
        slots.forget(self)


def in_slots(device: torch.device) -> bool:
    """Whether a device is sooner done with steps of fixed size than with ever fewer rows."""
    return device.type == "cuda"


def _in_turn(
    policy: TokenNetwork, n: int, dtype: torch.dtype, *, generator: torch.Generator, decoding: Decoding
) -> Sequences:
    sizes = (min(SAMPLE_BATCH, n - start) for start in range(0, n, SAMPLE_BATCH))
    parts = (
        sample_sequences(policy.stepper(size, dtype), size, generator=generator, decoding=decoding) for size in sizes
    )
    return concatenate(list(parts))

"""A policy given how its sequences begin: the distribution over what follows. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from chemmara.language.begun import BegunVocabulary
from chemmara.policies.decoding import PLAIN, Decoding
from chemmara.policies.generation import concatenate
from chemmara.policies.policy import Sequences


class BegunPolicy:
    """pi(sequence | its beginning) of a network, for beginnings of which each is as likely as the next.

    A :class:`chemmara.policies.policy.Policy`. Log-probabilities are those of what follows the beginning, which was
    chosen for the policy and not by it: agent and prior differ in nothing else, and no gradient goes to how likely the
    scaffold itself is.
    """

    def __init__(self, network: Any, texts: Sequence[str]) -> None:
        self.network = network
        self.architecture: str = network.architecture
        self.vocabulary = BegunVocabulary(network.vocabulary, texts)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.network.device
        return device

    def sample(self, n: int, *, generator: torch.Generator, decoding: Decoding = PLAIN) -> Sequences:
        """``n`` sequences in random order of their beginnings."""
        starts = self.vocabulary.starts
        if len(starts) == 1:
            found: Sequences = self.network.sample(n, generator=generator, decoding=replace(decoding, prefix=starts[0]))
            return found
        which = torch.randint(len(starts), (n,), generator=generator, device=generator.device)
        counts = torch.bincount(which, minlength=len(starts)).tolist()
        drawn = concatenate(
            [
                self.network.sample(count, generator=generator, decoding=replace(decoding, prefix=start))
                for start, count in zip(starts, counts, strict=True)
                if count
            ]
        )
        place = torch.argsort(torch.argsort(which, stable=True))  # of each row in the order of the beginnings
        return Sequences(drawn.ids[place], drawn.log_prob[place])

    def token_log_probs(self, ids: Tensor) -> Tensor:
        """(B, T) of ids (B, T) that begin as sequences do, 0 at the beginning. Raises ValueError for others."""
        begun = self._begun(ids)
        found: Tensor = self.network.token_log_probs(ids)
        return found.masked_fill(begun.to(found.device), 0.0)

    def log_prob(self, ids: Tensor) -> Tensor:
        """(B,) nats of what follows the beginning, end token included."""
        return self.token_log_probs(ids).sum(dim=1)

    def _begun(self, ids: Tensor) -> Tensor:
        """Which places (B, T) belong to the beginning."""
        places = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
        for start in self.vocabulary.starts:
            if len(start) <= ids.shape[1]:
                rows = (ids[:, : len(start)] == torch.tensor(start, device=ids.device)).all(dim=1)
                places[rows, : len(start)] = True
        if len(ids) and not bool(places[:, 0].all()):
            raise ValueError("a sequence begins as none of this policy's does")
        return places


def given(network: Any, texts: Sequence[str]) -> Any:
    """The network's policy given that sequences begin with one of ``texts``; without any, the network itself."""
    return BegunPolicy(network, texts) if texts else network

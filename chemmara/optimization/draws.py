"""How replayed molecules are drawn from the buffer: one function a rule, each deterministic in the generator given."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from chemmara.lazy import lazy

if TYPE_CHECKING:
    import numpy as np

    from chemmara.optimization.replay import ReplayBuffer
else:
    np = lazy("numpy")

Draw = Callable[["ReplayBuffer", int, "np.random.Generator"], list[int]]
"""(buffer, molecules wanted, generator) -> places in ``buffer.entries``, which are in the order of reward."""


def uniform(buffer: ReplayBuffer, size: int, rng: np.random.Generator) -> list[int]:
    """Distinct molecules, each as likely as the next."""
    return list(map(int, rng.choice(len(buffer), min(size, len(buffer)), replace=False)))


def top(buffer: ReplayBuffer, size: int, rng: np.random.Generator) -> list[int]:
    """The best ones."""
    return list(range(min(size, len(buffer))))


def rank_weights(number: int, coefficient: float) -> np.ndarray:
    """(number,) probabilities, proportional to 1/(k N + rank), rank 0 = best; k = ``coefficient``, N = ``number``.

    [Tripp et al. 2020, arXiv 2006.09191]

    >>> print(rank_weights(4, 0.25).round(3))
    [0.48 0.24 0.16 0.12]
    """
    weights: np.ndarray = 1.0 / (coefficient * number + np.arange(number))
    weights /= weights.sum()
    return weights


def rank(buffer: ReplayBuffer, size: int, rng: np.random.Generator) -> list[int]:
    """By weights that fall with the rank, with replacement: the mean loss estimates the rank-weighted one."""
    weights = rank_weights(len(buffer), buffer.settings.rank_coefficient)
    return list(map(int, rng.choice(len(buffer), min(size, len(buffer)), p=weights)))


def scaffold(buffer: ReplayBuffer, size: int, rng: np.random.Generator) -> list[int]:
    """Uniformly over Murcko scaffolds, then over their molecules; an acyclic molecule is its own scaffold."""
    return _grouped([entry.scaffold or entry.smiles for entry in buffer.entries], size, rng)


def cluster(buffer: ReplayBuffer, size: int, rng: np.random.Generator) -> list[int]:
    """Uniformly over similarity clusters, then over their molecules."""
    return _grouped([buffer.cluster(entry) for entry in buffer.entries], size, rng)


def _grouped(labels: Sequence[Hashable], size: int, rng: np.random.Generator) -> list[int]:
    """Distinct places: one of each group in random order, then again of what is left, until there are enough."""
    members: dict[Hashable, list[int]] = {}
    for place in map(int, rng.permutation(len(labels))):
        members.setdefault(labels[place], []).append(place)
    groups = list(members.values())
    drawn: list[int] = []
    while len(drawn) < min(size, len(labels)):
        order = [groups[k] for k in map(int, rng.permutation(len(groups)))]
        drawn += [group.pop() for group in order[: size - len(drawn)]]
        groups = [group for group in groups if group]
    return drawn


DRAWS: dict[str, Draw] = {"uniform": uniform, "rank": rank, "top": top, "scaffold": scaffold, "cluster": cluster}

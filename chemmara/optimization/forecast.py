"""What a molecule will score, learned from those that a run has paid for: a Gaussian process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from chemmara.chemistry.molecules import Molecule, read
from chemmara.lazy import lazy
from chemmara.optimization.likeness import Features, features, likeness

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor
else:
    np = lazy("numpy")
    torch = lazy("torch")

CHOSEN_ON = 512
"""Molecules, the latest, that the kernel is chosen on."""
CHOSEN_AGAIN = 1.5
"""It is chosen anew when this many times as many molecules are known."""


@dataclass(frozen=True)
class Kernel:
    """k = ``fragments`` * Tanimoto + (1 - ``fragments``) * exp(-``width`` * squared distance), and the share of noise.

    Tanimoto on counts is positive definite [Ralaivola et al., Neural Networks 2005, 18, 1093]; the second part sees
    what a sum of fragments does not, such as a window of weight or logP.
    """

    fragments: float
    width: float
    noise: float

    def __call__(self, tanimoto: NDArray[np.float32], distance: NDArray[np.float32]) -> NDArray[np.float64]:
        smooth = np.exp(-self.width * distance.astype(float))
        mixed: NDArray[np.float64] = self.fragments * tanimoto.astype(float) + (1 - self.fragments) * smooth
        return mixed

    def factor(self, tanimoto: NDArray[np.float32], distance: NDArray[np.float32]) -> Tensor:
        """The Cholesky factor of k with its noise, lower."""
        gram = torch.from_numpy(self(tanimoto, distance))
        gram.diagonal().add_(self.noise)
        factor: Tensor = torch.linalg.cholesky(gram)
        return factor


KERNELS = tuple(Kernel(*each) for each in product((0.2, 0.5, 0.8), (0.05, 0.15), (0.003, 0.03, 0.3, 3.0)))
"""To choose from. Noise of 0.003 is a score that can be computed; at 3 most of it is explained by no structure."""


class Forecast:
    """Learns from the latest ``memory`` molecules. The mean is theirs; amplitude and kernel are those of the highest
    marginal likelihood [Rasmussen and Williams 2006, equation 5.8], so that an oracle that is noisy is trusted less."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self._scores: list[float] = []
        self._smiles: list[str] = []
        self._new: list[Molecule] = []
        self._known: Features | None = None  # a config is checked without loading what it takes to learn
        self._kernel, self._chosen_at, self._learned = KERNELS[0], 0, 0

    def __len__(self) -> int:
        return len(self._scores)

    def learn(self, molecule: Molecule, score: float) -> None:
        """``score`` is finite."""
        self._new.append(molecule)
        self._smiles = [*self._smiles, molecule.smiles][-self.memory :]
        self._scores = [*self._scores, score][-self.memory :]
        self._learned += 1

    def __call__(self, molecules: Sequence[Molecule]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of each molecule the mean and the standard deviation of what its score is expected to be, (n,) each.

        There has to be something learned.
        """
        if self._new:
            self._take_in()
        assert self._known is not None
        here = self._kernel(*likeness(features(molecules), self._known))
        half = _solve(self._factor, torch.from_numpy(here.T))
        left = (1 - half.square().sum(dim=0)).clamp(min=0)  # a molecule is 1 like itself
        return (self._mean + self._whitened @ half).numpy(), (self._amplitude * left.sqrt()).numpy()

    def _take_in(self) -> None:
        new = features(self._new[-self.memory :])  # of a long file of seeds no more than is kept
        among = likeness(new, new)
        if self._known is None:
            self._tanimoto, self._distance = (own[-self.memory :, -self.memory :] for own in among)
            self._known = new.last(self.memory)
        else:
            across = likeness(new, self._known)
            self._tanimoto, self._distance = (
                np.block([[old, beside.T], [beside, own]])[-self.memory :, -self.memory :]
                for old, beside, own in zip((self._tanimoto, self._distance), across, among)
            )
            self._known = self._known.followed_by(new).last(self.memory)
        self._new = []
        if self._learned >= CHOSEN_AGAIN * self._chosen_at:
            self._choose()
        self._mean = float(np.mean(self._scores))
        self._factor = self._kernel.factor(self._tanimoto, self._distance)
        self._whitened = _solve(self._factor, torch.tensor(self._scores, dtype=torch.float64) - self._mean)
        self._amplitude = _amplitude(self._whitened)

    def _choose(self) -> None:
        scores = torch.tensor(self._scores[-CHOSEN_ON:], dtype=torch.float64)
        last = slice(-len(scores), None)
        likenesses = self._tanimoto[last, last], self._distance[last, last]

        def evidence(kernel: Kernel) -> float:
            factor = kernel.factor(*likenesses)
            amplitude = _amplitude(_solve(factor, scores - scores.mean()))
            return -len(scores) * math.log(amplitude) - float(factor.diagonal().log().sum())

        self._kernel, self._chosen_at = max(KERNELS, key=evidence), self._learned

    def state_dict(self) -> dict[str, Any]:
        return {
            "smiles": self._smiles,
            "scores": self._scores,
            "kernel": astuple(self._kernel),
            "chosen_at": self._chosen_at,
            "learned": self._learned,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.__init__(self.memory)  # type: ignore[misc]
        self._smiles, self._scores = list(state["smiles"]), list(state["scores"])
        self._new = [molecule for smiles in self._smiles if (molecule := read(smiles).molecule)]
        self._kernel = Kernel(*state["kernel"])
        self._chosen_at, self._learned = state["chosen_at"], state["learned"]


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    """factor^-1 right, for a lower factor (n, n) and right (n,) or (n, m). By torch, which keeps to a run's threads."""
    columns = right.unsqueeze(-1) if right.ndim == 1 else right
    solved: Tensor = torch.linalg.solve_triangular(factor, columns, upper=False)
    return solved.reshape(right.shape)


def _amplitude(whitened: Tensor) -> float:
    """Of the highest likelihood; scores that are all the same have next to none."""
    return max(float(whitened.square().mean().sqrt()), 1e-6)

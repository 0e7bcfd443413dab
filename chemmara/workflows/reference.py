"""Molecules that a prior writes, drawn once and counted: what the bundled reference tables are made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rdkit import Chem

from chemmara.chemistry.molecules import read
from chemmara.errors import UserError

BATCH = 512


class Samples:
    """The first ``n`` valid samples of a prior, temperature 1, repeats kept. ``drawn`` counts all, once they are drawn.

    Raises :class:`UserError` for an unknown prior.
    """

    def __init__(self, prior: str | Path, n: int, seed: int = 0, precision: str = "auto") -> None:
        from chemmara.policies.catalog import find_prior
        from chemmara.policies.storage import load_policy

        found = find_prior(prior)
        self.name, self.sha256 = found.name, found.sha256()
        self.n, self.seed, self.drawn = n, seed, 0
        self._policy = load_policy(found)
        self._policy.precision = precision

    @property
    def source(self) -> str:
        """One line that says what these molecules are."""
        return f"{self.n} valid samples of {self.name}, seed {self.seed}, temperature 1, weights {self.sha256[:16]}"

    def molecules(self) -> Iterator[Chem.Mol]:
        """Draw. Raises :class:`UserError` for a prior that writes hardly any molecule."""
        import torch

        generator = torch.Generator(device=self._policy.device).manual_seed(self.seed)
        self.drawn = valid = 0
        while valid < self.n:
            if self.drawn >= 4 * self.n + BATCH:
                raise UserError(f"fewer than one in four samples of '{self.name}' is a molecule: too few to count")
            ids = self._policy.sample(BATCH, generator=generator).ids
            for text in self._policy.vocabulary.decode(ids.cpu().numpy()):
                self.drawn += 1
                molecule = read(text).molecule
                if molecule is not None:
                    valid += 1
                    yield molecule.mol
                    if valid == self.n:
                        return

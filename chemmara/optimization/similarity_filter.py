"""The diversity filter of similar scaffolds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from chemmara.chemistry.fingerprints import fingerprint, tanimoto
from chemmara.chemistry.molecules import Molecule, read
from chemmara.optimization.filters import DIVERSITY_FILTERS, BucketFilter, BucketParameters


class SimilarityParameters(BucketParameters):
    """Buckets of similar scaffolds."""

    fingerprint: Literal["all_atom_pairs", "atom_pairs", "ecfp4", "ecfp6", "fcfp4"] = Field(
        "all_atom_pairs",
        description="counts of these; atom_pairs end at 10 bonds, all_atom_pairs at 30, as REINVENT has them",
    )
    similarity: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="Tanimoto similarity to a bucket's scaffold from which a scaffold joins the most similar one; "
        "0.25 is the Dice similarity of 0.4 that REINVENT takes",
    )


@DIVERSITY_FILTERS.register("similarity", SimilarityParameters)
class SimilarityFilter(BucketFilter):
    """Buckets of similar Bemis-Murcko scaffolds (REINVENT's ScaffoldSimilarity).

    A scaffold joins the bucket of the most similar scaffold that leads one, if it is similar enough, and leads a new
    one else; where it has joined it stays.
    """

    parameters: SimilarityParameters

    def __init__(self, parameters: SimilarityParameters) -> None:
        super().__init__(parameters)
        self._joined: dict[str, str] = {}  # scaffold to the one that leads its bucket
        self._leaders: dict[str, Any] = {}  # with their fingerprints
        self._scaffolds: dict[str, str] = {}  # of the molecules that were asked for

    def _bucket(self, molecule: Molecule) -> str:
        scaffold = molecule.scaffold or molecule.smiles
        if scaffold not in self._joined:
            own = self._print(scaffold)
            self._joined[scaffold] = self._nearest(own) or scaffold
            if self._joined[scaffold] == scaffold and own is not None:
                self._leaders[scaffold] = own
        return self._joined[scaffold]

    def full(self, smiles: str) -> bool:
        """As above; a scaffold that has joined no bucket yet is looked up and joins none."""
        if smiles not in self._scaffolds:
            molecule = read(smiles).molecule
            self._scaffolds[smiles] = molecule.scaffold or smiles if molecule else smiles
        scaffold = self._scaffolds[smiles]
        key = self._joined.get(scaffold) or self._nearest(self._print(scaffold))
        return key is not None and self._filled[key] >= self.parameters.bucket_size

    def _print(self, scaffold: str) -> Any:
        molecule = read(scaffold).molecule
        return fingerprint(molecule.mol, self.parameters.fingerprint, counts=True) if molecule else None

    def _nearest(self, own: Any) -> str | None:
        if own is None or not self._leaders:
            return None
        similarity = tanimoto(own, list(self._leaders.values()))
        nearest = int(similarity.argmax())
        return list(self._leaders)[nearest] if similarity[nearest] >= self.parameters.similarity else None

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "joined": self._joined}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._joined = dict(state["joined"])
        prints = {scaffold: self._print(scaffold) for scaffold, leader in self._joined.items() if scaffold == leader}
        self._leaders = {scaffold: own for scaffold, own in prints.items() if own is not None}

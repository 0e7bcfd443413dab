"""Who is bred with whom, and the processes that breed: what comes of a couple does not depend on how many there are.

A process imports this module and RDKit. :class:`~chemmara.scoring.executors.ProcessExecutor` keeps it: a couple under
which it dies has no child, and costs no run. Where all is bred in the run's own process such a couple ends it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from chemmara.chemistry.genetics import breed
from chemmara.chemistry.molecules import Molecule, read
from chemmara.errors import RunError
from chemmara.lazy import lazy
from chemmara.scoring.evaluation import ComponentSpec, Evaluation, Task
from chemmara.scoring.executors import ProcessExecutor

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

MOST = 8
"""Processes: beyond these a step spends its time elsewhere, and each takes some 100 MB."""
TOGETHER = 4
"""Couples a task, some ten milliseconds."""
TASKS = 4
"""Tasks a process before children are handed on: the caller may have enough by then."""


class Couple(NamedTuple):
    """Canonical SMILES of two parents, and the seed of what chance decides between them."""

    mother: str
    father: str
    seed: int

    @classmethod
    def draw(cls, pool: Sequence[str], n: int, rng: np.random.Generator) -> list[Couple]:
        """``n`` of them at once, so that the generator goes on the same however many of them are bred."""
        parents, seeds = rng.integers(len(pool), size=(n, 2)).tolist(), rng.integers(2**63, size=n).tolist()
        return [cls(pool[mother], pool[father], seed) for (mother, father), seed in zip(parents, seeds)]

    def child(self, mutation_rate: float, max_atoms: int) -> Molecule | None:
        """None where they have no sound one."""
        rng = np.random.default_rng(self.seed)
        try:
            return breed(_parent(self.mother), _parent(self.father), mutation_rate, rng, max_atoms)
        except Exception:  # RDKit raises many kinds, and no couple is worth a run
            return None

    def __str__(self) -> str:
        return " ".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> Couple:
        mother, father, seed = text.split(" ")
        return cls(mother, father, int(seed))


@lru_cache(maxsize=1024)
def _parent(smiles: str) -> Molecule:
    molecule = read(smiles).molecule
    assert molecule is not None  # the buffer holds canonical SMILES of molecules
    return molecule


class Breeders:
    """Children of couples, in ``processes`` processes at most; of one in this process."""

    def __init__(self, processes: int = 1) -> None:
        self.processes = min(processes, MOST)
        self._executor = ProcessExecutor(self.processes, module=__name__) if self.processes > 1 else None

    def __call__(self, couples: Sequence[Couple], mutation_rate: float, max_atoms: int) -> Iterator[Molecule]:
        """The children in the order of the couples, which may have none."""
        block = TOGETHER * TASKS * self.processes if self._executor else 1
        for start in range(0, len(couples), block):
            part = couples[start : start + block]
            if self._executor:
                yield from self._elsewhere(self._executor, part, mutation_rate, max_atoms)
            else:
                yield from _here(part, mutation_rate, max_atoms)

    def _elsewhere(
        self, executor: ProcessExecutor, couples: Sequence[Couple], mutation_rate: float, max_atoms: int
    ) -> Iterator[Molecule]:
        spec = ComponentSpec("breed", {"mutation_rate": mutation_rate, "max_atoms": max_atoms})
        texts = list(map(str, couples))
        tasks = [Task(spec, tuple(texts[at : at + TOGETHER])) for at in range(0, len(texts), TOGETHER)]
        children: dict[int, list[Molecule]] = {}
        try:
            for place, found in executor.run(tasks):  # read while the others are bred
                children[place] = [child for bred in found if (child := _read(bred))]
        except RunError as error:
            warnings.warn(f"offspring are bred in this process alone: {error}", stacklevel=2)
            self.close()  # those that did start
            self._executor = None
            yield from _here(couples, mutation_rate, max_atoms)
            return
        for place in range(len(tasks)):
            yield from children[place]

    def close(self) -> None:
        """End the processes; they are started anew where they are needed."""
        if self._executor:
            self._executor.close()


def _here(couples: Sequence[Couple], mutation_rate: float, max_atoms: int) -> Iterator[Molecule]:
    for couple in couples:
        child = couple.child(mutation_rate, max_atoms)
        if child is not None:
            yield child


# What a process does --------------------------------------------------------------------------------------------------


class Bred(Evaluation):
    """What came of a couple, as processes answer: the child's canonical SMILES, '' for none."""

    smiles: str


def _read(answer: Evaluation) -> Molecule | None:
    """The child of an answer; there is none of a couple under which a process died."""
    return read(answer.smiles).molecule if isinstance(answer, Bred) and answer.smiles else None


def prepare(spec: ComponentSpec) -> None:
    """There is nothing to load."""


def evaluate(spec: ComponentSpec, couples: Sequence[str]) -> list[Evaluation]:
    """What comes of each couple, as text."""
    found: list[Evaluation] = []
    for text in couples:
        child, bred = Couple.parse(text).child(**spec.parameters), Bred(1.0)
        bred.smiles = child.smiles if child else ""
        found.append(bred)
    return found

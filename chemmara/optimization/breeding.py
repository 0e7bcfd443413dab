"""Breeding: offspring of the replay buffer's molecules, as far as the agent can write them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence

import numpy as np

from chemmara.chemistry.molecules import Molecule
from chemmara.language.tokenizers import UnreadableText
from chemmara.language.vocabulary import Vocabulary
from chemmara.optimization.couples import Breeders, Couple
from chemmara.optimization.draws import rank_weights
from chemmara.optimization.replay import Remembered
from chemmara.optimization.rollout import Judge, Sampled, Seen
from chemmara.optimization.screening import Screen
from chemmara.optimization.tables import GeneticSettings

TRIES = 8
"""Pairs tried for each offspring that is wanted."""
FORESEEN = 16
"""The same where the screen looks ahead: the more there are the better are the best."""

Write = Callable[[list[int]], tuple[str, str]]
"""Ids to the SMILES that they stand for and to the string as written."""


def offspring(
    entries: Sequence[Remembered],
    settings: GeneticSettings,
    rank_coefficient: float,
    vocabulary: Vocabulary,
    write: Write,
    screen: Screen,
    seen: Seen,
    breeders: Breeders,
    *,
    budget: int,
    max_tokens: int,
    rng: np.random.Generator,
) -> tuple[list[list[int]], Sampled]:
    """One generation: the ids of canonical spellings, and the batch of them as the screen judged it.

    Parents are two of ``population`` molecules that are drawn by rank (``rank_weights``, with replacement) from
    ``entries``, the best first; none are bred while there are fewer entries than that. Offspring that the run has
    scored, that were bred in this generation already, or that the vocabulary cannot write within ``max_tokens`` are
    left out. Those that the screen refuses stay in the batch with the reason, and others are tried for them. A screen
    that looks ahead is shown all that was bred, over ``ahead`` generations, and takes first what it expects most of.
    """
    wanted = min(settings.offspring, budget - seen.calls)
    judge, batch, rows = Judge(screen, seen, wanted), Sampled([], [], [], [], [], 0), []
    if wanted <= 0 or len(entries) < settings.population:
        return [], batch
    parents = [(entry.reward, entry.smiles) for entry in entries]

    def children(tries: int) -> Iterator[Molecule]:
        drawn = rng.choice(len(parents), settings.population, p=rank_weights(len(parents), rank_coefficient))
        couples = Couple.draw([parents[k][1] for k in drawn.tolist()], tries * wanted, rng)
        return _new(breeders(couples, settings.mutation_rate, settings.max_atoms), known=seen.smiles)

    def writable(child: Molecule) -> bool:
        return _encode(child, vocabulary, max_tokens) is not None

    bred = _foreseen(parents, children, settings.ahead, screen, writable) if screen.looks_ahead else children(TRIES)
    for child in bred:
        ids = _encode(child, vocabulary, max_tokens)
        if ids is None:
            continue
        text, string = write(ids)
        judge.add(batch, [text], [string])
        rows.append(ids)
        if judge.admitted == wanted:
            break
    batch.batch_size = len(rows)
    return rows, batch


def _foreseen(
    parents: list[tuple[float, str]],
    children: Callable[[int], Iterator[Molecule]],
    generations: int,
    screen: Screen,
    writable: Callable[[Molecule], bool],
) -> list[Molecule]:
    """The children of some generations, those first of which most is expected.

    ``parents``, the best first, grow by the children that are writable and that no other rule of the screen refuses. An
    entry of the buffer stands among them with its reward, a child with what is expected of it, curiosity included: a
    search for the maximum of the screen's own acquisition function, which costs no call.
    """
    found: dict[str, tuple[float, Molecule]] = {}
    for left in reversed(range(generations)):
        new = [child for child in children(FORESEEN) if child.smiles not in found]
        promises = screen.promise(new)
        found.update((child.smiles, (promise, child)) for child, promise in zip(new, promises))
        if left:
            fit = ((p, child.smiles) for p, child in zip(promises, new) if writable(child) and screen.could_pass(child))
            parents += fit
            parents.sort(key=lambda parent: -parent[0])
    return [child for _, child in sorted(found.values(), key=lambda each: -each[0])]


def _new(children: Iterable[Molecule], known: Container[str]) -> Iterator[Molecule]:
    """Those that are not known, each once."""
    met: set[str] = set()
    for child in children:
        if child.smiles not in known and child.smiles not in met:
            met.add(child.smiles)
            yield child


def _encode(molecule: Molecule, vocabulary: Vocabulary, max_tokens: int) -> list[int] | None:
    try:
        ids = vocabulary.encode(molecule.smiles)
    except UnreadableText:
        return None
    return ids if len(ids) <= max_tokens else None

"""Breeding: offspring of the replay buffer's molecules, as far as the agent can write them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence

import numpy as np

from chemmara.chemistry.genetics import breed
from chemmara.chemistry.molecules import Molecule, read
from chemmara.language.tokenizers import UnreadableText
from chemmara.language.vocabulary import Vocabulary
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
    that looks ahead is shown all that was bred, and takes first what it expects most of.
    """
    wanted = min(settings.offspring, budget - seen.calls)
    judge, batch, rows = Judge(screen, seen, wanted), Sampled([], [], [], [], [], 0), []
    if wanted <= 0 or len(entries) < settings.population:
        return [], batch
    bred = _foreseen if screen.looks_ahead else _at_once
    for child in bred(entries, settings, rank_coefficient, wanted, screen, seen, rng):
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


def _at_once(
    entries: Sequence[Remembered],
    settings: GeneticSettings,
    rank_coefficient: float,
    wanted: int,
    screen: Screen,
    seen: Seen,
    rng: np.random.Generator,
) -> Iterator[Molecule]:
    """Children of the entries, one after another as they are asked for."""
    weights = rank_weights(len(entries), rank_coefficient)
    pool = [entries[k].smiles for k in map(int, rng.choice(len(entries), settings.population, p=weights))]
    return _children(pool, settings, TRIES * wanted, rng, known=seen.smiles)


def _foreseen(
    entries: Sequence[Remembered],
    settings: GeneticSettings,
    rank_coefficient: float,
    wanted: int,
    screen: Screen,
    seen: Seen,
    rng: np.random.Generator,
) -> list[Molecule]:
    """Children of ``settings.ahead`` generations, those first of which most is expected.

    A parent of the second and later generations is an entry, by its reward, or a child that no other rule of the screen
    refuses, by what is expected of it: as in a search on the forecast itself, which costs no call.
    """
    parents = [(entry.reward, entry.smiles) for entry in entries]
    found: dict[str, tuple[float, Molecule]] = {}
    for _ in range(settings.ahead):
        drawn = rng.choice(len(parents), settings.population, p=rank_weights(len(parents), rank_coefficient))
        pool = [parents[k][1] for k in map(int, drawn)]
        children = [
            child
            for child in _children(pool, settings, FORESEEN * wanted, rng, known=seen.smiles)
            if child.smiles not in found
        ]
        promises = screen.promise(children)
        found.update((child.smiles, (promise, child)) for child, promise in zip(children, promises))
        parents += [(promise, each.smiles) for each, promise in zip(children, promises) if screen.could_pass(each)]
        parents.sort(key=lambda parent: -parent[0])
    return [child for _, child in sorted(found.values(), key=lambda each: -each[0])]


def _children(
    pool: Sequence[str], settings: GeneticSettings, tries: int, rng: np.random.Generator, known: Container[str]
) -> Iterator[Molecule]:
    """Children that are not known, each once."""
    met: set[str] = set()
    for _ in range(tries):
        mother, father = (_molecule(pool[int(rng.integers(len(pool)))]) for _ in range(2))
        child = breed(mother, father, settings.mutation_rate, rng, settings.max_atoms)
        if child is not None and child.smiles not in known and child.smiles not in met:
            met.add(child.smiles)
            yield child


def _molecule(smiles: str) -> Molecule:
    molecule = read(smiles).molecule
    assert molecule is not None  # the buffer holds canonical SMILES of molecules
    return molecule


def _encode(molecule: Molecule, vocabulary: Vocabulary, max_tokens: int) -> list[int] | None:
    try:
        ids = vocabulary.encode(molecule.smiles)
    except UnreadableText:
        return None
    return ids if len(ids) <= max_tokens else None

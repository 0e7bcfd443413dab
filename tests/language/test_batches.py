"""Batches: each row once an epoch, an order of (seed, epoch) alone, resumable anywhere, in constant memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
import torch

from chemmara.chemistry.molecules import read
from chemmara.language import batches as module
from chemmara.language.batches import TokenBatches, spread_batches
from chemmara.language.corpus import Corpus
from chemmara.language.vocabulary import Vocabulary


@pytest.fixture
def corpus(make_corpus: Callable[..., Corpus], chains: list[str], monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.setattr(module, "BLOCK", 16)
    monkeypatch.setattr(module, "BLOCKS_IN_WINDOW", 20)  # 320 rows a window: three windows and a rest
    return make_corpus(chains)


def texts(corpus: Corpus, batches: list[torch.Tensor]) -> list[str]:
    return [text for ids in batches for text in corpus.vocabulary.decode(ids.numpy())]


def all_texts(corpus: Corpus) -> Counter[str]:
    return Counter(corpus.vocabulary.decode(corpus.batch(np.arange(len(corpus)))))


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second))


@pytest.mark.parametrize("batch_size", [1, 32, 50, 5000])
def test_each_epoch_covers_every_row_once(corpus: Corpus, batch_size: int) -> None:
    batches = TokenBatches(corpus, batch_size)
    for _ in range(2):
        epoch = list(batches)
        assert len(epoch) == len(batches)
        assert Counter(texts(corpus, epoch)) == all_texts(corpus)


def test_order_is_of_seed_and_epoch_alone(corpus: Corpus) -> None:
    first, second = TokenBatches(corpus, 32, seed=3), TokenBatches(corpus, 32, seed=3)
    a, b = [list(first), list(first)], [list(second), list(second)]
    assert same(a[0], b[0])
    assert same(a[1], b[1])
    assert not same(a[0], a[1])
    assert not same(a[0], list(TokenBatches(corpus, 32, seed=4)))


@pytest.mark.parametrize(
    ("stop", "randomize"), [(0, False), (1, False), (20, False), (34, False), (35, False), (20, True)]
)
def test_resumes_with_exactly_the_remaining_batches(corpus: Corpus, stop: int, randomize: bool) -> None:
    options = {"seed": 1, "randomize": randomize}
    whole = TokenBatches(corpus, 32, **options)
    wanted = [*list(whole), *list(whole)]
    interrupted = TokenBatches(corpus, 32, **options)
    assert len(interrupted) == 35
    begun = list(islice(interrupted, stop))
    resumed = TokenBatches(corpus, 32, **options)
    resumed.load_state_dict(interrupted.state_dict())
    rest = list(resumed) if stop < 35 else []
    assert same([*begun, *rest, *resumed], wanted)


def test_state_counts_the_batches_that_were_given(corpus: Corpus) -> None:
    batches = TokenBatches(corpus, 32)
    iterator = iter(batches)
    assert batches.state_dict() == {"epoch": 0, "done": 0}
    next(iterator)
    next(iterator)
    assert batches.state_dict() == {"epoch": 0, "done": 2}


def test_molecules_of_like_length_share_a_batch(corpus: Corpus) -> None:
    padding = np.mean([float((ids == 0).float().mean()) for ids in TokenBatches(corpus, 32)])
    assert padding < 0.12


def test_randomized_spellings_are_of_the_same_molecules(corpus: Corpus) -> None:
    batches = TokenBatches(corpus, 64, randomize=True)
    first, second = texts(corpus, list(batches)), texts(corpus, list(batches))
    stored = all_texts(corpus)
    for epoch in (first, second):
        assert Counter(read(text).molecule.smiles for text in epoch) == stored
    assert len(set(first) - set(stored)) > len(stored) / 2
    assert set(first) != set(second)


def test_a_spelling_outside_the_vocabulary_falls_back(make_corpus: Callable[..., Corpus]) -> None:
    stored = "Oc1ccccc1"
    corpus = make_corpus([stored] * 40, vocabulary=Vocabulary.from_tokens([*"Oc1"]))  # no brackets for branches
    written = texts(corpus, list(TokenBatches(corpus, 8, randomize=True)))
    assert all(read(text).molecule.smiles == stored for text in written)
    assert stored in written
    assert set("".join(written)) == set("Oc1")


def test_a_spelling_that_grew_too_long_falls_back(make_corpus: Callable[..., Corpus]) -> None:
    corpus = make_corpus(["CCCCO"] * 60, vocabulary=Vocabulary.from_tokens([*"CO()"]))
    free = texts(corpus, list(TokenBatches(corpus, 60, randomize=True)))
    held = texts(corpus, list(TokenBatches(corpus, 60, randomize=True, max_tokens=5)))
    assert max(map(len, free)) > 5
    assert set(held) == {"CCCCO", "OCCCC"}


def test_selfies_are_randomized_too(make_corpus: Callable[..., Corpus]) -> None:
    molecules = ["CC(=O)Nc1ccc(O)cc1", "CC(=O)Oc1ccccc1C(=O)O", "CN1CCC[C@H]1c1cccnc1"]
    corpus = make_corpus(molecules * 5, tokenizer="selfies")
    written = texts(corpus, list(TokenBatches(corpus, 4, randomize=True)))
    assert Counter(read(text).molecule.smiles for text in written) == dict.fromkeys(molecules, 5)


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("randomize", [False, True])
def test_processes_share_each_batch(corpus: Corpus, world_size: int, randomize: bool) -> None:
    """The same steps as one process has, each dealt out without overlap and without a rest."""
    options = {"seed": 2, "randomize": randomize}
    parts = [list(TokenBatches(corpus, 32, rank=r, world_size=world_size, **options)) for r in range(world_size)]
    whole = list(TokenBatches(corpus, 32, **options))
    assert {len(part) for part in parts} == {len(whole)}
    for step, ids in enumerate(whole):
        dealt = [part[step] for part in parts]
        assert {len(part) for part in dealt} == {-(-len(ids) // world_size)}
        real = [part[part[:, 0] != 0] for part in dealt]
        assert Counter(texts(corpus, real)) == Counter(texts(corpus, [ids]))


def test_a_process_without_a_row_gets_padding(make_corpus: Callable[..., Corpus]) -> None:
    corpus = make_corpus(["CCO"])
    assert next(iter(TokenBatches(corpus, 8, rank=1, world_size=2))).tolist() == [[0]]


def test_memory_is_that_of_one_window(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    gather = Corpus.batch
    monkeypatch.setattr(Corpus, "batch", lambda self, rows: sizes.append(len(rows)) or gather(self, rows))
    assert sum(len(ids) for ids in TokenBatches(corpus, 32)) == len(corpus)
    assert max(sizes) == 32


@pytest.mark.parametrize("most", [1, 300, 100_000])
def test_a_part_of_a_corpus_is_like_the_whole(corpus: Corpus, most: int) -> None:
    """A batch holds molecules of like length, so the first batches are the shortest ones of the corpus."""
    batches = list(spread_batches(corpus, 32, most))
    found, every = Counter(texts(corpus, batches)), all_texts(corpus)
    assert not found - every
    assert sum(found.values()) == min(most, len(corpus))
    if most >= 300:
        lengths = [len(text) for text in found.elements()]
        assert np.mean(lengths) == pytest.approx(np.mean([len(text) for text in every.elements()]), rel=0.05)

"""From files of molecules to a corpus on disk."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chemmara import processes
from chemmara.chemistry.molecules import read
from chemmara.errors import UserError
from chemmara.language.corpus import HELD_OUT, Corpus, hash_smiles
from chemmara.language.intake import prepare
from chemmara.language.vocabulary import PAD, Vocabulary
from chemmara.processes import in_order

MOLECULES = ["CC(=O)Nc1ccc(O)cc1", "OC(=O)c1ccccc1OC(C)=O", "C(Br)CCl"]
CANONICAL = ["CC(=O)Nc1ccc(O)cc1", "CC(=O)Oc1ccccc1C(=O)O", "ClCCBr"]


def texts(corpus: Corpus) -> list[str]:
    return corpus.vocabulary.decode(corpus.batch(np.arange(len(corpus))))


def sdf(molecules: list[str]) -> str:
    from rdkit import Chem

    return "".join(Chem.MolToMolBlock(read(smiles).molecule.mol) + "\n$$$$\n" for smiles in molecules)


def content(name: str) -> str:
    if ".sdf" in name:
        return sdf(MOLECULES)
    if ".smi" in name:
        return "".join(f"{smiles}\tmolecule {n}\n" for n, smiles in enumerate(MOLECULES))
    comma = "\t" if ".tsv" in name else ","
    return f"id{comma}Smiles\n" + "".join(f"{n}{comma}{smiles}\n" for n, smiles in enumerate(MOLECULES))


@pytest.mark.parametrize("name", ["a.smi", "a.smi.gz", "a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz", "a.sdf", "a.sdf.gz"])
def test_every_format_gives_the_same_corpus(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    data = content(name).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    corpus, refusals = prepare([path], tmp_path / "corpus")
    assert texts(corpus) == CANONICAL
    assert not refusals.counts


def test_unusable_lines_are_counted_with_examples_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "m.smi"
    path.write_text("\n".join(["CCO", *["c1cccc1"] * 7, "CC(C", "", "C" * 30, "CCN"]))
    corpus, refusals = prepare([path], tmp_path / "corpus", max_tokens=20)
    assert texts(corpus) == ["CCO", "CCN"]
    assert refusals.counts == {"not a valid molecule": 8, "more than 20 tokens": 1}
    assert refusals.examples["not a valid molecule"] == [f"m.smi line {n}: c1cccc1" for n in range(2, 7)]
    assert refusals.describe()[0].startswith("8 lines left out: not a valid molecule (for example m.smi line 2: ")
    assert refusals.examples["more than 20 tokens"] == [f"m.smi line 11: {'C' * 30}"]


def test_selfies_leaves_out_what_it_cannot_express(tmp_path: Path) -> None:
    path = tmp_path / "m.smi"
    path.write_text("CCO\n*CC\n")
    corpus, refusals = prepare([path], tmp_path / "corpus", tokenizer="selfies")
    assert texts(corpus) == ["CCO"]
    assert refusals.counts == {"no selfies tokens for it": 1}


def test_text_can_be_kept_as_written(tmp_path: Path) -> None:
    path = tmp_path / "m.smi"
    path.write_text("OCC\n")
    corpus, _ = prepare([path], tmp_path / "corpus", keep_as_written=True)
    assert texts(corpus) == ["OCC"]
    assert corpus.known(["CCO"]).all()


def test_a_fixed_vocabulary_refuses_other_tokens(tmp_path: Path) -> None:
    path = tmp_path / "m.smi"
    path.write_text("CCO\nCCN\nC[N+](C)(C)C\n")
    vocabulary = Vocabulary.from_tokens(["O", "C"])
    corpus, refusals = prepare([path], tmp_path / "corpus", vocabulary=vocabulary)
    assert corpus.vocabulary == vocabulary
    assert texts(corpus) == ["CCO"]
    assert refusals.counts == {"tokens outside the vocabulary": 2}
    assert refusals.describe()[0].startswith(
        "2 lines left out: tokens outside the vocabulary N (1), [N+] (1), ( (1), ) (1)"
    )


def test_held_out_molecules_keep_their_copies_together(tmp_path: Path, chains: list[str]) -> None:
    path = tmp_path / "m.smi"
    path.write_text("\n".join([*chains, *reversed(chains)]))
    corpus, _ = prepare([path], tmp_path / "corpus", holdout=0.2)
    kept, held = texts(corpus), texts(Corpus(tmp_path / "corpus" / HELD_OUT))
    assert not set(kept) & set(held)
    assert len(kept) + len(held) == 2 * len(chains)
    assert 0.15 < len(held) / (2 * len(chains)) < 0.25
    assert all(held.count(smiles) >= 2 for smiles in held)


def test_an_empty_held_out_corpus_is_a_corpus(tmp_path: Path) -> None:
    path = tmp_path / "m.smi"
    path.write_text("CCO\n")
    prepare([path], tmp_path / "corpus", holdout=1e-5)
    held = Corpus(tmp_path / "corpus" / HELD_OUT)
    assert len(held) == 0
    assert held.batch(np.arange(0)).shape == (0, 0)
    assert not held.known(["CCO"]).any()


def test_known_looks_up_canonical_smiles(make_corpus: Callable[..., Corpus], chains: list[str]) -> None:
    canonical = [read(smiles).molecule.smiles for smiles in chains]
    corpus = make_corpus(chains)
    assert corpus.known(canonical).all()
    assert corpus.known(["CCO[Na]", canonical[5], "c1ccccc1C#N"]).tolist() == [False, True, False]
    assert hash_smiles("C") != hash_smiles("N")


def test_two_workers_make_the_same_corpus_as_one(tmp_path: Path, chains: list[str], monkeypatch) -> None:
    monkeypatch.setattr("chemmara.language.intake.CHUNK", 50)
    path = tmp_path / "m.smi"
    path.write_text("\n".join([*chains, "not a molecule"]))
    one, refused_by_one = prepare([path], tmp_path / "one", holdout=0.1)
    two, refused_by_two = prepare([path], tmp_path / "two", holdout=0.1, workers=2)
    assert two.info == one.info
    assert refused_by_two == refused_by_one
    for name in ("ids.u16", "offsets.i64", "hashes.u64", "held_out/ids.u16"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_input_without_a_molecule_writes_nothing(tmp_path: Path, workers: int) -> None:
    empty, hopeless = tmp_path / "empty.smi", tmp_path / "hopeless.smi"
    empty.write_text("\n")
    hopeless.write_text("hello world\n")
    with pytest.raises(UserError, match=r"no usable molecule in .*empty.smi$"):
        prepare([empty], tmp_path / "out" / "corpus", workers=workers)
    with pytest.raises(UserError, match=r"hopeless.smi: 1 line left out: not a valid molecule .* line 1: hello"):
        prepare([hopeless], tmp_path / "out" / "corpus", workers=workers, holdout=0.1)
    with pytest.raises(UserError, match="does not exist"):
        prepare([tmp_path / "missing.smi"], tmp_path / "out" / "corpus", workers=workers)
    with pytest.raises(UserError, match="did you mean 'selfies'"):
        prepare([empty], tmp_path / "out" / "corpus", tokenizer="selfie")
    assert not (tmp_path / "out").exists()


def test_rows_are_gathered_from_memory_maps(make_corpus: Callable[..., Corpus], chains: list[str]) -> None:
    corpus = make_corpus(chains)
    assert all(isinstance(array, np.memmap) for array in (corpus.ids, corpus.offsets, corpus.hashes))
    rows = np.array([7, 3, 900])
    batch = corpus.batch(rows)
    assert corpus.vocabulary.decode(batch) == [texts(corpus)[row] for row in rows]
    assert batch.shape[1] == max((batch != PAD).sum(axis=1))
    assert corpus.mean_length == pytest.approx(np.mean([len(corpus.vocabulary.encode(t)) for t in texts(corpus)]))


def test_reading_ahead_is_bounded(monkeypatch) -> None:
    """A file larger than memory must not pile up in front of the workers."""

    class Now:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> Now:
            return self

        def __exit__(self, *_: object) -> None: ...
        def submit(self, function, chunk):  # type: ignore[no-untyped-def]
            from concurrent.futures import Future

            done: Future[object] = Future()
            done.set_result(function(chunk))
            return done

    monkeypatch.setattr(processes, "ProcessPoolExecutor", Now)
    drawn: list[int] = []
    chunks = (drawn.append(n) or [("C", "x")] for n in range(1000))
    results = in_order(lambda chunk: [(["C"], "C", "x")], chunks, 2)
    for _ in range(10):
        next(results)
    assert len(drawn) <= 10 + 2 * processes.AHEAD + 1


def test_a_column_of_what_is_no_table_is_refused(tmp_path: Path) -> None:
    """Beside tables there may be lists; where there is none the name would go unheeded."""
    (tmp_path / "a.smi").write_text("CCO\nCCN\n")
    (tmp_path / "b.csv").write_text("structure,x\nCCC,1\n")
    with pytest.raises(UserError, match="no table: leave out --column"):
        prepare([tmp_path / "a.smi"], tmp_path / "one", column="structure")
    corpus, _ = prepare([tmp_path / "a.smi", tmp_path / "b.csv"], tmp_path / "both", column="structure")
    assert len(corpus) == 3

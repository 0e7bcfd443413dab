"""Breeding within a run: parents by rank, what is left out, what is counted and recorded, and a restart."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crash import StopAfter

from chemmara.chemistry.molecules import Molecule, read
from chemmara.errors import ConfigError
from chemmara.language.vocabulary import Vocabulary
from chemmara.optimization.breeding import offspring
from chemmara.optimization.couples import Breeders
from chemmara.optimization.replay import Remembered
from chemmara.optimization.rollout import Sampled, Seen
from chemmara.optimization.screening import Screen, ScreenSettings
from chemmara.optimization.settings import RunSettings
from chemmara.optimization.tables import GeneticSettings
from chemmara.policies.catalog import find_prior
from chemmara.policies.storage import load_policy
from chemmara.scoring.executors import ProcessExecutor
from chemmara.workflows.optimize import optimize

Config = Callable[..., dict[str, Any]]
DRUGS = ["CC(=O)Oc1ccccc1C(=O)O", "CC(=O)Nc1ccc(O)cc1", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "COc1ccccc1CCN", "CCOc1ccccc1"]
VOCABULARY = Vocabulary.from_tokens(["C", "O", "N", "c", "n", "1", "2", "3", "(", ")", "=", "#"])
GENETIC: dict[str, Any] = {"offspring": 3, "generations": 2, "mutation_rate": 0.5, "population": 4}
REPLAY: dict[str, Any] = {"updates": 1, "batch_size": 8, "size": 30, "draw": "rank", "only": True, "canonical": True}


def entries() -> list[Remembered]:
    molecules = [molecule for text in DRUGS if (molecule := read(text).molecule)]
    return [Remembered(m.smiles, (3, 2), m.scaffold, 0.9 - 0.1 * k, -20.0) for k, m in enumerate(molecules)]


def breed(
    rules: Any = (), seen: Seen | None = None, budget: int = 100, **changes: Any
) -> tuple[list[list[int]], Sampled]:
    def write(ids: list[int]) -> tuple[str, str]:
        text = VOCABULARY.decode(np.array([ids]))[0]
        return text, text

    return offspring(
        entries(), GeneticSettings(**{"offspring": 6, "population": 5, "mutation_rate": 0.5, **changes}), 0.01,
        VOCABULARY, write, Screen(ScreenSettings(rule=list(rules))), seen or Seen.empty(), Breeders(),
        budget=budget, max_tokens=60, rng=np.random.default_rng(0),
    )  # fmt: skip


def test_as_many_new_molecules_as_are_wanted_in_the_agents_own_tokens() -> None:
    rows, batch = breed()
    assert len(rows) == len(batch.texts) == batch.batch_size == 6
    assert [VOCABULARY.encode(text) for text in batch.texts] == rows
    assert len(set(batch.texts)) == 6
    assert all(
        reading.molecule and reading.molecule.smiles == text for text, reading in zip(batch.texts, batch.readings)
    )
    known = Seen(dict.fromkeys(batch.texts[:3]), {})
    assert not {*batch.texts[:3]} & {*breed(seen=known)[1].texts}, "what was scored already is not bred again"
    assert breed()[1].texts == batch.texts


def test_the_budget_and_the_population_are_kept() -> None:
    assert len(breed(budget=2)[0]) == 2
    assert breed(budget=0)[0] == []
    assert breed(population=6)[0] == [], "too few to begin with"


def test_refused_offspring_stay_as_rows_and_others_take_their_place() -> None:
    rows, batch = breed([{"name": "scaffold"}])
    assert sum(refusal is None for refusal in batch.refusals) <= 6
    assert any(refusal and "scaffold" in refusal for refusal in batch.refusals)
    assert len(rows) == len(batch.texts) == len(batch.refusals)


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    "screen",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"rule": [{"name": "plausible"}, {"name": "scaffold", "bucket_size": 3}]},
    ],
)
def test_a_run_that_breeds_counts_records_and_resumes(
    config: Config, tmp_path: Path, screen: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, **options: Any) -> Path:
        table = config(
            oracle_budget=70, screen=screen, replay=REPLAY, genetic=GENETIC, max_tokens=30,
            execution={"threads": 1, "device": "cpu", "precision": "float32", "checkpoint_seconds": 0},
        )  # fmt: skip
        return optimize(table, tmp_path / name, methods=["custom"], report=False, **options) / "custom" / "seed-0"

    whole = run("whole")
    table, metrics = rows_of(whole / "molecules.csv"), rows_of(whole / "metrics.csv")
    assert len({row["SMILES"] for row in table if row["score"]}) == 70
    assert len(table) == sum(int(row["sampled"]) + int(row["offspring"]) for row in metrics)
    assert sum(int(row["offspring"]) for row in metrics) > 10
    bred = []
    for row in metrics:
        of_step = [each for each in table if each["step"] == row["step"]]
        bred += of_step[int(row["sampled"]) :]
    assert all(row["valid"] == "True" for row in bred)
    assert [row for row in table if row["origin"] == "bred"] == bred
    assert {row["origin"] for row in table} == {"sampled", "bred"}
    prior = load_policy(find_prior(str(config()["prior"])), "cpu")
    prior.precision = "float32"
    sent = [row for row in bred if row["score"]]
    ids = [prior.vocabulary.encode_batch([row["SMILES"]]) for row in sent]
    assert [row["sampled"] for row in sent[:5]] == [prior.vocabulary.written(each)[0] for each in ids[:5]]
    with torch.no_grad():
        expected = [float(prior.log_prob(torch.from_numpy(each))) for each in ids[:5]]
    assert [float(row["prior_log_prob"]) for row in sent[:5]] == pytest.approx(expected, abs=1e-3)
    read = [row for row in bred if row["prior_log_prob"] and row["agent_log_prob"]]
    assert read == sent, "what was refused is not put through the models"
    assert (len(sent) < len(bred)) == bool(screen)
    pools: list[list[Any]] = []

    class TwoProcesses(Breeders):
        def __init__(self, threads: int) -> None:
            assert threads == 1, "as many as the run has threads"
            super().__init__(2)

        def __call__(self, *arguments: Any) -> Iterator[Molecule]:
            for child in super().__call__(*arguments):
                assert isinstance(self._executor, ProcessExecutor)
                pools.append(list(self._executor._pool))
                yield child

    monkeypatch.setattr("chemmara.optimization.learner.Breeders", TwoProcesses)
    with pytest.raises(RuntimeError, match="crash"):
        run("cut", watcher=StopAfter(4))
    assert (run("cut", resume=True) / "molecules.csv").read_bytes() == (whole / "molecules.csv").read_bytes()
    processes = [worker._process for pool in pools for worker in pool]
    assert processes, "the same offspring, bred in other processes"
    assert all(process.poll() is not None for process in processes), "which are gone with the run"


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"genetic": {"offspring": 8}}, r"genetic\.offspring.*replay\.updates"),
        (
            {"genetic": {"offspring": 8}, "replay": {"updates": 1, "size": 30}},
            r"genetic\.population.*replay\.size = 30",
        ),
        ({"genetic": {"ofspring": 8}}, r"genetic.*offspring"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config: Config, tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunSettings.parse(config(**tables))


@pytest.mark.parametrize(
    ("genetic", "message"),
    [
        ({"ahead": 2}, r"genetic\.ahead = 2 does nothing: nothing is bred; set genetic\.offspring"),
        ({"ahead": 3, "offspring": 8}, r"genetic\.ahead = 3 does nothing: no rule of the screen.* give it `promising`"),
    ],
)
def test_generations_that_nothing_looks_at_are_told(config: Config, genetic: dict[str, Any], message: str) -> None:
    """And no more than told: a run that was begun so goes on."""
    with pytest.warns(UserWarning, match=message):
        assert RunSettings.parse(config(genetic=genetic, replay={"updates": 1})).to_table()["genetic"] == {
            **GeneticSettings(**genetic).model_dump()
        }

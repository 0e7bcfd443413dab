"""Couples and the processes that breed: the same children in whatever number of processes, and none lost to a crash."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from chemmara.chemistry.molecules import Molecule, read
from chemmara.errors import RunError
from chemmara.interrupts import Interrupted
from chemmara.optimization import couples as module
from chemmara.optimization.couples import Breeders, Couple
from chemmara.scoring.evaluation import Evaluation
from chemmara.scoring.executors import ProcessExecutor

DRUGS = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "CC(=O)Nc1ccc(O)cc1",
    "CC(C)Cc1ccc(cc1)[C@H](C)C(=O)O",
    "COc1ccccc1CCN",
    "CCOc1ccccc1",
]
POOL = [molecule.smiles for text in DRUGS if (molecule := read(text).molecule)]


def drawn(n: int = 40, seed: int = 0) -> list[Couple]:
    return Couple.draw(POOL, n, np.random.default_rng(seed))


@pytest.fixture
def two() -> Iterator[Breeders]:
    breeders = Breeders(2)
    yield breeders
    breeders.close()


def children(breeders: Breeders, couples: list[Couple]) -> list[str]:
    return [child.smiles for child in breeders(couples, 0.5, 40)]


def test_two_processes_breed_what_one_does_in_the_same_order(two: Breeders) -> None:
    here = children(Breeders(), drawn(75))
    assert len(set(here)) > 20
    assert children(two, drawn(75)) == here
    assert (
        children(two, drawn(75)[:7]) == children(Breeders(), drawn(75)[:7]) == here[: len(children(two, drawn(75)[:7]))]
    )
    assert [child.mol.GetNumAtoms() for child in two(drawn(9), 0.5, 12)] == [
        child.mol.GetNumAtoms() for child in Breeders()(drawn(9), 0.5, 12)
    ]


def test_a_child_depends_on_its_couple_alone() -> None:
    couple = drawn(1)[0]
    assert Couple.parse(str(couple)) == couple
    assert couple.child(1.0, 40) == couple.child(1.0, 40)
    others = {child.smiles for seed in range(20) if (child := couple._replace(seed=seed).child(0.5, 40))}
    assert len(others) > 5


def test_what_rdkit_stumbles_over_has_no_child_and_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    bred = module.breed

    def stumbling(mother: Molecule, father: Molecule, *rest: Any) -> Molecule | None:
        if mother.smiles == POOL[0]:
            raise RuntimeError("Pre-condition Violation")
        return bred(mother, father, *rest)

    expected = [child.smiles for couple in drawn() if couple.mother != POOL[0] and (child := couple.child(0.5, 40))]
    monkeypatch.setattr(module, "breed", stumbling)
    assert children(Breeders(), drawn()) == expected


def test_drawing_takes_as_much_of_the_generator_however_much_is_bred(two: Breeders) -> None:
    states = []
    for breeders in (Breeders(), two):
        rng = np.random.default_rng(3)
        next(breeders(Couple.draw(POOL, 30, rng), 0.5, 40))
        states.append(rng.bit_generator.state)
    assert states[0] == states[1]
    assert children(two, drawn()) == children(Breeders(), drawn()), "what was left unread does not come later"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_process_that_dies_costs_nothing(two: Breeders) -> None:
    expected = children(two, drawn())
    executor = two._executor
    assert isinstance(executor, ProcessExecutor)
    os.kill(executor._pool[0]._process.pid, signal.SIGKILL)
    assert children(two, drawn()) == expected


def test_a_couple_under_which_a_process_died_has_no_child() -> None:
    assert module._read(Evaluation(math.nan, "scoring process died of SIGSEGV")) is None


def test_where_no_process_can_be_started_this_one_breeds(two: Breeders, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> None:
        raise RunError("worker processes cannot be started: no room")

    children(two, drawn())
    executor = two._executor
    assert isinstance(executor, ProcessExecutor)
    started = [worker._process for worker in executor._pool]
    monkeypatch.setattr(ProcessExecutor, "run", run)
    with pytest.warns(UserWarning, match="in this process alone.*no room"):
        assert children(two, drawn(75)) == children(Breeders(), drawn(75))
    assert two._executor is None, "it is not tried again with each block"
    assert started
    assert all(process.poll() is not None for process in started), "those that had been started are gone"


def test_an_interruption_is_no_couples_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the run would go on with one child less, and be saved so."""

    def interrupted(*_: object) -> None:
        raise Interrupted("interrupted")

    monkeypatch.setattr(module, "breed", interrupted)
    with pytest.raises(Interrupted):
        children(Breeders(), drawn())


def test_no_more_processes_than_help() -> None:
    assert Breeders(1000).processes == module.MOST
    assert Breeders(1)._executor is None


def test_a_process_that_breeds_loads_no_torch() -> None:
    code = "import sys, chemmara.optimization.couples; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""The scoring function: no row dropped, repeats computed once, results stored before they are used, failures told."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chemmara.chemistry.molecules import read
from chemmara.errors import ConfigError, RunError
from chemmara.interrupts import Interrupted, Interrupts
from chemmara.scoring import work
from chemmara.scoring.evaluation import Evaluation, MemoryStore, Task
from chemmara.scoring.executors import EXECUTORS
from chemmara.scoring.failure import FailureCounter, FailureSettings
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.scores import Scores
from chemmara.scoring.settings import ScoringSettings

HERE = Path(__file__).parent
PARACETAMOL = "CC(=O)Nc1ccc(O)cc1"
WEIGHT = {"name": "molecular_weight", "transform": {"name": "clip", "low": 0, "high": 1000}}
DEAR = {"name": "python", "function": "example_scores:fails_on_rings", "path": str(Path(__file__).parent)}
TABLE: dict[str, Any] = {"component": [{"name": "qed"}, WEIGHT]}


def user(function: str, **more: Any) -> dict[str, Any]:
    return {"name": "python", "label": function, "function": f"example_scores:{function}", "path": str(HERE), **more}


class Recorder(MemoryStore):
    """A store that writes down what happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[tuple[str, int]] = []

    def record(self, key: str, evaluations: Sequence[tuple[str, Evaluation]]) -> None:
        self.chunks.append((key, len(evaluations)))
        super().record(key, evaluations)


class Backwards:
    """An executor that answers the last task first."""

    def __init__(self, store: Recorder | None = None) -> None:
        self.tasks: list[Task] = []
        self.store = store
        self.recorded: list[int] = []

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[int, list[Evaluation]]]:
        tasks = list(tasks)
        self.tasks += tasks
        for index in reversed(range(len(tasks))):
            if self.store is not None:
                self.recorded.append(len(self.store.chunks))
            yield index, work.evaluate(tasks[index].spec, tasks[index].smiles)

    def close(self) -> None:
        pass


class Hurried(Backwards):
    """An executor with a time limit."""

    timeout = 5.0


def test_under_a_time_limit_each_molecule_is_a_task() -> None:
    """Its value has come back alone, and would wait for others that an interruption may take."""
    sizes = []
    for executor in (Backwards(), Hurried()):
        ScoringFunction({"component": [DEAR]}, executor=executor, chunk=4)(["C" * n for n in range(1, 7)])
        sizes.append([len(task.smiles) for task in executor.tasks])
    assert sizes == [[4, 2], [1] * 6]


def test_what_fails_while_the_run_is_asked_to_stop_is_not_recorded() -> None:
    """The signal has reached a program that the function was waiting for, too: that is no molecule's fault."""
    store = Recorder()
    function = ScoringFunction({"component": [DEAR]}, store=store, chunk=2)
    with Interrupts(grace=60) as interrupts:
        function(["C", "CC"])
        interrupts.requested = True
        function(["CCC", "CCCC"])  # what has a value is kept all the same
        assert store.chunks == [(store.chunks[0][0], 2)] * 2
        with pytest.raises(Interrupted, match="go on with --resume"):
            function(["c1ccccc1", "CCCCC"])
    assert len(store.chunks) == 2
    function(["c1ccccc1"])
    assert len(store.chunks) == 3, "a failure is one where nobody stops anything"


def test_rows_keep_their_place() -> None:
    batch = [PARACETAMOL, "C1CC", None, "C" * 40, "c1cc(O)ccc1NC(C)=O", read("CCO").molecule]
    function = ScoringFunction(TABLE)
    scores = function(batch)
    assert len(scores) == 6
    assert scores.valid.tolist() == [True, False, False, True, True, True]
    assert np.isnan(scores.total).tolist() == [False, True, True, False, False, False]
    assert not scores.failed.any()
    assert scores.errors[1] is not None
    assert scores.errors[1].startswith("invalid SMILES")
    assert scores.errors[2] == "no molecule"
    assert scores.raw["molecular_weight"][0] == pytest.approx(151.16, abs=0.01)
    expected = math.sqrt(scores.raw["qed"][0] * scores.raw["molecular_weight"][0] / 1000)
    assert scores.total[0] == scores.total[4] == pytest.approx(expected)
    assert scores.evaluations == 6, "three distinct molecules, two components"
    assert function(batch).evaluations == 0
    assert np.array_equal(function(batch).total, scores.total, equal_nan=True)


@pytest.mark.parametrize("batch", [[], ["C1CC"], [None, "x"]])
def test_nothing_to_score(batch: list[str | None]) -> None:
    scores = ScoringFunction(TABLE)(batch)
    assert len(scores.total) == len(scores.errors) == len(scores.raw["qed"]) == len(batch)
    assert scores.evaluations == 0


def test_executor_gets_the_expensive_ones_and_changes_nothing() -> None:
    batch = ["C" * n for n in range(1, 8)]
    here = ScoringFunction(TABLE)(batch)
    store = Recorder()
    executor = Backwards(store)
    there = ScoringFunction(TABLE, executor=executor, store=store, chunk=3)(batch)
    assert {task.spec.name for task in executor.tasks} == {"qed"}
    assert [[len(smiles) for smiles in task.smiles] for task in executor.tasks] == [[7, 6, 5], [4, 3, 2], [1]], (
        "the largest are asked for first"
    )
    assert executor.recorded == [1, 2, 3], "each chunk is in the store before the next is asked for"
    assert np.array_equal(here.total, there.total)
    assert here.evaluations == there.evaluations == 14


def test_one_failed_component_makes_the_total_nan() -> None:
    function = ScoringFunction(
        {"aggregation": "arithmetic_mean", "component": [{"name": "qed"}, user("fails_on_rings")]}
    )
    scores = function(["CCO", PARACETAMOL])
    assert np.isnan(scores.total).tolist() == [False, True]
    assert scores.failed.tolist() == [False, True]
    assert scores.errors == [None, "fails_on_rings: no value"]
    assert scores.transformed["qed"][1] > 0


def test_filter_multiplies() -> None:
    phenol = {"name": "substructure", "smarts": "c[OX2H]", "filter": True}
    scores = ScoringFunction({"component": [{"name": "qed"}, phenol]})([PARACETAMOL, "CCO"])
    assert scores.total.tolist() == pytest.approx([scores.raw["qed"][0], 0], abs=1e-12)


def test_values_outside_the_range_without_transform_are_failures() -> None:
    scores = ScoringFunction({"component": [user("as_array")]})(["C", "CCO"])
    assert scores.total[0] == 1
    assert np.isnan(scores.total[1])
    assert scores.errors[1] == "as_array: value 3 lies outside [0, 1]: give the component a transform"


def test_a_component_that_stands_twice_is_computed_once() -> None:
    table = {
        "component": [{**WEIGHT, "label": "a"}, {**WEIGHT, "label": "b", "transform": {"name": "left_step", "low": 99}}]
    }
    scores = ScoringFunction(table)(["CCO"])
    assert scores.evaluations == 1
    assert scores.raw["a"] == scores.raw["b"]
    assert scores.transformed["a"] != scores.transformed["b"]


FLAKY = """
calls = []
def flaky(smiles):
    calls.append(list(smiles))
    return [None if s == "C" or (s == "CC" and len(calls) < 3) else 0.5 for s in smiles]
"""


@pytest.mark.parametrize(("retry", "failed"), [(0, [True, True, False]), (2, [True, False, False])])
def test_retry(tmp_path: Path, retry: int, failed: list[bool]) -> None:
    (tmp_path / "flaky.py").write_text(f"{FLAKY}# {retry}")
    store = Recorder()
    table = {"component": [{"name": "python", "function": "flaky:flaky", "path": str(tmp_path)}]}
    function = ScoringFunction(table, store=store, retry=retry)
    scores = function(["C", "CC", "CCO"])
    assert scores.failed.tolist() == failed
    assert scores.evaluations == 3
    assert sum(count for _, count in store.chunks) == 3, "a failure is recorded once, at last"
    again = function(["C", "CC", "CCO"])
    assert again.evaluations == 0
    assert again.failed.tolist() == failed, "a stored failure is replayed, not tried again"


def test_policy_on_failure_is_each_components_own(tmp_path: Path) -> None:
    """retry: tried again before it counts; blank: no score; stop: the run ends, and the failure is not remembered."""
    (tmp_path / "flaky.py").write_text(f"{FLAKY}# policies")
    oracle = {"name": "python", "function": "flaky:flaky", "path": str(tmp_path), "label": "dock"}
    function = ScoringFunction({"component": [{"name": "qed"}, {**oracle, "retry": 2}]})
    assert function(["C", "CC"]).failed.tolist() == [True, False]
    store = Recorder()
    strict = {"component": [{"name": "qed"}, {**oracle, "on_failure": "stop"}]}
    function = ScoringFunction(strict, store=store, retry=1)
    with pytest.raises(
        RunError,
        match=r"component 'dock' failed on C: no value \(on_failure = 'stop'\).*again \(optimize: with --resume\)",
    ):
        function(["CCO", "C"])
    assert function(["CCO"]).evaluations == 0, "what succeeded was paid for and is kept"
    lenient = {"component": [{"name": "qed"}, {**oracle, "on_failure": "blank"}]}
    assert ScoringFunction(lenient, store=store, on_failure="stop")(["C"]).errors == ["dock: no value"]
    with pytest.raises(RunError):
        function(["C"])  # the failure that the lenient run has left is no answer
    with pytest.raises(ConfigError, match=r"on_failure: should be 'blank' or 'stop'"):
        ScoringFunction({"component": [{"name": "qed", "on_failure": "skip"}]})


SLOW = """
import time

def score(smiles):
    with open(LOG, "a") as log:
        log.write("".join(f"{text}\\n" for text in smiles))
    time.sleep(1.0 if "O" in smiles[0] else 0.0)
    return [None if "N" in text else 0.5 for text in smiles]
"""


@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_what_others_are_at_when_a_failure_stops_the_run_is_kept(tmp_path: Path, kind: str) -> None:
    if kind == "dask":
        pytest.importorskip("distributed")
    (tmp_path / "slow.py").write_text(f"LOG = {str(tmp_path / 'log')!r}\n{SLOW}")
    oracle = {"name": "python", "function": "slow:score", "path": str(tmp_path), "on_failure": "stop"}
    entry = EXECUTORS[kind]
    executor = entry.item(entry.parameters(workers=2))
    try:
        function = ScoringFunction({"component": [oracle]}, executor, store=(store := MemoryStore()), chunk=1)
        with pytest.raises(RunError, match="failed on CCCCN"):
            function(["CCCCO", "CCCCN", "CCC", "CC", "C"])
    finally:
        executor.close()
    asked = (tmp_path / "log").read_text().split()
    key = function.settings.components[0].spec.key
    assert "CCCCO" in asked
    assert sorted(store.lookup(key, asked)) == sorted(set(asked) - {"CCCCN"}), "nothing is paid for twice"
    assert len(asked) < 5, "nothing more was begun"


def test_a_file_that_changed_since_the_run_began_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "references.smi"
    file.write_text("CCO\n")
    spec = work.spec_of("tanimoto", work.build("tanimoto", {"references_file": str(file)}, ""))
    assert work.evaluate(spec, ["CCO"])[0].value == 1
    work._built.clear()  # as in a worker that starts later
    file.write_text("CCN\n")
    with pytest.raises(RunError, match="'tanimoto' is not here what it was"):
        work.evaluate(spec, ["CCO"])


def test_from_config(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    (tmp_path / "refs.smi").write_text("CCO\n")
    file.write_text("[scoring]\n[[scoring.component]]\nname='tanimoto'\nreferences_file='refs.smi'\n")
    function = ScoringFunction.from_config(file)
    assert function(["CCO"]).total == [1]
    table = function.settings.to_table()
    assert Path(table["component"][0]["references_file"]).is_absolute()
    assert ScoringSettings.parse(table) == function.settings
    assert ScoringFunction.from_config({"scoring": table}).labels == ("tanimoto",)
    assert ScoringFunction.from_config(table).labels == ("tanimoto",)
    file.write_text("a = 1")
    with pytest.raises(ConfigError, match=r"no \[scoring\] table"):
        ScoringFunction.from_config(file)


def test_scoring_imports_nothing_heavy() -> None:
    code = (
        "import sys, chemmara.scoring.function, chemmara.scoring.failure, chemmara.scoring.work as w\n"
        "from chemmara.scoring.component import COMPONENTS; COMPONENTS.names()\n"
        "bad = {'torch', 'pandas', 'scipy', 'sklearn', 'matplotlib'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def batch_of(failed: Sequence[bool | None]) -> Scores:
    total = np.array([math.nan if fails or fails is None else 0.5 for fails in failed])
    valid = np.array([fails is not None for fails in failed])
    errors = ["dock: time-out" if fails else "invalid SMILES" if fails is None else None for fails in failed]
    return Scores(total, {}, {}, valid, errors)


def test_failure_counter() -> None:
    counter = FailureCounter(FailureSettings(stop_above=0.2))
    assert counter.rate == 0
    counter.add(batch_of([True] * 49 + [None] * 50))
    assert counter.message() is None, "too few to tell; invalid text is no failure"
    counter.add(batch_of([True]))
    message = counter.message()
    assert message is not None
    assert "50 of the last 50 valid molecules" in message
    assert "dock: time-out" in message
    with pytest.raises(RunError, match="stop_above"):
        counter.check()
    counter.add(batch_of([False] * 150 + [True] * 50), np.arange(200) < 150)
    assert counter.rate == pytest.approx(50 / 200), "rows that do not count leave the rate alone"
    other = FailureCounter(FailureSettings(stop_above=0.1))
    other.load_state_dict(counter.state_dict())
    assert other.rate == counter.rate
    with pytest.raises(RunError):
        other.check()
    counter.add(batch_of([False] * 200))
    assert counter.rate == 0, "the rate forgets"

"""Executors: every task answered once, the guilty molecule alone blamed, and nobody left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from chemmara.config import check
from chemmara.errors import ConfigError, RunError
from chemmara.interrupts import Interrupted
from chemmara.optimization.execution import check_execution, check_workers_know
from chemmara.optimization.tables import ExecutionSettings
from chemmara.scoring import executors, pool, work
from chemmara.scoring.cluster import DaskExecutor, connect
from chemmara.scoring.cluster_settings import DaskParameters
from chemmara.scoring.component import COMPONENTS, PerMolecule
from chemmara.scoring.evaluation import ComponentSpec, Evaluation, Executor, Task
from chemmara.scoring.executors import EXECUTORS, ProcessExecutor, SerialExecutor
from chemmara.scoring.settings import ScoringSettings

HERE = Path(__file__).parent
MODULE = "crashing_work"
SPEC = ComponentSpec("length")


@pytest.fixture(autouse=True)
def _work_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture(scope="module")
def shared() -> Iterator[ProcessExecutor]:
    """One pool for all tests that leave it in order: starting processes is what costs."""
    sys.path.insert(0, str(HERE))
    with ProcessExecutor(2, module=MODULE) as executor:
        yield executor
    sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def clustered(shared: ProcessExecutor) -> Iterator[DaskExecutor]:
    parameters = DaskParameters(workers=2)
    executor = DaskExecutor(lambda: connect(parameters), module=MODULE)
    yield executor
    executor.close()


@pytest.fixture(params=["serial", "shared", "clustered"])
def executor(request: pytest.FixtureRequest) -> Executor:
    return SerialExecutor(MODULE) if request.param == "serial" else request.getfixturevalue(request.param)


@pytest.fixture(params=["shared", "clustered"])
def elsewhere(request: pytest.FixtureRequest) -> Executor:
    """Executors that run tasks in other processes."""
    return request.getfixturevalue(request.param)


def outcomes(executor: Executor, *chunks: tuple[str, ...], spec: ComponentSpec = SPEC) -> list[list[Evaluation]]:
    found: dict[int, list[Evaluation]] = {}
    for index, values in executor.run([Task(spec, chunk) for chunk in chunks]):
        assert index not in found, "a task was answered twice"
        found[index] = values
    return [found[i] for i in range(len(chunks))]


def test_every_task_is_answered_once_in_its_own_order(executor: Executor) -> None:
    chunks = [tuple("C" * (i + j) for j in range(3)) for i in range(7)]
    wanted = [[Evaluation(float(i + j)) for j in range(3)] for i in range(7)]
    assert outcomes(executor, *chunks) == wanted
    assert outcomes(executor) == []
    assert outcomes(executor, (), ("C",)) == [[], [Evaluation(1.0)]]


@pytest.mark.parametrize(
    ("text", "reason"), [("raise", "RuntimeError: no such conformer at all"), ("fails", "no pose")]
)
def test_failures_have_reasons(executor: Executor, text: str, reason: str) -> None:
    ((failed,),) = outcomes(executor, (text,))
    assert failed.failed
    assert failed.error == reason


def test_a_component_that_leaves_python_is_a_failure(executor: Executor) -> None:
    ((failed,),) = outcomes(executor, ("sys.exit",))
    assert failed.failed
    assert failed.error == "SystemExit: enough"


def test_a_component_that_cannot_be_built_is_the_users_to_repair(executor: Executor) -> None:
    with pytest.raises(ConfigError, match=r"gone\.pdbqt"):
        outcomes(executor, ("C",), ("CC",), spec=ComponentSpec("broken"))
    assert outcomes(executor, ("C",)) == [[Evaluation(1.0)]]


def test_a_refusal_waits_for_what_others_are_at(elsewhere: Executor) -> None:
    """They may have docked for an hour."""
    tasks = [
        Task(SPEC, ("sleep 1.5",)),
        Task(ComponentSpec("broken"), ("C",)),
        Task(SPEC, ("CC",)),
    ]
    found: dict[int, list[Evaluation]] = {}

    def listen() -> None:
        for index, values in elsewhere.run(iter(tasks)):
            found[index] = values

    with pytest.raises(ConfigError, match=r"gone\.pdbqt"):
        listen()
    assert found == {0: [Evaluation(9.0)]}, "and nothing is begun after it"
    assert outcomes(elsewhere, ("C",)) == [[Evaluation(1.0)]]


def test_an_interruption_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with ProcessExecutor(1, module=MODULE) as executor:
        take = executor._next
        turns = iter([take, take])

        def interrupted() -> Any:
            if (turn := next(turns, None)) is None:
                raise Interrupted("interrupted")
            return turn()

        monkeypatch.setattr(executor, "_next", interrupted)
        with pytest.raises(Interrupted):
            list(executor.run([Task(SPEC, ("sleep 30",))]))
        assert not executor._pool, "the one at work was ended, and not waited for"


def test_prints_do_not_disturb(elsewhere: Executor, capfd: pytest.CaptureFixture[str]) -> None:
    assert outcomes(elsewhere, ("print", "C")) == [[Evaluation(5.0), Evaluation(1.0)]]
    assert capfd.readouterr().out == ""


def test_processes_stay_alive_and_import_no_torch(elsewhere: Executor) -> None:
    pids = {values[0].value for _ in range(3) for values in outcomes(elsewhere, ("pid",), ("pid",))}
    assert len(pids) <= 2
    assert os.getpid() not in pids
    assert outcomes(elsewhere, ("torch",)) == [[Evaluation(0.0)]]


def test_real_components_give_the_same_in_every_executor() -> None:
    tasks = [
        Task(work.spec_of("qed", work.build("qed", {}, "")), ("CC(=O)Nc1ccc(O)cc1", "c1cc")),
        Task(ComponentSpec("qed"), ("CCO",)),
    ]
    with ProcessExecutor(1) as pool:
        found = [repr(sorted(executor.run(tasks))) for executor in (SerialExecutor(), pool)]
    assert found[0] == found[1]
    assert "0.59" in found[0]  # paracetamol


def test_what_a_worker_imports_is_light() -> None:
    code = (
        "import sys; import chemmara.scoring.worker, chemmara.scoring.work, chemmara.scoring.component as c; "
        "c.COMPONENTS.names(); print([m for m in ('torch', 'pandas', 'pytorch_lightning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("text", "reason"), [("segfault", "SIGSEGV"), ("exit", "code 7")])
def test_the_guilty_molecule_alone_is_blamed(elsewhere: Executor, text: str, reason: str) -> None:
    first, second = outcomes(elsewhere, ("C", text, "CC"), ("CCC", "CCCC"))
    assert [value.failed for value in first] == [False, True, False]
    assert reason in str(first[1].error)
    assert [first[0], first[2], *second] == [Evaluation(1.0), Evaluation(2.0), Evaluation(3.0), Evaluation(4.0)]


def test_a_crash_that_does_not_come_again_is_no_failure(elsewhere: Executor, tmp_path: Path) -> None:
    text = f"crash once {tmp_path / 'marker'}"
    assert outcomes(elsewhere, (text,)) == [[Evaluation(float(len(text)))]]


def test_time_out_kills_the_molecule_and_what_it_started() -> None:
    with ProcessExecutor(2, timeout=0.8, module=MODULE) as executor:
        spec = ComponentSpec("slow to load", {"load": 0.9})  # loading is not the molecules' time
        first, second = outcomes(executor, ("C", "hang", "sleep 0.1"), ("hang with a child", "CC"), spec=spec)
        assert [first[0], first[2], second[1]] == [Evaluation(1.0), Evaluation(9.0), Evaluation(2.0)]
        assert first[1].error == second[0].error == "timed out after 0.8 s"
        assert first[1].failed
        assert not [p for p in psutil.Process().children(recursive=True) if "sleep" in p.name()]


def test_a_component_may_take_its_own_time_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_LOADING_S", 0.3)
    with ProcessExecutor(1, timeout=5.0, module=MODULE) as executor:
        slow = {"load": 1.0}
        ((late,),) = outcomes(executor, ("C",), spec=ComponentSpec("slow", slow))
        assert late.error == "its component was not loaded within 0.3 s"
        patient = ComponentSpec("patient", {**slow, "start_timeout": 60.0})
        assert outcomes(executor, ("C",), spec=patient) == [[Evaluation(1.0)]]


def test_in_flight_is_at_most_a_task_per_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    spec = ComponentSpec("length", {"log": str(log)})
    tasks = [Task(spec, (f"task {i}",)) for i in range(8)]
    with ProcessExecutor(2, module=MODULE) as executor:
        taken = 0
        for _ in executor.run(tasks):
            time.sleep(0.05)  # the processes could run ahead now
            assert len(log.read_text().splitlines()) <= taken + 2
            taken += 1
        assert taken == 8


def test_a_caller_that_stops_listening_leaves_a_usable_pool(shared: ProcessExecutor) -> None:
    results = shared.run([Task(SPEC, ("C",)), Task(SPEC, ("sleep 30",)), Task(SPEC, ("CC",))])
    assert next(results) == (0, [Evaluation(1.0)])
    with pytest.raises(RuntimeError, match="still running"):
        next(shared.run([Task(SPEC, ("C",))]))
    results.close()
    assert outcomes(shared, ("C",), ("CC",)) == [[Evaluation(1.0)], [Evaluation(2.0)]]


def test_a_process_killed_while_idle_is_replaced(shared: ProcessExecutor) -> None:
    for (value,) in outcomes(shared, ("pid",), ("pid",)):
        os.kill(int(value.value), signal.SIGKILL)
    assert outcomes(shared, ("C",), ("CC",)) == [[Evaluation(1.0)], [Evaluation(2.0)]]


def test_processes_that_cannot_start_are_one_clear_error() -> None:
    with (
        warnings.catch_warnings(action="error"),  # that it makes do with fewer, which it does not
        ProcessExecutor(3, module="no_such_module_at_all") as executor,
        pytest.raises(RunError, match="cannot be started: scoring process exited with code 1"),
    ):
        outcomes(executor, ("C",), ("CC",), ("CCC",))


def limit_starts(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """From now on the system lets ``room`` more processes start."""
    places = iter(range(room))

    def limited(*arguments: Any) -> pool.WorkerProcess:
        if next(places, None) is None:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return pool.WorkerProcess(*arguments)

    monkeypatch.setattr(executors, "WorkerProcess", limited)


def test_as_many_processes_as_the_system_lets_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the others are at may have been paid for."""
    limit_starts(monkeypatch, 1)
    with ProcessExecutor(3, module=MODULE) as executor:
        with pytest.warns(UserWarning, match="left to 1 of its processes: .*temporarily unavailable"):
            assert outcomes(executor, ("C",), (), ("CC",), ("CCC",)) == [
                [Evaluation(1.0)], [], [Evaluation(2.0)], [Evaluation(3.0)]
            ]  # fmt: skip
        assert executor.workers == 1
        executor.close()
        with pytest.raises(RunError, match=r"worker processes cannot be started: .*temporarily unavailable"):
            outcomes(executor, ("C",))


def test_processes_that_die_while_they_start_leave_the_work_to_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As a system does it that is nearly full: it lets them begin."""
    monkeypatch.setenv("LONE", str(tmp_path / "first"))
    with ProcessExecutor(3, module="lone_work") as executor:
        with pytest.warns(UserWarning, match="left to") as told:
            found = outcomes(executor, *[("C" * length,) for length in range(1, 8)])
        assert re.search("left to 1 of its processes: .*exited with code 11", str(told[-1].message))
        assert found == [[Evaluation(float(length))] for length in range(1, 8)]
        executor.close()
        with pytest.raises(RunError, match=r"worker processes cannot be started: .*exited with code 11"):
            outcomes(executor, ("C",))


def test_a_process_that_cannot_be_replaced_leaves_its_work_to_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crash = f"crash once {tmp_path / 'marker'}"
    limit_starts(monkeypatch, 2)
    with ProcessExecutor(2, module=MODULE) as executor:
        with pytest.warns(UserWarning, match="left to 1 of its processes: .*temporarily unavailable"):
            found = outcomes(executor, ("C", crash, "CC"), ("CCC",), ("CCCC",))
        assert found == [
            [Evaluation(1.0), Evaluation(float(len(crash))), Evaluation(2.0)], [Evaluation(3.0)], [Evaluation(4.0)]
        ]  # fmt: skip


def test_a_process_that_nobody_could_listen_to_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {child.pid for child in psutil.Process().children()}

    class NoThread:
        def __init__(self, **_: Any) -> None:
            pass

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pool.threading, "Thread", NoThread)
    with (
        ProcessExecutor(1, module=MODULE) as executor,
        pytest.raises(RunError, match="cannot be started: can't start new thread"),
    ):
        outcomes(executor, ("C",))
    assert {child.pid for child in psutil.Process().children()} == before


PARENT = """
import signal
import sys
import threading
from chemmara.scoring.evaluation import ComponentSpec, Task
from chemmara.scoring.executors import ProcessExecutor
from chemmara.scoring.ledger import Ledger
# Tests that were started in the background inherit an ignored SIGINT, and Python leaves that as it is.
signal.signal(signal.SIGINT, signal.default_int_handler)
ledger = Ledger(sys.argv[1])
executor = ProcessExecutor(2, module="crashing_work")
tasks = [Task(ComponentSpec("length"), (text,)) for text in ("pid", "pid", "hang", "hang with a child")]
try:
    for index, values in executor.run(tasks):
        print(int(values[0].value), flush=True)
except KeyboardInterrupt:
    executor.close()
    print("interrupted", flush=True)
"""


def start_parent(ledger: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    environment = dict(os.environ, PYTHONPATH=str(HERE))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(ledger)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert parent.stdout is not None
    pids = {int(parent.stdout.readline()) for _ in range(2)}
    deadline = time.monotonic() + 10
    while not any("sleep" in child.name() for child in psutil.Process(parent.pid).children(recursive=True)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = psutil.Process(parent.pid).children(recursive=True)
    assert pids <= {child.pid for child in children}
    return parent, children


def test_orphans_exit_and_hold_no_lock(tmp_path: Path) -> None:
    from chemmara.scoring.ledger import Ledger

    parent, children = start_parent(tmp_path / "ledger.sqlite")
    for child in children:
        assert not [file for file in child.open_files() if "ledger" in file.path]
    parent.kill()
    parent.wait()
    Ledger(tmp_path / "ledger.sqlite").close()  # at once, whether or not they are gone yet
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_interrupt_reaches_the_parent_only(tmp_path: Path) -> None:
    parent, children = start_parent(tmp_path / "ledger.sqlite")
    for child in children:
        if "python" in child.name():
            child.send_signal(signal.SIGINT)  # ignored
    time.sleep(0.2)
    assert all(child.is_running() for child in children)
    os.killpg(parent.pid, signal.SIGINT)  # Ctrl-C in a terminal
    output, _ = parent.communicate(timeout=20)
    assert output.strip() == "interrupted"
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_registered_executors_are_built_from_parameters() -> None:
    assert {"dask", "processes", "serial"} <= {*EXECUTORS.names()}
    entry = EXECUTORS["processes"]
    executor = entry.item(check(entry.parameters, {"workers": 3, "timeout": 2.5}))
    assert isinstance(executor, ProcessExecutor)
    assert (executor.workers, executor.timeout) == (3, 2.5)
    executor.close()
    for table in ({"workers": 0}, {"timeout": 0.0}, {"timeout": -1.0}, {"cores": 2}):
        with pytest.raises(ConfigError):
            check(entry.parameters, table)
    assert isinstance(EXECUTORS["serial"].item(check(EXECUTORS["serial"].parameters, {})), SerialExecutor)


def test_a_component_that_a_worker_does_not_know_is_one_line() -> None:
    with ProcessExecutor(1) as executor, pytest.raises(ConfigError) as caught:
        list(executor.run([Task(ComponentSpec("atoms30"), ("C",))]))
    assert str(caught.value).startswith("component 'atoms30': worker processes know chemmara's own components")
    assert "name = 'python'" in str(caught.value)


class Atoms30(PerMolecule):
    """A component of a user's own script."""

    def _value(self, mol: Any) -> float:
        return min(mol.GetNumHeavyAtoms() / 30, 1.0)


@pytest.mark.parametrize("executor", ["processes", "dask"])
def test_a_component_of_ones_own_is_refused_where_workers_would_run_it(
    monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    COMPONENTS.names()  # so that all are there before the copy is made
    monkeypatch.setattr(COMPONENTS, "_entries", dict(COMPONENTS._entries))
    COMPONENTS.register("atoms30")(Atoms30)
    table = {"component": [{"name": "qed"}, {"name": "atoms30"}]}
    elsewhere = check(ExecutionSettings, {"executor": executor})
    monkeypatch.setattr(Atoms30, "cost_us", 1000)
    with pytest.raises(ConfigError, match=r"^scoring\.component\[1\]: component 'atoms30': worker processes know"):
        check_workers_know(ScoringSettings.parse(table), elsewhere)
    check_workers_know(ScoringSettings.parse(table), check(ExecutionSettings, {}))
    check_workers_know(ScoringSettings.parse({"component": [{"name": "shape", "reference": "CCO"}]}), elsewhere)
    monkeypatch.setattr(Atoms30, "cost_us", 10)  # stays in the main process
    check_workers_know(ScoringSettings.parse(table), elsewhere)


@pytest.mark.parametrize("setting", ["workers", "timeout"])
def test_a_setting_that_the_executor_does_not_take_is_refused(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    EXECUTORS.names()  # so that all are there before the copy is made
    monkeypatch.setattr(EXECUTORS, "_entries", dict(EXECUTORS._entries))
    EXECUTORS.register("inline")(lambda parameters: SerialExecutor())
    for name in ("serial", "inline"):
        check_execution(check(ExecutionSettings, {"executor": name}))
        with pytest.raises(ConfigError) as caught:
            check_execution(check(ExecutionSettings, {"executor": name, setting: 2}))
        assert str(caught.value) == (
            f"execution.{setting}: the executor '{name}' takes none; leave it out, or set "
            "execution.executor = 'processes'"
        )
    check_execution(check(ExecutionSettings, {"executor": "processes", setting: 2}))

"""Dask: workers that die lose nothing, the scheduler's end is one clear line, SLURM gets the script it was promised."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from chemmara import __version__
from chemmara.config import check
from chemmara.errors import ConfigError, RunError, UserError
from chemmara.interrupts import Interrupted
from chemmara.optimization.execution import check_execution, executor_table
from chemmara.optimization.tables import ExecutionSettings
from chemmara.scoring import cluster, remote
from chemmara.scoring.cluster import DaskExecutor, connect, slurm_cluster
from chemmara.scoring.cluster_settings import DaskParameters, SlurmSettings
from chemmara.scoring.evaluation import ComponentSpec, Evaluation, Task
from chemmara.scoring.executors import EXECUTORS
from chemmara.scoring.function import ScoringFunction
from chemmara.workflows.optimize import optimize

HERE = Path(__file__).parent
MODULE = "crashing_work"
SPEC = ComponentSpec("length")
SLURM = {"jobs": 3, "cores": 4, "memory": "8GB"}


class Processes:
    """A scheduler and workers as separate processes, each in a group of its own."""

    def __init__(self, folder: Path, workers: int, nanny: bool = False) -> None:
        self.file = folder / "scheduler.json"
        self.environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(HERE), *sys.path]))
        self.folder, self.nanny = folder, nanny
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        deadline = time.monotonic() + 60
        while not self.file.exists() or not self.file.stat().st_size:
            assert time.monotonic() < deadline, "no scheduler"
            time.sleep(0.05)
        self.workers = [self.start_worker() for _ in range(workers)]

    @property
    def address(self) -> str:
        return str(json.loads(self.file.read_text())["address"])

    def start_worker(self) -> subprocess.Popen[bytes]:
        nanny = "--nanny" if self.nanny else "--no-nanny"
        return self._start("worker", "--nthreads", "1", nanny, "--no-dashboard", "--death-timeout", "60")

    def _start(self, kind: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(self.file)]
        with (self.folder / f"{kind}-{time.monotonic_ns()}.log").open("wb") as log:
            return subprocess.Popen(
                [*command, *arguments], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    found = Processes(tmp_path, 3)
    yield found
    found.close()


def executor_of(found: Processes, **more: Any) -> DaskExecutor:
    parameters = DaskParameters(scheduler=found.address)
    return DaskExecutor(lambda: connect(parameters), module=MODULE, **more)


ORACLE = """
import os, time, zlib
def score(smiles, log, seconds=0.1):
    values = []
    for text in smiles:
        with open(log, "a") as stream:
            stream.write(f"{os.getppid()} {text}\\n")
        time.sleep(seconds)
        code = zlib.crc32(text.encode())
        values.append(None if code % 7 == 0 else code % 1000 / 1000)
    return values
"""


def test_a_run_that_leaves_ends_its_own_evaluations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And not those of another run on the same worker."""
    monkeypatch.syspath_prepend(str(HERE))
    log = tmp_path / "log"
    spec = ComponentSpec("length", {"log": str(log)})
    with ThreadPoolExecutor(2) as threads:
        left, other = (
            threads.submit(remote.evaluate, MODULE, __version__, spec, (text,), None, client)
            for text, client in (("hang", "left"), ("sleep 2", "other"))
        )
        while not log.exists() or len(log.read_text().splitlines()) < 2:
            time.sleep(0.05)
        remote.close("left")
        with pytest.raises(RunError, match="the run that has asked is over"):
            left.result(1.5)
        assert other.result(30) == [Evaluation(7.0)]
    remote.close("other")


def test_an_interruption_while_it_leaves_closes_the_rest() -> None:
    class Part:
        status, closed = "running", False

        def __init__(self, id: str = "", fault: BaseException | None = None) -> None:
            self.id, self.fault = id, fault

        def nthreads(self) -> dict[str, int]:
            return {"worker": 1}

        def run(self, *_: Any, **__: Any) -> None:
            raise Interrupted("interrupted")

        def close(self) -> None:
            self.closed = True
            if self.fault:
                raise self.fault

    level = cluster._LOG.level
    client, own = Part("client", OSError("gone")), Part()
    executor = DaskExecutor(lambda: cluster.Cluster(client, own))
    executor._join()
    assert cluster._LOG.level != level
    with pytest.raises(Interrupted):
        executor.close()
    assert client.closed
    assert own.closed
    assert cluster._LOG.level == level


@pytest.mark.slow
def test_a_scheduler_that_stays_is_free_for_the_next_run(processes: Processes) -> None:
    executor = executor_of(processes)
    answers = executor.run([Task(SPEC, ("C",)), *[Task(SPEC, ("hang",))] * 3])
    next(answers)
    time.sleep(1.0)
    answers.close()
    executor.close()
    again = executor_of(processes)
    assert dict(again.run([Task(SPEC, ("C",))] * 6)) == {index: [Evaluation(1.0)] for index in range(6)}
    again.close()
    assert not [child for worker in processes.workers for child in psutil.Process(worker.pid).children()]


@pytest.mark.slow
def test_a_worker_killed_in_mid_batch_loses_nothing(processes: Processes, tmp_path: Path) -> None:
    """A scheduler and three workers as separate processes, one of them killed with kill -9: the scores are serial's."""
    (tmp_path / "oracle.py").write_text(ORACLE)
    batch = ["C" * n + tail for n in range(1, 41) for tail in ("", "O")]

    def table(name: str) -> dict[str, Any]:
        kwargs = {"log": str(tmp_path / name)}
        oracle = {"name": "python", "function": "oracle:score", "path": str(tmp_path), "kwargs": kwargs}
        return {"component": [{"name": "qed"}, oracle, {"name": "sa_score", "transform": {"name": "clip", "high": 10}}]}

    serial = ScoringFunction(table("serial"))(batch)
    executor = EXECUTORS["dask"].item(DaskParameters(scheduler_file=processes.file))
    log, killed = tmp_path / "dask", []

    class Watched:
        """Kills one worker when a third of the batch has been asked for."""

        def run(self, tasks: Any) -> Iterator[Any]:
            for answer in executor.run(tasks):
                if not killed and log.exists() and len(log.read_text().splitlines()) > len(batch) // 3:
                    asked = {int(line.split()[0]) for line in log.read_text().splitlines()}
                    victim = next(worker for worker in processes.workers if worker.pid in asked)
                    children = psutil.Process(victim.pid).children(recursive=True)
                    victim.kill()
                    killed.extend([victim.pid, children])
                yield answer

        def close(self) -> None:
            executor.close()

    function = ScoringFunction(table("dask"), executor=Watched(), chunk=2)
    spread = function(batch)
    assert killed, "no worker was killed"
    assert spread.total.tobytes() == serial.total.tobytes()
    assert [e.replace("dask", "serial") if e else e for e in spread.errors] == serial.errors
    assert 0 < sum(map(math.isnan, serial.total)) < len(batch)
    lines = [line.split() for line in log.read_text().splitlines()]
    assert len({pid for pid, _ in lines}) == 3, "all three workers had work"
    assert {text for _, text in lines} == set(batch)
    assert len(lines) <= len(batch) + 2, "only what the killed worker was at is computed again"
    _, alive = psutil.wait_procs(killed[1], timeout=10)
    assert not alive, "the killed worker's scoring process goes on"
    executor.close()
    workers = [worker for worker in processes.workers if worker.pid != killed[0]]
    assert all(worker.poll() is None for worker in workers), "a cluster that is not ours goes on"
    assert not [child for worker in workers for child in psutil.Process(worker.pid).children()]


@pytest.mark.slow
def test_a_molecule_under_which_every_worker_dies_is_the_only_failure(tmp_path: Path) -> None:
    found = Processes(tmp_path, 2, nanny=True)  # nannies start dead workers anew
    try:
        executor = executor_of(found)
        answers = dict(executor.run([Task(SPEC, ("C", "kill parent", "CC")), Task(SPEC, ("CCC",))]))
        assert [value.value for value in answers[1]] == [3.0]
        assert [value.failed for value in answers[0]] == [False, True, False]
        assert "every Dask worker that ran it died" in str(answers[0][1].error)
        executor.close()
    finally:
        for worker in found.workers:
            worker.terminate()
            worker.wait(20)
        found.close()


@pytest.mark.slow
def test_the_end_of_workers_and_scheduler_is_one_clear_line(processes: Processes) -> None:
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "3s"}):
        _end_of_workers_and_scheduler(processes)


def _end_of_workers_and_scheduler(processes: Processes) -> None:
    executor = executor_of(processes, wait_seconds=5.0)
    assert dict(executor.run([Task(SPEC, ("C",))]))
    answers = executor.run([Task(SPEC, ("sleep 1",))] * 6)
    next(answers)
    for worker in processes.workers:
        os.killpg(worker.pid, signal.SIGKILL)
    with pytest.raises(RunError, match=r"no worker for 5 s.*--resume"):
        list(answers)
    processes.workers = [processes.start_worker()]
    assert dict(executor.run([Task(SPEC, ("C",))])), "the executor is still usable"
    answers = executor.run([Task(SPEC, ("sleep 1",))] * 6)
    next(answers)
    processes.scheduler.kill()
    with pytest.raises(RunError, match="connection to the Dask scheduler was lost"):
        list(answers)
    executor.close()
    with pytest.raises(UserError, match="no Dask scheduler answers at tcp://"):
        connect(DaskParameters(scheduler="tcp://127.0.0.1:9"))


def test_another_version_of_chemmara_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match=r"a Dask worker has chemmara .*, this is 0\.0\.1"):
        remote.evaluate("chemmara.scoring.work", "0.0.1", SPEC, ("C",), None, "me")


def test_a_caller_that_stops_listening_leaves_a_usable_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    parameters = DaskParameters(workers=1)
    executor = DaskExecutor(lambda: connect(parameters), module=MODULE)
    answers = executor.run([Task(SPEC, ("C",)), Task(SPEC, ("CC",)), Task(SPEC, ("CCC",))])
    assert next(answers)[1][0].value == 1
    answers.close()
    assert dict(executor.run([Task(SPEC, ("CCCC",))]))[0][0].value == 4
    before = psutil.Process().children()
    listening = [c.laddr.ip for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert set(listening) <= {"127.0.0.1"}, "nothing of it is open to other machines"
    executor.close()
    assert len(psutil.Process().children()) < len(before), "its scoring process goes on"
    assert dict(executor.run([Task(SPEC, ("C",))]))[0][0].value == 1, "it connects again"
    executor.close()


def test_job_script_for_slurm(tmp_path: Path) -> None:
    settings = check(
        SlurmSettings,
        {
            **SLURM,
            "walltime": "02:00:00",
            "queue": "cpu",
            "account": "chem",
            "directives": ["--constraint=avx512"],
            "prologue": ["module load vina"],
            "worker_arguments": ["--lifetime", "110m"],
            "python": "/opt/chemmara/bin/python",
            "log_directory": str(tmp_path),
        },
    )
    with slurm_cluster(settings) as found:
        script = found.job_script()
    lines = script.splitlines()
    assert lines[0].startswith("#!")
    for line in (
        *("#SBATCH -J chemmara", "#SBATCH -p cpu", "#SBATCH -A chem", "#SBATCH -t 02:00:00"),
        *("#SBATCH --cpus-per-task=4", "#SBATCH --mem=8G", "#SBATCH --constraint=avx512", "module load vina"),
    ):
        assert line in lines
    assert f"#SBATCH -o {tmp_path}/chemmara-%J.out" in lines
    assert lines.index("module load vina") < len(lines) - 1
    worker = next(line for line in lines if "dask_worker" in line)
    assert worker.startswith("/opt/chemmara/bin/python ")
    for argument in ("--nthreads 4", "--lifetime 110m", "--death-timeout"):
        assert argument in worker


@pytest.mark.slow
def test_jobs_are_started_and_a_lost_one_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SLURM's place is taken by dask-jobqueue's own local jobs: the same scripts, run as processes here."""
    import dask
    from dask_jobqueue import slurm
    from dask_jobqueue.local import LocalCluster

    monkeypatch.setattr(slurm, "SLURMCluster", LocalCluster)
    monkeypatch.setattr(cluster, "check_reachable", lambda parameters: None)
    monkeypatch.setattr(cluster, "_MEND_S", 0.5)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *sys.path]))
    monkeypatch.chdir(tmp_path)
    settings = check(SlurmSettings, {**SLURM, "jobs": 2, "cores": 1, "memory": "1GB"})
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "200ms"}):
        executor = DaskExecutor(lambda: connect(DaskParameters(slurm=settings)), module=MODULE)
        try:
            tasks = [Task(SPEC, ("pid", "sleep 0.2")) for _ in range(6)]
            first = {int(values[0].value) for values in dict(executor.run(tasks)).values()}
            assert os.getpid() not in first
            victim = psutil.Process(first.pop()).parent()
            assert victim is not None
            victim.kill()
            deadline = time.monotonic() + 40
            pids: set[int] = set()
            while len(pids - first) < 1 and time.monotonic() < deadline:
                pids |= {int(values[0].value) for values in dict(executor.run(tasks)).values()}
            assert pids - first, "no job has taken the place of the lost one"
        finally:
            executor.close()


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        ({"executor": "dusk"}, "execution.executor: unknown executor 'dusk'; did you mean 'dask'?"),
        ({"executor": "processes", "dask": {}}, "execution.dask: set execution.executor = 'dask'"),
        ({"executor": "dask", "dask": {"schedulers": "x"}}, "execution.dask.schedulers: unknown key; did you mean"),
        ({"executor": "dask", "dask": {"scheduler": "x", "slurm": SLURM}}, "exclude each other"),
        ({"executor": "dask", "workers": 2, "dask": {"slurm": SLURM}}, "workers is for a cluster in this process"),
        ({"executor": "dask", "dask": {"slurm": {"jobs": 1}}}, "execution.dask.slurm.memory: this key is required"),
        ({"executor": "dask", "dask": {"slurm": {**SLURM, "jobs": 0}}}, "execution.dask.slurm.jobs"),
        (
            {"executor": "dask", "dask": {"slurm": {**SLURM, "memory": "much"}}},
            "memory: should be a size such as '16GB'",
        ),
        ({"executor": "dask", "dask": {"slurm": {**SLURM, "walltime": "8h"}}}, "walltime: should be a time"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(execution: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_execution(check(ExecutionSettings, execution, "execution"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("memory", ["16GB", "16gb", "16 GiB", "2tb", "1e10", "500M", "0.5TB"])
def test_sizes_of_slurm(memory: str) -> None:
    assert check(SlurmSettings, {**SLURM, "memory": memory}).memory == memory


@pytest.mark.parametrize("walltime", ["90", "90:00", "08:00:00", "2-00", "2-12:30", "1-02:03:04"])
def test_times_of_slurm(walltime: str) -> None:
    assert check(SlurmSettings, {**SLURM, "walltime": walltime}).walltime == walltime


def test_a_cluster_out_of_reach_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no sbatch here"):
        connect(DaskParameters(slurm=check(SlurmSettings, SLURM)))
    config = {
        "scoring": {"component": [{"name": "qed"}]},
        "execution": {"executor": "dask", "dask": {"scheduler_file": str(tmp_path / "gone.json")}},
    }
    with pytest.raises(UserError, match=r"gone\.json' does not exist; is the scheduler running"):
        optimize(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    execution = check(ExecutionSettings, {"executor": "dask", "dask": {"slurm": SLURM}}, "execution")
    with pytest.raises(ConfigError, match=r"needs distributed and dask-jobqueue; .*\[distributed\]"):
        check_execution(execution)


def test_settings_reach_the_executor() -> None:
    execution = check(
        ExecutionSettings, {"executor": "dask", "timeout": 60, "dask": {"wait_seconds": 5.0, "slurm": SLURM}}
    )
    check_execution(execution)
    entry, parameters = EXECUTORS.build_parameters(executor_table(execution), "execution")
    assert parameters.slurm == check(SlurmSettings, SLURM)
    executor = entry.item(parameters)
    assert (executor.timeout, executor._wait_seconds) == (60, 5)


class KilledWorker(Exception):
    """Dask's name for a task under which workers died."""


class _Future:
    def __init__(self, key: str, values: list[Evaluation] | None) -> None:
        self.key, self.values, self.status = key, values, "error"

    def add_done_callback(self, call: Callable[[Any], None]) -> None:
        call(self)

    def result(self, timeout: float | None) -> list[Evaluation]:
        if self.values is None:
            raise KilledWorker
        return self.values


@pytest.mark.parametrize(("deaths", "fails"), [(0, False), (1, False), (2, True)])
def test_who_is_blamed_once_is_asked_again_when_nothing_else_is_out(
    deaths: int, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = DaskExecutor(lambda: None, None, 1.0)  # type: ignore[arg-type, return-value]
    sent: list[str] = []

    def submit(part: Any, task: Task) -> _Future:
        (place,) = part.places
        smiles = task.smiles[place]
        sent.append(smiles)
        killed = smiles == "C" and sent.count("C") <= deaths
        return _Future(f"{len(sent)}", None if killed else [Evaluation(float(len(smiles)))])

    monkeypatch.setattr(executor, "_join", lambda: None)
    monkeypatch.setattr(executor, "_available", lambda: 2)
    monkeypatch.setattr(executor, "_submit", submit)
    answers = dict(executor.run([Task(SPEC, (smiles,)) for smiles in ("C", "CC", "CCC", "CCCC")]))
    assert sent == ["C", "CC", "CCC", "CCCC", *["C"] * min(deaths, 1)]
    assert [values[0].failed for _, values in sorted(answers.items())] == [fails, False, False, False]

"""Benchmarks end to end on a tiny prior: resumed, extended, interrupted, failing, side by side."""

from __future__ import annotations

import csv
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from chemmara.cli.main import app
from chemmara.config import Parameters
from chemmara.errors import RunError
from chemmara.interrupts import Interrupted
from chemmara.optimization.filters import DIVERSITY_FILTERS, DiversityFilter
from chemmara.registry import Entry
from chemmara.reporting.runs import find_run
from chemmara.workflows.benchmarks import runner
from chemmara.workflows.benchmarks.job import Job, from_json, run_job, to_json
from chemmara.workflows.benchmarks.plan import Plan, Request, plan, threads_each
from chemmara.workflows.benchmarks.report import Results, cell, command, markdown, spans
from chemmara.workflows.benchmarks.results import METRICS, distil, first_calls, read_results, write_results

pytestmark = pytest.mark.usefixtures("undrawn")

TASK = "tofacitinib_cns"
COMPUTED = ("seconds",)  # differs from run to run


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def arguments(tiny_prior: Path) -> Callable[..., list[object]]:
    """Arguments of a small benchmark: one task, two methods, two seeds, 60 calls."""

    def make(out: Path, *more: object) -> list[object]:
        common = ["benchmark", "scaffolds", "-o", out, "--tasks", TASK, "--budget", 60, "--prior", tiny_prior]
        settings = ["--set", "batch_size=32", "--set", "execution.threads=1"]
        return [*common, "--methods", "vanilla,mara", "--seeds", "0-1", *settings, *more]

    return make


@pytest.fixture(scope="module")
def finished(arguments: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("benchmark") / "out"
    return out, invoke(*arguments(out))


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "results.csv", newline="") as stream:
        return [{k: v for k, v in row.items() if k not in COMPUTED} for row in csv.DictReader(stream)]


def copy(finished: tuple[Path, Any], tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished[0], tmp_path / "out"))


def test_results_table_and_plot(finished: tuple[Path, Any]) -> None:
    out, result = finished
    assert result.exit_code == 0, result.output
    found = rows(out)
    assert [(row["method"], row["seed"]) for row in found] == [
        ("mara", "0"),
        ("mara", "1"),
        ("vanilla", "0"),
        ("vanilla", "1"),
    ]
    for row in found:
        assert (row["suite"], row["task"], row["calls"], row["oracle_calls"]) == ("scaffolds", TASK, "60", "60")
        assert set(METRICS) <= row.keys()
        assert 0 < float(row["auc_top_10"]) < 1
    assert (out / "plot.png").read_bytes().startswith(b"\x89PNG")
    table = (out / "table.md").read_text()
    assert f"| `{TASK}` | scaffolds | " in table
    assert "missing" not in table


def test_run_directories_are_ordinary_and_lean(finished: tuple[Path, Any]) -> None:
    folder = finished[0] / "runs" / TASK / "mara" / "seed-1"
    assert {path.name for path in folder.iterdir()} >= {"config.toml", "manifest.json", "metrics.csv", "molecules.csv"}
    assert not list(folder.glob("ledger*")) + list(folder.glob("checkpoints")) + list(folder.glob("agent"))
    assert find_run(folder).name == "mara/seed-1"
    assert invoke("compare", finished[0] / "runs" / TASK).exit_code == 0


def test_finished_runs_are_not_repeated(finished: tuple[Path, Any], arguments: Any, tmp_path: Path) -> None:
    out = copy(finished, tmp_path)
    before = rows(out)
    shutil.rmtree(out / "runs")  # the rows alone are enough
    result = invoke(*arguments(out))
    assert result.exit_code == 0, result.output
    assert "4 runs, 4 finished before" in result.output
    assert rows(out) == before
    assert not (out / "runs").exists()


def test_rows_come_back_from_the_run_directories(finished: tuple[Path, Any], arguments: Any, tmp_path: Path) -> None:
    out = copy(finished, tmp_path)
    before = rows(out)
    (out / "results.csv").unlink()
    changed = [path.stat().st_mtime_ns for path in out.rglob("molecules.csv")]
    assert invoke(*arguments(out)).exit_code == 0
    assert rows(out) == before
    assert [path.stat().st_mtime_ns for path in out.rglob("molecules.csv")] == changed


def test_the_printed_command_makes_the_table_again(finished: tuple[Path, Any], tmp_path: Path) -> None:
    out = finished[0]
    table = (out / "table.md").read_text()
    line = next(line for line in table.splitlines() if line.startswith("chemmara benchmark"))
    (out / "table.md").unlink()
    result = invoke(*shlex.split(line)[1:], "--table-only")
    assert result.exit_code == 0, result.output
    assert (out / "table.md").read_text() == table


def test_kept_runs_go_on_to_a_larger_budget(arguments: Any, tmp_path: Path) -> None:
    invoke(*arguments(tmp_path), "--methods", "mara", "--seeds", "0", "--keep")
    before = rows(tmp_path)
    molecules = tmp_path / "runs" / TASK / "mara" / "seed-0" / "molecules.csv"
    first = molecules.read_text()
    assert invoke(*arguments(tmp_path), "--methods", "mara", "--seeds", "0", "--budget", 80).exit_code == 0
    assert molecules.read_text().startswith(first)
    found = rows(tmp_path)
    assert [row for row in found if row["calls"] == "60"] == before
    assert [row["oracle_calls"] for row in found] == ["60", "80"]


def test_more_seeds_and_methods_are_added(finished: tuple[Path, Any], arguments: Any, tmp_path: Path) -> None:
    out = copy(finished, tmp_path)
    before = rows(out)
    result = invoke(*arguments(out), "--seeds", "0-2", "--methods", "mara")
    assert "3 runs, 2 finished before" in result.output
    found = rows(out)
    assert [row for row in found if row["seed"] != "2"] == before
    assert len(found) == 5


@pytest.mark.parametrize(
    "change", [["--budget", 50], ["--budget", 70], ["--set", "batch_size=16"], ["--prior", "chembl"]]
)
def test_rows_of_another_config_are_not_mixed_in(
    finished: tuple[Path, Any], arguments: Any, tmp_path: Path, change: list[object]
) -> None:
    out = copy(finished, tmp_path)
    before = (out / "results.csv").read_bytes()
    changed = [*arguments(out)]
    for option, value in zip(change[::2], change[1::2], strict=True):
        changed[changed.index(option) + 1] = value
    result = invoke(*changed)
    if change[0] == "--budget":
        assert ("can be raised but not" if change[1] == 50 else "--keep was not given") in result.output
        assert result.exit_code == 1
    else:
        assert result.exit_code == 2
        assert "was run with another config, prior or budget" in result.output
    assert (out / "results.csv").read_bytes() == before


def test_rows_depend_on_what_is_in_the_files(tiny_prior: Path, tmp_path: Path) -> None:
    seeds, known = tmp_path / "seeds.smi", tmp_path / "known.smi"
    config = tmp_path / "m.toml"
    config.write_text(
        f"[methods.a]\nreplay = {{ updates = 1, seed_molecules = '{seeds}' }}\n"
        f"screen = {{ rule = [{{ name = 'known', file = '{known}' }}] }}\n"
    )
    hashes = []
    for texts in (("C", "C"), ("CC", "C"), ("C", "CC"), ("C", "C")):
        seeds.write_text(texts[0] * 2)
        known.write_text(texts[1] * 2)
        request = Request("scaffolds", tmp_path / "out", ("a",), (0,), prior=str(tiny_prior), config=config)
        hashes.append(plan(request).jobs[0].config)
    assert len(set(hashes)) == 3
    assert hashes[0] == hashes[3]


def test_rows_depend_on_what_is_in_the_files_of_a_filter(
    tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(Parameters):
        files: list[Path]

    assert DIVERSITY_FILTERS.names()
    monkeypatch.setitem(DIVERSITY_FILTERS._entries, "own", Entry("own", DiversityFilter, Own))
    hashes = []
    for folder, text in (("here", "C"), ("here", "CC"), ("there", "C")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "a.smi").write_text(text)
        config = tmp_path / folder / "m.toml"
        config.write_text("[methods.a]\ndiversity_filter = { name = 'own', files = ['a.smi'] }\n")
        request = Request("scaffolds", tmp_path / "out", ("a",), (0,), prior=str(tiny_prior), config=config)
        job = plan(request).jobs[0]
        assert job.table["diversity_filter"]["files"] == [str(tmp_path / folder / "a.smi")]
        hashes.append(job.config)
    assert hashes[0] != hashes[1]
    assert hashes[0] == hashes[2], "a project may be moved"


def test_an_annealed_threshold_depends_on_the_budget(tiny_prior: Path, tmp_path: Path) -> None:
    config = tmp_path / "m.toml"
    mara = "[methods.{0}]\naugmentation = {{ name = 'mara'{1} }}\n"
    config.write_text(mara.format("fixed", "") + mara.format("annealed", ", start = 0.3, anneal_budget = 0.5"))
    plans = [
        plan(
            Request("scaffolds", tmp_path, ("fixed", "annealed"), (0,), budget=n, prior=str(tiny_prior), config=config)
        )
        for n in (50, 60)
    ]
    same = [a.config == b.config for a, b in zip(*(each.jobs for each in plans))]
    assert same == [job.method == "fixed" for job in plans[0].jobs]


def test_a_part_that_digs_depends_on_the_budget_and_none_leaves_rows_of_before_as_they_are(
    tiny_prior: Path, tmp_path: Path
) -> None:
    config = tmp_path / "m.toml"
    replay = "[methods.{0}]\nreplay = {{ updates = 1, per_cluster = 2 }}\nexploit = {{ {1} }}\n"
    tables = {
        "before": "", "never": "share = 0, window = 9", "scarce": "scarce = 0.2", "digs": "share = 0.2",
        "said": "share = 0.2, scarce = 0, window = 256",
    }  # fmt: skip
    config.write_text("".join(replay.format(*each) for each in tables.items()))
    methods = tuple(tables)
    small, large = (
        plan(Request("scaffolds", tmp_path, methods, (0,), budget=n, prior=str(tiny_prior), config=config)).jobs
        for n in (50, 60)
    )
    by_method = [{job.method: job.config for job in jobs} for jobs in (small, large)]
    assert by_method[0]["before"] == by_method[0]["never"] == by_method[1]["before"]
    assert by_method[0]["digs"] == by_method[0]["said"]
    assert by_method[0]["scarce"] == by_method[1]["scarce"], "hits are scarce or not at any budget"
    assert len({*by_method[0].values(), by_method[1]["digs"]}) == 4


def test_a_run_that_was_out_of_steps_goes_on_where_it_is_given_more(arguments: Any, tmp_path: Path) -> None:
    common = arguments(tmp_path, "--methods", "mara", "--seeds", "0", "--keep")
    assert invoke(*common, "--set", "max_steps=1").exit_code == 0
    (short,) = rows(tmp_path)
    assert int(short["oracle_calls"]) < 60
    assert short["max_steps"] == "1"
    assert "1 finished before" in invoke(*common, "--set", "max_steps=1").output
    assert invoke(*common).exit_code == 0
    (whole,) = rows(tmp_path)
    assert (whole["oracle_calls"], whole["max_steps"]) == ("60", "")


def test_molecules_of_a_run_that_is_under_way_are_read(arguments: Any, tmp_path: Path) -> None:
    invoke(*arguments(tmp_path, "--methods", "mara", "--seeds", "0", "--keep"))
    folder = tmp_path / "runs" / TASK / "mara" / "seed-0"
    whole = [row.smiles for row in find_run(folder).rows()]
    (folder / "molecules.csv").unlink()
    assert [row.smiles for row in find_run(folder).rows()] == whole


def stopping(after: int, error: Exception) -> Callable[..., Any]:
    """run_job that raises ``error`` from call ``after`` on."""
    calls = iter(range(1000))

    def run(job: Job, interrupts: Any) -> Any:
        if next(calls) >= after:
            raise error
        return run_job(job, interrupts)

    return run


def test_an_interrupted_benchmark_goes_on(
    finished: tuple[Path, Any], arguments: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(runner, "run_job", stopping(2, Interrupted("stop")))
        result = invoke(*arguments(out))
    assert result.exit_code == 130
    assert "the same command goes on" in result.output
    assert len(rows(out)) == 2
    assert not list(out.glob("*.lock"))
    result = invoke(*arguments(out))
    assert "4 runs, 2 finished before" in result.output
    assert rows(out) == rows(finished[0])


def remembered(finished: tuple[Path, Any]) -> Callable[..., Any]:
    """run_job that takes the rows of the finished benchmark instead of running anything."""
    known = read_results(finished[0] / "results.csv")
    return lambda job, interrupts: [r for r in known if (r["suite"], r["task"], r["method"], r["seed"]) == job.key]


def test_a_failed_run_is_listed_and_does_not_stop_the_rest(
    finished: tuple[Path, Any], arguments: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rows_of = tmp_path / "out", remembered(finished)

    def run(job: Job, interrupts: Any) -> Any:
        if job.method == "mara" and job.seed == 0:
            raise RunError("no disk")
        if job.method == "mara":
            raise ZeroDivisionError("a bug")
        return rows_of(job, interrupts)

    monkeypatch.setattr(runner, "run_job", run)
    result = invoke(*arguments(out))
    assert result.exit_code == 1
    assert f"2 of 4 runs failed, the same command tries them again: {TASK} mara seed 0: no disk" in result.output
    assert "ZeroDivisionError: a bug" in result.output
    assert [row["method"] for row in rows(out)] == ["vanilla", "vanilla"]
    assert "**2 of 4 runs are missing.**" in (out / "table.md").read_text()
    monkeypatch.setattr(runner, "run_job", rows_of)
    assert invoke(*arguments(out)).exit_code == 0
    assert rows(out) == rows(finished[0])


def test_two_benchmarks_in_one_directory_are_refused(arguments: Any, tmp_path: Path) -> None:
    from chemmara.scoring.database import acquire_lock

    (tmp_path / "out").mkdir()
    script = f"""
import time
from pathlib import Path
from chemmara.scoring.database import acquire_lock
lock = acquire_lock(Path({str(tmp_path / "out" / "results.csv")!r}))
print("locked", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        result = invoke(*arguments(tmp_path / "out"))
        other.kill()
    assert result.exit_code == 1
    assert "another benchmark is at work in" in result.output
    acquire_lock(tmp_path / "out" / "results.csv").close()


def test_own_methods_from_a_file(tiny_prior: Path, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(
        "batch_size = 32\n[methods.slow]\nobjective = { name = 'reinvent', learning_rate = 1e-5 }\n"
    )
    request = Request("scaffolds", tmp_path / "out", ("slow", "vanilla"), (0,), prior=str(tiny_prior),
                      config=tmp_path / "m.toml")  # fmt: skip
    todo = plan(request)
    tables = {job.method: job.table for job in todo.jobs}
    assert tables["slow"]["objective"]["learning_rate"] == 1e-5
    assert tables["vanilla"]["batch_size"] == 32
    assert len(todo.jobs) == 8
    assert len({job.config for job in todo.jobs}) == 8  # by task and method


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (["--methods", "vanila"], "unknown method 'vanila'; did you mean 'vanilla'?"),
        (["--tasks", "tofa_cns"], "has no task 'tofa_cns'; did you mean 'tofacitinib_cns'?"),
        (["--seeds", "x"], "--seeds takes"),
        (["--set", "scoring.aggregation=product"], "--set scoring: the benchmark has its own"),
        (["--set", "batch_sise=3"], "batch_sise: unknown key; did you mean 'batch_size'?"),
        (["--prior", "chemble"], "chemble"),
        (["--against", "ahc"], "--against 'ahc' is not among the methods"),
        (["--config", "nowhere.toml"], "config file 'nowhere.toml' does not exist"),
        (["--config", "PRIOR"], "methods.mine.prior is the benchmark's own; remove it"),
        (["--set", "methods.mine.preset=mara", "--set", "methods.mine.prior=zinc250k"], "methods.mine.prior is the"),
        (["--set", "methods=3"], "methods: expected tables [methods.NAME]"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    arguments: Any, tmp_path: Path, more: list[object], fault: str
) -> None:
    (tmp_path / "prior.toml").write_text("[methods.mine]\nprior = 'zinc250k'\n")
    more = [tmp_path / "prior.toml" if part == "PRIOR" else part for part in more]
    result = invoke(*arguments(tmp_path / "out", *more))
    assert result.exit_code == 2, result.output
    assert fault in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_suite_that_is_not_there() -> None:
    assert "unknown benchmark suite 'pmoo'; did you mean 'pmo'?" in invoke("benchmark", "pmoo", "-o", "x").output


def test_table_only_without_results(arguments: Any, tmp_path: Path) -> None:
    result = invoke(*arguments(tmp_path / "out", "--table-only"))
    assert result.exit_code == 2
    assert "no results of these methods" in result.output


def test_a_key_that_tables_have_got_since_changes_nothing_at_its_usual_value(
    finished: tuple[Path, Any], arguments: Any
) -> None:
    """With it a benchmark that an older version began goes on as it was."""
    assert invoke(*arguments(finished[0], "--table-only", "--set", "genetic.ahead=1")).exit_code == 0
    assert invoke(*arguments(finished[0], "--table-only", "--set", "genetic.ahead=2")).exit_code == 2


SCAFFOLDS = ["scaffolds", "--tasks", "gsk3b_qed_sa", "--budget", 10_000, "--set", "max_steps=400"]
AHEAD = [
    ("ahead.csv", "foreseen", SCAFFOLDS),
    ("generations.csv", "deep", SCAFFOLDS),
    ("narrow.csv", "narrow", SCAFFOLDS),
    ("hit_share.csv", "default", SCAFFOLDS),
    ("shrinking.csv", "wide", SCAFFOLDS),
    ("shrinking.csv", "shrink_three", SCAFFOLDS),
    ("saturn_ahead.csv", "default", ["saturn"]),
    ("saturn_ahead.csv", "gfn_deep", ["saturn"]),
    ("pmo_ahead.csv", "gfn_deep", ["pmo", "--tasks", "sitagliptin_mpo", "--budget", 3_000]),
]


@pytest.mark.parametrize(("rows", "method", "suite"), AHEAD, ids=[f"{rows}-{method}" for rows, method, _ in AHEAD])
def test_committed_rows_are_of_the_methods_that_the_docs_name(
    rows: str, method: str, suite: list[Any], tmp_path: Path
) -> None:
    """Some were run under the name `default`, which has become another method since."""
    results = Path(__file__).parents[2] / "docs" / "results"
    text = (results / rows).read_text()
    (tmp_path / "results.csv").write_text(text if f",{method}," in text else text.replace(",default,", f",{method},"))
    config = ["--config", results / "ahead.toml", "--methods", method, "--seeds", "0", "--set", "execution.threads=1"]
    result = invoke("benchmark", *suite, "-o", tmp_path, "--table-only", *config)
    assert result.exit_code == 0, result.output
    assert method in (tmp_path / "table.md").read_text()


def test_table_only_says_what_is_there_and_takes_no_other_config(finished: tuple[Path, Any], arguments: Any) -> None:
    out = finished[0]
    before = (out / "table.md").read_text()
    result = invoke(*arguments(out, "--table-only", "--budget", 50))
    assert "; it has mara, vanilla, seeds 0, 1, after 60 calls" in result.output
    result = invoke(*arguments(out, "--table-only", "--set", "objective.sigma=1"))
    assert result.exit_code == 2
    assert "was run with another config" in result.output
    assert (out / "table.md").read_text() == before
    assert "results.csv" not in invoke(*arguments(out, "--table-only")).output


def test_metrics_at_an_earlier_number_of_calls(finished: tuple[Path, Any]) -> None:
    """As if the run had ended there: the rows after the 25th distinct molecule are not looked at."""
    folder = finished[0] / "runs" / TASK / "vanilla" / "seed-0"
    run = find_run(folder)
    part = list(first_calls(run, 25))
    whole = list(run.rows())
    assert part == whole[: len(part)]
    assert len({row.smiles for row in part if row.valid}) == 25
    assert len({row.smiles for row in whole[: len(part) + 1] if row.valid}) == 26
    early, late, beyond = distil(folder, [25, 60, 500], 0.3)
    assert (early["oracle_calls"], late["oracle_calls"], beyond["oracle_calls"]) == (25, 60, 60)
    assert early["hits"] == len({row.smiles for row in part if row.valid and row.score >= 0.3})
    assert 0 < early["hits"] < late["hits"] == beyond["hits"]
    assert early["seconds"] < late["seconds"]
    first = next(i for i, score in enumerate(distinct_scores(run.rows()), 1) if score >= 0.3)
    assert late["burden_1"] == first


def distinct_scores(all_rows: Iterator[Any]) -> list[float]:
    return list({row.smiles: row.score for row in all_rows if row.valid}.values())


def test_results_file_round_trip(tmp_path: Path) -> None:
    row = {"suite": "s", "task": "t", "method": "m", "seed": 3, "calls": 10, "config": "abc", "prior": "/a, b/c"}
    row |= {"hits": 2.0, "burden_10": math.inf, "intdiv1": math.nan, "scaffolds_clean": 1.5}
    write_results(tmp_path / "r.csv", [row])
    (back,) = read_results(tmp_path / "r.csv")
    assert math.isnan(back.pop("intdiv1"))
    assert {key: back[key] for key in row if key != "intdiv1"} == {k: v for k, v in row.items() if k != "intdiv1"}


def test_threads_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert [threads_each(n) for n in (1, 3, 8, 20)] == [8, 2, 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [threads_each(n) for n in (1, 3, 8)] == [3, 2, 1]


def test_seed_spans() -> None:
    assert [spans(seeds) for seeds in ([4], [0, 1, 2], [7, 1, 2, 9])] == ["4", "0-2", "1-2,7,9"]


# The report, on made-up rows ------------------------------------------------------------------------------------------


def made_up(tmp_path: Path, suite: str = "scaffolds", gain: float = 2.0, seeds: int = 5, **extra: float) -> Results:
    request = Request(suite, tmp_path, ("default", "vanilla"), tuple(range(seeds)), prior="chembl")
    todo = plan(request)
    found = []
    for number, job in enumerate(todo.jobs):
        for calls in job.calls:
            base = 10.0 + job.seed + 0.01 * number + calls / 1000
            value = base * (gain if job.method == "default" else 1.0)
            row = dict.fromkeys(METRICS, value / 1000) | {"scaffolds": value, "circles": base, "hits": value} | extra
            found.append({"suite": suite, "task": job.task, "method": job.method, "seed": job.seed, "calls": calls,
                          "prior": "chembl", **row})  # fmt: skip
    return Results(todo, found)


def test_table_has_means_tests_and_ratios(tmp_path: Path) -> None:
    text = markdown(made_up(tmp_path, gain=3.0))
    for calls in ("1,000", "4,000", "10,000"):
        assert f"## After {calls} oracle calls" in text
    section = text.split("## After 10,000")[1].split("## ")[0]
    lines = [[part.strip() for part in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    scaffolds = next(line for line in lines if line[:2] == ["`gsk3b_qed_sa`", "scaffolds"])
    assert scaffolds[4] == "0.0079 (0.032)"  # 2 of 252 splits, four tasks
    assert float(scaffolds[3].split(" ± ")[0]) > 2 * float(scaffolds[2].split(" ± ")[0])
    ratio = next(line for line in lines if line[:2] == ["default / vanilla", "scaffolds"])
    assert 2.8 < float(ratio[2]) < 3.0
    assert ratio[4] == "20"
    assert float(ratio[5].split()[0]) == pytest.approx(2 / 2**20, rel=0.05)
    circles = next(line for line in lines if line[:2] == ["default / vanilla", "#Circles(0.7)"])
    assert 0.9 < float(circles[2]) < 1.1


def test_clean_metrics_appear_where_rows_have_them(tmp_path: Path) -> None:
    found = made_up(tmp_path)
    assert [name for name in found.metrics if name.endswith("_clean")] == [
        f"{name}_clean" for name in found.suite.headline if f"{name}_clean" in METRICS
    ]


def test_few_seeds_have_no_test(tmp_path: Path) -> None:
    text = markdown(made_up(tmp_path, seeds=2))
    assert "default / vanilla" in text  # eight pairs
    assert "(0.0" not in text.split("## After 10,000")[1].split("over all tasks")[0]


def test_pmo_has_the_sum_over_tasks(tmp_path: Path) -> None:
    found = made_up(tmp_path, "pmo", seeds=1)
    total = sum(row["auc_top_10"] for row in found.rows if row["method"] == "vanilla")
    assert f"| **sum over tasks** | AUC top-10 | **{total:.3f}** |" in markdown(found)
    assert "13.594" in markdown(found)


def test_cells() -> None:
    assert cell("hits", {0: 1000.0, 1: 1002.0}) == "1,001.0 ± 1.4"
    assert cell("top_100", {0: 0.5}) == "0.500"
    assert cell("burden_10", {0: 5.0, 1: math.inf}) == "reached by 1 of 2"
    assert cell("hits", {}) == "-"


def test_command_of_a_request(tmp_path: Path) -> None:
    request = Request("pmo", Path("a b"), ("mara",), (0, 1), ("qed",), 100, "p", 2, ("x=1",), Path("c.toml"), "mara")
    from chemmara.workflows.benchmarks.suite import find_suite

    assert command(request, find_suite("pmo")) == (
        "chemmara benchmark pmo -o 'a b' --methods mara --seeds 0-1 --tasks qed --budget 100 --prior p "
        "--config c.toml --set x=1 --against mara"
    )


def test_a_value_of_the_command_line_reaches_presets_too(tiny_prior: Path, tmp_path: Path) -> None:
    values = ("batch_size=32", "replay.rank_coefficient=0.001")
    request = Request("saturn", tmp_path, ("saturn", "default"), (0,), prior=str(tiny_prior), assignments=values)
    tables = [job.table for job in plan(request).jobs]
    assert [(table["batch_size"], table["replay"]["rank_coefficient"]) for table in tables] == [(32, 0.001)] * 2


# Several processes ----------------------------------------------------------------------------------------------------


def test_a_job_travels_as_json(tiny_prior: Path, tmp_path: Path) -> None:
    todo: Plan = plan(Request("saturn", tmp_path, ("mara",), (3,), prior=str(tiny_prior)))
    assert from_json(to_json(todo.jobs[0])) == todo.jobs[0]


def start(arguments: list[object]) -> subprocess.Popen[str]:
    command_line = [sys.executable, "-m", "chemmara", *map(str, arguments)]
    return subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_two_processes_give_what_one_gives(finished: tuple[Path, Any], arguments: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(arguments(out, "--processes", 2))
    text = process.communicate(timeout=300)[0]
    assert process.returncode == 0, text
    assert rows(out) == rows(finished[0])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals are POSIX's")
def test_side_by_side_interrupted_and_resumed(arguments: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    more = ["--processes", 2, "--set", "execution.checkpoint_seconds=0"]
    process = start(arguments(out, *more))
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not list(out.rglob("last.ckpt")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    text = process.communicate(timeout=120)[0]
    assert process.returncode == 130, text
    assert "the same command goes on" in text
    again = start(arguments(out, *more))
    text = again.communicate(timeout=300)[0]
    assert again.returncode == 0, text
    assert len(rows(out)) == 4


@pytest.mark.slow
def test_a_process_that_dies_is_listed(arguments: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(job: Job) -> subprocess.Popen[str]:
        code = "import os, sys; print('last words', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"
        job.directory.path.mkdir(parents=True, exist_ok=True)
        with open(job.directory.path / runner.LOG, "w") as log:
            return subprocess.Popen([sys.executable, "-c", code], stderr=log, text=True)

    monkeypatch.setattr(runner, "_start", dying)
    result = invoke(*arguments(tmp_path / "out", "--processes", 2))
    assert result.exit_code == 1
    assert "4 of 4 runs failed" in result.output
    assert "last words (killed by signal 9" in result.output

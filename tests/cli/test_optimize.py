"""`chemmara optimize` by the files it leaves and the lines it prints."""

from __future__ import annotations

import csv
import io
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from chemmara.cli.display import Display
from chemmara.cli.optimize import parse_seeds
from chemmara.errors import UserError
from chemmara.optimization.directory import RunDirectory
from chemmara.optimization.methods import PRESETS
from chemmara.workflows.optimize import plan

from .conftest import invoke, toy, write

Finished = tuple[Path, Path, Any]
RUNS = [f"{method}/seed-{seed}" for method in ("vanilla", "mara") for seed in (0, 3)]


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("run", RUNS)
def test_leaves_a_run_directory(finished: Finished, run: str) -> None:
    _, out, result = finished
    assert result.exit_code == 0, result.output
    for name in ("config.toml", "manifest.json", "molecules.csv", "metrics.csv", "agent/policy.safetensors"):
        assert (out / run / name).is_file()
    scored = {row["SMILES"] for row in rows(out / run / "molecules.csv") if row["score"]}
    assert len(scored) == 40
    assert int(rows(out / run / "metrics.csv")[-1]["oracle_calls"]) == 40


def test_says_what_it_did_and_what_to_do_next(finished: Finished) -> None:
    _, out, result = finished
    assert "oracle calls 40 / 40" in result.stdout
    assert "mara (2)" in result.stdout  # the comparison, two seeds
    assert f"chemmara export {out} -o hits.csv" in result.stdout
    assert all((out / name).is_file() for name in ("compare.csv", "compare_tests.csv", "compare.png"))


def test_what_to_do_next_works_where_nothing_is_a_hit(tmp_path: Path, tiny_prior: Path) -> None:
    config, out = write(tmp_path / "hard.toml", toy(tiny_prior, threshold=1.0)), tmp_path / "out"
    result = invoke("optimize", config, "-o", out, "--method", "vanilla", "--set", "execution.threads=1")
    assert result.exit_code == 0, result.output
    said = result.stdout.splitlines()[-1]
    assert said.startswith("no molecule scored 1 or more")
    arguments = shlex.split(said.partition("chemmara ")[2])
    arguments[arguments.index("best.csv")] = str(tmp_path / "best.csv")
    assert invoke(*arguments).exit_code == 0
    assert len(rows(tmp_path / "best.csv")) > 10


def test_what_to_do_next_where_nothing_has_a_score(tmp_path: Path, tiny_prior: Path) -> None:
    (tmp_path / "mine.py").write_text("def nothing(smiles):\n    return [None for _ in smiles]\n")
    scoring = {"component": [{"name": "python", "function": "mine:nothing"}]}
    config, out = write(tmp_path / "none.toml", toy(tiny_prior, scoring=scoring)), tmp_path / "out"
    result = invoke("optimize", config, "-o", out, "--method", "vanilla", "--set", "execution.threads=1")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("no molecule has a score: the column `error`")


def test_event_files_where_tensorboard_is_installed(finished: Finished) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, out, _ = finished
    events = EventAccumulator(str(out / "mara" / "seed-3" / "tensorboard"))
    events.Reload()
    logged = [round(point.value) for point in events.Scalars("oracle_calls")]
    assert logged == [int(row["oracle_calls"]) for row in rows(out / "mara" / "seed-3" / "metrics.csv")]


def test_resume_of_a_finished_run_changes_nothing(finished: Finished) -> None:
    config, out, _ = finished
    before = {path: path.read_bytes() for run in RUNS for path in sorted((out / run).rglob("*")) if path.is_file()}
    result = invoke("optimize", config, "-o", out, "--seeds", "0,3", "--set", "execution.threads=1", "--resume")
    assert result.exit_code == 0
    assert "mara/seed-3 is finished: nothing to do" in result.stdout
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [3]), ("0-4", [0, 1, 2, 3, 4]), ("1,5,9", [1, 5, 9]), ("0-2, 1,7", [0, 1, 2, 7])]
)
def test_seeds(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "4-1", "1,,2", "1.5", "0-99999999999", "99999999999", "²"])
def test_seeds_refused(text: str) -> None:
    with pytest.raises(UserError, match="--seeds"):
        parse_seeds(text)


@pytest.mark.parametrize("below", [{"sigma": 128}, {"beta": 0.01}])
@pytest.mark.parametrize("assignment", ["objective.beta=0.02", "objective.sigma=50"])
def test_one_name_of_the_kl_strength_replaces_the_other(
    tmp_path: Path, tiny_prior: Path, below: dict[str, float], assignment: str
) -> None:
    config = write(tmp_path / "c.toml", toy(tiny_prior, objective={"name": "reinvent", **below}))
    assert plan(config, assignments=[assignment]).runs[0][2].objective[1].beta == 0.02
    name, _, value = assignment.removeprefix("objective.").partition("=")
    methods = {"a": {"objective": {name: float(value)}}}
    config = write(tmp_path / "c.toml", toy(tiny_prior, objective={"name": "reinvent", **below}, methods=methods))
    assert plan(config).runs[0][2].objective[1].beta == 0.02


def test_a_value_of_the_command_line_reaches_presets_too(tmp_path: Path, tiny_prior: Path) -> None:
    config = write(tmp_path / "c.toml", toy(tiny_prior))
    names = ["default", "vanilla", "saturn"]
    runs = plan(config, names, assignments=["objective.sigma=33", "batch_size=12"]).runs
    assert [(name, settings.objective[1].beta, settings.head.batch_size) for name, _, settings in runs] == [
        (name, pytest.approx(1 / 33), 12) for name in names
    ]


@pytest.mark.parametrize("arguments", [("optimize", "{config}"), ("benchmark", "scaffolds", "--methods", "vanilla")])
def test_a_misspelt_method_of_the_command_line_is_no_new_one(
    tmp_path: Path, tiny_prior: Path, arguments: tuple[str, ...]
) -> None:
    config = write(tmp_path / "c.toml", toy(tiny_prior, methods={"mara": {"augmentation": {"name": "mara"}}}))
    given = [str(config) if part == "{config}" else part for part in arguments]
    result = invoke(*given, "-o", tmp_path / "out", "--set", "methods.mra.batch_size=8")
    assert result.exit_code == 2
    assert "--set methods.mra: the config has no method 'mra'" in result.stderr
    assert ("did you mean 'mara'" in result.stderr) == (arguments[0] == "optimize")
    assert not (tmp_path / "out").exists()
    runs = plan(config, assignments=["methods.mara.batch_size=8", "methods.other.preset='vanilla'"]).runs
    assert [(name, settings.head.batch_size) for name, _, settings in runs] == [("mara", 8), ("other", 32)]


def test_one_directory_is_for_one_goal(finished: Finished, tmp_path: Path, tiny_prior: Path) -> None:
    import shutil

    out = Path(shutil.copytree(finished[1], tmp_path / "out"))
    before = (out / "compare.csv").read_bytes()
    others = ({"threshold": 0.5}, {"scoring": {"component": [{"name": "qed"}]}})
    for changes in others:
        result = invoke("optimize", write(tmp_path / "c.toml", toy(tiny_prior, **changes)), "-o", out)
        assert result.exit_code == 2
        assert f"holds runs of another goal ({next(iter(changes))} of " in result.stderr
    assert (out / "compare.csv").read_bytes() == before
    same = toy(tiny_prior)
    same["scoring"]["component"][1]["transform"]["coef_div"] = 100.0  # said, or the default
    result = invoke(
        "optimize", write(tmp_path / "c.toml", same), "-o", out, "--method", "reinvent,vanilla", "--seeds", 7
    )
    assert result.exit_code == 0, result.output
    assert (out / "reinvent" / "seed-7" / "molecules.csv").is_file()


def test_the_default_method_heeds_the_tables_of_the_config(tmp_path: Path, tiny_prior: Path) -> None:
    changes = {"diversity_filter": {"name": "generic"}, "replay": {"per_scaffold": 7}}
    ((name, _, settings),) = plan(write(tmp_path / "c.toml", toy(tiny_prior, **changes))).runs
    preset = PRESETS["default"]
    assert (name, settings.diversity_filter[0].name) == ("default", "generic")
    assert settings.augmentation_name == preset["augmentation"]["name"]
    assert settings.head.replay.per_scaffold == 7
    assert settings.head.replay.updates == preset["replay"]["updates"] > 0


def metrics(step: int) -> dict[str, float]:
    return {"step": step, "oracle_calls": 10 * step, "mean_score": 0.5, "hits": 1, "scaffolds": 1, "validity": 0.9,
            "unique": 1.0, "kl": float("nan"), "molecules_per_second": 100.0}  # fmt: skip


def test_display_prints_a_line_now_and_then_without_a_terminal(config: Path) -> None:
    stream, now = io.StringIO(), [0.0]
    settings = plan(config).runs[0][2]
    with Display(Console(file=stream, width=60), clock=lambda: now[0]) as display:
        display.start(RunDirectory(Path("out"), "default", 0), settings)
        for step in range(1, 26):
            now[0] = float(step)
            display.step(metrics(step))
        display.end("the oracle budget is spent")
    lines = stream.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines[:-1]] == [f"default/seed-0: step {n}" for n in (1, 11, 21, 25)]
    assert lines[-1] == "default/seed-0 is finished: the oracle budget is spent"
    assert "KL to the prior (nats) -" in lines[0]


def test_validate_takes_methods_as_optimize_does(config: Path) -> None:
    result = invoke("validate", config, "--method", "mara, vanilla", "--method", "mara")
    assert result.exit_code == 0, result.output
    assert "is valid: 2 runs" in result.stdout


def test_validate_says_when_a_method_digs(config: Path) -> None:
    alone = invoke("validate", config, "--set", "oracle_budget=50", "--method", "default", "--set", "exploit.share=0")
    dig = invoke("validate", config, "--set", "oracle_budget=50", "--method", "default", "--set", "exploit.share=0.4")
    assert "50 (last 20: exploit)" in dig.stdout
    assert "exploit)" not in alone.stdout
    assert "4 + 16 offspring, up to 4 generations ahead" in dig.stdout
    blind = invoke("validate", config, "--method", "default", "--set", 'screen.rule=[{"name": "cluster"}]')
    assert "4 + 16 offspring" in blind.stdout
    assert "ahead" not in blind.stdout, "the screen tells nothing"


def test_display_says_the_last_step_once(config: Path) -> None:
    stream = io.StringIO()
    with Display(Console(file=stream, width=60), clock=lambda: 0.0) as display:
        display.start(RunDirectory(Path("out"), "default", 0), plan(config).runs[0][2])
        display.step(metrics(7))
        display.end("max_steps is reached")
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "default/seed-0: step 7", "default/seed-0 is finished: max_steps is reached",
    ]  # fmt: skip


def test_display_is_a_live_table_on_a_terminal(config: Path) -> None:
    stream = io.StringIO()
    with Display(Console(file=stream, force_terminal=True, width=140)) as display:
        display.start(RunDirectory(Path("out"), "default", 0), plan(config).runs[0][2])
        display.step(metrics(7))
    text = stream.getvalue()
    for heading in ("oracle calls", "mean score", "hits", "scaffolds", "validity", "unique", "KL", "molecules/s"):
        assert heading in text
    assert "70 / 40" in text

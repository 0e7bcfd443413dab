"""A user's mistake: one clear line on the standard error, exit code 2, nothing written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import invoke, toy, write

pytestmark = pytest.mark.usefixtures("undrawn")

NAN, INFINITY = float("nan"), float("inf")


def refused(result: Any, *fragments: str, code: int = 2) -> str:
    """The one line; checks what holds for every mistake."""
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("chemmara: ")
    for fragment in fragments:
        assert fragment in lines[0]
    return str(lines[0])


def component(**parameters: Any) -> dict[str, Any]:
    return {"scoring": {"component": [parameters]}}


CHANGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "unknown key": ({"oracle_budgett": 5}, ("oracle_budgett", "did you mean 'oracle_budget'")),
    "unknown key in another case": ({"Threshold": 0.5}, ("Threshold", "did you mean 'threshold'")),
    "unknown table": ({"method": {"mara": {}}}, ("method", "did you mean 'methods'")),
    "unknown key in a table": ({"replay": {"update": 1}}, ("replay.update", "did you mean 'updates'")),
    "unknown key of a component": (component(name="qed", wieght=1), ("component[0].wieght", "did you mean 'weight'")),
    "unknown component": (component(name="QEDD"), ("scoring.component[0].name", "did you mean 'qed'")),
    "unknown objective": ({"objective": {"name": "reinvnet"}}, ("objective.name", "did you mean 'reinvent'")),
    "unknown augmentation": ({"augmentation": {"name": "maara"}}, ("augmentation.name", "did you mean 'mara'")),
    "unknown transform": (
        component(name="qed", transform={"name": "sigmiod", "low": 0, "high": 1}),
        ("component[0].transform.name", "did you mean 'sigmoid'"),
    ),
    "unknown aggregation": (
        {"scoring": {"aggregation": "geometric", "component": [{"name": "qed"}]}},
        ("scoring.aggregation", "did you mean 'geometric_mean'"),
    ),
    "unknown filter": ({"diversity_filter": {"name": "murko"}}, ("diversity_filter.name", "did you mean 'murcko'")),
    "unknown executor": ({"execution": {"executor": "process"}}, ("execution.executor", "did you mean 'processes'")),
    "unknown preset": ({"preset": "vanila"}, ("preset", "did you mean 'vanilla'")),
    "unknown catalogue": (component(name="alerts", catalogues=["pains"]), ("catalogues", "did you mean 'PAINS'")),
    "wrong type: text": ({"oracle_budget": "many"}, ("oracle_budget", "integer", "'many'")),
    "wrong type: table": ({"objective": "reinvent"}, ("objective", "table")),
    "wrong type: a table's rule": ({"screen": ["plausible"]}, ("screen", "should be a table of keys", "...")),
    "wrong type: list": (
        {"scoring": {"component": {"name": "qed"}}},
        ("scoring.component: should be a list of tables, [[scoring.component]]",),
    ),
    "wrong type: list of text": (
        component(name="tanimoto", references="CCO"),
        ("component[0].references: should be a list, [...]", "'CCO'"),
    ),
    "wrong type: fraction": ({"batch_size": 32.5}, ("batch_size", "32.5")),
    "no components": ({"scoring": {"component": []}}, ("no components",)),
    "no scoring": ({"scoring": None}, ("scoring", "required")),
    "no transform": (component(name="logp"), ("component[0].transform", "needs a transform")),
    "NaN": ({"threshold": NAN}, ("threshold", "nan is not a finite number")),
    "infinite": ({"objective": {"name": "reinvent", "beta": INFINITY}}, ("objective.beta", "not a finite number")),
    "beta of zero": ({"objective": {"name": "reinvent", "beta": 0}}, ("objective.beta", "greater than 0")),
    "negative beta": ({"objective": {"name": "reverse_kl", "beta": -0.1}}, ("objective.beta", "negative")),
    "sigma of zero": ({"objective": {"name": "reinvent", "sigma": 0}}, ("objective.sigma", "greater than 0")),
    "mara at beta zero": (
        {"objective": {"name": "reverse_kl", "beta": 0}, "augmentation": {"name": "mara"}},
        ("mara does nothing",),
    ),
    "negative budget": ({"oracle_budget": -5}, ("oracle_budget", "-5")),
    "budget of zero": ({"oracle_budget": 0}, ("oracle_budget",)),
    "negative seed": ({"seed": -1}, ("seed", "-1")),
    "threshold above 1": ({"threshold": 1.5}, ("threshold", "1.5")),
    "MARA's threshold above 1": (
        {"augmentation": {"name": "mara", "threshold": 5.0}},
        ("augmentation.threshold", "5.0"),
    ),
    "threshold below 0": ({"threshold": -0.1}, ("threshold", "-0.1")),
    "broken SMARTS": (component(name="substructure", smarts="c1ccc("), ("component[0].smarts", "c1ccc(")),
    "broken alert": (component(name="alerts", smarts=["[N+](=O)[O-]", "[C"]), ("component[0].smarts[1]",)),
    "broken reference": (
        component(name="tanimoto", references=["CCO", "c1cc"]),
        ("component[0].references[1]", "c1cc"),
    ),
    "missing file of references": (
        component(name="tanimoto", references_file="none.smi"),
        ("references_file", "does not exist"),
    ),
    "two components of one label": ({"scoring": {"component": [{"name": "qed"}] * 2}}, ("component[1].label", "taken")),
    "unknown prior": ({"prior": "chembel"}, ("unknown prior 'chembel'",)),
    "missing prior": ({"prior": "no/such/file.safetensors"}, ("no/such/file.safetensors",)),
    "seeds without replay": ({"replay": {"seed_molecules": "seeds.smi", "updates": 0}}, ("replay.updates",)),
    "missing seeds": ({"replay": {"seed_molecules": "none.smi", "updates": 1}}, ("none.smi", "does not exist")),
    "unknown device": ({"execution": {"device": "gpu"}}, ("execution.device", "gpu")),
    "a method's own score": ({"methods": {"a": {"threshold": 0.1}}}, ("methods.a.threshold",)),
    "mistake in the second method": (
        {"methods": {"a": {}, "b": {"objective": {"name": "forwardkl"}}}},
        ("did you mean 'forward_kl'",),
    ),
}


@pytest.mark.parametrize("command", ["validate", "optimize"])
@pytest.mark.parametrize("case", CHANGES)
def test_mistake_in_the_config(case: str, command: str, tiny_prior: Path, tmp_path: Path) -> None:
    changes, fragments = CHANGES[case]
    config = write(tmp_path / "c.toml", toy(**{"prior": tiny_prior, **changes}))
    out = ["-o", tmp_path / "out"] if command == "optimize" else []
    refused(invoke(command, config, *out), *fragments)
    assert [path.name for path in tmp_path.iterdir()] == ["c.toml"]


FILES: dict[str, tuple[str, bytes | None, tuple[str, ...]]] = {
    "missing": ("c.toml", None, ("'", "does not exist")),
    "empty": ("c.toml", b" \n", ("is empty",)),
    "not TOML": ("c.toml", b"prior = \n", ("is not valid TOML", "line 1")),
    "not JSON": ("c.json", b"{", ("is not valid JSON",)),
    "not YAML": ("c.yaml", b"a: [", ("is not valid YAML",)),
    "a list": ("c.json", b"[1, 2]", ("a list",)),
    "not text": ("c.toml", b"\xff\xfe\x00", ("is not text",)),
    "NaN": ("c.toml", b"threshold = nan\n", ("threshold", "not a finite number")),
}


@pytest.mark.parametrize("command", ["validate", "optimize", "score"])
@pytest.mark.parametrize("case", FILES)
def test_config_that_cannot_be_read(case: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, content, fragments = FILES[case]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    rest = ["m.smi", "-o", "s.csv"] if command == "score" else []
    refused(invoke(command, name, *rest), *fragments)
    assert sorted(tmp_path.iterdir()) == before


def test_config_that_is_a_directory(tmp_path: Path) -> None:
    refused(invoke("validate", tmp_path), "is a directory")


@pytest.mark.parametrize(
    ("assignment", "fragments"),
    [
        ("nonsense", ("--set takes key=value",)),
        ("=1", ("--set takes key=value",)),
        ("threshold.x=1", ("--set threshold.x", "'threshold' is not a table")),
        ("scoring.component[0].weight=2", ("--set scoring.component[0].weight", "'component' is a list")),
        ("scoring.component.0.weight=2", ("--set scoring.component.0.weight", "'component' is a list")),
        ("thresold=0.5", ("thresold", "did you mean 'threshold'")),
        ("objective.beta=-1", ("objective.beta",)),
        ("objective.beta=inf", ("objective.beta", "not a finite number")),
        ("oracle_budget=ten", ("oracle_budget", "'ten'")),
    ],
)
def test_bad_set(assignment: str, fragments: tuple[str, ...], config: Path, tmp_path: Path) -> None:
    refused(invoke("optimize", config, "-o", tmp_path / "out", "--set", assignment), *fragments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (("--seeds", "0-"), ("--seeds takes 3, 0-4 or 1,5,9",)),
        (("--seeds", "five"), ("--seeds takes",)),
        (("--method", "marra"), ("unknown method 'marra'", "did you mean 'mara'")),
        (("--sets", "a=1"), ("--sets", "chemmara optimize --help")),
    ],
)
def test_bad_options(options: tuple[str, ...], fragments: tuple[str, ...], config: Path, tmp_path: Path) -> None:
    refused(invoke("optimize", config, "-o", tmp_path / "out", *options), *fragments)
    assert not (tmp_path / "out").exists()


def test_bad_command() -> None:
    refused(invoke("optimise"), "optimise", "optimize")
    refused(invoke("export", "run"), "-o")


def _header(table: dict[str, Any], numbers: bytes = b"") -> bytes:
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def _cut(weights: bytes) -> bytes:
    return weights[:-100]


def _other_shape(weights: bytes) -> bytes:
    return weights.replace(b'hidden_size\\": 96', b'hidden_size\\": 64')


def _unknown_architecture(weights: bytes) -> bytes:
    return weights.replace(b'architecture\\": \\"lstm', b'architecture\\": \\"lstn')


WEIGHTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda weights: b"",
    "text": lambda weights: b"these are no weights at all, only some text\n" * 9,
    "pickle": lambda weights: pickle.dumps({"a": [1, 2]}),
    "foreign safetensors": lambda weights: _header(
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"0" * 4
    ),
    "only a list": lambda weights: _header([]),  # type: ignore[arg-type]
    "huge header": lambda weights: struct.pack("<Q", 2**62) + weights[8:],
    "cut short": _cut,
    "weights of another shape": _other_shape,
    "unknown architecture": _unknown_architecture,
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_corrupt_or_foreign_weights(case: str, tiny_prior: Path, tmp_path: Path) -> None:
    changed = WEIGHTS[case]((tiny_prior / "policy.safetensors").read_bytes())
    assert changed != (tiny_prior / "policy.safetensors").read_bytes()
    prior = tmp_path / "prior.safetensors"
    prior.write_bytes(changed)
    config = write(tmp_path / "c.toml", toy(prior))
    refused(invoke("optimize", config, "-o", tmp_path / "out"), str(prior))
    refused(invoke("sample", prior, "-n", 5, "-o", tmp_path / "out.smi"), str(prior))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.toml", "prior.safetensors"]


MOLECULES: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "empty": ("m.smi", b"", ("no molecules", "no usable molecule")),
    "blank lines": ("m.smi", b"\n \n", ("no molecules", "no usable molecule")),
    "unparsable": ("m.smi", b"this is\nno molecule\n", ("no molecules", "no usable molecule")),
    "no column": ("m.csv", b"a,b\n1,2\n", ("no column 'SMILES'", "no column 'SMILES'")),
    "not gzip": ("m.smi.gz", b"CCO\n", ("is damaged", "is damaged")),
    "broken SDF": ("m.sdf", b"no\nmolfile\n\n$$$$\n", ("no molecules", "no usable molecule")),
}


@pytest.mark.parametrize("case", MOLECULES)
def test_file_of_molecules(case: str, tiny_prior: Path, tmp_path: Path) -> None:
    name, content, (of_score, of_seeds) = MOLECULES[case]
    (tmp_path / name).write_bytes(content)
    config = write(tmp_path / "c.toml", toy(tiny_prior, replay={"seed_molecules": name, "updates": 1}))
    refused(invoke("score", config, tmp_path / name, "-o", tmp_path / "s.csv"), of_score)
    refused(invoke("optimize", config, "-o", tmp_path / "out"), of_seeds)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.toml", name]


def test_seeds_outside_the_vocabulary(tiny_prior: Path, tmp_path: Path) -> None:
    (tmp_path / "m.smi").write_text("[SiH4]\n")
    config = write(tmp_path / "c.toml", toy(tiny_prior, replay={"seed_molecules": "m.smi", "updates": 1}))
    refused(invoke("validate", config), "[SiH4]", "not in the vocabulary")
    (tmp_path / "m.smi").write_text("[SiH4]\nCCO\nnonsense\n")
    said = invoke("validate", config).output
    for part in ("seed molecules: 1 of ", "m.smi, scored first, of", "is no molecule", "cannot write", "is valid"):
        assert part in said


@pytest.mark.parametrize(
    ("molecules", "out", "fragment"),
    [("none.smi", "s.csv", "does not exist"), (".", "s.csv", "is a directory"), ("m.smi", "s.smi", ".csv"),
     ("m.csv", "m.csv", "input itself"), ("m.smi", "no/such/s.csv", "cannot write")],
)  # fmt: skip
def test_score(molecules: str, out: str, fragment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "c.toml", component(name="qed"))
    (tmp_path / "m.smi").write_text("CCO\n")
    (tmp_path / "m.csv").write_text("SMILES\nCCO\n")
    monkeypatch.chdir(tmp_path)
    refused(invoke("score", "c.toml", molecules, "-o", out), fragment)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.toml", "m.csv", "m.smi"]


def test_score_without_a_scoring_table(tmp_path: Path) -> None:
    refused(invoke("score", write(tmp_path / "c.toml", {"seed": 1}), "m.smi", "-o", "s.csv"), "no [scoring] table")


def test_an_existing_run(finished: tuple[Path, Path, Any]) -> None:
    config, out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))}
    refused(invoke("optimize", config, "-o", out, "--seeds", "3"), "holds a run already", "--resume")
    other = ("--set", "threshold=0.5", "--set", "execution.threads=1")
    refused(invoke("optimize", config, "-o", out, "--seeds", "3", "--resume", *other), "another config", "threshold")
    assert before == {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))}


class Hostile:
    """Unpickled without care, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_hostile_checkpoint(finished: tuple[Path, Path, Any], tmp_path: Path) -> None:
    import torch

    config, out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    run, mark = tmp_path / "out" / "mara" / "seed-3", tmp_path / "mark"
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "end": None}))
    torch.save({"chemmara": Hostile(mark)}, run / "checkpoints" / "last.ckpt")
    resume = ("--seeds", "3", "--method", "mara", "--set", "execution.threads=1", "--resume")
    refused(invoke("optimize", config, "-o", tmp_path / "out", *resume), "last.ckpt", "refused")
    assert not mark.exists()
    torch.load(run / "checkpoints" / "last.ckpt", weights_only=False)
    assert mark.exists()  # so it was hostile


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("export", "none", "-o", "x.csv"), "no run at 'none'"),
        (("export", ".", "-o", "x.csv"), "no run at"),
        (("compare", "none"), "no run at 'none'"),
        (("compare", "t.csv"), "no column"),
        (("compare", "t.csv", "--threshold", "nan"), ""),
        (("sample", "none", "-n", "5", "-o", "x.smi"), "unknown prior 'none'"),
        (("priors", "info", "none"), "unknown prior 'none'"),
    ],
)
def test_no_such_thing(
    arguments: tuple[str, ...], fragment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    monkeypatch.chdir(tmp_path)
    refused(invoke(*arguments), fragment)
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize(
    ("options", "fragment"),
    [(("-o", "x.xlsx"), ".csv, .smi, .sdf"), (("-o", "x.csv", "--top", "0"), "--top"),
     (("-o", "x.csv", "--min-score", "nan"), "--min-score"), (("-o", "no/x.csv"), "cannot write"),
     (("-o", "x.csv", "--top", "many"), "--top")],
)  # fmt: skip
def test_export(
    options: tuple[str, ...],
    fragment: str,
    finished: tuple[Path, Path, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(invoke("export", finished[1], *options), fragment)
    assert not any(tmp_path.iterdir())


def test_a_directory_that_cannot_be_written(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Simulated: a superuser may write anywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    refused(invoke("optimize", config, "-o", tmp_path / "a" / "out"), f"directory '{tmp_path}' is not writable")
    assert not (tmp_path / "a").exists()


def test_a_file_where_the_directory_should_be(config: Path) -> None:
    refused(invoke("optimize", config, "-o", config), "is a file")
    refused(invoke("optimize", config, "-o", config / "out"), "")


def test_a_full_disk_is_no_traceback(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "x.csv")

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / "m.smi").write_text("CCO\n")
    refused(invoke("score", config, tmp_path / "m.smi", "-o", tmp_path / "s.csv"), "No space left on device", code=1)
    assert not (tmp_path / "s.csv").exists()


def test_a_disk_that_fills_up_midway_is_one_line_and_resumable(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    command = ("optimize", config, "-o", tmp_path / "out", "--set", "execution.checkpoint_seconds=0")
    saves = 0
    real_save = torch.save

    def save(*arguments: Any, **options: Any) -> None:
        nonlocal saves
        saves += 1
        if saves == 2:
            raise OSError(28, "No space left on device")
        real_save(*arguments, **options)

    monkeypatch.setattr(torch, "save", save)
    stopped = invoke(*command)
    assert stopped.exit_code == 1, stopped.output
    said = [line for line in stopped.stderr.splitlines() if "No space left on device" in line]
    assert len(said) == 1
    assert "Traceback" not in stopped.stderr
    resumed = invoke(*command, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert list((tmp_path / "out").rglob("molecules.csv"))


def test_interrupt(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("chemmara.workflows.optimize.plan", stop)
    refused(invoke("validate", config), "interrupted", code=130)

"""One training directory, from a file of molecules to a prior; stopped anywhere and resumed to the same bits."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chemmara.errors import RunError, UserError
from chemmara.interrupts import Interrupted
from chemmara.language.corpus import HELD_OUT, Corpus
from chemmara.policies.catalog import CARD, WEIGHTS, find_prior
from chemmara.policies.checkpoints import LAST, read_checkpoint
from chemmara.policies.storage import load_policy
from chemmara.training.epochs import COLUMNS

Run = Callable[..., list[str]]


def rows(out: Path) -> list[dict[str, str]]:
    """metrics.csv, times aside."""
    with open(out / "metrics.csv", newline="") as stream:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(stream)]


def same(first: Path, second: Path) -> bool:
    """Bit-identical weights, optimiser and table."""
    a, b = (read_checkpoint(out / "checkpoints" / LAST) for out in (first, second))
    weights = all(torch.equal(a["state_dict"][name], b["state_dict"][name]) for name in b["state_dict"])
    moments = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (a, b)]
    optimiser = all(torch.equal(moments[0][k][name], moments[1][k][name]) for k in moments[1] for name in moments[1][k])
    stored = all(
        torch.equal(x, y)
        for x, y in zip(load_policy(first).state_dict().values(), load_policy(second).state_dict().values())
    )
    return weights and optimiser and stored and rows(first) == rows(second)


def fail() -> None:
    raise RuntimeError("the test stops here")


def test_a_training_leaves_a_prior(finished: Path, molecules: Path) -> None:
    prior = find_prior(finished)
    policy = load_policy(prior)
    history = prior.header()["history"]
    assert history["files"] == ["molecules.smi"]
    assert history["molecules"] == len(Corpus(finished / "corpus"))
    assert history["settings"]["policy"]["hidden_size"] == 16
    assert policy.vocabulary == Corpus(finished / "corpus").vocabulary
    assert len(Corpus(finished / "corpus")) == 57
    assert len(Corpus(finished / "corpus" / HELD_OUT)) == 3


def test_the_table_has_a_row_an_epoch(finished: Path) -> None:
    with open(finished / "metrics.csv", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert tuple(table[0]) == COLUMNS
    steps = len(Corpus(finished / "corpus")) // 8 + 1
    assert [row["epoch"] for row in table] == ["1", "2"]
    assert [int(row["step"]) for row in table] == [steps, 2 * steps]
    for row in table:
        assert all(0 <= float(row[name]) <= 1 for name in ("validity", "uniqueness", "novelty"))
        assert float(row["valid_nll"]) > 0


def test_the_card_names_data_and_figures(finished: Path) -> None:
    card = (finished / CARD).read_text()
    last = rows(finished)[-1]
    for text in (
        "molecules.smi (",
        "`chemmara train m.smi`",
        f"Epochs: 2, steps: {last['step']}",
        f"| validation loss, nats a molecule | {float(last['valid_nll']):.2f} |",
        f"| validity of raw samples | {float(last['validity']):.4f} |",
        '"hidden_size": 16',
    ):
        assert text in card
    assert find_prior(finished).card() == card


def test_training_lowers_the_validation_loss(run: Run, tmp_path: Path) -> None:
    run(tmp_path / "a", epochs=8, learning_rate=0.02)
    losses = [float(row["valid_nll"]) for row in rows(tmp_path / "a")]
    assert losses[-1] < 0.85 * losses[0]
    trained = [float(row["train_nll"]) for row in rows(tmp_path / "a")]
    assert trained[-1] < 0.85 * trained[0]


def test_unusable_lines_are_said(run: Run, tmp_path: Path) -> None:
    said = run(tmp_path / "a", epochs=1)
    assert said[0] == "1 line left out: not a valid molecule (for example molecules.smi line 61: nonsense)"
    assert said[1].startswith("57 molecules to learn from, 3 set aside for the validation loss, ")
    assert said[-2].startswith("epoch 1: loss ")


def test_rows_without_a_molecule_are_said(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "m.csv"
    table.write_text("SMILES,n\n" + "".join(f"{'C' * n},{n}\n" for n in range(1, 40)) + ",40\n")
    said = run(tmp_path / "a", epochs=1, files=[table])
    assert said[0] == "1 line left out: empty or unreadable (for example m.csv line 41: )"


def test_the_same_settings_give_the_same_bits(run: Run, finished: Path, tmp_path: Path) -> None:
    run(tmp_path / "a")
    assert same(tmp_path / "a", finished)
    run(tmp_path / "b", seed=1)
    assert not same(tmp_path / "b", finished)


# Steps 1 to 8 are the first epoch, 9 to 16 the second; negative: after the table of that epoch.
@pytest.mark.parametrize("stop", [1, 5, 8, -1, 9, 15, 16, -2])
def test_stopped_anywhere_it_resumes_to_the_same_bits(run: Run, finished: Path, tmp_path: Path, stop: int) -> None:
    with pytest.raises(RuntimeError, match="the test stops here"):
        run(tmp_path / "a", at=stop, what=fail)
    assert not (tmp_path / "a" / WEIGHTS).exists()
    run(tmp_path / "a", resume=True)
    assert same(tmp_path / "a", finished)


def test_stopped_many_times_between_rare_checkpoints(run: Run, finished: Path, tmp_path: Path) -> None:
    """Steps after the last checkpoint are repeated."""
    for stop, seconds in [(3, 0.0), (6, 1e9), (12, 0.0), (14, 1e9)]:
        with pytest.raises(RuntimeError, match="the test stops here"):
            run(tmp_path / "a", at=stop, what=fail, resume=True, checkpoint_seconds=seconds)
    run(tmp_path / "a", resume=True)
    assert same(tmp_path / "a", finished)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_step_and_stops(run: Run, finished: Path, tmp_path: Path, number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted):
        run(tmp_path / "a", at=4, what=lambda: os.kill(os.getpid(), number), checkpoint_seconds=1e9)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    assert read_checkpoint(tmp_path / "a" / "checkpoints" / LAST)["global_step"] == 5
    run(tmp_path / "a", resume=True, checkpoint_seconds=1e9)
    assert same(tmp_path / "a", finished)


def test_a_full_disk_stops_and_is_resumable(
    run: Run, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(RunError, match="No space left on device"):
        run(tmp_path / "a", at=4, what=lambda: patch.setattr("os.fsync", full))
    run(tmp_path / "a", resume=True)
    assert same(tmp_path / "a", finished)


def test_a_prior_that_was_lost_after_the_last_checkpoint_is_written_again(
    finished: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "a"
    shutil.copytree(finished, out)
    (out / WEIGHTS).unlink()
    (out / CARD).unlink()
    run(out, resume=True)
    assert same(out, finished)
    assert (out / CARD).is_file()


def test_a_finished_training_is_left_alone(run: Run, finished: Path, tmp_path: Path) -> None:
    def content() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in finished.rglob("*")}

    before = content()
    (said,) = run(finished, resume=True)
    assert said.startswith(f"{finished} is finished: nothing to do; to train on from it: chemmara train DATA")
    (said,) = run(finished, resume=True, epochs=9)
    assert "epochs and not 9, over which its learning rate has fallen to its end: nothing to do; to train on" in said
    with pytest.raises(UserError, match="holds a training already; go on with --resume"):
        run(finished)
    with pytest.raises(UserError, match=r"holds a training with batch_size = .*, not 3; choose another directory"):
        run(finished, resume=True, batch_size=3)
    (tmp_path / "others.smi").write_text("CCO\nCCN\n")
    with pytest.raises(UserError, match="holds a training on other files or settings"):
        run(finished, resume=True, files=[tmp_path / "others.smi"])
    assert content() == before


def test_a_prior_without_checkpoints_is_not_overwritten(run: Run, finished: Path, tmp_path: Path) -> None:
    shutil.copy(finished / WEIGHTS, tmp_path / WEIGHTS)
    with pytest.raises(UserError, match="holds a training already"):
        run(tmp_path)


def test_resume_starts_afresh_where_nothing_is(run: Run, finished: Path, tmp_path: Path) -> None:
    run(tmp_path / "a", resume=True)
    assert same(tmp_path / "a", finished)


def test_a_corpus_that_was_not_finished_is_made_again(run: Run, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "a" / "corpus").mkdir(parents=True)
    (tmp_path / "a" / "corpus" / "ids.u16").write_bytes(b"half")
    run(tmp_path / "a")
    assert same(tmp_path / "a", finished)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 16}, "begun with batch_size = 8, not 16"),
        ({"seed": 5}, "begun with seed = 0, not 5"),
        ({"policy": {"name": "lstm", "hidden_size": 4}}, "begun with policy = "),
        ({"randomize": False}, "begun with randomize = True, not False"),
        ({"max_tokens": 50}, "made from other files or settings"),
        ({"tokenizer": "selfies"}, "made from other files or settings"),
    ],
)
def test_other_settings_are_refused_on_resume(run: Run, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RuntimeError, match="the test stops here"):
        run(tmp_path / "a", at=1, what=fail)
    before = (tmp_path / "a" / "checkpoints" / LAST).read_bytes()
    with pytest.raises(UserError, match=message):
        run(tmp_path / "a", resume=True, **changes)
    assert (tmp_path / "a" / "checkpoints" / LAST).read_bytes() == before


def test_changed_files_are_refused_on_resume(run: Run, molecules: Path, tmp_path: Path) -> None:
    copy = tmp_path / "m.smi"
    shutil.copy(molecules, copy)
    with pytest.raises(RuntimeError, match="the test stops here"):
        run(tmp_path / "a", at=1, what=fail, files=[copy])
    with open(copy, "a") as stream:
        stream.write("CCCCCCO\n")
    with pytest.raises(UserError, match="made from other files or settings; choose another directory"):
        run(tmp_path / "a", resume=True, files=[copy])
    with pytest.raises(UserError, match="made from other files or settings"):
        run(tmp_path / "a", resume=True, files=[molecules])


def test_more_epochs_may_follow(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the test stops here"):
        run(tmp_path / "a", at=-1, what=fail, epochs=1)
    run(tmp_path / "a", resume=True, epochs=2)
    assert [row["epoch"] for row in rows(tmp_path / "a")] == ["1", "2"]


def test_a_training_can_begin_from_a_prior(run: Run, finished: Path, tmp_path: Path) -> None:
    said = run(tmp_path / "a", epochs=1, initial=str(finished), learning_rate=1e-9, warmup=0, policy={"dropout": 0.1})
    before, after = load_policy(finished), load_policy(tmp_path / "a")
    assert after.vocabulary == before.vocabulary
    assert after.parameters_.dropout == 0.1
    assert after.parameters_.hidden_size == before.parameters_.hidden_size
    for a, b in zip(before.parameters(), after.parameters()):
        assert torch.allclose(a, b, atol=1e-3), "the weights do not come from the prior"
    assert said


def test_a_prior_to_begin_from_keeps_its_shape(run: Run, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has hidden_size 16; training cannot change it to 32"):
        run(tmp_path / "a", initial=str(finished), policy={"hidden_size": 32})
    with pytest.raises(UserError, match="writes smiles; training cannot change it to selfies"):
        run(tmp_path / "a", initial=str(finished), tokenizer="selfies")
    with pytest.raises(UserError, match="chembI"):
        run(tmp_path / "a", initial="chembI")
    assert not (tmp_path / "a").exists()


def test_a_validation_file_is_used_whole(run: Run, molecules: Path, tmp_path: Path) -> None:
    other = tmp_path / "valid.smi"
    other.write_text("CCCCCCO\nCCC[Si](C)C\nCCO\n")
    said = run(tmp_path / "a", epochs=1, validation=other)
    assert len(Corpus(tmp_path / "a" / "corpus")) == 60
    assert len(Corpus(tmp_path / "a" / "corpus" / HELD_OUT)) == 2
    assert any(line.startswith("valid.smi: 1 line left out: tokens outside the vocabulary [Si] (1)") for line in said)


def test_bad_input_is_one_clear_line_and_leaves_nothing(run: Run, molecules: Path, tmp_path: Path) -> None:
    empty, hopeless, table = tmp_path / "empty.smi", tmp_path / "hopeless.smi", tmp_path / "table.csv"
    empty.write_text("")
    hopeless.write_text("no molecule\nnone\n")
    table.write_text("a,b\n1,2\n")
    out = tmp_path / "out"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"files": [tmp_path / "missing.smi"]}, r"file '.*missing.smi' does not exist"),
        ({"files": [tmp_path]}, "does not exist|is a directory"),
        ({"files": [empty]}, r"no usable molecule in .*empty.smi"),
        ({"files": [hopeless]}, r"no usable molecule in .*hopeless.smi: 2 lines left out: not a valid molecule"),
        ({"files": [table]}, "has no column 'SMILES'; its columns are: a, b"),
        ({"validation": tmp_path / "missing.smi"}, r"file '.*missing.smi' does not exist"),
        ({"validation": empty}, "empty.smi' has no molecules"),
        ({"validation": hopeless}, "hopeless.smi' has no molecules"),
        ({"validation": table}, "has no column 'SMILES'"),
        ({"policy": {"name": "lsmt"}}, "unknown policy 'lsmt'; did you mean 'lstm'"),
        ({"policy": {"name": "lstm", "layer": 1}}, "policy.layer: unknown key; did you mean 'layers'"),
        ({"tokenizer": "smile"}, "unknown tokenizer 'smile'; did you mean 'smiles'"),
    ]
    for options, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            run(out, **options)
        assert "\n" not in str(caught.value)
        assert not out.exists(), message
    with pytest.raises(UserError, match="is a file; choose a directory for the results"):
        run(molecules)


def test_no_global_state_is_left_changed(run: Run, tmp_path: Path) -> None:
    def state() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate(), dict(os.environ)

    before = state()
    run(tmp_path / "a", epochs=1)
    assert state() == before


@pytest.mark.slow
def test_kill_9_and_resume_from_the_command_line(molecules: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    command = [
        sys.executable, "-m", "chemmara", "train", str(molecules), "-o", str(out), "--epochs", "2", "--batch-size", "8",
        "--samples", "20", "--precision", "float32", "--checkpoint-seconds", "0", "--randomize",
        "--embedding-size", "8", "--hidden-size", "16", "--layers", "2", "--dropout", "0.1",
    ]  # fmt: skip
    options: dict[str, Any] = {
        "stdout": subprocess.DEVNULL,
        "env": {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    }
    child = subprocess.Popen(command, **options)
    while not (out / "checkpoints" / LAST).exists() and child.poll() is None:
        time.sleep(0.01)
    child.kill()
    child.wait()
    assert child.returncode == -signal.SIGKILL
    subprocess.run([*command, "--resume"], check=True, **options)
    assert same(out, finished)

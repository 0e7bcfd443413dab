"""Checkpoints: whole at every moment, and never a way to run code."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from chemmara.errors import RunError, UserError
from chemmara.interrupts import Interrupted, Interrupts
from chemmara.policies.checkpoints import AtomicCheckpointIO, TimedCheckpoint, quiet_lightning, read_checkpoint

CONTENT = {"state_dict": {"w": torch.arange(2000.0)}, "epoch": 3, "nested": {"a": [1, "x", None]}}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    return path


def test_round_trip(saved: Path) -> None:
    for content in (read_checkpoint(saved), AtomicCheckpointIO().load_checkpoint(saved)):
        assert torch.equal(content["state_dict"]["w"], CONTENT["state_dict"]["w"])  # type: ignore[index]
        assert content["nested"] == CONTENT["nested"]
    assert os.listdir(saved.parent) == ["last.ckpt"]


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_checkpoint_is_refused_and_does_not_run(tmp_path: Path, legacy: bool) -> None:
    victim, path = tmp_path / "was here", tmp_path / "last.ckpt"
    torch.save({**CONTENT, "extra": Bomb(victim)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match="is refused: it is damaged or holds more"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps(Bomb(victim)))
    with pytest.raises(UserError, match=r"last.ckpt"):
        read_checkpoint(path)
    assert not victim.exists()
    torch.save(Bomb(victim), path)
    torch.load(path, weights_only=False)
    assert victim.exists()  # the bomb works


def test_lightning_reads_a_hostile_checkpoint_no_better(tmp_path: Path) -> None:
    torch.save({**CONTENT, "extra": Bomb(tmp_path / "was here")}, tmp_path / "last.ckpt")
    with pytest.raises(UserError):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    assert not (tmp_path / "was here").exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_one_clear_line(saved: Path, share: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"last\.ckpt") as caught:
        read_checkpoint(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_checkpoint_is_one_clear_line_or_reads(saved: Path, seed: int) -> None:
    """Random bytes changed in the pickle that stands at the head of the file."""
    generator = torch.Generator().manual_seed(seed)
    data = bytearray(saved.read_bytes())
    for position in torch.randint(0, 700, (6,), generator=generator).tolist():
        data[position] = int(torch.randint(0, 256, (1,), generator=generator))
    saved.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(UserError):  # nothing else may come out
            read_checkpoint(saved)


@pytest.mark.parametrize("content", [[1], {"weights": 1}, torch.zeros(2)])
def test_a_foreign_torch_file(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="is no checkpoint of chemmara"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="cannot be read"):
        read_checkpoint(tmp_path)


class FullDisk:
    """A stream that takes ``room`` bytes."""

    def __init__(self, stream: Any, room: int) -> None:
        self.stream, self.room = stream, room

    def write(self, data: Any) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return int(self.stream.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()


@pytest.mark.parametrize("room", [0, 3000])
def test_a_full_disk_keeps_the_old_checkpoint(saved: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    monkeypatch.setattr("chemmara.policies.checkpoints.open", lambda *a: FullDisk(Path.open(*a), room), raising=False)
    with pytest.raises(RunError, match=r"checkpoint '.*last.ckpt' could not be written: "):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {"w": torch.ones(9000)}}, saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["last.ckpt"]


def test_a_full_disk_is_called_so(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch speaks of an unexpected position in its file. There is room again once the half file is gone."""
    usage = shutil.disk_usage(saved.parent)
    monkeypatch.setattr("chemmara.policies.checkpoints.open", lambda *a: FullDisk(Path.open(*a), 3000), raising=False)
    monkeypatch.setattr("torch.save", lambda *_: (_ for _ in ()).throw(RuntimeError("unexpected pos 64 vs 0")))
    for beside_it, reason in ((0, "No space left on device"), (10**9, "unexpected pos")):

        def look(folder: Path, free: int = beside_it) -> Any:
            return usage._replace(free=free if list(folder.glob(".*.partial")) else 10**9)

        monkeypatch.setattr("shutil.disk_usage", look)
        with pytest.raises(RunError, match=f"could not be written: {reason}"):
            AtomicCheckpointIO().save_checkpoint({"state_dict": {}}, saved)


@pytest.mark.parametrize("broken", ["os.fsync", "os.replace"])
def test_a_failed_sync_or_rename_keeps_the_old_checkpoint(
    saved: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(broken, fail)
    with pytest.raises(RunError, match="could not be written: Input/output error"):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {}}, saved)
    assert saved.read_bytes() == before


class Trainer:
    """As much of Lightning's trainer as a checkpoint callback asks for."""

    def __init__(self) -> None:
        self.global_step = 0
        self.saves: list[int] = []

    def save_checkpoint(self, path: Path) -> None:
        self.saves.append(self.global_step)


@pytest.mark.parametrize(("seconds", "saves"), [(0.0, [1, 2, 3]), (1e9, [3])])
def test_checkpoints_come_by_time_and_at_the_end(tmp_path: Path, seconds: float, saves: list[int]) -> None:
    trainer: Any = Trainer()
    saver = TimedCheckpoint(tmp_path, seconds)
    for trainer.global_step in (1, 2, 3):
        saver.on_train_batch_end(trainer)
    saver.on_train_end(trainer)
    assert trainer.saves == saves


def test_an_interrupt_saves_before_it_raises(tmp_path: Path) -> None:
    trainer: Any = Trainer()
    interrupts = Interrupts()
    saver = TimedCheckpoint(tmp_path, 1e9, interrupts)
    saver.on_train_batch_end(trainer)
    interrupts.requested = True
    with pytest.raises(Interrupted):
        saver.on_train_batch_end(trainer)
    assert trainer.saves == [0]


def test_lightning_is_quiet_inside_only() -> None:
    import logging

    logger = logging.getLogger("pytorch_lightning")
    before, filters = logger.level, list(warnings.filters)
    with quiet_lightning():
        assert logger.level == logging.ERROR
        warnings.simplefilter("error")
    assert logger.level == before
    assert list(warnings.filters) == filters

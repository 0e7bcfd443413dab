"""Weights on disk: exact, atomic, and never a way to run code or to end in a traceback."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from chemmara.errors import RunError, UserError
from chemmara.language.vocabulary import Vocabulary
from chemmara.policies import catalog
from chemmara.policies.catalog import find_prior
from chemmara.policies.decoding import Decoding
from chemmara.policies.policy import POLICIES
from chemmara.policies.storage import load_policy, save_policy

TINY = Vocabulary.from_tokens(["C", "O", "(", ")", "="])


@pytest.fixture
def policy(build: Callable[..., Any]) -> Any:
    return build("lstm", TINY, spread=2.0)


@pytest.fixture
def saved(policy: Any, tmp_path: Path) -> Path:
    return save_policy(policy, tmp_path / "prior" / "policy.safetensors", history={"epochs": 3})


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def join(table: Any, tensors: bytes) -> bytes:
    text = json.dumps(table).encode()
    return len(text).to_bytes(8, "little") + text + tensors


def change(path: Path, edit: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Rewrite the file with its table and chemmara's own header edited."""
    table, tensors = split(path.read_bytes())
    header = json.loads(table["__metadata__"]["chemmara"])
    edit(table, header)
    table["__metadata__"]["chemmara"] = json.dumps(header)
    path.write_bytes(join(table, tensors))


def refused(path: Path | str, *words: str) -> None:
    """load_policy ends in one clear line with these words."""
    with pytest.raises(UserError) as caught:
        load_policy(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    assert all(word in message for word in words), message


@pytest.mark.parametrize("architecture", POLICIES.names())
def test_float32_is_exact_and_float16_close(architecture: str, build: Callable[..., Any], tmp_path: Path) -> None:
    policy = build(architecture, TINY, spread=2.0)
    full = load_policy(save_policy(policy, tmp_path / "full.safetensors"))
    half = load_policy(save_policy(policy, tmp_path / "half.safetensors", half=True))
    assert not full.training
    for name, value in policy.state_dict().items():
        assert torch.equal(full.state_dict()[name], value)
        assert half.state_dict()[name].dtype == torch.float32
    full.precision = half.precision = "float32"
    ids = policy.sample(100, generator=torch.Generator().manual_seed(0), decoding=Decoding(max_tokens=20)).ids
    assert torch.equal(full.log_prob(ids), policy.log_prob(ids))
    difference = (half.log_prob(ids) - policy.log_prob(ids)).abs().max()
    assert 0 < difference < 0.02
    assert (tmp_path / "half.safetensors").stat().st_size < 0.7 * (tmp_path / "full.safetensors").stat().st_size


def test_a_loaded_policy_learns(saved: Path) -> None:
    policy = load_policy(saved)
    policy.log_prob(torch.tensor([[3, 4, 2]])).sum().backward()
    assert all(parameter.requires_grad and parameter.grad is not None for parameter in policy.parameters())


def test_loading_moves_no_seed_and_survives_an_overwrite(policy: Any, saved: Path) -> None:
    state = torch.get_rng_state()
    loaded = load_policy(saved)
    assert torch.equal(torch.get_rng_state(), state)
    saved.write_bytes(b"\0" * saved.stat().st_size)
    assert torch.equal(loaded.output.weight, policy.output.weight)


def test_a_prior_tells_of_itself_without_torch(saved: Path, policy: Any) -> None:
    prior = find_prior(saved.parent)
    assert prior.name == "prior"
    assert prior.header()["architecture"] == "lstm"
    assert prior.header()["history"] == {"epochs": 3}
    assert prior.vocabulary() == TINY
    assert prior.parameter_count() == sum(p.numel() for p in policy.parameters())
    assert prior.card() == ""
    (saved.parent / catalog.CARD).write_text("# Card")
    assert prior.card() == "# Card"
    before = prior.sha256()
    os.utime(saved, ns=(1, 1))
    assert prior.sha256() == before


def test_a_prior_is_found_by_name_directory_run_and_file(
    saved: Path, policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    save_policy(policy, run / "agent" / "policy.safetensors")
    monkeypatch.setattr(catalog, "ASSETS", tmp_path)
    assert [prior.name for prior in catalog.bundled()] == ["prior"]
    assert find_prior("prior").path == find_prior(saved).path == find_prior(saved.parent).path == saved
    assert find_prior(run).path == run / "agent" / "policy.safetensors"
    nested = tmp_path / "results" / "mara" / "seed-3"
    save_policy(policy, nested / "agent" / "policy.safetensors")
    refused(tmp_path / "results", "holds no prior", f"; it holds runs with agents: '{nested}'")
    refused("pior", "unknown prior 'pior'", "did you mean 'prior'?")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_others_may_read_what_the_umask_lets_them(saved: Path) -> None:
    beside = saved.with_name("beside")
    beside.touch()
    assert saved.stat().st_mode == beside.stat().st_mode


def test_nothing_there(tmp_path: Path) -> None:
    refused(tmp_path, "holds no prior", "policy.safetensors")
    refused(tmp_path / "missing.safetensors", "unknown prior", "missing.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_truncated_file(saved: Path, share: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(share * len(data))])
    refused(saved, "policy.safetensors")


def test_a_file_with_more_than_it_says(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"\0")
    refused(saved, "is damaged")


@pytest.mark.parametrize("data", [b"", b"x", b"\xff" * 100, b"PK\x03\x04 a zip", b"\x02\0\0\0\0\0\0\0{}", b"C" * 5000])
def test_bytes_that_are_no_weights(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(data)
    refused(tmp_path / "x.safetensors", "no weights file of chemmara")


def test_a_foreign_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    refused(path, "no weights file of chemmara")
    save_file({"a": torch.zeros(2)}, path, metadata={"chemmara": json.dumps({"format": "chemmara-policy-9"})})
    refused(path, "format 'chemmara-policy-9'")
    save_file({"a": torch.zeros(2)}, path, metadata={"chemmara": "[]"})
    refused(path, "no weights file of chemmara")


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    victim = tmp_path / "was here"
    torch.save({"network": Bomb(victim)}, tmp_path / "x.prior")
    (tmp_path / "y.pkl").write_bytes(pickle.dumps(Bomb(victim)))
    refused(tmp_path / "x.prior", "no weights file of chemmara")
    refused(tmp_path / "y.pkl", "no weights file of chemmara")
    assert not victim.exists()
    pickle.loads((tmp_path / "y.pkl").read_bytes())
    assert victim.exists()  # the bomb works


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t, h: h.update(architecture="lst"), ["unknown policy 'lst'; did you mean 'lstm'?"]),
        (lambda t, h: h.update(architecture=["lstm"]), ["unknown policy"]),
        (lambda t, h: h.pop("architecture"), ["damaged header"]),
        (lambda t, h: h.pop("tokens"), ["damaged header"]),
        (lambda t, h: h.pop("parameters"), ["damaged header"]),
        (lambda t, h: h.update(parameters=[]), ["damaged header"]),
        (lambda t, h: h.update(parameters={"hiden_size": 1}), ["unknown key", "hidden_size"]),
        (lambda t, h: h["parameters"].update(layers=-1), ["parameters.layers"]),
        (lambda t, h: h.update(tokenizer="smile"), ["damaged header", "did you mean 'smiles'?"]),
        (lambda t, h: h.update(tokens=h["tokens"][3:]), ["damaged header", "a vocabulary starts with"]),
        (lambda t, h: h.update(tokens=[*h["tokens"][:-1], 5]), ["damaged header"]),
        (lambda t, h: h.update(tokens=3), ["damaged header"]),
        (lambda t, h: h.update(tokens=[*h["tokens"], "N"]), ["has shape (8, 8) where its header says (9, 8)"]),
        (lambda t, h: h["parameters"].update(hidden_size=17), ["shape", "header says"]),
        (lambda t, h: h["parameters"].update(layers=3), ["it has no 'lstm.bias_hh_l2'"]),
        (lambda t, h: h["parameters"].update(layers=1), ["'lstm.bias_hh_l1' is none of its weights"]),
        (lambda t, h: h["parameters"].update(hidden_size=16384, layers=64), ["cannot be used"]),
        (lambda t, h: t["output.bias"].update(data_offsets=["0", "9"]), ["damaged"]),
        (lambda t, h: t["output.bias"].update(data_offsets=[0]), ["damaged"]),
        (lambda t, h: t["output.bias"].update(data_offsets=[0, 10**15]), ["damaged"]),
        (lambda t, h: t["output.bias"].update(shape="wide"), ["damaged"]),
        (lambda t, h: t["output.bias"].update(shape=[10**15]), ["cannot be used"]),
        (lambda t, h: t["output.bias"].pop("shape"), ["damaged"]),
        (lambda t, h: t["output.bias"].update(dtype="Q7"), ["cannot be used"]),
        (lambda t, h: t.update({"output.bias": 4}), ["damaged"]),
    ],
)
def test_a_header_that_lies(saved: Path, edit: Any, words: list[str]) -> None:
    change(saved, edit)
    refused(saved, "policy.safetensors", *words)


def test_weights_that_are_not_finite(policy: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        policy.output.bias[0] = torch.nan
    save_policy(policy, tmp_path / "policy.safetensors")
    refused(tmp_path, "'output.bias' holds numbers that are not finite")


@pytest.mark.parametrize("broken", ["os.fsync", "os.replace", "safetensors.torch.save_file"])
def test_a_full_disk_keeps_the_old_file(policy: Any, saved: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(broken, full)
    with pytest.raises(RunError, match=r"could not be written: No space left on device$"):
        save_policy(policy, saved, half=True)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]

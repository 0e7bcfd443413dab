"""Which number format runs where, and which device."""

from __future__ import annotations

import pytest
import torch

from chemmara.errors import UserError
from chemmara.policies import precision
from chemmara.policies.device import check_device, pick_device
from chemmara.policies.precision import autocast, gains_from_bfloat16, resolve

CPU = torch.device("cpu")


@pytest.mark.parametrize(("gains", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_takes_bfloat16_where_the_processor_gains(
    gains: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "gains_from_bfloat16", lambda device: gains)
    assert resolve("auto", CPU) == expected
    assert resolve("float32", CPU) == "float32"
    assert resolve("bfloat16", CPU) == "bfloat16"


@pytest.mark.parametrize("name", ["_is_amx_tile_supported", "_is_avx512_bf16_supported"])
def test_a_processor_gains_by_either_instruction(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for check in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, check, lambda: False, raising=False)
    assert not gains_from_bfloat16(CPU)
    monkeypatch.setattr(torch.cpu, name, lambda: True, raising=False)
    assert gains_from_bfloat16(CPU)
    assert not gains_from_bfloat16(torch.device("meta"))


def test_a_torch_without_these_questions_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for check in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, check, raising=False)
    assert not gains_from_bfloat16(CPU)


def test_autocast_is_of_the_matrix_products() -> None:
    x = torch.ones(2, 2)
    with autocast("bfloat16", CPU):
        assert (x @ x).dtype == torch.bfloat16
    with autocast("float32", CPU):
        assert (x @ x).dtype == torch.float32


def test_devices() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "cuda:x", "cpu:0", ""):
        with pytest.raises(UserError, match="device should be auto, cpu, cuda or cuda:N"):
            check_device(name)
    with pytest.raises(UserError, match="is not there"):
        pick_device("cuda:99")

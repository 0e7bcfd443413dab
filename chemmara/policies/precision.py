"""Which number format the matrix products run in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16"]


def gains_from_bfloat16(device: torch.device) -> bool:
    """Whether this device multiplies bfloat16 matrices in hardware (AVX512-BF16, AMX, or a GPU that says so)."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in checks)


def resolve(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """``auto`` becomes bfloat16 where the processor gains from it, else float32."""
    if precision != "auto":
        return precision
    return "bfloat16" if gains_from_bfloat16(device) else "float32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager:
    """The context in which a forward pass runs at this precision."""
    import torch

    if resolve(precision, device) == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)

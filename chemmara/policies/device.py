"""Which device a policy runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chemmara.errors import UserError

if TYPE_CHECKING:
    import torch


def check_device(name: str) -> None:
    """Raise :class:`UserError` unless ``name`` is auto, cpu, cuda or cuda:N."""
    if name not in ("auto", "cpu", "cuda") and not (name.startswith("cuda:") and name[5:].isdigit()):
        raise UserError(f"device should be auto, cpu, cuda or cuda:N (got '{name}')")


def pick_device(name: str) -> torch.device:
    """``auto`` takes a GPU if there is one. Raises :class:`UserError` for a GPU that is not there."""
    import torch

    check_device(name)
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise UserError(f"device '{name}' is not there; `chemmara doctor` shows what is; use device 'cpu'")
    return device

"""Which sequences are put through a model: repeats once (collapsing agents and rank-weighted buffers bring some many
times), and those that nothing is learned from not at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def once_each(log_prob: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
    """``log_prob(ids)`` of ids (B, T), (B, ...), with each distinct row computed once; gradients are those of all rows.

    Without repeats it is that very call. The rows keep the order in which they first come.
    """
    places: dict[bytes, int] = {}
    first: list[int] = []
    for number, row in enumerate(ids.cpu().numpy()):
        if places.setdefault(row.tobytes(), len(first)) == len(first):
            first.append(number)
    if len(first) == len(ids):
        return log_prob(ids)
    found = log_prob(ids[torch.tensor(first, device=ids.device)])
    rows = torch.tensor([places[row.tobytes()] for row in ids.cpu().numpy()], device=found.device)
    return found.index_select(0, rows)


def of_rows(log_prob: Callable[[Tensor], Tensor], ids: Tensor, wanted: NDArray[np.bool_]) -> Tensor:
    """``log_prob(ids)`` of ids (B, T), (B,), computed for the ``wanted`` rows alone; NaN for the others."""
    if wanted.all():
        return log_prob(ids)
    found = torch.full((len(ids),), torch.nan, device=ids.device)
    rows = torch.from_numpy(np.flatnonzero(wanted)).to(ids.device)
    if len(rows):
        found[rows] = log_prob(ids[rows]).to(found.dtype)
    return found

"""Repeated sequences, put through a model once: collapsing agents and rank-weighted buffers bring some many times."""

from __future__ import annotations

from collections.abc import Callable

import torch
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

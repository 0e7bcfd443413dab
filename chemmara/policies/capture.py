"""Work of fixed size as CUDA graphs: captured once, asked for at once from then on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Run = Callable[[], None]
WARM_UP = 2  # what libraries set up at their first calls cannot be captured


@dataclass(frozen=True)
class Room:
    """Where graphs are captured. Those of one room use the same memory again, so only one may be under way at a time.

    ``pool``, ``stream``: None off a GPU. Memory is used again only where the stream is the same as well.
    """

    pool: Any
    stream: Any

    @classmethod
    def on(cls, device: torch.device) -> Room:
        """A new room on a device."""
        if device.type != "cuda":
            return cls(None, None)
        return cls(torch.cuda.graph_pool_handle(), torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


def captured(ways: Sequence[Run], device: torch.device, room: Room) -> list[Run]:
    """Each of ``ways``, which run one after the other, as a CUDA graph; on another device as they are.

    Raises :class:`RuntimeError` where something cannot be captured; the thread goes on as before.
    """
    if device.type != "cuda":
        return list(ways)
    graphs = [torch.cuda.CUDAGraph() for _ in ways]
    with torch.cuda.device(device):
        before = torch.cuda.current_stream()
        room.stream.wait_stream(before)
        try:
            with torch.cuda.stream(room.stream):
                for _ in range(WARM_UP):
                    for way in ways:
                        way()
            before.wait_stream(room.stream)
            # cuBLAS would write to a workspace outside the room, which others may free or be given.
            torch._C._cuda_clearCublasWorkspaces()
            for graph, way in zip(graphs, ways, strict=True):
                # Other threads may use the GPU meanwhile: what they do is not part of it.
                with torch.cuda.graph(graph, pool=room.pool, stream=room.stream, capture_error_mode="thread_local"):
                    way()
        finally:
            torch.cuda.set_stream(before)  # a failed capture leaves another
            torch._C._cuda_clearCublasWorkspaces()
    return [graph.replay for graph in graphs]

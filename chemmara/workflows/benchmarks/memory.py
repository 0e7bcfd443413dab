"""The peak memory of a process or of a GPU, in MB."""

from __future__ import annotations

import math
import sys
from typing import Any


def peak_mb(usage: Any) -> float:
    """Of a ``resource.struct_rusage``, whose unit depends on the system."""
    return float(usage.ru_maxrss) / (1e6 if sys.platform == "darwin" else 1e3)


def own_peak_mb() -> float:
    """Of this process; NaN on Windows."""
    try:
        import resource
    except ImportError:
        return math.nan
    return peak_mb(resource.getrusage(resource.RUSAGE_SELF))


def forget_peak(device: str) -> None:
    """Have :func:`most_mb` of a GPU count from here on; of a process there is one peak alone."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats()


def most_mb(device: str) -> float:
    """Most memory held, MB: of the GPU since its peak was forgotten, or of this process since it began."""
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.max_memory_allocated()) / 1e6
    return own_peak_mb()

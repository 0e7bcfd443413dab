"""The peak memory of a process, in MB, as the system counts it."""

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

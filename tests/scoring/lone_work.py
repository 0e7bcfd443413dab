"""As crashing_work, but a second process that would import it ends: stands in for a system that has no room for it."""

from __future__ import annotations

import os

from crashing_work import evaluate, prepare

__all__ = ["evaluate", "prepare"]

try:
    os.close(os.open(os.environ["LONE"], os.O_CREAT | os.O_EXCL))
except FileExistsError:
    os._exit(11)

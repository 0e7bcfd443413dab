"""A scoring function that behaves like a real oracle: slow at random, failing on some, each call on record."""

from __future__ import annotations

import os
import random
import time
import zlib
from collections.abc import Sequence


def score(smiles: Sequence[str], log: str, seconds: float = 0.01) -> list[float | None]:
    values: list[float | None] = []
    for text in smiles:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{text}\n".encode())
        os.close(descriptor)
        time.sleep(random.random() * seconds)
        code = zlib.crc32(text.encode())
        values.append(None if code % 11 == 0 else (code % 1000) / 1000)
    return values

"""Which of a million texts have come before, in eight bytes each."""

from __future__ import annotations

import numpy as np

from chemmara.language.corpus import hash_smiles

FIRST = 2**12
FULL = 0.6


class Seen:
    """A set of texts that keeps 64-bit hashes alone, in one table of at most 8 / 0.3 bytes a text.

    Two different texts are taken for one with a probability of n^2 / 2^65: 3e-8 for a million.
    """

    def __init__(self) -> None:
        self._slots = np.zeros(FIRST, np.uint64)
        self.count = 0

    def add(self, text: str) -> bool:
        """Whether ``text`` is new; it no longer is afterwards."""
        code = hash_smiles(text) or 1  # 0 marks an empty place
        if self.count >= FULL * len(self._slots):
            self._grow()
        place = self._place(code)
        if self._slots[place]:
            return False
        self._slots[place] = code
        self.count += 1
        return True

    def _place(self, code: int) -> int:
        """Where ``code`` stands, or the empty place where it would."""
        slots = self._slots
        mask = len(slots) - 1
        place = code & mask
        while (found := int(slots[place])) and found != code:
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        old = self._slots[self._slots != 0]
        self._slots = np.zeros(2 * len(self._slots), np.uint64)
        for code in old.tolist():
            self._slots[self._place(code)] = code

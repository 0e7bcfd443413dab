"""What scoring says of a batch of molecules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chemmara.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
else:
    np = lazy("numpy")


@dataclass(frozen=True)
class Scores:
    """What scoring says of a batch of B molecules; every field has length B, in the order of the batch.

    ``total`` is in [0, 1], or NaN for text that is no molecule and where a component failed; ``errors`` then has the
    reason. ``raw`` (in the component's unit) and ``transformed`` (in [0, 1]) are by label. ``valid`` tells the two
    kinds of NaN apart. ``evaluations`` counts the values (one component on one molecule) computed in this call rather
    than found in the store; retries do not count again.
    """

    total: Array
    raw: dict[str, Array]
    transformed: dict[str, Array]
    valid: NDArray[np.bool_]
    errors: list[str | None]
    evaluations: int = 0

    @property
    def failed(self) -> NDArray[np.bool_]:
        """(B,) valid molecules whose score is not known."""
        return np.asarray(self.valid & np.isnan(self.total))

    def __len__(self) -> int:
        return len(self.total)

"""The decoder-only transformer: its shape and its registration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from chemmara.config import Parameters
from chemmara.policies.policy import POLICIES

if TYPE_CHECKING:
    from chemmara.language.vocabulary import Vocabulary


class TransformerParameters(Parameters):
    """Shape of a transformer policy."""

    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"width": 256, "layers": 4, "heads": 4},
        "base": {"width": 256, "layers": 8, "heads": 4},
    }
    width: int = Field(256, ge=2, le=8192, description="numbers that stand for a token, in every layer")
    layers: int = Field(8, ge=1, le=128, description="number of layers")
    heads: int = Field(4, ge=1, le=128, description="attention heads; the width of each is even")
    feed_forward: int = Field(4, ge=1, le=16, description="width of the feed-forward part, in widths")
    tied: bool = Field(True, description="output weights are the embedding's")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of units dropped after each part, in training only")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} is no even multiple of {self.heads} heads (rotary positions need pairs)"
            )
        return self


@POLICIES.register("transformer", TransformerParameters)
def transformer(vocabulary: Vocabulary, parameters: TransformerParameters) -> Any:
    """Decoder-only transformer (rotary positions, RMS norm, tied weights; Su et al. 2021): 8 x 256 by default."""
    from chemmara.policies.transformer import TransformerPolicy

    return TransformerPolicy(vocabulary, parameters)

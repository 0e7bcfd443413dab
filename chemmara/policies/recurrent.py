"""The LSTM language model of the classic shape: embedding 256, three layers of 512."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from chemmara.config import Parameters
from chemmara.policies.policy import POLICIES

if TYPE_CHECKING:
    from chemmara.language.vocabulary import Vocabulary


class LstmParameters(Parameters):
    """Shape of an LSTM policy."""

    embedding_size: int = Field(256, ge=1, le=8192, description="numbers that stand for a token")
    hidden_size: int = Field(512, ge=1, le=16384, description="units of each layer")
    layers: int = Field(3, ge=1, le=64, description="number of layers")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of units dropped between layers, in training only")


@POLICIES.register("lstm", LstmParameters)
def lstm(vocabulary: Vocabulary, parameters: LstmParameters) -> Any:
    """LSTM over tokens (Segler et al. 2018; Olivecrona et al. 2017): embedding 256, 3 x 512 by default."""
    from chemmara.policies.lstm import LstmPolicy

    return LstmPolicy(vocabulary, parameters)

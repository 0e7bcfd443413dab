"""The recurrent language models of the classic shape: embedding 256, three layers of 512."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from chemmara.config import Parameters
from chemmara.policies.policy import POLICIES

if TYPE_CHECKING:
    from chemmara.language.vocabulary import Vocabulary


class RecurrentParameters(Parameters):
    """Shape of a recurrent policy."""

    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"embedding_size": 128, "hidden_size": 256, "layers": 3},
        "base": {"embedding_size": 256, "hidden_size": 512, "layers": 3},
    }
    embedding_size: int = Field(256, ge=1, le=8192, description="numbers that stand for a token")
    hidden_size: int = Field(512, ge=1, le=16384, description="units of each layer")
    layers: int = Field(3, ge=1, le=64, description="number of layers")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of units dropped between layers, in training only")


class LstmParameters(RecurrentParameters):
    """Shape of an LSTM policy."""


class GruParameters(RecurrentParameters):
    """Shape of a GRU policy."""


@POLICIES.register("lstm", LstmParameters)
def lstm(vocabulary: Vocabulary, parameters: LstmParameters) -> Any:
    """LSTM over tokens (Segler et al. 2018; Olivecrona et al. 2017): embedding 256, 3 x 512 by default."""
    from chemmara.policies.lstm import LstmPolicy

    return LstmPolicy(vocabulary, parameters)


@POLICIES.register("gru", GruParameters)
def gru(vocabulary: Vocabulary, parameters: GruParameters) -> Any:
    """GRU over tokens (Cho et al. 2014): embedding 256, 3 x 512 by default; a quarter fewer weights than the LSTM."""
    from chemmara.policies.gru import GruPolicy

    return GruPolicy(vocabulary, parameters)

"""What every language model of molecules can do, whatever its architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from chemmara.errors import ConfigError, nearest
from chemmara.language.vocabulary import END
from chemmara.policies.decoding import PLAIN, Decoding
from chemmara.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from chemmara.language.vocabulary import Vocabulary

POLICIES: Registry[Any] = Registry("policy", ("chemmara.policies.recurrent", "chemmara.policies.attention"))


def expand_size(table: Mapping[str, Any], where: str = "policy") -> dict[str, Any]:
    """A policy's table with its ``size`` (small, base) replaced by the parameters that it stands for.

    Parameters that the table names itself win. Raises :class:`ConfigError` for a size that the policy has not.
    """
    table = dict(table)
    size = table.pop("size", None)
    name = table.get("name")
    if size is None or not isinstance(name, str):
        return table
    sizes: dict[str, dict[str, Any]] = getattr(POLICIES[name].parameters, "sizes", {})
    if size not in sizes:
        raise ConfigError(f"{where}.size: policy '{name}' has no size '{size}'{nearest(str(size), sizes)}")
    return {"name": name, **sizes[size], **table}


@dataclass(frozen=True)
class Sequences:
    """Sampled sequences.

    ids: (B, T) int64, each row up to and with its end token, then padding; a row that reached ``max_tokens`` has no
    end token. log_prob: (B,) float32, nats, total over the sequence, end token included.
    """

    ids: Tensor
    log_prob: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def ended(self) -> Tensor:
        """(B,) bool: which rows have their end token. The others are beginnings, whatever their text may stand for, and
        their log-probability is that of not having ended yet."""
        return (self.ids == END).any(dim=1)


class Policy(Protocol):
    """A distribution over token sequences. Its weights and vocabulary are stored together (policies.storage)."""

    architecture: str
    vocabulary: Vocabulary

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator,
        decoding: Decoding = PLAIN,
    ) -> Sequences:
        """``n`` independent sequences; their ``log_prob`` is that of the distribution sampled from, ``decoding``'s."""
        ...

    def log_prob(self, ids: Tensor) -> Tensor:
        """Total log-probability (B,) in nats, float32, of padded ids (B, T), end token included; has a gradient."""
        ...

    def token_log_probs(self, ids: Tensor) -> Tensor:
        """(B, T): that of each token given those before it, 0 at padding; their sums are :meth:`log_prob`."""
        ...

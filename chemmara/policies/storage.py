"""Weights on disk: safetensors files that carry architecture, vocabulary and history in their header.

A file from elsewhere never runs code: safetensors holds numbers and one table of text, nothing else.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chemmara.config import check
from chemmara.errors import ConfigError, UserError
from chemmara.language.vocabulary import Vocabulary
from chemmara.policies.catalog import FORMAT, Prior, find_prior
from chemmara.policies.policy import POLICIES

if TYPE_CHECKING:
    import torch


def save_policy(
    policy: Any, path: str | Path, *, half: bool = False, history: dict[str, Any] | None = None
) -> Path:
    """Write a policy to ``path`` (.safetensors), through a temporary file so that no half-written file is left.

    ``half`` stores float16: half the size, and log-probabilities that differ by about 0.01 nats a molecule.
    ``history`` is anything JSON can hold (data, epochs, figures).
    """
    import torch
    from safetensors.torch import save_file

    path = Path(path)
    dtype = torch.float16 if half else torch.float32
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in policy.state_dict().items()}
    header = {
        "format": FORMAT,
        "architecture": policy.architecture,
        "parameters": policy.parameters_.model_dump(),
        "tokenizer": policy.vocabulary.tokenizer_name,
        "tokens": list(policy.vocabulary.tokens),
        "history": history or {},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    save_file(tensors, temporary, metadata={"chemmara": json.dumps(header)})
    with open(temporary, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    return path


def load_policy(where: str | Path | Prior, device: str | torch.device = "cpu") -> Any:
    """A policy from a bundled name, a directory or a file, in float32 and in evaluation mode.

    Raises :class:`UserError` if there is none, or the file is corrupt, foreign or does not fit its own header.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    prior = where if isinstance(where, Prior) else find_prior(where)
    header = prior.header()
    try:
        entry = POLICIES[header["architecture"]]
        vocabulary = Vocabulary(header["tokens"], header["tokenizer"])
        policy = entry.item(vocabulary, check(entry.parameters, header["parameters"], "parameters"))
    except (KeyError, TypeError, ConfigError) as error:
        raise UserError(f"weights file '{prior.path}' has a damaged header: {error}") from None
    try:
        tensors = load_file(prior.path)
        policy.load_state_dict({name: value.float() for name, value in tensors.items()})
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"weights file '{prior.path}' cannot be used: {reason}") from None
    return policy.to(device).eval()

"""Weights on disk: safetensors files that carry architecture, vocabulary and history in their header.

A file from elsewhere never runs code: safetensors holds numbers and one table of text, nothing else.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chemmara.config import check
from chemmara.errors import RunError, UserError
from chemmara.places import replacing
from chemmara.policies.catalog import FORMAT, Prior, find_prior
from chemmara.policies.policy import POLICIES

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def save_policy(policy: Any, path: str | Path, *, half: bool = False, history: dict[str, Any] | None = None) -> Path:
    """Write a policy to ``path`` (.safetensors), through a temporary file so that no half-written file is left.

    ``half`` stores float16: half the size, and log-probabilities that differ by about 0.01 nats a molecule.
    ``history`` is anything JSON can hold (data, epochs, figures). Raises :class:`RunError` if the disk does not take
    it; what lay at ``path`` before is kept.
    """
    import torch
    from safetensors import SafetensorError
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata={"chemmara": json.dumps(header)})
            os.chmod(temporary, 0o666 & ~_umask())  # safetensors writes for the owner alone; a group shares priors
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().split("\n")[0]
        raise RunError(f"weights file '{path}' could not be written: {reason}") from None
    return path


def load_policy(where: str | Path | Prior, device: str | torch.device = "cpu") -> Any:
    """A policy from a bundled name, a directory or a file, in float32 and in evaluation mode.

    Raises :class:`UserError` if there is none, or the file is corrupt, foreign or does not fit its own header.
    """
    import torch

    prior = where if isinstance(where, Prior) else find_prior(where)
    header, tensors = prior.header(), _read_tensors(prior)
    try:
        entry = POLICIES[header["architecture"]]
        parameters = check(entry.parameters, header["parameters"], "parameters")
        # Without memory or random numbers: sizes that the header only claims cost nothing, and no seed moves.
        with torch.device("meta"):
            policy = entry.item(prior.vocabulary(), parameters)
    except (KeyError, TypeError, RuntimeError, UserError) as error:
        if isinstance(error, UserError) and str(prior.path) in str(error):
            raise
        raise UserError(f"weights file '{prior.path}' has a damaged header: {error}") from None
    _compare(prior, policy.state_dict(), tensors)
    policy.load_state_dict(tensors, assign=True)
    return policy.to(device).eval()


def _read_tensors(prior: Prior) -> dict[str, Tensor]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        # A copy: the loaded tensors may lie in a map of the file, which the next save replaces.
        return {name: value.to(torch.float32, copy=True) for name, value in load_file(prior.path).items()}
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"weights file '{prior.path}' cannot be used: {reason}") from None


def _compare(prior: Prior, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Raise :class:`UserError` unless the tensors are those that the header promises, and finite."""
    faults = [f"it has no '{name}'" for name in expected if name not in found]
    faults += [f"'{name}' is none of its weights" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        want, have = tuple(expected[name].shape), tuple(found[name].shape)
        if want != have:
            faults.append(f"'{name}' has shape {have} where its header says {want}")
        elif not found[name].isfinite().all():
            faults.append(f"'{name}' holds numbers that are not finite")
    if faults:
        raise UserError(f"weights file '{prior.path}' cannot be used: {min(faults)}")


def _umask() -> int:
    """What new files of this process are not allowed; to read it is to set it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask

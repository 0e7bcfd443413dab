"""The plain baseline of the speed benchmark: the same networks used in the obvious way, as most published code does.

float32; a Python loop of single steps over the full batch until its last sequence has ended; one string decoded at a
time; padded batches in the order of the data. The weights are the policy's own, so both sides compute the same model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from chemmara.chemistry.molecules import Molecule, read
from chemmara.language.vocabulary import END, PAD, START
from chemmara.policies.precision import autocast


@torch.no_grad()
def sample(policy: Any, n: int, generator: torch.Generator, max_tokens: int) -> tuple[list[str], Tensor]:
    """``n`` SMILES and their padded ids (n, T)."""
    ids = torch.full((n, 1), START, dtype=torch.int64, device=policy.device)
    state = None
    ended = torch.zeros(n, dtype=torch.bool, device=policy.device)
    for _ in range(max_tokens):
        if hasattr(policy, "recurrent"):
            hidden, state = policy.recurrent(policy.embedding(ids[:, -1:]), state)
            logits = policy.output(hidden[:, -1])
        else:  # attention without a cache reads the whole prefix again
            logits = policy.logits(ids)[:, -1]
        logits[:, : START + 1] = -torch.inf
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        ids = torch.cat([ids, drawn.masked_fill(ended[:, None], PAD)], 1)
        ended |= drawn[:, 0] == END
        if bool(ended.all()):
            break
    ids = ids[:, 1:]
    return [policy.vocabulary.decode(row[None].cpu().numpy())[0] for row in ids], ids


def log_prob(policy: Any, ids: Tensor) -> Tensor:
    """Total log-probability (B,) of padded ids, every padded place computed."""
    inputs = F.pad(ids[:, :-1], (1, 0), value=START)
    with autocast("float32", policy.device):  # on a GPU torch would take TF32 for float32
        log_probs = policy.logits(inputs)[..., START + 1 :].log_softmax(-1)
    chosen = log_probs.gather(2, (ids - START - 1).clamp(min=0)[..., None])[..., 0]
    total: Tensor = (chosen * (ids != PAD)).sum(1)
    return total


def train_step(policy: Any, ids: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One step of maximum likelihood."""
    optimizer.zero_grad()
    torch.autograd.backward(-log_prob(policy, ids).mean())
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()


def reinforce_step(
    policy: Any,
    prior: Any,
    score: Callable[[Molecule], float],
    n: int,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    limit: int,
) -> dict[str, float]:
    """One step of REINVENT's loss: sample, score, both models' log-probabilities, update. Returns its seconds."""
    clock = [_now(policy.device)]
    texts, ids = sample(policy, n, generator, limit)
    clock.append(_now(policy.device))
    molecules = [read(text).molecule for text in texts]
    rewards = torch.tensor([score(each) if each else 0.0 for each in molecules], device=policy.device)
    clock.append(_now(policy.device))
    agent = log_prob(policy, ids)
    with torch.no_grad():
        reference = log_prob(prior, ids)
    optimizer.zero_grad()
    torch.autograd.backward((reference + 128.0 * rewards - agent).square().mean())
    optimizer.step()
    clock.append(_now(policy.device))
    return dict(zip(("sampling", "scoring", "update"), (after - before for before, after in pairwise(clock))))


def _now(device: torch.device) -> float:
    """The time at which all that was asked of a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()

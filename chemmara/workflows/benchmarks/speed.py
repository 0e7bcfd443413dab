"""How fast this machine samples, trains and optimises, against :mod:`plain`'s baseline of the same network.

All sides run in one process, in turn, and a row is the median of its repeats, so that what else the machine does weighs
on all of them alike; compare ratios, not figures of different runs.
"""

from __future__ import annotations

import copy
import csv
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chemmara.errors import UserError, nearest
from chemmara.places import make_directory
from chemmara.policies.decoding import MAX_TOKENS
from chemmara.workflows.benchmarks import speed_steps
from chemmara.workflows.benchmarks.memory import forget_peak, most_mb

SAMPLING_BATCHES = (64, 128, 512)
TRAINING_BATCHES = (64, 128, 256)
STEP = "optimisation step"
MOLECULES = 512
HEAD = ("policy", "device", "threads", "what", "batch", "precision", "molecules_per_second", "tokens_per_second",
        "times_plain", "seconds", "memory_mb")  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """What is asked for. ``policies``: architectures with random weights; a name of a prior or a path is itself."""

    policies: tuple[str, ...] = ("chembl",)
    device: str = "cpu"
    repeats: int = 5
    sampling: tuple[int, ...] = SAMPLING_BATCHES
    training: tuple[int, ...] = TRAINING_BATCHES


Row = dict[str, Any]
Side = Callable[[], int]
"""One timed piece of work; returns the tokens that it handled."""


def measure(request: Speed, out: Path, say: Callable[[str], None] = print) -> tuple[Path, Path]:
    """``speed.csv`` and ``speed.md`` in ``out``, written anew after each row, which is a line to ``say``.

    Raises :class:`UserError` for an unknown policy, or none.
    """
    if not request.policies:
        raise UserError("no policy is named")
    rows: list[Row] = []
    for name in request.policies:
        for row in _policy_rows(name, request):
            rows.append(row)
            files = _write(rows, out)
            say(_line(row))
    return files


def _write(rows: Sequence[Row], out: Path) -> tuple[Path, Path]:
    make_directory(out)
    table, text = out / "speed.csv", out / "speed.md"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HEAD)
        writer.writeheader()
        writer.writerows(rows)
    body = [" | ".join(_cell(row[key]) for key in HEAD) for row in rows]
    lines = [" | ".join(HEAD), " | ".join("---" for _ in HEAD), *body]
    text.write_text("".join(f"| {line} |\n" for line in lines), encoding="utf-8")
    return table, text


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.3g}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"


def _line(row: Row) -> str:
    return (f"{row['policy']} {row['what']} {row['batch']} {row['precision']}: "
            f"{row['molecules_per_second']:,.0f} molecules/s, {row['times_plain']:.2f} x plain")  # fmt: skip


def _load(name: str, device: Any) -> Any:
    """A prior, or an architecture of the prior ``chembl``'s tokens with fresh weights."""
    import torch

    from chemmara.config import check
    from chemmara.policies.catalog import find_prior
    from chemmara.policies.policy import POLICIES
    from chemmara.policies.storage import load_policy

    if name not in POLICIES:
        try:
            return load_policy(find_prior(name), device)
        except UserError as error:
            raise UserError(f"{error}; an architecture can stand there too{nearest(name, POLICIES.names())}") from None
    vocabulary = find_prior("chembl").vocabulary()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        entry = POLICIES[name]
        return entry.item(vocabulary, check(entry.parameters, {})).to(device)


def _policy_rows(name: str, request: Speed) -> Iterator[Row]:
    import torch

    from chemmara.policies.device import pick_device
    from chemmara.policies.policy import POLICIES

    device = pick_device(request.device)
    policy = _load(name, device)
    # A prior is trained on what it writes itself, for its tokens are its own; fresh weights on what chembl writes.
    number = max([MOLECULES, *(2 * batch for batch in request.training)])
    molecules = _molecules("chembl" if name in POLICIES else name, device, number)
    same = {"policy": name, "device": str(device), "threads": torch.get_num_threads()}
    for batch in request.sampling:
        yield from _compare({**same, "what": "sampling", "batch": batch}, _sampling(policy, batch), request, batch)
    for batch in request.training:
        sides = _training(policy, molecules, batch)
        yield from _compare({**same, "what": "training", "batch": batch}, sides, request, batch)
    yield from _step_rows(same, policy, request.repeats)


def _molecules(prior: str, device: Any, number: int) -> Any:
    """Sequences of real lengths, in random order: what a prior writes."""
    import torch

    from chemmara.policies.catalog import find_prior
    from chemmara.policies.storage import load_policy

    generator = torch.Generator(device=device).manual_seed(0)
    return load_policy(find_prior(prior), device).sample(number, generator=generator).ids


def _sampling(policy: Any, batch: int) -> dict[str, Side]:
    import torch

    from chemmara.workflows.benchmarks import plain

    generator = torch.Generator(device=policy.device).manual_seed(0)

    def ours(precision: str) -> Side:
        def run() -> int:
            policy.precision = precision
            ids = policy.sample(batch, generator=generator).ids
            policy.vocabulary.decode(ids.cpu().numpy())
            return int((ids != 0).sum())

        return run

    def baseline() -> int:
        return int((plain.sample(policy, batch, generator, MAX_TOKENS)[1] != 0).sum())

    return {"plain": baseline, "float32": ours("float32"), "bfloat16": ours("bfloat16")}


def _training(policy: Any, molecules: Any, batch: int) -> dict[str, Side]:
    """Two batches of the same molecules: as they come, and sorted by length, as TokenBatches forms them."""
    import torch

    from chemmara.workflows.benchmarks import plain

    lengths = (molecules != 0).sum(1)
    some = torch.arange(0, len(molecules), max(len(molecules) // (2 * batch), 1))[: 2 * batch].to(molecules.device)
    order = some[lengths[some].argsort()]
    mixed = [molecules[part][:, : int(lengths[part].max())] for part in (some[0::2], some[1::2])]
    alike = [molecules[part][:, : int(lengths[part].max())] for part in order.chunk(2)]
    tokens = int(lengths[some].sum())

    def ours(precision: str) -> Side:
        learner = copy.deepcopy(policy)
        optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-4, fused=policy.device.type == "cuda")

        def run() -> int:
            learner.precision = precision
            for ids in alike:
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(-learner.log_prob(ids).mean())
                torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
                optimizer.step()
            return tokens

        return run

    other = copy.deepcopy(policy)
    other.precision = "float32"
    optimizer = torch.optim.AdamW(other.parameters(), lr=1e-4)

    def baseline() -> int:
        for ids in mixed:
            plain.train_step(other, ids, optimizer)
        return tokens

    return {"plain": baseline, "float32": ours("float32"), "bfloat16": ours("bfloat16")}


def _step_rows(same: Row, policy: Any, repeats: int) -> Iterator[Row]:
    """A step of a run and its phases."""
    timings = speed_steps.measure(policy, repeats)
    plain = timings[speed_steps.PLAIN].seconds
    for phase in ("", *speed_steps.PHASES):
        for name, timing in timings.items():
            took = timing.seconds[phase]
            yield {
                **same, "what": f"{STEP}: {phase}" if phase else STEP, "batch": speed_steps.BATCH, "precision": name,
                "seconds": took, "molecules_per_second": speed_steps.BATCH / took,
                "tokens_per_second": "", "times_plain": plain[phase] / took, "memory_mb": timing.memory_mb,
            }  # fmt: skip


def _compare(same: Row, sides: dict[str, Side], request: Speed, batch: int) -> Iterator[Row]:
    """A row a side: medians over repeats that take turns, after some that are not counted, in which
    graphs are made of shapes that come back (those of an optimisation step vary)."""
    from chemmara.policies.graphs import SIGHTINGS

    first = SIGHTINGS if same["device"].startswith("cuda") else 1
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    tokens: dict[str, list[int]] = {name: [] for name in sides}
    memory = dict.fromkeys(sides, 0.0)
    handled = 2 * batch if same["what"] == "training" else batch
    for turn in range(first + request.repeats):
        for name, side in sides.items():
            _wait(same["device"])
            forget_peak(same["device"])
            start = time.perf_counter()
            number = side()
            _wait(same["device"])
            memory[name] = max(memory[name], most_mb(same["device"]))
            if turn >= first:
                seconds[name].append(time.perf_counter() - start)
                tokens[name].append(number)
    baseline = statistics.median(seconds["plain"])
    for name in sides:
        took = statistics.median(seconds[name])
        yield {
            **same, "precision": speed_steps.PLAIN if name == "plain" else name, "seconds": took,
            "molecules_per_second": handled / took, "tokens_per_second": statistics.median(tokens[name]) / took,
            "times_plain": baseline / took, "memory_mb": memory[name],
        }  # fmt: skip


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()

"""How fast scoring is, and that nothing gets through it: the figures of docs/cluster.md.

``python -m chemmara.workflows.throughput score``: molecules a second of a typical score, by executor.
``... efficiency``: two processes against one, for a component of 5 ms, by executor and chunk.
``... overhead``: microseconds a molecule beside the components.
``... fuzz``: bytes and mutated SMILES, of which every row is answered.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from chemmara.chemistry.molecules import Molecule, read
from chemmara.scoring.evaluation import EvaluationStore, Executor, MemoryStore
from chemmara.scoring.executors import EXECUTORS
from chemmara.scoring.function import ScoringFunction
from chemmara.scoring.ledger import Ledger
from chemmara.scoring.settings import ScoringSettings

REFERENCES = ["CC(C)Cc1ccc(cc1)C(C)C(=O)O", "CN1C(=O)CN=C(c2ccccc2)c2cc(Cl)ccc21", "CC(C)NCC(O)COc1cccc2ccccc12"]
TYPICAL: dict[str, Any] = {
    "component": [
        {"name": "qed"},
        {"name": "sa_score", "transform": {"name": "reverse_sigmoid", "low": 2.0, "high": 5.0}},
        {"name": "property_windows", "windows": {"logp": {"low": 1.0, "high": 4.0}, "tpsa": {"high": 90.0}}},
        {"name": "alerts", "catalogues": ["PAINS", "BRENK"], "filter": True},
        {"name": "tanimoto", "references": REFERENCES},
    ]
}
"""QED, synthetic accessibility, windows, alerts, similarity."""

_RAMP = {"name": "clip", "low": 0.0, "high": 100.0}
CHEAP: dict[str, Any] = {
    "component": [
        {"name": name, "transform": _RAMP}
        for name in ("heavy_atoms", "formal_charge", "spiro_atoms", "bridgehead_atoms", "unassigned_stereocentres")
    ]
}
"""Five components of which RDKit answers each in about a microsecond, so that what is left is the machinery."""

BATCH = 64
SLOW = """
import time
def wait(smiles, ms):
    time.sleep(len(smiles) * ms / 1000)
    return [0.5] * len(smiles)
def compute(smiles, ms):
    for _ in smiles:
        end = time.process_time() + ms / 1000
        while time.process_time() < end:
            pass
    return [0.5] * len(smiles)
"""


def molecules(n: int, seed: int = 0) -> list[Molecule]:
    """Distinct molecules that the prior ``chembl`` writes."""
    from rdkit import Chem

    from chemmara.workflows.reference import Samples

    found: dict[str, Molecule] = {}
    for mol in Samples("chembl", n, seed).molecules():
        molecule = read(Chem.MolToSmiles(mol)).molecule
        if molecule is not None:
            found[molecule.smiles] = molecule
    return list(found.values())


def fresh(found: Sequence[Molecule]) -> list[Molecule]:
    """The same molecules parsed anew: RDKit remembers descriptors in a molecule that was asked before."""
    return [molecule for text in found if (molecule := read(text.smiles).molecule)]


def executor(name: str, workers: int) -> Executor:
    """An executor by name."""
    entry, parameters = EXECUTORS.build_parameters({"name": name, "workers": workers}, "execution")
    return entry.item(parameters)


def load() -> float:
    """Load average of the last minute per core: above 1 the figures of this machine say little."""
    return round(os.getloadavg()[0] / (os.cpu_count() or 1), 2) if hasattr(os, "getloadavg") else math.nan


def cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def timed(function: ScoringFunction, batch: Sequence[Molecule], size: int) -> float:
    """Seconds of wall clock in which a batch is scored, in pieces of ``size``."""
    start = time.perf_counter()
    for at in range(0, len(batch), size):
        function(batch[at : at + size])
    return time.perf_counter() - start


def score(n: int, workers: int, chunk: int) -> Iterator[dict[str, Any]]:
    """Molecules a second of a typical score, parsing included, by executor.

    ``cpu_ms``: processor time a molecule of all processes together, which other work on the machine hardly changes; the
    start of worker processes, about a second each, is in it.
    """
    found = molecules(n)
    for name, processes in (("none", 0), ("processes", 1), ("processes", workers), ("dask", workers)):
        before = cpu_seconds()
        with ExitStack() as stack:
            used = executor(name, processes) if processes else None
            if used is not None:
                stack.callback(used.close)
            function = ScoringFunction(TYPICAL, used, chunk=chunk)
            function(fresh(found[:BATCH]))  # processes start, catalogues load
            batch = [molecule.smiles for molecule in found[BATCH:]]
            start = time.perf_counter()
            for at in range(0, len(batch), 4 * BATCH):
                function(batch[at : at + 4 * BATCH])
            seconds = time.perf_counter() - start
        yield {
            "executor": name,
            "processes": processes,
            "molecules": len(batch),
            "per_second": round(len(batch) / seconds, 1),
            "cpu_ms": round((cpu_seconds() - before) / len(found) * 1e3, 1),
            "load_per_core": load(),
        }


def efficiency(ms: float, workers: int, repeats: int, kind: str) -> Iterator[dict[str, Any]]:
    """Time of one process over ``workers`` times that of ``workers`` processes, for a component of ``ms`` milliseconds.

    ``kind``: "wait" sleeps, so that only the machinery counts, whatever else the machine does; "compute" burns it.
    """
    batch = [molecule for n in range(1, 201) if (molecule := read("C" * n).molecule)]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "slow.py").write_text(SLOW)
        component = {"name": "python", "function": f"slow:{kind}", "path": folder, "kwargs": {"ms": ms}}
        for name in ("processes", "dask"):
            for chunk in (1, 4, 16):
                ratios = []
                for _ in range(repeats):
                    seconds = []
                    for processes in (1, workers):
                        used = executor(name, processes)
                        function = ScoringFunction({"component": [component]}, used, chunk=chunk)
                        warm = [m for k in range(processes * chunk) if (m := read("N" + "C" * k).molecule)]
                        function(warm)
                        seconds.append(timed(function, batch, len(batch)))
                        used.close()
                    ratios.append(seconds[0] / seconds[1] / workers)
                yield {
                    "executor": name,
                    "kind": kind,
                    "ms": ms,
                    "chunk": chunk,
                    "best": round(max(ratios), 3),
                    "median": round(statistics.median(ratios), 3),
                    "load_per_core": load(),
                }


def overhead(repeats: int) -> Iterator[dict[str, Any]]:
    """Microseconds a molecule that scoring takes beside its components, on parsed molecules in batches of 64. What the
    components of CHEAP take, a microsecond each, is left in."""
    batch = [molecule for n in range(1, 33) for m in range(64) if (molecule := read("C" * n + "N" + "C" * m).molecule)]
    batch = list({molecule.smiles: molecule for molecule in batch}.values())
    settings = ScoringSettings.parse(CHEAP)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("memory", "ledger"):
            figures = []
            for repeat in range(repeats):
                with ExitStack() as stack:
                    store: EvaluationStore = MemoryStore()
                    if name == "ledger":
                        store = stack.enter_context(Ledger(Path(folder, f"{repeat}.sqlite")))
                    function = ScoringFunction(settings, store=store)
                    figures.append(timed(function, batch, BATCH) / len(batch) * 1e6)
            yield {
                "store": name,
                "components": len(settings.components),
                "molecules": len(batch),
                "best_us": round(min(figures), 1),
                "median_us": round(statistics.median(figures), 1),
                "load_per_core": load(),
            }


FUZZ_SEEDS = [
    "COc1ccc2nccc([C@@H](O)[C@H]3C[C@@H]4CCN3C[C@@H]4C=C)c2c1", "C/C=C\\C(=O)[O-].[Na+]", "[2H]C([2H])([2H])O",
    "CC1(C)S[C@@H]2[C@H](NC(=O)Cc3ccccc3)C(=O)N2[C@H]1C(=O)O", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "F[P-](F)(F)(F)(F)F",
    "c1ccc2c(c1)[nH]c1ccccc12", "O=[N+]([O-])c1ccc(S(=O)(=O)N2CCOCC2)cc1", "C1CC2(C1)CCC%12CCCC%12C2", "*c1ccccc1",
]  # fmt: skip
ALPHABET = "CNOSPFIBrcl()[]=#+-@/\\123456789%.Hnos*:$ "


def strange(n: int, seed: int, seeds: Sequence[str]) -> Iterator[str]:
    """Random bytes, random SMILES characters, and SMILES with a few characters changed, lost, repeated or swapped."""
    rng = random.Random(seed)
    for _ in range(n):
        kind = rng.random()
        if kind < 0.2:
            yield bytes(rng.randrange(256) for _ in range(rng.randrange(60))).decode("utf-8", "surrogateescape")
        elif kind < 0.3:
            yield "".join(rng.choice(ALPHABET) for _ in range(rng.randrange(80)))
        else:
            yield _mutated(rng, rng.choice(seeds))


def _mutated(rng: random.Random, smiles: str) -> str:
    text = list(smiles)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at, kind = rng.randrange(len(text) + 1), rng.randrange(5)
        if kind == 0:
            text.insert(at, rng.choice(ALPHABET))
        elif kind == 1:
            del text[at : at + 1]
        elif kind == 2:
            text[at : at + 1] = [rng.choice(ALPHABET)]
        elif kind == 3:
            text[at:at] = text[at : at + rng.randrange(12)]
        else:
            other = rng.randrange(len(text) + 1)
            text[min(at, other) : max(at, other)] = reversed(text[min(at, other) : max(at, other)])
    return "".join(text)


def fuzz(n: int, seed: int, seeds: Sequence[str], size: int = 500) -> dict[str, Any]:
    """Send strange text through the typical score; raises AssertionError for a row that is not answered as it should.

    Each row has a total in [0, 1] or NaN with a reason, valid or not; scoring again gives the same.
    """
    function = ScoringFunction(TYPICAL)
    text = list(strange(n, seed, seeds))
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for at in range(0, len(text), size):
        batch = text[at : at + size]
        start = time.perf_counter()
        scores = function(batch)
        slowest = max(slowest, time.perf_counter() - start)
        assert len(scores) == len(scores.errors) == len(batch)
        for row, total in enumerate(scores.total):
            answered = 0 <= total <= 1 if not math.isnan(total) else bool(scores.errors[row])
            assert answered, (batch[row], total, scores.errors[row])
            assert scores.valid[row] or math.isnan(total), batch[row]
            outcomes["scored" if not math.isnan(total) else "failed" if scores.valid[row] else "invalid"] += 1
    return {"rows": n, "seed": seed, **outcomes, "slowest_batch_s": round(slowest, 2), "batch": size}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, one line of JSON a figure."""
    parser = argparse.ArgumentParser(description="Figures of scoring: docs/cluster.md.")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("score", help="molecules a second of a typical score, by executor")
    one.add_argument("-n", type=int, default=2000, help="samples of the prior chembl")
    one.add_argument("--workers", type=int, default=2)
    one.add_argument("--chunk", type=int, default=16)
    two = commands.add_parser("efficiency", help="processes against one, for a component of some milliseconds")
    two.add_argument("--ms", type=float, default=5.0)
    two.add_argument("--workers", type=int, default=2)
    two.add_argument("--repeats", type=int, default=3)
    two.add_argument("--kind", choices=["wait", "compute"], default="wait")
    three = commands.add_parser("overhead", help="microseconds a molecule beside the components")
    three.add_argument("--repeats", type=int, default=5)
    four = commands.add_parser("fuzz", help="strange text through the score")
    four.add_argument("-n", type=int, default=100_000)
    four.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    actions: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "score": lambda: score(options.n, options.workers, options.chunk),
        "efficiency": lambda: efficiency(options.ms, options.workers, options.repeats, options.kind),
        "overhead": lambda: overhead(options.repeats),
        "fuzz": lambda: iter([fuzz(options.n, options.seed, REFERENCES + FUZZ_SEEDS)]),
    }
    for figure in actions[options.command]():
        print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()

"""The Python API: what a notebook imports from :mod:`chemmara`."""

from __future__ import annotations

import json
import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chemmara.config import plain
from chemmara.errors import ConfigError, UserError
from chemmara.optimization.watcher import Watcher
from chemmara.policies.decoding import Decoding
from chemmara.reporting.compare import Comparison, compare
from chemmara.reporting.export import Exported, export, frame
from chemmara.reporting.runs import Run, find_runs
from chemmara.workflows.optimize import DEFAULT_OUT
from chemmara.workflows.optimize import optimize as optimize_config

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Results:
    """A directory of runs."""

    path: Path

    @property
    def runs(self) -> list[Run]:
        """The runs in it: method, seed, rows()."""
        return find_runs(self.path)

    def molecules(self) -> pd.DataFrame:
        """Every sampled sequence of every run, with the columns of molecules.csv."""
        return frame(self.runs)

    def compare(self, thresholds: Sequence[float] | float = ()) -> Comparison:
        """Hits, distinct scaffolds, #Circles and the rest per method, with tests."""
        return compare([self.path], thresholds)

    def export(self, out: str | Path, **filters: Any) -> Exported:
        """Write molecules to .csv, .smi or .sdf; see :func:`chemmara.reporting.export.export`."""
        return export(self.runs, out, **filters)


def optimize(
    config: str | Path | Mapping[str, Any],
    out: str | Path = DEFAULT_OUT,
    *,
    methods: Sequence[str] | str = (),
    seeds: Sequence[int] | int | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    watcher: Watcher | None = None,
) -> Results:
    """Run every method of a config (a file or a table) with every seed and compare them.

    ``methods`` and ``seeds``: one or several. ``settings`` are dotted keys laid over the config and over every method,
    ``{"oracle_budget": 500}``. ``watcher`` follows the run: a :class:`chemmara.Watcher` whose methods you override;
    without one, what you should know comes as a Python warning. With the live table of the command line:

        from rich.console import Console
        from chemmara.cli.display import Display
        with Display(Console()) as table:
            cm.optimize("config.toml", watcher=table)

    Raises :class:`chemmara.errors.ConfigError` for a mistake in the config, before
    anything is written.
    """
    assignments = [_assignment(key, value) for key, value in (settings or {}).items()]
    methods = [methods] if isinstance(methods, str) else methods
    path = optimize_config(
        config, out, methods=methods, seeds=None if seeds is None else _whole(seeds), assignments=assignments,
        resume=resume, watcher=Notices() if watcher is None else watcher,
    )  # fmt: skip
    return Results(path)


class Notices(Watcher):
    """Shows what the user should know, and nothing else, as Python warnings."""

    def say(self, text: str) -> None:
        warnings.warn(text, stacklevel=2)


def _assignment(key: str, value: Any) -> str:
    if value is None:
        raise ConfigError(f"settings: {key} = None: a key that is to have no value is left out")
    return f"{key}={json.dumps(value, default=plain, ensure_ascii=False)}"


def _whole(seeds: Any) -> list[int]:
    """One seed or several, also NumPy's."""
    try:
        return [operator.index(seed) for seed in (seeds if isinstance(seeds, Iterable) else [seeds])]
    except TypeError:
        raise UserError(f"seeds: one whole number or several (got {seeds!r})") from None


class LoadedPrior:
    """A policy with the everyday calls in terms of SMILES; ``policy`` is the model itself."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    def sample_smiles(self, n: int, seed: int = 0, temperature: float = 1.0) -> list[str]:
        """``n`` raw sequences as SMILES, invalid ones included."""
        import torch

        generator = torch.Generator(device=self.policy.device).manual_seed(seed)
        sampled = self.policy.sample(n, generator=generator, decoding=Decoding(temperature=temperature))
        return list(self.policy.vocabulary.decode(sampled.ids.cpu().numpy()))

    def log_prob(self, smiles: Sequence[str]) -> NDArray[np.float32]:
        """Total log-probability of each string as written, nats, end token included.

        Raises :class:`chemmara.language.tokenizers.UnreadableText` for a string outside the vocabulary.
        """
        import torch

        smiles = [smiles] if isinstance(smiles, str) else list(smiles)
        if not smiles:
            return np.zeros(0, dtype=np.float32)
        ids = torch.from_numpy(self.policy.vocabulary.encode_batch(smiles))
        with torch.no_grad():
            return np.asarray(self.policy.log_prob(ids).cpu().numpy())


def load_prior(where: str | Path, device: str = "cpu") -> LoadedPrior:
    """A prior by bundled name, directory or weights file. Raises :class:`chemmara.errors.UserError`."""
    from chemmara.policies.storage import load_policy

    return LoadedPrior(load_policy(where, device))

"""chemmara: chemical language models tuned by KL-regularized reinforcement learning that does not collapse.

    import chemmara as cm
    run = cm.optimize("configs/quickstart.toml", "results")
    run.molecules().query("score >= 0.7")          # a pandas DataFrame
    print(run.compare().table)

    score = cm.ScoringFunction({"component": [{"name": "qed"}]})
    score(["CC(=O)Nc1ccc(O)cc1"]).total
    prior = cm.load_prior("chembl")
    prior.sample_smiles(10, seed=0)

Names are loaded on first use, so that importing chemmara is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from chemmara.klrl.augmentation import Mara
    from chemmara.optimization.watcher import Watcher
    from chemmara.reporting.compare import compare
    from chemmara.scoring.function import ScoringFunction
    from chemmara.workflows.api import LoadedPrior, Results, load_prior, optimize

_HOMES = {
    "LoadedPrior": "chemmara.workflows.api",
    "Mara": "chemmara.klrl.augmentation",
    "Results": "chemmara.workflows.api",
    "ScoringFunction": "chemmara.scoring.function",
    "Watcher": "chemmara.optimization.watcher",
    "compare": "chemmara.reporting.compare",
    "load_prior": "chemmara.workflows.api",
    "optimize": "chemmara.workflows.api",
}

__all__ = [
    "LoadedPrior",
    "Mara",
    "Results",
    "ScoringFunction",
    "Watcher",
    "__version__",
    "compare",
    "load_prior",
    "optimize",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'chemmara' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__

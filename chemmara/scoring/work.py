"""Running components: what the scoring function does in its own process and what a spawned worker does.

A worker imports this module and RDKit, nothing heavier.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from chemmara.chemistry.molecules import Molecule, Reading, read
from chemmara.config import check
from chemmara.errors import ConfigError, RunError
from chemmara.scoring.arguments import OWN_FILE
from chemmara.scoring.component import COMPONENTS, Component
from chemmara.scoring.evaluation import ComponentSpec, Evaluation

_KEPT = 64  # components kept built in one process, far more than any config has
_built: OrderedDict[tuple[str, str], Component] = OrderedDict()


def component(spec: ComponentSpec) -> Component:
    """The component of a spec, built on the first call in this process and kept. Raises ConfigError.

    A spec with a key is refused, with RunError, where this process would compute other values than the key stands for:
    a file has changed since the run began, or is another one on this machine.
    """
    place = _place(spec)
    if place in _built:
        _built.move_to_end(place)
        _built[place].asked = spec.asked
        return _built[place]
    if spec.name not in COMPONENTS:
        raise ConfigError(not_in_workers(spec.name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the config's reader has said them, with the place
        built = build(spec.name, spec.parameters, spec.name)
    if spec.key and spec_of(spec.name, built).key != spec.key:
        own = f"; {OWN_FILE}" if hasattr(built.parameters, "unwatched") else ""
        raise RunError(
            f"component '{spec.name}' is not here what it was where the run began: a file that it reads has changed, "
            f"or another version of chemmara is at work{own}"
        )
    built.asked = spec.asked
    keep(spec, built)
    return built


def not_in_workers(name: str) -> str:
    """What to say of a component that a user's own script has registered: a worker never imports that script."""
    return (
        f"component '{name}': worker processes know chemmara's own components, not what a script has registered; set "
        "execution.executor = 'serial', or give the function itself to a component with name = 'python'"
    )


def prepare(spec: ComponentSpec) -> None:
    """Have a component ready for its first molecule. Raises as :func:`component` does."""
    component(spec).prepare()


def build(name: str, parameters: dict[str, Any], where: str) -> Component:
    """A new component. Raises ConfigError that names the place ``where``."""
    entry = COMPONENTS[name]
    return entry.item(check(entry.parameters, parameters, where), where)


def keep(spec: ComponentSpec, built: Component) -> None:
    """Remember a component in this process, so that the same settings are not loaded twice."""
    _built[_place(spec)] = built
    while len(_built) > _KEPT:
        _built.popitem(last=False)


def _place(spec: ComponentSpec) -> tuple[str, str]:
    """Specs of one key may yet differ in what no value depends on, such as a time limit."""
    return spec.key, json.dumps(spec.parameters, sort_keys=True, default=str)


def spec_of(name: str, built: Component) -> ComponentSpec:
    """The spec of a built component; its key is a hash of the name, the version and all that the values depend on."""
    identity = built.identity()
    parameters = built.parameters.model_dump(mode="json", exclude_none=True)
    key = _hash([name, built.version, identity])
    if not built.endpoint:
        before = built.former_identity()
        former = _hash([name, built.version, before]) if before is not None else ""
        return ComponentSpec(name, parameters, key, former=former)
    # With all settings, also those that no value depends on: one call is made with the time limit or headers of one.
    group = _hash(
        [name, built.version, *({k: v for k, v in t.items() if k != "endpoint"} for t in (identity, parameters))]
    )
    return ComponentSpec(name, parameters, key, group, built.endpoint)


def _hash(identity: list[Any]) -> str:
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def evaluate(spec: ComponentSpec, smiles: Sequence[str]) -> list[Evaluation]:
    """One evaluation per canonical SMILES, in order; what a worker calls.

    Raises ConfigError only where the component itself cannot be built (a file that is gone, for example).
    """
    return evaluate_molecules(component(spec), [_read(text) for text in smiles])


@lru_cache(maxsize=1024)
def _read(text: str) -> Reading:
    """Parsed once for all components that a worker is asked about."""
    return read(text)


def evaluate_molecules(built: Component, readings: Sequence[tuple[Molecule | None, str | None]]) -> list[Evaluation]:
    """One evaluation per reading: text that is no molecule fails with its reason, the component sees only the rest."""
    answers = iter(built([molecule for molecule, _ in readings if molecule is not None]))
    return [
        next(answers) if molecule is not None else Evaluation(math.nan, f"invalid SMILES: {error}")
        for molecule, error in readings
    ]

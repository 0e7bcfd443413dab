"""The config of one optimization run, checked key by key without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from chemmara.config import Parameters, Table, check
from chemmara.errors import ConfigError, UserError, nearest
from chemmara.klrl.augmentation import AUGMENTATIONS, Augmentation, Mara, build_augmentation
from chemmara.klrl.mara_modes import MaraModes
from chemmara.klrl.objectives import OBJECTIVES, ObjectiveParameters
from chemmara.klrl.strength import STRENGTHS, Strength
from chemmara.klrl.thresholds import ThresholdParameters
from chemmara.optimization.files import files_in, located_table
from chemmara.optimization.filters import DIVERSITY_FILTERS, DiversityFilter
from chemmara.optimization.screening import SCREENS, ScreenRule, ScreenSettings, check_screen, files_of
from chemmara.optimization.seeds import read_seeds
from chemmara.optimization.tables import ExecutionSettings, GeneticSettings, ReplaySettings
from chemmara.policies.catalog import Prior, bundled, find_prior
from chemmara.policies.device import check_device
from chemmara.policies.policy import POLICIES
from chemmara.registry import Entry, Registry
from chemmara.scoring.cluster_settings import check_installed
from chemmara.scoring.component import COMPONENTS, EXPENSIVE_US
from chemmara.scoring.executors import EXECUTORS, IN_WORKERS
from chemmara.scoring.failure import FailureSettings
from chemmara.scoring.settings import ScoringSettings
from chemmara.scoring.work import not_in_workers


class _Head(Parameters):
    """The keys of a run's config; the tables are checked where they belong."""

    prior: str = Field("chembl", description="bundled name, directory or file")
    agent: str | None = Field(
        None,
        description="weights to begin with, such as the directory of an earlier run: a name, directory or file of the "
        "prior's vocabulary; default: the prior's own",
    )
    oracle_budget: int = Field(10_000, ge=1, description="distinct valid molecules sent to scoring")
    batch_size: int = Field(64, ge=2, le=100_000, description="sequences sampled a step")
    max_tokens: int = Field(
        160, ge=1, le=5000, description="longest sequence sampled; one without its end by then counts as invalid"
    )
    max_steps: int | None = Field(None, ge=1, description="stop after this many steps even if budget is left")
    max_hits: int | None = Field(
        None, ge=1, description="stop after the step in which this many distinct molecules have scored the threshold"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of everything random in the run")
    threshold: float = Field(
        0.7, ge=0, le=1, description="score from which a molecule is a hit, in rewards and reports"
    )
    objective: Table = Field({"name": "reinvent"}, description="what is descended: klrl.objectives")
    strength: Table = Field({"name": "constant"}, description="beta along the run: klrl.strength")
    augmentation: Table = Field({"name": "none"}, description="change of the reward: klrl.augmentation")
    diversity_filter: Table = Field({"name": "none"}, description="reward of molecules from crowded scaffolds")
    screen: Table = Field({}, description="what is sampled but not sent to scoring: optimization.screens")
    replay: ReplaySettings = ReplaySettings()
    genetic: GeneticSettings = GeneticSettings()
    execution: ExecutionSettings = ExecutionSettings()
    failure: FailureSettings = FailureSettings()
    scoring: Table = Field(description="components, transforms and aggregation")


TABLES: dict[str, Registry[Any]] = {
    "objective": OBJECTIVES,
    "augmentation": AUGMENTATIONS,
    "strength": STRENGTHS,
    "diversity_filter": DIVERSITY_FILTERS,
}
"""The tables of one implementation each, whose files are treated alike."""


@dataclass(frozen=True)
class RunSettings:
    """One method of one config, resolved and checked. ``to_table`` gives what config.toml holds."""

    head: _Head
    prior: Prior
    agent: Prior
    objective: tuple[Any, Any]
    strength: tuple[Any, Any]
    diversity_filter: tuple[Any, Any]
    screen: ScreenSettings
    scoring: ScoringSettings
    seed_molecules: Path | None

    @classmethod
    def parse(
        cls, table: Mapping[str, Any], folder: str | Path = ".", scoring: ScoringSettings | None = None
    ) -> RunSettings:
        """Check a resolved config. ``folder`` is where relative paths are looked for first.

        ``scoring`` is the score of the same [scoring] table, where it has been checked already.

        Raises ConfigError, or UserError for a prior or file that is not there.
        """
        head = check(_Head, _with_default_objective(table))
        folder = Path(folder)
        prior = _prior(head.prior, folder)
        head = _located(head, folder)
        objective = OBJECTIVES.build_parameters(head.objective, "objective")
        augmentation = build_augmentation(head.augmentation, head.threshold)
        settings = cls(
            head=head,
            prior=prior,
            agent=_agent(head.agent, folder, prior),
            objective=objective,
            strength=STRENGTHS.build_parameters(head.strength, "strength"),
            diversity_filter=DIVERSITY_FILTERS.build_parameters(head.diversity_filter, "diversity_filter"),
            screen=check_screen(head.screen, folder, head.threshold),
            scoring=scoring or ScoringSettings.parse(head.scoring, folder=folder),
            seed_molecules=_seeds(head, folder, prior),
        )
        for name, (entry, parameters) in {
            "strength": settings.strength,
            "diversity_filter": settings.diversity_filter,
        }.items():
            entry.built(parameters, name)  # what is wrong with them is told before a run has begun
        check_execution(head.execution)
        check_workers_know(settings.scoring, head.execution)
        _check_augmentation(str(head.augmentation["name"]), augmentation, objective[1], head.replay)
        _check_strength(settings.strength[0], objective[1])
        _check_replay(head.replay, settings.diversity_filter[0], settings.screen)
        _check_genetic(head.genetic, head.replay)
        return settings

    @property
    def augmentation_name(self) -> str:
        return str(self.head.augmentation["name"])

    def files_of_tables(self) -> dict[str, Path]:
        """The files that :data:`TABLES` name, by the place in the config."""
        return {
            place: path
            for name, registry in TABLES.items()
            for place, path in files_in(registry, getattr(self.head, name), name).items()
        }

    def files(self) -> dict[str, Path]:
        """These, and the files of the screen: whatever is in them decides which molecules a run finds."""
        return {**files_of(self.screen), **self.files_of_tables()}

    def executor_table(self) -> Table:
        """The executor's own table: its name, and the settings of [execution] that it takes."""
        return executor_table(self.head.execution)

    def to_table(self) -> Table:
        """The config with every default filled in; parsing it gives these settings again."""
        head, (entry, parameters) = self.head, self.objective
        filter_entry, filter_parameters = self.diversity_filter
        augmentation = AUGMENTATIONS.build_parameters(head.augmentation, "augmentation")[1]
        table = head.model_dump(mode="json")
        table |= {
            "prior": str(self.prior.path.resolve()) if _is_path(head.prior) else head.prior,
            "agent": str(self.agent.path.resolve()) if head.agent and _is_path(head.agent) else head.agent,
            "objective": {"name": entry.name, **parameters.model_dump(mode="json", exclude={"sigma"})},
            "augmentation": {"name": self.augmentation_name, **augmentation.model_dump(mode="json")},
            "diversity_filter": {"name": filter_entry.name, **filter_parameters.model_dump(mode="json")},
            "screen": self.screen.model_dump(mode="json"),
            "scoring": self.scoring.to_table(),
        }
        # Left out where it is constant: runs begun before there were strength rules have the same config still.
        del table["strength"]
        if self.strength[0].name != "constant":
            table["strength"] = {"name": self.strength[0].name, **self.strength[1].model_dump(mode="json")}
        if self.seed_molecules:
            table["replay"]["seed_molecules"] = str(self.seed_molecules.resolve())
        return _without_none(table)


def _located(head: _Head, folder: Path) -> _Head:
    """The head with the paths of :data:`TABLES` made absolute."""
    found = {name: located_table(registry, getattr(head, name), name, folder) for name, registry in TABLES.items()}
    return head.model_copy(update=found)


def _check_augmentation(
    name: str, augmentation: Augmentation, objective: ObjectiveParameters, replay: ReplaySettings
) -> None:
    """What does not go together. By what an augmentation is: another one's key of the same name may mean anything."""
    if isinstance(augmentation.parameters, ThresholdParameters):
        _check_scores(augmentation.parameters)
    if not isinstance(augmentation, Mara):
        return
    if type(augmentation)._augment is Mara._augment and objective.prior_strength == 0:
        at = "beta = 0; choose a beta" if objective.beta == 0 else "prior_exponent = 0; choose one"
        raise ConfigError(f"augmentation: {name} does nothing at objective.{at} above 0")
    exponent = getattr(objective, "prior_exponent", 1.0)
    if exponent not in (0, 1) and (isinstance(augmentation, MaraModes) or augmentation.spelling == "molecule"):
        raise ConfigError(
            f"augmentation: objective.prior_exponent = {exponent:g} weighs the strings of a mode or a molecule by a "
            f"power of their probabilities, and {name} makes the sums of these equal, not of the powers; set it to 1, "
            "or take mara with spelling = 'sampled' or 'canonical'"
        )
    if augmentation.looks_at_buffer and not replay.used:
        raise ConfigError(
            "augmentation.anchor: there is no replay buffer to look at; set replay.updates to 1 or more, or "
            "anchor = 'batch'"
        )


def _check_scores(parameters: ThresholdParameters) -> None:
    for key in ("threshold", "start", "levels"):
        value = getattr(parameters, key)
        for tau in value if isinstance(value, tuple) else [value]:
            if tau is not None and not 0 <= tau <= 1:
                raise ConfigError(f"augmentation.{key}: scores lie in [0, 1] (got {tau})")


def _check_strength(strength: Entry[Any], objective: ObjectiveParameters) -> None:
    scales = strength.item.applied is Strength.applied  # one that sets beta in its own way may start from 0
    if strength.name != "constant" and scales and objective.beta == 0:
        raise ConfigError(
            f"strength: '{strength.name}' has nothing to change at objective.beta = 0; choose a beta above 0"
        )


def _check_replay(replay: ReplaySettings, diversity_filter: Any, screen: ScreenSettings) -> None:
    if replay.randomize and replay.canonical:
        raise ConfigError("replay.canonical: a molecule is written in a random or in its canonical spelling, not both")
    closing = any(SCREENS[rule["name"]].item.closed is not ScreenRule.closed for rule in screen.rule)
    filling = diversity_filter.item.full is not DiversityFilter.full
    if replay.purge and not filling and not closing:
        raise ConfigError(
            f"replay.purge: the diversity filter '{diversity_filter.name}' has no buckets that could be full, and no "
            "rule of the screen closes clusters; set replay.purge = false, or diversity_filter.name = 'murcko'"
        )
    if replay.only and replay.join:
        raise ConfigError("replay.join: with only = true there is no update of the step's own that could be joined")
    for key in ("only", "with_batch", "purge", "randomize", "canonical"):
        if getattr(replay, key) and replay.updates == 0:
            raise ConfigError(f"replay.{key}: nothing is replayed; set replay.updates to 1 or more")


def _check_genetic(genetic: GeneticSettings, replay: ReplaySettings) -> None:
    if genetic.offspring and not replay.used:
        raise ConfigError("genetic.offspring: offspring are learned from by replay; set replay.updates to 1 or more")
    if genetic.offspring and genetic.population > replay.size:
        raise ConfigError(
            f"genetic.population: the buffer never holds {genetic.population} molecules (replay.size = {replay.size})"
        )


def executor_table(execution: ExecutionSettings) -> Table:
    """The table of an executor ``{name, ...}``, of what [execution] says of it."""
    takes = EXECUTORS[execution.executor].parameters.model_fields
    given: Table = {"workers": execution.workers, "timeout": execution.timeout}
    if execution.dask is not None:
        given |= execution.dask.model_dump(mode="json", exclude_none=True)
    return {"name": execution.executor, **{k: v for k, v in given.items() if k in takes and v is not None}}


def check_keys(config: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigError` for a key at the top of a config that means nothing."""
    valid = (*_Head.model_fields, "methods", "preset")
    for key in config:
        if key not in valid:
            raise ConfigError(f"{key}: unknown key{nearest(str(key), valid)}")


def _with_default_objective(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """[objective] with settings but no name means the usual one."""
    objective = table.get("objective")
    if not isinstance(objective, Mapping) or "name" in objective:
        return table
    return {**table, "objective": {"name": "reinvent", **objective}}


def _prior(text: str, folder: Path) -> Prior:
    beside = folder / text
    prior = find_prior(beside if _is_path(text) and not Path(text).is_absolute() and beside.exists() else text)
    header = prior.header()
    try:
        check(POLICIES[header["architecture"]].parameters, header["parameters"], "parameters")
    except (KeyError, ConfigError) as error:
        raise UserError(f"weights file '{prior.path}' has a damaged header: {error}") from None
    prior.vocabulary()
    return prior


def _agent(text: str | None, folder: Path, prior: Prior) -> Prior:
    """The weights to begin with; raises :class:`ConfigError` where they are of other tokens than the prior's."""
    if text is None:
        return prior
    try:
        agent = _prior(text, folder)
    except UserError as error:
        raise UserError(f"agent: {error}") from None
    own, others = agent.vocabulary(), prior.vocabulary()
    if own != others:
        kind = (
            f"{own.tokenizer_name} and {others.tokenizer_name}" if own.tokenizer_name != others.tokenizer_name else ""
        )
        odd = sorted({*own.tokens} ^ {*others.tokens})
        differ = kind or (f"{len(odd)} tokens, such as {odd[0]}" if odd else "the order of the tokens")
        raise ConfigError(
            f"agent: '{text}' has another vocabulary than the prior '{prior.name}' ({differ}); take an agent that was "
            "tuned from this prior, or set prior to the one that it was tuned from"
        )
    return agent


def _is_path(text: str) -> bool:
    """Whether it can only be one: the names of bundled priors come first."""
    return text not in {prior.name for prior in bundled()}


def _seeds(head: _Head, folder: Path, prior: Prior) -> Path | None:
    replay = head.replay
    if replay.seed_molecules is None:
        return None
    if not replay.used:
        raise ConfigError("replay.seed_molecules: seeds are learned from by replay; set replay.updates to 1 or more")
    path = Path(replay.seed_molecules).expanduser()
    path = folder / path if not path.is_absolute() and (folder / path).exists() else path
    seeds, _ = read_seeds(path, prior.vocabulary())
    if len(seeds) >= head.oracle_budget:
        raise ConfigError(
            f"replay.seed_molecules: the {len(seeds):,} molecules of '{path}' are scored first, and oracle_budget = "
            f"{head.oracle_budget:,} leaves no call for others; raise it, or give fewer molecules"
        )
    return path


def check_execution(execution: ExecutionSettings) -> None:
    """Raise :class:`ConfigError` for an executor or device that is not known, or settings that do not fit it."""
    try:
        takes = EXECUTORS[execution.executor].parameters.model_fields
    except ConfigError as error:
        raise ConfigError(f"execution.executor: {error}") from None
    try:
        check_device(execution.device)
    except UserError as error:
        raise ConfigError(f"execution.device: {error}") from None
    if execution.dask is not None and execution.executor != "dask":
        raise ConfigError("execution.dask: set execution.executor = 'dask' to use a Dask cluster")
    for key in ("workers", "timeout"):
        if getattr(execution, key) is not None and key not in takes:
            raise ConfigError(
                f"execution.{key}: the executor '{execution.executor}' takes none; leave it out, or set "
                "execution.executor = 'processes'"
            )
    EXECUTORS.build_parameters(executor_table(execution), "execution")
    if execution.executor == "dask":
        check_installed(execution.dask)


def check_workers_know(scoring: ScoringSettings, execution: ExecutionSettings) -> None:
    """Raise :class:`ConfigError` for a component of a user's own script that would go to a worker process."""
    if execution.executor not in IN_WORKERS:
        return
    for place, component in enumerate(scoring.components):
        name = component.spec.name
        if component.cost_us >= EXPENSIVE_US and not COMPONENTS.covers(COMPONENTS[name].item.__module__):
            raise ConfigError(f"scoring.component[{place}]: {not_in_workers(name)}")


def _without_none(table: Mapping[str, Any]) -> Table:
    return {key: _trimmed(value) for key, value in table.items() if value is not None}


def _trimmed(value: Any) -> Any:
    if isinstance(value, list):
        return [_trimmed(each) for each in value]
    return _without_none(value) if isinstance(value, Mapping) else value

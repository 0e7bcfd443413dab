"""The config of one optimization run, checked key by key without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from chemmara.config import Parameters, Table, check
from chemmara.errors import ConfigError, UserError, nearest
from chemmara.klrl.augmentation import AUGMENTATIONS, build_augmentation
from chemmara.klrl.objectives import OBJECTIVES
from chemmara.klrl.strength import STRENGTHS
from chemmara.language.begun import BegunVocabulary
from chemmara.language.vocabulary import Vocabulary
from chemmara.optimization.agreement import (
    check_augmentation,
    check_exploit,
    check_genetic,
    check_replay,
    check_strength,
)
from chemmara.optimization.execution import check_execution, check_workers_know, executor_table
from chemmara.optimization.files import files_in, located_table
from chemmara.optimization.filters import DIVERSITY_FILTERS
from chemmara.optimization.screening import ScreenSettings, check_screen, files_of
from chemmara.optimization.seeds import read_seeds
from chemmara.optimization.tables import ExecutionSettings, ExploitSettings, GeneticSettings, ReplaySettings
from chemmara.policies.catalog import Prior, bundled, find_prior
from chemmara.policies.policy import POLICIES
from chemmara.policies.starts import readable
from chemmara.registry import Registry
from chemmara.reporting.config_file import UNUSED, follows_budget, without_later
from chemmara.scoring.failure import FailureSettings
from chemmara.scoring.settings import ScoringSettings


class _Head(Parameters):
    """The keys of a run's config; the tables are checked where they belong."""

    prior: str = Field("chembl", description="bundled name, directory or file")
    agent: str | None = Field(
        None,
        description="weights to begin with, such as the directory of an earlier run: a name, directory or file of the "
        "prior's vocabulary; default: the prior's own",
    )
    scaffold: str | None = Field(
        None,
        description="SMILES that every molecule is built upon: sequences begin with it and go on at its *, else at any "
        "atom with a hydrogen, and nothing else of it changes; default: none",
    )
    oracle_budget: int = Field(10_000, ge=1, description="distinct valid molecules sent to scoring")
    batch_size: int = Field(64, ge=2, le=100_000, description="sequences sampled a step")
    max_tokens: int = Field(
        160, ge=1, le=5000, description="longest sequence sampled; one without its end by then counts as invalid"
    )
    max_steps: int | None = Field(None, ge=1, description="stop after this many steps even if budget is left")
    max_hits: int | None = Field(
        None,
        ge=1,
        description="stop after the step in which this many distinct molecules have scored the threshold, those of "
        "replay.seed_molecules left out",
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
    exploit: ExploitSettings = ExploitSettings()
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
            seed_molecules=_seeds(head, folder, _vocabulary(head, prior)),
        )
        for name, (entry, parameters) in {
            "strength": settings.strength,
            "diversity_filter": settings.diversity_filter,
        }.items():
            entry.built(parameters, name)  # what is wrong with them is told before a run has begun
        check_execution(head.execution)
        check_workers_know(settings.scoring, head.execution)
        check_augmentation(str(head.augmentation["name"]), augmentation, objective[1], head.replay)
        check_strength(settings.strength[0], objective[1])
        check_replay(head.replay, settings.diversity_filter[0], settings.screen)
        check_genetic(head.genetic, head.replay, settings.screen)
        check_exploit(head.exploit, head.replay, settings.screen)
        return settings

    @property
    def vocabulary(self) -> Vocabulary:
        """What the run writes molecules with, before the weights tell which of a scaffold's spellings is taken."""
        return _vocabulary(self.head, self.prior)

    @property
    def augmentation_name(self) -> str:
        return str(self.head.augmentation["name"])

    @property
    def follows_budget(self) -> bool:
        """Whether what is done at some number of calls depends on how many there will be."""
        return follows_budget(self.head.model_dump(include={"augmentation", "exploit"}))

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
        table["strength"] = {"name": self.strength[0].name, **self.strength[1].model_dump(mode="json")}
        if not head.exploit.used:
            table["exploit"] = UNUSED["exploit"]
        table = {key: value for key, value in without_later(table).items() if value != UNUSED.get(key)}
        if self.seed_molecules:
            table["replay"]["seed_molecules"] = str(self.seed_molecules.resolve())
        return _without_none(table)


def _located(head: _Head, folder: Path) -> _Head:
    """The head with the paths of :data:`TABLES` made absolute."""
    found = {name: located_table(registry, getattr(head, name), name, folder) for name, registry in TABLES.items()}
    return head.model_copy(update=found)


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


def _vocabulary(head: _Head, prior: Prior) -> Vocabulary:
    """What the run writes molecules with. Raises :class:`ConfigError` for a scaffold that the prior cannot begin with.

    Which of the scaffold's spellings is taken, the weights tell later: all hold the same molecules.
    """
    if head.scaffold is None:
        return prior.vocabulary()
    try:
        ends = readable(prior.vocabulary(), head.scaffold, head.max_tokens)
    except UserError as error:
        raise ConfigError(f"scaffold: {error}") from None
    return BegunVocabulary(prior.vocabulary(), [spellings[0] for spellings in ends])


def _is_path(text: str) -> bool:
    """Whether it can only be one: the names of bundled priors come first."""
    return text not in {prior.name for prior in bundled()}


def _seeds(head: _Head, folder: Path, vocabulary: Vocabulary) -> Path | None:
    replay = head.replay
    if replay.seed_molecules is None:
        return None
    if not replay.used:
        raise ConfigError("replay.seed_molecules: seeds are learned from by replay; set replay.updates to 1 or more")
    path = Path(replay.seed_molecules).expanduser()
    path = folder / path if not path.is_absolute() and (folder / path).exists() else path
    seeds, _ = read_seeds(path, vocabulary)
    if len(seeds) >= head.oracle_budget:
        raise ConfigError(
            f"replay.seed_molecules: the {len(seeds):,} molecules of '{path}' are scored first, and oracle_budget = "
            f"{head.oracle_budget:,} leaves no call for others; raise it, or give fewer molecules"
        )
    return path


def _without_none(table: Mapping[str, Any]) -> Table:
    return {key: _trimmed(value) for key, value in table.items() if value is not None}


def _trimmed(value: Any) -> Any:
    if isinstance(value, list):
        return [_trimmed(each) for each in value]
    return _without_none(value) if isinstance(value, Mapping) else value

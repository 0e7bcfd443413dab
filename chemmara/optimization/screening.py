"""Screening: which sampled molecules are worth an oracle call. All that a screen looks at is known before the call.

With a screen a step samples up to ``draws`` batches, and sends the first ``batch_size`` new molecules that no rule
refuses. Refused molecules are kept as rows with their reason; they cost no oracle call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from chemmara.chemistry.molecules import Molecule
from chemmara.config import Parameters, Table, check
from chemmara.errors import ConfigError
from chemmara.lazy import lazy
from chemmara.optimization.files import files_in, located_table
from chemmara.registry import Registry
from chemmara.scoring.rows import NOT_SENT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy("numpy")

SCREENS: Registry[type[ScreenRule]] = Registry(
    "screen rule",
    (
        "chemmara.optimization.screens",
        "chemmara.optimization.screen_clusters",
        "chemmara.optimization.screen_limits",
        "chemmara.optimization.screen_promise",
        "chemmara.optimization.screen_stereo",
    ),
)

FULL = f"{NOT_SENT}: the step had its molecules"


class ScreenSettings(Parameters):
    """What is sampled beyond a batch, and what of it is not worth an oracle call."""

    draws: int = Field(6, ge=1, le=1000, description="most batches sampled a step to fill one with new molecules")
    rule: list[Table] = Field([], description="[[screen.rule]]: rules by name; the first that refuses gives the reason")

    @property
    def looks_ahead(self) -> bool:
        """Whether a rule tells how much is expected of a molecule."""
        return any(SCREENS[rule["name"]].item.looks_ahead for rule in self.rule)


class ScreenRule:
    """Base of a rule. It sees molecules that the run has not scored, in the order of sampling.

    A constructor raises ConfigError, which begins with the key, for parameters that make no sense.

    ``penalise``: the agent learns from a refused molecule as from invalid text, with reward 0. Otherwise the molecule
    is as if it had not been sampled.
    """

    penalise = False
    looks_ahead = False
    """Whether it tells how much is expected of a molecule."""
    lifted = False
    """Whether it is lifted at present: it refuses nothing then, and goes on learning."""

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters

    def look(self, molecules: Sequence[Molecule]) -> None:
        """These are about to be judged: what is worked out for many at once is worked out here."""

    @property
    def ready(self) -> bool:
        """Whether a rule that looks ahead has learned enough to do so."""
        return True

    def promise(self, molecule: Molecule) -> float:
        """How much is expected of a molecule that it has looked at."""
        return 0.0

    def refuse(self, molecule: Molecule) -> str | None:
        """Why a molecule is not worth a call, or None. Asked of molecules that are never sampled, too: unless the rule
        looks ahead it leaves no trace."""
        raise NotImplementedError

    def admit(self, molecule: Molecule) -> None:
        """A molecule is about to be sent: what comes after it in the step must reckon with it."""

    def learn(self, molecule: Molecule, score: float) -> None:
        """A sent molecule has its score (NaN: the oracle failed)."""

    def closed(self, smiles: str) -> bool:
        """Whether the search is to leave the chemistry about a scored molecule: ``replay.purge`` forgets it then."""
        return False

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class Screen:
    """The rules of a run, in order."""

    def __init__(self, settings: ScreenSettings) -> None:
        self.draws = settings.draws if settings.rule else 1
        self.rules: list[tuple[str, ScreenRule]] = []
        for number, table in enumerate(settings.rule):
            entry, parameters = SCREENS.build_parameters(table, f"screen.rule[{number}]")
            if entry.name in dict(self.rules):
                raise ConfigError(f"screen.rule[{number}]: '{entry.name}' stands there twice")
            self.rules.append((entry.name, entry.built(parameters, f"screen.rule[{number}]")))
        self.refused: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self.rules)

    @property
    def _holding(self) -> list[tuple[str, ScreenRule]]:
        return [(name, rule) for name, rule in self.rules if not rule.lifted]

    def lift(self, names: Iterable[str]) -> None:
        """From now on these rules are lifted, and the others hold (again). They all go on learning."""
        names = frozenset(names)
        for name, rule in self.rules:
            rule.lifted = name in names

    def look(self, molecules: Sequence[Molecule]) -> None:
        """These, new to the run, are about to be judged one after another."""
        for _, rule in self._holding:
            rule.look(molecules)

    @property
    def looks_ahead(self) -> bool:
        return any(rule.looks_ahead and rule.ready for _, rule in self._holding)

    def promise(self, molecules: Sequence[Molecule]) -> list[float]:
        """How much is expected of each of these, which are new to the run."""
        self.look(molecules)
        return [sum(rule.promise(each) for _, rule in self._holding) for each in molecules]

    def could_pass(self, molecule: Molecule) -> bool:
        """Whether no rule refuses it but for what is expected of it. Nothing is counted."""
        return not any(rule.refuse(molecule) for _, rule in self._holding if not rule.looks_ahead)

    def judge(self, molecule: Molecule) -> tuple[str | None, bool]:
        """(why a molecule that is new to the run is not sent, or None; whether the agent is penalised for it)."""
        for name, rule in self._holding:
            reason = rule.refuse(molecule)
            if reason is not None:
                self.refused[name] += 1
                return f"{NOT_SENT}: {reason}", rule.penalise
        for _, rule in self.rules:
            rule.admit(molecule)
        return None, False

    def closed(self, smiles: str) -> bool:
        """Whether a rule wants the search to leave the chemistry about a scored molecule (canonical SMILES)."""
        return any(rule.closed(smiles) for _, rule in self._holding)

    def learn(self, molecules: Sequence[Molecule | None], scores: NDArray[np.float64], sent: NDArray[np.bool_]) -> None:
        """Tell the rules the scores of the rows that were sent."""
        if not self.rules:
            return
        for row in np.flatnonzero(sent).tolist():
            molecule = molecules[row]
            if molecule is not None:
                for _, rule in self.rules:
                    rule.learn(molecule, float(scores[row]))

    def state_dict(self) -> dict[str, Any]:
        return {"rules": {name: rule.state_dict() for name, rule in self.rules}, "refused": dict(self.refused)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.refused = Counter(state["refused"])
        for name, rule in self.rules:
            rule.load_state_dict(state["rules"][name])


def check_screen(table: Table, folder: str | Path = ".", threshold: float = 0.0) -> ScreenSettings:
    """A [screen] table with every default of its rules filled in, and paths made absolute (as [scoring] does).

    A rule's ``minimum_score`` that is left open is ``threshold``, the score of a hit. Raises :class:`ConfigError`.
    """
    settings = check(ScreenSettings, table, "screen")
    located = [
        located_table(SCREENS, rule, f"screen.rule[{number}]", Path(folder))
        for number, rule in enumerate(settings.rule)
    ]
    settings = settings.model_copy(update={"rule": located})
    rules = []
    for name, rule in Screen(settings).rules:
        parameters = rule.parameters.model_dump(mode="json", exclude_none=True)
        if getattr(rule.parameters, "minimum_score", threshold) is None:
            parameters["minimum_score"] = threshold
        rules.append({"name": name, **parameters})
    return settings.model_copy(update={"rule": rules})


def files_of(settings: ScreenSettings) -> dict[str, Path]:
    """The files that the rules read, by the place in the config that names them."""
    return {
        place: path
        for number, rule in enumerate(settings.rule)
        for place, path in files_in(SCREENS, rule, f"screen.rule[{number}]").items()
    }

"""chemmara study categorical: the figures of arXiv 2510.20817 over 100 tokens, by closed form, exact and sampled runs.

Sources of a mass: ``theory`` the closed form; ``exact`` Adam on the exact gradient; ``sampled`` runs with the
standardized score function; ``sampled_plain`` runs with the objectives ``reverse_kl`` and ``forward_kl`` as they are;
``sampled_from_prior`` and ``sampled_plain_from_prior`` the same, started at pi_ref; ``paper`` the paper's own runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from chemmara import places
from chemmara.errors import RunError, UserError, nearest
from chemmara.studies.categorical_estimators import PLAIN
from chemmara.studies.categorical_exact import Progress, closed_form, exact_optima
from chemmara.studies.categorical_flip import flip_cases, flip_rows
from chemmara.studies.categorical_gradients import estimator_cases, gradient_rows
from chemmara.studies.categorical_sampled import sampled_runs
from chemmara.studies.categorical_setting import (
    EXACT_STEPS,
    PAPER,
    SAMPLED_STEPS,
    Case,
    all_settings,
    block_name,
    figure_cases,
)
from chemmara.studies.categorical_sweeps import sweep_cases, sweep_rows
from chemmara.studies.threads import one_thread

Report = Callable[[str, int, int], None]
"""Called with what is being done, the step, and the number of steps."""
SAMPLED = ("sampled", "sampled_plain", "sampled_from_prior", "sampled_plain_from_prior")


@dataclass(frozen=True)
class Outcome:
    """A case of a figure with its policies: ``theory`` and ``exact`` (V,), ``runs`` (S, V) by source."""

    case: Case
    theory: Tensor
    exact: Tensor
    runs: dict[str, Tensor]


@dataclass(frozen=True)
class CategoricalStudy:
    """The outcome: the figures' policies, and the four tables (empty if figures were chosen)."""

    outcomes: tuple[Outcome, ...]
    masses: pd.DataFrame
    flips: pd.DataFrame = field(default_factory=pd.DataFrame)
    sweeps: pd.DataFrame = field(default_factory=pd.DataFrame)
    estimators: pd.DataFrame = field(default_factory=pd.DataFrame)

    def save(self, directory: str | Path) -> list[Path]:
        """Write masses.csv, the other tables, a plot a figure, and summary.md; their paths."""
        from chemmara.studies.categorical_plots import figures
        from chemmara.studies.categorical_summary import summary

        directory = Path(directory)
        written = []
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            tables = {"masses": self.masses, "beta_flip": self.flips, "sweeps": self.sweeps}
            for name, table in (tables | {"estimators": self.estimators}).items():
                if len(table):
                    written.append(directory / f"{name}.csv")
                    table.to_csv(written[-1], index=False)
            for name, figure in figures(self):
                written.append(directory / f"{name}.png")
                figure.savefig(written[-1], dpi=110)
            written.append(directory / "summary.md")
            text = "".join(f"- {line}\n" for line in summary(self))
            written[-1].write_text(f"# 100 tokens\n\n{text}", encoding="utf-8")
        return written


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """What cannot be written becomes one clear line."""
    try:
        yield
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"cannot write to '{directory}': {error.strerror}") from None
    except OSError as error:
        raise RunError(f"cannot write to '{directory}': {error.strerror or error}") from None


def check_directory(directory: str | Path) -> None:
    """Make the directory before anything is computed; :class:`UserError` if that cannot be."""
    directory = Path(directory)
    places.check_directory(directory)
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()


def check_figures(figures: Sequence[int]) -> None:
    """:class:`UserError` that names the first figure which the study does not have."""
    known = all_settings()
    for figure in figures:
        if figure not in known:
            raise UserError(f"--figures: there is no figure {figure}{nearest(str(figure), map(str, known))}")


@one_thread()
def categorical_study(
    seeds: int = 10,
    seed: int = 0,
    figures: Sequence[int] = (),
    steps: int = SAMPLED_STEPS,
    exact_steps: int = EXACT_STEPS,
    report: Report | None = None,
) -> CategoricalStudy:
    """Run the study on the seeds ``seed``, ``seed`` + 1, ...; the same numbers for the same arguments.

    ``figures`` (default: all six) limits it to their masses and plots, without sweeps, beta_flip and estimators.
    """
    check_figures(figures)
    known = all_settings()
    cases = list(figure_cases(known[number] for number in known if not figures or number in figures))
    sampled = [way for case in cases for way in _ways(case)]
    numbers = range(seed, seed + seeds)
    if figures:
        return _study(cases, _exact(cases, exact_steps, report), iter(_sampled(sampled, numbers, steps, report)))
    flips, named, compared = flip_cases(known[2]), list(sweep_cases(known)), estimator_cases(known)
    exact = _exact([*cases, *flips], exact_steps, report)
    everything = [*sampled, *flips, *(case for _, case in named), *compared]
    runs = iter(_sampled(everything, numbers, steps, report))
    return replace(
        _study(cases, exact, runs),
        flips=_table(flip_rows(flips, exact[len(cases) :], _take(runs, flips))),
        sweeps=_table(sweep_rows(named, _take(runs, named))),
        estimators=_table(map(asdict, gradient_rows(compared, _take(runs, compared), seed))),
    )


def _ways(case: Case) -> tuple[Case, ...]:
    """The case as each of :data:`SAMPLED` runs it."""
    plain = replace(case, estimator=PLAIN[case.kl])
    return case, plain, replace(case, from_prior=True), replace(plain, from_prior=True)


def _take(runs: Iterator[Tensor], wanted: Sequence[Any]) -> list[Tensor]:
    return [next(runs) for _ in wanted]


def _table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    return table.astype({"seeds": "Int64"}) if "seeds" in table else table


def _exact(cases: Sequence[Case], steps: int, report: Report | None) -> list[Tensor]:
    return exact_optima(cases, steps, _counting(report, "exact gradients", steps))


def _counting(report: Report | None, title: str, steps: int) -> Progress | None:
    return None if report is None else lambda step: report(title, step + 1, steps)


def _sampled(cases: Sequence[Case], seeds: Sequence[int], steps: int, report: Report | None) -> list[Tensor]:
    """The runs of all cases, one tensor a batch size, in the order of the cases."""
    found: dict[int, Tensor] = {}
    order = sorted(range(len(cases)), key=lambda i: cases[i].batch_size)
    for size, members in groupby(order, key=lambda i: cases[i].batch_size):
        rows = list(members)
        title = f"sampled runs, batch {size}"
        runs = sampled_runs([cases[i] for i in rows], seeds, steps, _counting(report, title, steps))
        found |= dict(zip(rows, runs, strict=True))
    return [found[i] for i in range(len(cases))]


def _study(cases: Sequence[Case], exact: Sequence[Tensor], runs: Iterator[Tensor]) -> CategoricalStudy:
    outcomes = []
    for case, optimum in zip(cases, exact):
        theory = closed_form(case)
        assert theory is not None  # only sweeps have cases without one
        outcomes.append(Outcome(case, theory, optimum, dict(zip(SAMPLED, _take(runs, SAMPLED), strict=True))))
    return CategoricalStudy(tuple(outcomes), _table(row for outcome in outcomes for row in _mass_rows(outcome)))


def _mass_rows(outcome: Outcome) -> Iterator[dict[str, Any]]:
    case = outcome.case
    key = (case.setting.figure, case.kl, case.augmentation, case.beta)
    named: dict[str, Any] = dict(zip(("figure", "kl", "augmentation", "beta"), key))
    for source, policies in {"theory": outcome.theory, "exact": outcome.exact, **outcome.runs}.items():
        for block, mass in case.setting.masses(policies).items():
            row = named | {"source": source, "block": block_name(block), "mass": float(mass.mean())}
            if mass.dim():
                row |= {"seeds": len(mass), "sd": float(mass.std()) if len(mass) > 1 else None}
            yield row
    for block, value in PAPER.get(key, {}).items():
        yield named | {"source": "paper", "block": block_name(block), "mass": value}

"""The exceptions that carry a message for the user. The command line prints the message alone, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ChemmaraError(Exception):
    """Something that a user can understand and act on. ``exit_code`` is what the command line returns."""

    exit_code = 1


class UserError(ChemmaraError):
    """A mistake in the input (config, file, option). Raised before anything is written; exit code 2."""

    exit_code = 2


class ConfigError(UserError):
    """A mistake in a config. The message names the place (``scoring.component[1].weight``) and the nearest right."""


class RunError(ChemmaraError):
    """A run that had to stop (disk full, too many failed oracles). What was paid for is saved; exit code 1."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint for a misspelt name: ``; did you mean 'qed'?``, else the list of valid names, else nothing.

    >>> nearest("qedd", ["qed", "logp"])
    "; did you mean 'qed'?"
    >>> nearest("pains", ["PAINS", "BRENK"])
    "; did you mean 'PAINS'?"
    >>> nearest("zzz", ["qed", "logp"])
    '; valid: logp, qed'
    """
    names = sorted(set(valid))
    lowered = {candidate.lower(): candidate for candidate in reversed(names)}
    close = difflib.get_close_matches(str(name).lower(), list(lowered), n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{lowered[close[0]]}'?"
    return f"; valid: {', '.join(names)}" if names else ""

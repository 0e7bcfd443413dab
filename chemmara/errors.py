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


REINVENT_NAMES = {
    "identicalmurckoscaffold": "murcko", "identicaltopologicalscaffold": "generic", "scaffoldsimilarity": "similarity",
    "penalizesamesmiles": "same_molecule", "nofilter": "none", "inception": "replay", "learning_strategy": "objective",
    "stage": "methods", "prior_file": "prior", "agent_file": "agent",
    "dap": "reinvent", "mauli": "reinvent", "mascof": "reinvent",
    "tanimotosimilarity": "tanimoto", "tanimotodistance": "tanimoto", "customalerts": "alerts",
    "matchingsubstructure": "substructure", "groupcount": "substructure", "externalprocess": "executable",
    "dockstream": "vina", "maize": "executable", "rocs": "shape", "rocssimilarity": "shape", "sascore": "sa_score",
    "slogp": "logp", "molecularweight": "molecular_weight", "hbondacceptors": "hba", "hbonddonors": "hbd",
    "numrotbond": "rotatable_bonds", "csp3": "fraction_csp3", "numrings": "rings", "numaromaticrings": "aromatic_rings",
    "numheavyatoms": "heavy_atoms", "numheteroatoms": "heteroatoms",
    "largestringsize": "largest_ring", "numatomstereocenters": "stereocentres", "generalrest": "rest",
    "qptuna": "forest", "minscore": "minimum_score", "minsimilarity": "similarity",
}  # fmt: skip
"""What REINVENT 4 calls what we have, in lower case: people bring its configs along."""


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
    ours = REINVENT_NAMES.get(str(name).lower())
    if ours in names and str(name) not in names:
        return f"; what REINVENT calls so is '{ours}' here"
    lowered = {candidate.lower(): candidate for candidate in reversed(names)}
    close = difflib.get_close_matches(str(name).lower(), list(lowered), n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{lowered[close[0]]}'?"
    return f"; valid: {', '.join(names)}" if names else ""

"""The columns of metrics.csv, each named and explained once; docs and report are made from this table.

What an objective logs beyond :data:`LOGGED` comes after these columns, in one of its own that begins with :data:`LOG`:
it can then neither be lost nor be taken for another figure.
"""

from __future__ import annotations

from chemmara.optimization.screening import SCREENS

REFUSED = "refused_"
"""Begins the column of each screen rule."""

LOG = "objective_"
"""Begins the column of each number that an objective logs under a name of its own."""

LOGGED = ("objective", "clamped_share", "log_z")
"""The names of an objective's logs that have a column here."""

COLUMNS: dict[str, str] = {
    "step": "number of the step, from 1; the seed molecules, step 0 of molecules.csv, have no row",
    "oracle_calls": "distinct valid canonical molecules of this run sent to scoring so far",
    "evaluations": "component values computed by this run so far; a value found in the ledger was paid for before, be "
    "it by this very run in a step that a kill has undone",
    "mean_score": "mean score of the batch's scored rows",
    "mean_reward": "mean reward of the batch's learnable rows, after the diversity filter, invalid text as 0",
    "best_score": "highest score of the run so far",
    "hits": "distinct molecules of the run so far with score >= threshold",
    "scaffolds": "distinct Bemis-Murcko scaffolds among the hits so far; an acyclic molecule has none",
    "validity": "share of the batch's sequences that are valid molecules",
    "unique": "share of the batch's valid molecules that are distinct",
    "new": "share of the batch's valid molecules that the run had not scored before, what the screen refuses included",
    "failed": "valid rows of the batch whose oracle failed; masked out of learning",
    "sampled": "sequences sampled: the batch, and what a screen made it sample beyond that",
    "not_sent": "valid rows that the screen, or the spent budget, kept from scoring",
    "exploiting": "1 in the steps in which [exploit] lifts what keeps the search wide, else 0",
    "offspring": "rows of molecules that were bred in the step, scored or refused; they come after the sampled ones",
    "penalised": "rows of not_sent that are learned from with reward 0",
    **{f"{REFUSED}{name}": f"molecules that the screen's rule `{name}` has refused so far" for name in SCREENS.names()},
    "kl": "mean of log pi - log pi_ref over the batch, nothing sampled beyond it, nats a sequence: an estimate "
    "of KL(agent || prior)",
    "agent_log_prob": "mean total log-probability of the batch under the agent, nats",
    "prior_log_prob": "mean total log-probability of the batch under the prior, nats",
    "hit_prior_log_prob": "the same under the prior, of the batch's hits alone",
    "noncanonical": "share of the batch's valid sequences that are not the canonical SMILES, or SELFIES of it",
    "sigma": "1/beta of the step, nats per reward unit, as the strength rule has it",
    "anchor_reward": "reward of MARA's anchor",
    "anchor_log_ref": "log-probability of MARA's anchor under the prior, nats",
    "threshold_used": "MARA's tau in this step",
    "good": "share of the batch at or above MARA's tau",
    "objective": "estimate of the regularised objective J on the batch, reward units",
    "clamped_share": "share of sequences (grpo: of tokens) whose log(prior/agent) is past max_log_ratio",
    "log_z": "trajectory_balance: the learned log Z; vargrad: the batch's estimate of it, nats",
    "loss": "loss of the step's own update",
    "replay_loss": "mean loss of the step's replay updates",
    "seconds_sampling": "time to sample and decode",
    "seconds_scoring": "time to parse, look up and score, and to breed and score offspring",
    "seconds_update": "time for log-probabilities, updates and replay",
    "molecules_per_second": "sequences a second, all three together",
}

"""The columns of metrics.csv, each named and explained once; docs and report are made from this table."""

from __future__ import annotations

COLUMNS: dict[str, str] = {
    "step": "number of the step, from 1; step 0 holds the seed molecules, if there are any",
    "oracle_calls": "distinct valid canonical molecules of this run sent to scoring so far",
    "evaluations": "component values computed by this process so far; a value found in the ledger was paid for before",
    "mean_score": "mean score of the batch's scored rows",
    "mean_reward": "mean reward of the batch's learnable rows, after the diversity filter, invalid text as 0",
    "best_score": "highest score of the run so far",
    "hits": "distinct molecules of the run so far with score >= threshold",
    "scaffolds": "distinct Bemis-Murcko scaffolds among the hits so far; an acyclic molecule has none",
    "validity": "share of the batch's sequences that are valid molecules",
    "unique": "share of the batch's valid molecules that are distinct",
    "new": "share of the batch's valid molecules that the run had not met before",
    "failed": "valid rows of the batch whose oracle failed; masked out of learning",
    "kl": "mean of log pi - log pi_ref over the batch, nats a sequence: an estimate of KL(agent || prior)",
    "agent_log_prob": "mean total log-probability of the batch under the agent, nats",
    "prior_log_prob": "mean total log-probability of the batch under the prior, nats",
    "hit_prior_log_prob": "the same under the prior, of the batch's hits alone",
    "noncanonical": "share of the batch's valid sequences that are not the canonical SMILES",
    "anchor_reward": "reward of MARA's anchor",
    "anchor_log_ref": "log-probability of MARA's anchor under the prior, nats",
    "threshold_used": "MARA's tau in this step",
    "good": "share of the batch at or above MARA's tau",
    "objective": "estimate of the regularised objective J on the batch, reward units",
    "loss": "loss of the step's own update",
    "replay_loss": "mean loss of the step's replay updates",
    "seconds_sampling": "time to sample and decode",
    "seconds_scoring": "time to parse, look up and score",
    "seconds_update": "time for log-probabilities, updates and replay",
    "molecules_per_second": "sequences a second, all three together",
}

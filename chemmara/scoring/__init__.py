"""Scoring: components, transforms and aggregation turn molecules into scores; executors and a ledger stand behind."""

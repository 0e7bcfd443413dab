"""The model card that lies beside a trained prior."""

from __future__ import annotations

import json
import math
from typing import Any

import chemmara


def model_card(policy: Any, history: dict[str, Any]) -> str:
    """Markdown: what the prior is, what it was trained on and how, and the figures of its last epoch."""
    size = sum(p.numel() for p in policy.parameters())
    figures = [
        ("validation loss, nats a molecule", f"{history['valid_nll']:.2f}"),
        ("validity of raw samples", f"{history['validity']:.4f}"),
        ("uniqueness of the valid ones", _share(history["uniqueness"])),
        ("novelty of the unique ones, against the training data", _share(history["novelty"])),
    ]
    rows = "\n".join(f"| {name} | {value} |" for name, value in figures)
    settings = json.dumps(history["settings"], indent=2, sort_keys=True)
    return f"""# Model card

A {policy.architecture} language model of {policy.vocabulary.tokenizer_name.upper()} with {size / 1e6:.2f} million
parameters and {len(policy.vocabulary)} tokens, made by chemmara {chemmara.__version__}.

- Data: {", ".join(history["files"])} ({history["molecules"]:,} molecules).
- Command: `{history["command"] or "chemmara.training.fit.train"}`
- Epochs: {history["epoch"]}, steps: {history["step"]:,}.

| figure ({history["settings"]["samples"]:,} samples at temperature 1, nothing filtered) | value |
|---|---|
{rows}

```json
{settings}
```
"""


def _share(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"

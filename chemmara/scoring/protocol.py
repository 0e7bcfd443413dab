"""The JSON-lines protocol of outside oracles, version 1: requests as text, answers as evaluations (docs/oracles.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from chemmara.errors import nearest
from chemmara.scoring.component import evaluation_of
from chemmara.scoring.evaluation import Evaluation, SharedEvaluation

VERSION = 1


def hello() -> str:
    """The first line: which protocol is spoken."""
    return json.dumps({"protocol": VERSION, "hello": True}, separators=(",", ":"))


def hello_fault(answer: Mapping[str, Any], asked: Sequence[str]) -> str | None:
    """What is wrong with the answer to :func:`hello`, if anything; ``asked`` are the endpoints that there must be."""
    if answer.get("protocol") != VERSION:
        return f"speaks protocol {answer.get('protocol')!r:.40}, this version of chemmara speaks {VERSION}"
    endpoints = answer.get("endpoints")
    if not isinstance(endpoints, list) or not all(isinstance(name, str) for name in endpoints):
        return "names no list of endpoints"
    missing = next((name for name in asked if name not in endpoints), None)
    return None if missing is None else f"has no endpoint '{missing}'{nearest(missing, endpoints)}"


def request(number: int, smiles: Sequence[str]) -> str:
    """One batch as one line; the keys in this order and without spaces, so that a shell script can take it apart."""
    return json.dumps({"protocol": VERSION, "id": number, "smiles": list(smiles)}, separators=(",", ":"))


def parse(line: bytes | str) -> dict[str, Any] | None:
    """A line as a table; None for everything else that a program prints."""
    try:
        text = line.decode("utf-8") if isinstance(line, bytes) else line
        table = json.loads(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return None
    return table if isinstance(table, dict) else None


def answer(table: Mapping[str, Any], endpoint: str) -> SharedEvaluation:
    """The evaluation of one molecule from ``{"values": {endpoint: number, ...}, "error": text}``.

    ``error`` may also be a table of reasons by endpoint. An endpoint without a value fails with the error given, else
    with what is wrong with the value.
    """
    values, error = table.get("values"), table.get("error")
    values = values if isinstance(values, Mapping) else {}
    reasons = error if isinstance(error, Mapping) else {}
    general = _clean(error) if error is not None and not isinstance(error, Mapping) else None
    found = {}
    for name in dict.fromkeys((endpoint, *values, *reasons)):
        reason = _clean(reasons[name]) if reasons.get(name) is not None else general
        found[str(name)] = _one(values, str(name), reason)
    return SharedEvaluation.of(endpoint, found, general)


def _one(values: Mapping[str, Any], name: str, reason: str | None) -> Evaluation:
    if reason is not None:  # a program that gives both does not trust its value
        return Evaluation(math.nan, reason)
    if name not in values:
        return Evaluation(math.nan, f"no value for '{name}'")
    if isinstance(values[name], bool):
        return Evaluation(math.nan, "not a number: true or false")
    return evaluation_of(values[name])


def _clean(text: Any) -> str:
    """A reason on one line, short and printable."""
    line = " ".join(str(text).split())[:300]
    return "".join(c if c.isprintable() else "?" for c in line) or "failed without a reason"

"""Why a text is no molecule, in a few words. Only failures pay for this second look."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, cast

from chemmara.lazy import lazy

if TYPE_CHECKING:
    from rdkit import Chem
else:
    Chem = lazy("rdkit.Chem")


@cache
def parser(sanitize: bool) -> Chem.SmilesParserParams:
    """Strict settings of RDKit's SMILES parser: no name, no extension block."""
    parameters: Any = Chem.SmilesParserParams()
    parameters.parseName = False
    parameters.allowCXSMILES = False
    parameters.sanitize = sanitize
    return cast(Chem.SmilesParserParams, parameters)


def explain(text: str) -> str:
    """The reason why RDKit refuses a SMILES: its syntax, a valence, or aromaticity that cannot be resolved."""
    raw = Chem.MolFromSmiles(text, parser(sanitize=False))
    if raw is None:
        return f"cannot be parsed as SMILES: {_syntax(text)}"
    problems = Chem.DetectChemistryProblems(raw)
    if problems:
        return _describe(problems[0], raw)
    try:
        Chem.SanitizeMol(raw)  # finds what the list above leaves out, a valence that only aromaticity exceeds
    except Chem.MolSanitizeException as error:
        return _describe(error.cause, raw)  # type: ignore[attr-defined]
    return "cannot be sanitized"


def _describe(problem: Any, raw: Chem.Mol) -> str:
    kind = problem.GetType()
    if kind == "AtomValenceException":
        atom = raw.GetAtomWithIdx(problem.GetAtomIdx())
        return f"valence of {atom.GetSymbol()} (atom {atom.GetIdx()}) exceeded"
    if kind == "KekulizeException":
        return f"cannot be kekulized: aromatic atoms {', '.join(str(i) for i in problem.GetAtomIndices())}"
    return f"cannot be sanitized: {problem.Message()}"


def _syntax(text: str) -> str:
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return "unopened parenthesis"
    if depth:
        return "unclosed parenthesis"
    if text.count("[") != text.count("]"):
        return "unbalanced bracket"
    open_rings = _open_rings(text)
    return f"unclosed ring {open_rings[0]}" if open_rings else "syntax error"


def _open_rings(text: str) -> list[str]:
    labels: dict[str, None] = {}
    inside = False
    position = 0
    while position < len(text):
        character = text[position]
        inside = character == "[" or (inside and character != "]")
        step = 3 if character == "%" else 1
        if not inside and (character.isdigit() or character == "%"):
            label = text[position : position + step].lstrip("%")
            if label in labels:
                del labels[label]
            else:
                labels[label] = None
        position += step
    return list(labels)

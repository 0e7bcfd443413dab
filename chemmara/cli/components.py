"""chemmara components: everything that a config can name, with its parameters."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer

from chemmara.cli.console import PIPE_WIDTH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chemmara.registry import Entry, Registry


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(components)


def components(
    name: Annotated[str | None, typer.Argument(help="one of them, in full [default: all]")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="draw the transforms, or the one that is named, into this .png, .svg or .pdf, or directory"),
    ] = None,
) -> None:
    """List components, transforms, objectives and whatever else a config can name."""
    if plot is not None:
        from chemmara.reporting.transform_plots import NO_SKETCH, plot_transforms

        files, left_out = plot_transforms(plot, [] if name is None else [name])
        for file in files:
            typer.echo(f"written: {file}")
        for transform in left_out:
            typer.echo(f"left out: transform '{transform}' {NO_SKETCH}", err=True)
        return
    if name is not None:
        for text in _in_full(name):
            typer.echo(text)
        return
    width = shutil.get_terminal_size((PIPE_WIDTH, 24)).columns
    for registry in registries():
        typer.echo(_listing(registry, width))


def registries() -> list[Registry[Any]]:
    """All registries, in the order in which a config uses them."""
    from chemmara.klrl.augmentation import AUGMENTATIONS
    from chemmara.klrl.objectives import OBJECTIVES
    from chemmara.klrl.strength import STRENGTHS
    from chemmara.language.tokenizers import TOKENIZERS
    from chemmara.optimization.filters import DIVERSITY_FILTERS
    from chemmara.optimization.screening import SCREENS
    from chemmara.policies.policy import POLICIES
    from chemmara.scoring.aggregation import AGGREGATIONS
    from chemmara.scoring.component import COMPONENTS
    from chemmara.scoring.executors import EXECUTORS
    from chemmara.scoring.transforms import TRANSFORMS

    return [COMPONENTS, TRANSFORMS, AGGREGATIONS, OBJECTIVES, STRENGTHS, AUGMENTATIONS, DIVERSITY_FILTERS, SCREENS,
            EXECUTORS, TOKENIZERS, POLICIES]  # fmt: skip


def parameters(entry: Entry[Any]) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default ("required", "optional") and description of each parameter."""
    for name, field in entry.parameters.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "required" if field.is_required() else "optional" if default is None else _plain(default)
        yield field.alias or name, _type(field.annotation), shown, field.description or ""


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value) if isinstance(value, str) else str(value)


def _type(annotation: Any) -> str:
    if annotation is None or annotation is type(None):
        return ""
    arguments = [_type(a) if isinstance(a, type) or get_origin(a) else _plain(a) for a in get_args(annotation)]
    origin = getattr(get_origin(annotation), "__name__", "")
    if origin in ("list", "tuple"):
        return f"list of {arguments[0]}"
    if origin == "dict":
        return f"table of {' to '.join(arguments)}"
    if arguments:
        return " | ".join(argument for argument in arguments if argument)
    if hasattr(annotation, "model_fields"):
        return "table"
    known = {"str": "text", "float": "number", "int": "whole number", "bool": "true/false", "Path": "path"}
    return known.get(getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation)))


def bounds(entry: Entry[Any]) -> str:
    """The raw range of a component, '' for anything else."""
    if not hasattr(entry.item, "bounds"):
        return ""
    low, high = entry.item.bounds
    return f"{'-inf' if low is None else f'{low:g}'} to {'inf' if high is None else f'{high:g}'}"


def _listing(registry: Registry[Any], width: int) -> str:
    """All entries of one kind. Plain text: a table of this length takes 0.1 seconds to lay out."""
    plural = f"{registry.kind.removesuffix('y')}ies" if registry.kind.endswith("y") else f"{registry.kind}s"
    lines = [typer.style(plural, bold=True, underline=True)]
    for entry in registry:
        unit = getattr(entry.item, "unit", "")
        raw = f" ({bounds(entry)}{f' {unit}' if unit else ''})" if bounds(entry) else ""
        head = _wrapped(f"{entry.name}{raw}: {entry.summary}", width, "  ")
        lines.append(head.replace(entry.name, typer.style(entry.name, bold=True), 1))
        for name, _, default, description in parameters(entry):
            shown = default if default in ("required", "optional") else f"= {default}"
            lines.append(_wrapped(f"{name} {shown}: {description}", width, "      "))
    return "\n".join([*lines, ""])


def _wrapped(text: str, width: int, indent: str) -> str:
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=f"{indent}    ")


def _in_full(name: str) -> list[str]:
    from chemmara.errors import UserError, nearest

    found = [(registry, registry[name]) for registry in registries() if name in registry]
    if not found:
        names = dict.fromkeys(known for registry in registries() for known in registry.names())
        raise UserError(f"nothing is called '{name}'{nearest(name, names)}")
    return ["\n".join(_describe(registry, entry)) for registry, entry in found]


def _describe(registry: Registry[Any], entry: Entry[Any]) -> Iterator[str]:
    yield f"{registry.kind} {entry.name}\n"
    yield entry.description + "\n"
    if registry.kind == "component":
        unit = f" {entry.item.unit}" if entry.item.unit else ""
        yield f"raw values: {bounds(entry)}{unit}"
        low, high = entry.item.bounds
        if low is None or high is None or low < 0 or high > 1:
            yield f"needs a transform into [0, 1], for example transform = {entry.item.example}"
        yield "also takes: label, weight, filter, transform"
    rows = list(parameters(entry))
    yield "parameters:" if rows else "no parameters of its own"
    for key, kind, default, description in rows:
        standing = default if default in ("required", "optional") else f"default {default}"
        yield f"  {key} ({kind}; {standing}): {description}"
    yield ""

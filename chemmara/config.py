"""Reading TOML, YAML or JSON into plain tables, and saying what is wrong where.

The models of parameters live beside the implementations that use them and derive from :class:`Parameters`; this
module knows none of them.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from chemmara.errors import ConfigError, nearest

Table = dict[str, Any]


class Parameters(BaseModel):
    """Base of every table of a config: frozen; unknown keys, NaN and infinity refused; text is never converted."""

    # Built at first use: a listing of all parameters validates nothing, and start-up is what a user waits for.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, strict=False, protected_namespaces=(), defer_build=True
    )


class NoParameters(Parameters):
    """Takes no parameters."""


M = TypeVar("M", bound=BaseModel)


def check(model: type[M], table: Any, where: str = "") -> M:
    """Validate ``table`` against ``model``; the first fault becomes a :class:`ConfigError` of one line."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where or 'config'}: expected a table of keys, got {_kind(table)}")
    try:
        # Strict JSON mode: text is no number and true is not 1, yet a list may fill a tuple and text a path.
        return model.model_validate_json(json.dumps(dict(table), default=plain), strict=True)
    except ValidationError as error:
        raise ConfigError(_explain(model, error, where)) from None


def plain(value: Any) -> Any:
    """What JSON knows in place of a value that it does not: numbers and lists for NumPy's, else text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _explain(model: type[BaseModel], error: ValidationError, where: str) -> str:
    faults = error.errors(include_url=False)
    # A misspelt key also shows up as a missing one: the spelling is the better message.
    first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    place = _place(where, first["loc"])
    kind = first["type"]
    if kind == "extra_forbidden":
        valid = _fields_at(model, first["loc"][:-1])
        return f"{place}: unknown key{nearest(str(first['loc'][-1]), valid)}"
    if kind == "missing":
        return f"{place}: this key is required"
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    message = _shape(kind, place, first.get("input")) or message
    value = first.get("input")
    shown = "" if isinstance(value, (Mapping, list, BaseModel)) else f" (got {value!r})"
    hint = ""
    if kind in ("enum", "literal_error") and isinstance(value, str):
        hint = nearest(value, _choices(first)) if _choices(first) else ""
    return f"{place}: {message}{shown}{hint if hint.startswith('; did') else ''}"


def _shape(kind: str, place: str, value: Any) -> str:
    """What is wanted where a list or a table stands for something else, in the words of TOML; '' for other faults."""
    if kind in ("list_type", "tuple_type"):
        tables = isinstance(value, Mapping)
        return f"should be a list of tables, [[{place}]] and not [{place}]" if tables else "should be a list, [...]"
    return "should be a table of keys, { ... }" if kind in ("dict_type", "model_type") else ""


def _choices(error: Any) -> list[str]:
    expected = str(error.get("ctx", {}).get("expected", ""))
    return [part.strip(" '\"") for part in expected.replace(" or ", ",").split(",") if part.strip()]


def _place(where: str, location: tuple[int | str, ...]) -> str:
    text = where
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not part.startswith(("function-", "constrained-", "union", "list[", "dict[")):
            text += f".{part}" if text else part
    return text or "config"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    current: Any = model
    for part in location:
        if isinstance(part, str) and isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(part)
            current = field.annotation if field else None
        for candidate in getattr(current, "__args__", ()):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                current = candidate
                break
    if isinstance(current, type) and issubclass(current, BaseModel):
        return [field.alias or name for name, field in current.model_fields.items()]
    return []


def _kind(value: Any) -> str:
    return {list: "a list", str: "text", bool: "true/false", type(None): "nothing"}.get(type(value), f"{value!r}")


def read_table(path: str | Path) -> Table:
    """The table in a ``.toml``, ``.yaml``/``.yml`` or ``.json`` file.

    Raises :class:`ConfigError` for a file that is missing, a directory, not text, or not of its format.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"config file '{path}' does not exist{_neighbours(path)}") from None
    except IsADirectoryError:
        raise ConfigError(f"'{path}' is a directory, not a config file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"config file '{path}' is not text (UTF-8)") from None
    except OSError as error:
        raise ConfigError(f"config file '{path}' cannot be read: {error.strerror}") from None
    if not text.strip():
        raise ConfigError(f"config file '{path}' is empty")
    table = _parse(path, text)
    if not isinstance(table, dict):
        raise ConfigError(f"config file '{path}' holds {_kind(table)}, not a table of keys")
    try:
        _refuse_odd_keys(table, str(path))
        refuse_non_finite(table, str(path))
    except RecursionError:  # YAML lets a table hold itself
        raise ConfigError(f"config file '{path}' is nested too deeply") from None
    return table


def _parse(path: Path, text: str) -> Any:
    suffix = path.suffix.lower()
    try:
        if suffix == ".json":
            return json.loads(text)
        if suffix in (".yaml", ".yml"):
            return _parse_yaml(text)
        return tomllib.loads(text)
    except ValueError as error:
        name = {".json": "JSON", ".yaml": "YAML", ".yml": "YAML"}.get(suffix, "TOML")
        raise ConfigError(f"config file '{path}' is not valid {name}: {error}") from None
    except RecursionError:
        raise ConfigError(f"config file '{path}' is nested too deeply") from None


def _parse_yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """PyYAML keeps to YAML 1.1, where 5e-4 is text; here it is a number, as in YAML 1.2, TOML and JSON."""

    number = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _neighbours(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return ""
    names = [p.name for p in folder.iterdir() if p.suffix in (".toml", ".yaml", ".yml", ".json")]
    hint = nearest(path.name, names)
    return hint if hint.startswith("; did") else ""


def _refuse_odd_keys(value: Any, where: str) -> None:
    """YAML takes numbers, dates and nothing as keys; no table of a config has such."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if isinstance(value, dict) and not isinstance(key, str):
            raise ConfigError(f"{where}: the key {key} is not text")
        _refuse_odd_keys(item, f"{where}.{key}" if isinstance(value, dict) else f"{where}[{key}]")


def refuse_non_finite(value: Any, where: str) -> None:
    """Raise :class:`ConfigError` where a NaN or an infinity stands anywhere in a table."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: {value} is not a finite number")
    if isinstance(value, dict):
        for key, item in value.items():
            refuse_non_finite(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            refuse_non_finite(item, f"{where}[{index}]")


# Two names of one number: whoever sets one of them replaces the other.
_OTHER_NAME = {"beta": "sigma", "sigma": "beta"}


def _drop_other_name(table: Table, override: Mapping[str, Any]) -> None:
    for key in override:
        if _OTHER_NAME.get(key, key) not in override and not isinstance(override[key], Mapping):
            table.pop(_OTHER_NAME[key], None)


def merge(base: Mapping[str, Any], *overrides: Mapping[str, Any]) -> Table:
    """Tables laid over each other, the later one winning key by key.

    A table that brings another ``name`` than the one below replaces it whole: the parameters of one objective mean
    nothing to another. A ``beta`` replaces a ``sigma`` below it, and the other way round.
    """
    result = dict(base)
    for override in overrides:
        _drop_other_name(result, override)
        for key, value in override.items():
            below = result.get(key)
            same = isinstance(value, Mapping) and isinstance(below, Mapping)
            if same and value.get("name", below.get("name")) == below.get("name"):  # type: ignore[union-attr]
                result[key] = merge(below, value)  # type: ignore[arg-type]
            else:
                result[key] = dict(value) if isinstance(value, Mapping) else value
    return result


def set_key(table: Table, assignment: str) -> Table:
    """``table`` with one ``dotted.key=value`` laid over it; the value is read as TOML or JSON, else taken as text."""
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set takes key=value, got '{assignment}'")
    value = _value(text.strip())
    refuse_non_finite(value, key.strip())
    result = dict(table)
    current = result
    parts = key.strip().split(".")
    for part in parts[:-1]:
        below = current.get(part, {})
        if isinstance(below, list) or "[" in part:
            raise ConfigError(
                f"--set {key.strip()}: '{part.partition('[')[0]}' is a list, whose items cannot be set alone; change "
                "them in the config"
            )
        if not isinstance(below, dict):
            raise ConfigError(f"--set {key.strip()}: '{part}' is not a table")
        current[part] = dict(below)
        current = current[part]
    _drop_other_name(current, {parts[-1]: value})
    current[parts[-1]] = value
    return result


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        pass
    if text.startswith(("{", "[")):  # tables of JSON, which is how a Python dictionary comes here
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            pass
    return text


def set_keys(table: Table, assignments: Iterable[str]) -> Table:
    """``table`` with several assignments laid over it, the later ones over the earlier."""
    for assignment in assignments:
        table = set_key(table, assignment)
    return table

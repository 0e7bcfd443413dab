"""The README and the docs name only files, commands, options and names that exist; the generated parts are current."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

import chemmara
from chemmara.cli.main import app
from chemmara.config import check
from chemmara.optimization.methods import PRESETS, resolve_method
from chemmara.optimization.settings import _Head
from chemmara.optimization.tables import ExecutionSettings
from chemmara.registry import Registry
from chemmara.scoring.settings import ScoringSettings
from chemmara.workflows import docs

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def blocks(path: Path, *languages: str) -> list[str]:
    """The code blocks of a page in one of the languages, without their indentation."""
    text = path.read_text(encoding="utf-8")
    found = [(match[1], match[3]) for match in FENCE.finditer(text) if match[2] in languages]
    return ["\n".join(line.removeprefix(indent) for line in body.splitlines()) for indent, body in found]


def inline_commands(path: Path) -> list[str]:
    return re.findall(r"`(chemmara [^`]+)`", path.read_text(encoding="utf-8"))


def command_lines(path: Path) -> list[str]:
    """Every call of chemmara in a page, from shell blocks and from the running text."""
    parts = [part for block in blocks(path, "sh", "powershell") for part in re.split(r"&&|;|\n", block)]
    calls = [part.strip().removeprefix(".venv\\Scripts\\") for part in parts]
    return [call for call in calls if call.startswith("chemmara ")] + inline_commands(path)


def find(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words begin with, and the rest of them."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        if not words or words[0].startswith("-"):
            break
        if words[0] not in command.commands and "suite" in command.commands:
            words = ["suite", *words]  # `chemmara benchmark pmo` is its command `suite`
        assert words[0] in command.commands, f"there is no command 'chemmara {' '.join(words)}'"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def unknown_options(line: str) -> list[str]:
    command, words = find(shlex.split(line.replace("\\", "/"))[1:])
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_their_options_exist(path: Path) -> None:
    for line in command_lines(path):
        assert not unknown_options(line), line


def test_a_wrong_command_would_be_found() -> None:
    assert unknown_options("chemmara optimize configs/quickstart.toml --seed-range 0-4") == ["--seed-range"]
    with pytest.raises(AssertionError):
        find(["optimise"])


def test_readme_shows_every_command() -> None:
    shown = {find(shlex.split(line)[1:])[0].name for line in command_lines(README)}
    command: Any = typer.main.get_command(app)
    groups = {"benchmark", "ledger", "priors", "study", "surrogate"}  # shown by the commands in them
    assert set(command.commands) - groups <= shown
    for group in groups:
        assert set(command.commands[group].commands) <= shown


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\", "/")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    for link in links:
        assert (path.parent / link).exists(), link
    named = re.findall(r"(?<![\w/])(?:configs|docs|notebooks|chemmara|tests)/[\w/.-]*\w", text)
    for name in named:
        # The package may be installed and its sources elsewhere.
        base = Path(chemmara.__file__).parent.parent if name.startswith("chemmara/") else ROOT
        assert (base / name).exists(), name
    assert "constraints.txt" not in text or (ROOT / "constraints.txt").is_file()


def test_readme_begins_with_the_two_commands() -> None:
    run, check = blocks(README, "sh")[:2]
    for command in (run, check):
        assert command.startswith("python3 -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt ")
    assert run.endswith("&& chemmara optimize configs/quickstart.toml -o results")
    assert check.endswith('&& pytest -m "not slow"')


def test_python_example_uses_what_is_there() -> None:
    (example,) = blocks(README, "python")
    assert len(example.splitlines()) < 10
    compile(example, "README.md", "exec")
    names = set(re.findall(r"\bcm\.(\w+)", README.read_text(encoding="utf-8")))
    assert names
    assert names <= set(chemmara.__all__)


CONFIGS = [(path, number) for path in PAGES for number in range(len(blocks(path, "toml")))]


@pytest.mark.parametrize(("path", "number"), CONFIGS, ids=lambda v: v.name if isinstance(v, Path) else str(v))
def test_config_examples_are_valid(path: Path, number: int, tmp_path: Path) -> None:
    config = tomllib.loads(blocks(path, "toml")[number])
    for module in blocks(path, "python"):
        name = re.match(r"# (\w+\.py)\n", module)
        if name:
            (tmp_path / name[1]).write_text(module)
    scoring = config.get("scoring")
    if scoring:
        assert ScoringSettings.parse(scoring, folder=tmp_path).labels
    assert set(config) <= {*_Head.model_fields, "methods", "preset"}
    for method in config.get("methods", {}):
        resolved = resolve_method(config, method)
        check_tables(resolved)
        assert check(_Head, {"scoring": {}, **resolved})
    if scoring is None and "methods" not in config:
        check_tables(config)


def check_tables(table: dict[str, Any]) -> None:
    from chemmara.klrl.augmentation import build_augmentation
    from chemmara.klrl.objectives import OBJECTIVES

    if "objective" in table:
        OBJECTIVES.build_parameters(table["objective"], "objective")
    if "augmentation" in table:
        build_augmentation(table["augmentation"], 0.7)


def test_every_preset_is_described() -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    for name in PRESETS:
        assert f"`{name}`" in text


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_generated_parts_are_current(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert docs.filled(page) == page, "run: python -m chemmara.workflows.docs docs"


def test_every_part_stands_in_some_page() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    assert {match[2] for match in docs.PART.finditer(pages)} == set(docs.PARTS)


def test_a_stale_part_is_replaced() -> None:
    stale = "before\n<!-- generated: aggregations -->\nold\n<!-- end -->\nafter\n"
    fresh = docs.filled(stale)
    assert "old" not in fresh
    assert "`geometric_mean`" in fresh
    assert fresh.startswith("before\n")
    assert fresh.endswith("after\n")
    assert docs.filled(fresh) == fresh


def test_every_registered_name_is_in_the_docs() -> None:
    pages = {docs.POLICIES: "config.md", docs.SUITES: "benchmarks.md"}
    registries = [value for value in vars(docs).values() if isinstance(value, Registry)]
    assert {docs.SCREENS, docs.STRENGTHS, docs.COMPONENTS} <= {*registries}
    for registry in registries:
        page = pages.get(registry, "components.md")
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for entry in registry:
            assert f"\n### `{entry.name}`" in text or f"\n| `{entry.name}` |" in text, (
                f"docs/{page} lacks the {registry.kind} {entry.name}; run: python -m chemmara.workflows.docs docs"
            )


def choices(help_text: str) -> set[str]:
    """The names in a help text that begins with them, or ends with them after a colon.

    >>> sorted(choices("a, b or c [default: a]"))
    ['a', 'b', 'c']
    """
    return {*re.split(r", | or ", help_text.partition(" [")[0].rpartition(": ")[2])}


def option(command: str, name: str) -> str:
    found, _ = find(command.split())
    return next(str(parameter.help) for parameter in found.params if parameter.name == name)


def test_names_written_by_hand_are_those_of_the_registries() -> None:
    """By hand, since to look them up takes longer than a help text may: the suites import torch."""
    suites, policies, executors = ({*registry.names()} for registry in (docs.SUITES, docs.POLICIES, docs.EXECUTORS))
    assert choices(option("benchmark suite", "suite")) == suites
    assert choices(option("train", "policy")) == policies
    group: Any = typer.main.get_command(app)
    assert {*re.findall(r"\(([^)]*)\)", group.commands["benchmark"].help)[0].split(", ")} == suites
    executor = ExecutionSettings.model_fields["executor"].description
    assert executor is not None
    assert choices(executor) == executors
    readme = README.read_text(encoding="utf-8")
    for row, names in (("`chemmara train DATA", policies), ("`chemmara benchmark SUITE", suites)):
        (line,) = re.findall(rf"^\| {re.escape(row)}.*", readme, re.MULTILINE)
        assert names <= {*re.findall(r"[\w-]+", line)}, line

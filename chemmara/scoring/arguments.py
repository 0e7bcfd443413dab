"""The arguments of what is not ours: files among them are found beside the config and stand by their content.

A file is an argument of its own or follows the ``=`` of an option. Which arguments are files is decided once, when a
config is read: those are absolute from then on. What the program writes, such as a log, is ``unwatched``; further files
that its values depend on, such as what a script reads, are ``watched``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chemmara.errors import ConfigError, nearest
from chemmara.scoring.component import file_hash, locate

UNWATCHED = "arguments that name what the program itself writes, such as a log: their content is of no account"
WATCHED = "further files that the values depend on, such as what a script reads: a change makes another oracle"
OWN_FILE = "a file that a program itself writes belongs into unwatched"
"""The remedy that stands beside a refusal because of a changed file."""


def located(argument: str, unwatched: Sequence[str] | None, *folders: Path) -> str:
    """An argument with its file made absolute, if there is one in one of ``folders``."""
    for head, name in readings(argument):
        if name in (unwatched or ()) or argument in (unwatched or ()):
            return argument
        for folder in folders:
            if is_file(folder / name):
                return f"{head}{(folder / name).absolute()}"
    return argument


def to_be_written(arguments: Sequence[str], unwatched: Sequence[str] | None) -> list[str] | None:
    """``unwatched``, and the absolute paths where there is nothing yet: a file there will be the program's own."""
    new = [name for argument in arguments for _, name in readings(argument) if _is_free(name)]
    return list(dict.fromkeys([*(unwatched or ()), *new])) or None


def content(argument: str, unwatched: Sequence[str] | None) -> str | list[str]:
    """What an argument stands for among all that values depend on: a file by its name and content, else the text."""
    for head, name in readings(argument):
        if name in (unwatched or ()) or argument in (unwatched or ()):
            return argument
        path = Path(name)
        if path.is_absolute() and is_file(path):
            return [head, path.name, file_hash(path)] if head else [path.name, file_hash(path)]
    return argument


def check_unwatched(arguments: Sequence[str], unwatched: Sequence[str] | None, where: str) -> None:
    """Raise ConfigError for one that is no argument, nor the file of one."""
    names = {text for argument in arguments for text in (argument, *(name for _, name in readings(argument)))}
    for index, name in enumerate(unwatched or ()):
        if name not in names:
            hint = nearest(name, (Path(each).name for each in names))
            raise ConfigError(f"{where}.unwatched[{index}]: '{name}' is none of the arguments{hint}")


def located_files(watched: Sequence[Path] | None, folder: Path) -> list[Path] | None:
    """``watched`` made absolute: beside the config, or in the working directory."""
    return None if watched is None else [locate(path, folder) for path in watched]


def check_watched(watched: Sequence[Path] | None, where: str) -> None:
    """Raise ConfigError for one that is no file."""
    for index, path in enumerate(watched or ()):
        if not is_file(path):
            what = "is a folder; name the files in it" if path.is_dir() else "does not exist"
            raise ConfigError(f"{where}.watched[{index}]: file '{path}' {what}")


def contents(watched: Sequence[Path] | None) -> list[list[str]]:
    """What the files stand for among all that values depend on: their names and contents."""
    return [[path.name, file_hash(path)] for path in watched or ()]


def readings(argument: str) -> list[tuple[str, str]]:
    """What may be the name of a file in an argument, with what stands before it."""
    head, equals, name = argument.partition("=")
    return [("", argument), (head + equals, name)] if name else [("", argument)]


def is_file(path: Path) -> bool:
    """Whether it is one that can be looked at."""
    try:
        return path.is_file()
    except OSError:  # a name too long, say
        return False


def _is_free(name: str) -> bool:
    try:
        return Path(name).is_absolute() and not Path(name).exists()
    except OSError:
        return False

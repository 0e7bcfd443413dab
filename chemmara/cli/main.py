"""The `chemmara` command. Each subcommand is a thin module that imports what it needs when it runs."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from chemmara import __version__
from chemmara.errors import ChemmaraError
from chemmara.interrupts import Interrupted, keep_to_python

# The base of every complaint about options and arguments; typer exports only its descendants.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class Commands(TyperGroup):
    """Answers every mistake of the user with one line and an exit code, never a traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line and end the process with its exit code."""
        if not extra.get("standalone_mode", True):
            return super().main(*args, **extra)
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except UsageError as error:
            code = _usage(error)
        except typer.Abort:
            code = _say("interrupted", 130)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run one command; its errors become one line on the standard error and an exit code."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _warn
                return super().invoke(ctx)
        except (ChemmaraError, Interrupted) as error:
            raise typer.Exit(_say(str(error), error.exit_code)) from None
        except KeyboardInterrupt:
            raise typer.Exit(_say("interrupted", 130)) from None
        except BrokenPipeError:
            # The reader has left (`| head`). Nothing may be written at the end of the process either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except OSError as error:
            place = f"'{error.filename}': " if error.filename else ""
            raise typer.Exit(_say(f"{place}{error.strerror or error}", 1)) from None


def _say(text: str, code: int) -> int:
    typer.echo(f"chemmara: {text}", err=True)
    return code


def _usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message())
        return 2
    path = context.command_path if context is not None else "chemmara"
    text = " ".join(error.format_message().split())
    return _say(f"{text.rstrip('.')}; see `{path} --help`", 2)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"chemmara: warning: {message}", err=True)


# Each is a module of this package that registers a command, or a group of them, of its name; in the order of --help.
COMMANDS = (
    "optimize", "compare", "benchmark", "export", "score", "sample", "train", "finetune", "surrogate", "study",
    "validate", "components", "priors", "ledger", "doctor",
)  # fmt: skip


def options(
    version: Annotated[bool, typer.Option("--version", help="print the version and stop", is_eager=True)] = False,
) -> None:
    """Options before the command."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


def build(command: str | None = None) -> typer.Typer:
    """The application; only with ``command``, if it is one: to import them all takes longer than to run a light one."""
    application = typer.Typer(
        cls=Commands,
        name="chemmara",
        help="Chemical language models, tuned by reinforcement learning that does not collapse.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )
    application.callback(invoke_without_command=True)(options)
    for name in (command,) if command in COMMANDS else COMMANDS:
        importlib.import_module(f"chemmara.cli.{name}").register(application)
    return application


def __getattr__(name: str) -> Any:
    """``app``: the application with all its commands, for whoever calls it from Python."""
    if name != "app":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    globals()["app"] = build()
    return globals()["app"]


# They end before there is garbage worth looking for, and looking for it takes an eighth of their time.
SHORT_LIVED = ("components", "validate", "priors")


def main() -> None:
    """Run the command line."""
    keep_to_python()
    # Looking for plugins of pydantic means reading the metadata of every installed package; there is none for us.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    command = sys.argv[1] if len(sys.argv) > 1 else None
    if command in SHORT_LIVED:
        gc.disable()
    build(command)()

"""The `chemmara` command. Each subcommand is a thin module that imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from chemmara import __version__
from chemmara.errors import ChemmaraError


class Commands(TyperGroup):
    """Answers every mistake of the user with one line and an exit code, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ChemmaraError as error:
            typer.echo(f"chemmara: {error}", err=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("chemmara: interrupted; what was done is saved", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands,
    name="chemmara",
    help="Chemical language models, tuned by reinforcement learning that does not collapse.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="print the version and stop", is_eager=True)] = False,
) -> None:
    """Options before the command."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _register() -> None:
    from chemmara.cli import train

    for module in (train,):
        module.register(app)


_register()


def main() -> None:
    """Run the command line."""
    app()

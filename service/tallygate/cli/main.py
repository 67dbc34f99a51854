"""The root command, and the one place where errors become exit codes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tallygate import __version__
from tallygate.cli.config_file import use_config
from tallygate.cli.nouns import add_nouns
from tallygate.cli.output import complain
from tallygate.core.errors import InputError, TallygateError

app = typer.Typer(
    name="tallygate",
    help="API token licensing for Envoy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
add_nouns(app)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"tallygate {__version__}")
        raise typer.Exit


@app.callback()
def root(
    config_file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings in TOML; the environment wins.")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """API token licensing for Envoy."""
    use_config(config_file)


def run() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 bad input."""
    try:
        app()
    except InputError as error:
        complain(str(error))
        sys.exit(2)
    except TallygateError as error:
        complain(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)

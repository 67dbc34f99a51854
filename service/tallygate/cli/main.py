"""The root command, and the one place where errors become exit codes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tallygate import __version__
from tallygate.cli import (
    admin,
    admin_keys,
    audit,
    config,
    customers,
    db,
    dev,
    explain,
    plans,
    serve,
    subscriptions,
    tokens,
    versions,
)
from tallygate.cli.context import use_config
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
app.command("dev")(dev.dev)
app.command("serve")(serve.serve)
app.command("admin")(admin.admin)
app.command("explain")(explain.explain)
app.add_typer(db.app, name="db")
app.add_typer(config.app, name="config")
app.add_typer(plans.app, name="plans")
app.add_typer(customers.app, name="customers")
app.add_typer(subscriptions.app, name="subscriptions")
app.add_typer(tokens.app, name="tokens")
app.add_typer(audit.app, name="audit")
app.add_typer(admin_keys.app, name="admin-keys")
versions.add_to(plans.app)


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

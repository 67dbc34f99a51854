"""`tallygate admin`: the REST API, and the work in the background beside it."""

from typing import Annotated

import typer
import uvloop

from tallygate import log
from tallygate.app import rest_api
from tallygate.cli.given_settings import load_settings
from tallygate.cli.nouns import noun

app = noun("admin")


@app.command()
def admin(
    has_worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Whether to do what `tallygate worker` does, too.")
    ] = True,
) -> None:
    """Serve the REST API until SIGTERM or Ctrl-C; requests under way are finished."""
    values = load_settings().values
    log.configure(values.log_level)
    uvloop.run(rest_api.admin(values, has_worker=has_worker))

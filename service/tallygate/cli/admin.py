"""`tallygate admin`: the REST API."""

import uvloop

from tallygate import app
from tallygate.cli.context import load_settings


def admin() -> None:
    """Serve the REST API until SIGTERM or Ctrl-C; requests under way are finished."""
    values = load_settings().values
    uvloop.run(app.admin(values))

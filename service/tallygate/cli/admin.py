"""`tallygate admin`: the REST API."""

import uvloop

from tallygate import log
from tallygate.app import rest_api
from tallygate.cli.given_settings import load_settings
from tallygate.cli.nouns import noun

app = noun("admin")


@app.command()
def admin() -> None:
    """Serve the REST API until SIGTERM or Ctrl-C; requests under way are finished."""
    values = load_settings().values
    log.configure(values.log_level)
    uvloop.run(rest_api.admin(values))

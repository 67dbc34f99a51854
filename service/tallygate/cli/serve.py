"""`tallygate serve`: the data plane."""

import uvloop

from tallygate import log
from tallygate.app import data_plane
from tallygate.cli.given_settings import load_settings
from tallygate.cli.nouns import noun

app = noun("serve")


@app.command()
def serve() -> None:
    """Answer Envoy's checks until SIGTERM or Ctrl-C; then drain and stop."""
    values = load_settings().values
    log.configure(values.log_level)
    uvloop.run(data_plane.serve(values))

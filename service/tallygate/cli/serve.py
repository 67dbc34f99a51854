"""`tallygate serve`: the data plane."""

import uvloop

from tallygate import app
from tallygate.cli.context import load_settings


def serve() -> None:
    """Answer Envoy's checks until SIGTERM or Ctrl-C; then drain and stop."""
    values = load_settings().values
    uvloop.run(app.serve(values))

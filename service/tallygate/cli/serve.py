"""`tallygate serve`: the data plane, in this process or in several that this one supervises."""

import os

import structlog
import uvloop

from tallygate import log
from tallygate.cli.config_file import config_file
from tallygate.cli.given_settings import load_settings
from tallygate.cli.nouns import noun
from tallygate.settings import Settings
from tallygate.workers.seat import Seat

app = noun("serve")


@app.command()
def serve() -> None:
    """Answer Envoy's checks until SIGTERM or Ctrl-C; then drain and stop."""
    seat = Seat.take(os.environ)
    if seat is not None:
        seat.die_with_supervisor()
        structlog.contextvars.bind_contextvars(worker=seat.number, pid=os.getpid())
    values = load_settings().values
    log.configure(values.log_level)
    if seat is None and values.workers > 1:
        _supervise(values)
    else:
        _serve(values, seat)


# Each imports for itself: a supervisor decides nothing, and holds none of what workers need for it.


def _supervise(values: Settings) -> None:
    from tallygate.app.workers import supervise  # noqa: PLC0415 - see above

    uvloop.run(supervise(values, config_file()))


def _serve(values: Settings, seat: Seat | None) -> None:
    from tallygate.app import data_plane  # noqa: PLC0415 - see above

    uvloop.run(data_plane.serve(values, seat))

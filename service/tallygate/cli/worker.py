"""`tallygate worker`: the work in the background, in a process of its own."""

import uvloop

from tallygate import log
from tallygate.app import background
from tallygate.cli.given_settings import load_settings
from tallygate.cli.nouns import noun

app = noun("worker")


@app.command()
def worker() -> None:
    """Move usage to the ledger and keep it, until SIGTERM or Ctrl-C. Several stand by for each other."""
    values = load_settings().values
    log.configure(values.log_level)
    uvloop.run(background.worker(values))

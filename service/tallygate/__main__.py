"""`python -m tallygate` is `tallygate`."""

from tallygate.cli.main import run

run()

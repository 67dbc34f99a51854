"""`tallygate dev`: the whole system on one machine, to try and to develop against."""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from tallygate import log
from tallygate.cli.nouns import noun
from tallygate.cli.plans import read_catalogue
from tallygate.cli.shipped import shipped
from tallygate.cli.smoke import smoke as run_smoke
from tallygate.cli.system import System, running_system
from tallygate.core.errors import InputError
from tallygate.devservers.ports import LOOPBACK, free_ports
from tallygate.plans.document import Catalogue
from tallygate.plans.parse import parse
from tallygate.settings import PREFIX

app = noun("dev")
_SAMPLE = "examples/plans.yaml"
_DEFAULT_PORT = 8080
_WATCHING = ("METRICS_CUSTOMERS", "TRACES_ENDPOINT", "TRACES_RATIO")
"""What is taken from the environment: what is shown of requests, not where anything is."""


@app.command(epilog="Example: tallygate dev --port 8080 --plans plans.yaml")
def dev(
    data_dir: Annotated[
        Path | None, typer.Option(help="Where data lives between runs; .tallygate if left out.", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Where Envoy listens; 8080 if left out.", show_default=False)
    ] = None,
    plans: Annotated[Path | None, typer.Option(help="Your own plan file instead of the sample.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Worker processes; 1 if left out.", show_default=False)
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Drive real requests, print what came back, stop.")] = False,
) -> None:
    """Run Postgres, Valkey, a sample API, Tallygate and Envoy here until Ctrl-C.

    With --smoke the data is thrown away and any free port will do, unless told otherwise. Of the environment,
    TALLYGATE_METRICS_CUSTOMERS and TALLYGATE_TRACES_… hold here too.
    """
    log.configure("warning")
    catalogue = parse(shipped(_SAMPLE), _SAMPLE) if plans is None else read_catalogue(plans)
    if not catalogue.plans:
        raise InputError(str(plans), "has no plans", "give at least one")
    if smoke:
        raise typer.Exit(asyncio.run(_smoke(data_dir, port, catalogue, _settings(workers))))
    chosen_port = _DEFAULT_PORT if port is None else port
    asyncio.run(_dev(data_dir or Path(".tallygate"), chosen_port, catalogue, _settings(workers)))


def _settings(workers: int | None) -> dict[str, str]:
    """Return what `serve` is told beside its usual settings: as many ports in a row as there are workers."""
    told = {name: os.environ[PREFIX + name] for name in _WATCHING if PREFIX + name in os.environ}
    if workers is None:
        return told
    return told | {"WORKERS": str(workers), "LISTEN": f"{LOOPBACK}:{free_ports(workers)}"}


async def _dev(data_dir: Path, port: int, catalogue: Catalogue, settings: Mapping[str, str]) -> None:
    started = time.monotonic()
    try:
        async with _stopped_by_signals(), running_system(data_dir, catalogue, port=port, settings=settings) as system:
            _introduce(system, time.monotonic() - started)
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        typer.echo("stopped")


async def _smoke(data_dir: Path | None, port: int | None, catalogue: Catalogue, settings: Mapping[str, str]) -> int:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tallygate-smoke-") as temporary:
        Path(temporary).chmod(0o711)  # so that a Postgres that had to become `nobody` reaches its part
        directory = data_dir or Path(temporary) / "data"
        async with (
            _stopped_by_signals(),
            running_system(directory, catalogue, port=port or 0, settings=settings) as system,
        ):
            typer.echo(f"up in {time.monotonic() - started:.1f} s, Envoy at {system.gateway_url}")
            return 0 if await run_smoke(system) else 1


@asynccontextmanager
async def _stopped_by_signals() -> AsyncIterator[None]:
    """Cancel this task on Ctrl-C or SIGTERM, so that everything started is stopped, at whatever point."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    yield


def _introduce(system: System, seconds: float) -> None:
    say = typer.echo
    say(f"Tallygate is up ({seconds:.1f} s).\n")
    say(f"  gateway   {system.gateway_url}   Envoy, in front of a sample API that echoes what it receives")
    say(f"  admin     {system.admin_url}/docs   the REST API; its key is in {system.env_file}")
    say(f"  metrics   {system.metrics_url}   what requests come to")
    say(f"            {system.worker_metrics_url}   the worker's: usage, subscriptions, what they come to")
    say(f"  envoy     {system.envoy_admin_url}   its admin interface")
    say(f"  logs      {system.data_dir / 'logs'}\n")
    for seed in system.seeds:
        say(f"  {seed.customer:<20} {seed.plan:<14} {seed.token}")
    say("\nTry:")
    say(f"  curl -i {system.gateway_url}/v1/things")
    say(f"  curl -i {system.gateway_url}/v1/things -H 'Authorization: Bearer {system.seeds[0].token}'")
    say("\nIn another terminal:")
    say(f"  source {system.env_file}")
    say("  tallygate tokens list")
    say("\nCtrl-C stops everything.")

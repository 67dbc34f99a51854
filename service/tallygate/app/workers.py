"""The supervisor of several workers, wired: `tallygate serve` where `TALLYGATE_WORKERS` is more than one."""

import asyncio
import signal
import socket
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path

import structlog

from tallygate.app.observing import check_traces
from tallygate.app.services_at import check_endpoints, free_services_at
from tallygate.lifecycle import stop_on_signals
from tallygate.metrics import SupervisorMetrics
from tallygate.probes import HttpServer, bind
from tallygate.settings import PREFIX, Settings, require
from tallygate.transport.listening import SERVICES_SETTING, address_of
from tallygate.transport.tls import TlsFiles
from tallygate.workers.endpoints import refuse_services
from tallygate.workers.pages import workers_app
from tallygate.workers.ports import reserve
from tallygate.workers.process import Launch
from tallygate.workers.supervisor import Supervisor
from tallygate.workers.totals import Totals
from tallygate.workers.worker import Terms, Worker

_log = structlog.get_logger("tallygate.app")
# Beyond the drain a worker finishes calls, which takes 5 s at most, and closes what it has open.
_BEYOND_DRAIN_S = 15.0
_PAGES_SETTING = f"{PREFIX}METRICS_LISTEN"


async def supervise(values: Settings, config: Path | None) -> None:
    """Run the workers until a signal stops them; SIGHUP replaces them one at a time.

    `config` is the settings file, which workers read themselves. Raises InputError for settings that cannot be used,
    TallygateError when a worker had to be killed at the end.
    """
    require(values, "postgres_dsn", "redis_url", "pepper")
    TlsFiles.of(values.tls_cert_file, values.tls_key_file, values.tls_client_ca_file)
    check_traces(values)
    with ExitStack() as kept:
        # First: a port that the system chooses for workers must not be the one that is named for the pages.
        pages_at = kept.enter_context(bind(values.metrics_listen, _PAGES_SETTING))
        at = await _kept_endpoints(values, kept)
        services = await _keep_services(values, at, kept)
        environment = _named(config) | {f"{PREFIX}SERVICES_LISTEN": services or "off"}
        await _run(values, pages_at, at, Launch(environment=environment))


async def _run(values: Settings, pages_at: socket.socket, at: list[str], launch: Launch) -> None:
    metrics, totals = SupervisorMetrics(), Totals()
    terms = Terms(grace_s=values.drain_s + _BEYOND_DRAIN_S)
    supervisor = Supervisor(
        [
            Worker(number, endpoint, launch, terms, partial(totals.add_gone, number), metrics.restarts.count)
            for number, endpoint in enumerate(at)
        ]
    )
    pages = HttpServer(workers_app(supervisor, metrics, totals), pages_at, _PAGES_SETTING)
    stop, roll = stop_on_signals(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, roll.set)
    await pages.start()
    try:
        _log.info("workers serve", workers=values.workers, at=list(dict.fromkeys(at)), metrics=pages.address)
        await supervisor.run(stop, roll)
    finally:
        await pages.stop()


async def _kept_endpoints(values: Settings, kept: ExitStack) -> list[str]:
    """Return the endpoint of each worker, one for all when they share it; its port is ours to give until the end."""
    kept_at = [await _keep(endpoint, kept) for endpoint in check_endpoints(values)]
    return kept_at * values.workers if values.worker_endpoints == "shared" else kept_at


async def _keep_services(values: Settings, checks: list[str], kept: ExitStack) -> str | None:
    """Keep the port that all workers serve beside Check, which each does at one of `checks`; return its address."""
    at = await free_services_at(values)
    if at is not None:
        refuse_services(at, checks)
        kept.enter_context(await reserve(at, SERVICES_SETTING) or nullcontext())
    return at


async def _keep(endpoint: str, kept: ExitStack) -> str:
    reserved = await reserve(endpoint)
    if reserved is None:
        return endpoint
    address = address_of(kept.enter_context(reserved))
    return address.at(address.port)


def _named(config: Path | None) -> dict[str, str]:
    return {} if config is None else {f"{PREFIX}CONFIG": str(config.absolute())}

"""The supervisor of several workers, wired: `tallygate serve` where `TALLYGATE_WORKERS` is more than one."""

import asyncio
import signal
import socket
from pathlib import Path

import structlog

from tallygate.lifecycle import stop_on_signals
from tallygate.metrics import SupervisorMetrics
from tallygate.probes import HttpServer
from tallygate.settings import PREFIX, Settings, require
from tallygate.transport import listening
from tallygate.transport.tls import TlsFiles
from tallygate.workers.endpoints import endpoints, shared_endpoint
from tallygate.workers.pages import workers_app
from tallygate.workers.process import Launch
from tallygate.workers.supervisor import Supervisor
from tallygate.workers.totals import Totals
from tallygate.workers.worker import Terms, Worker

_log = structlog.get_logger("tallygate.app")
# Beyond the drain a worker finishes calls, which takes 5 s at most, and closes what it has open.
_BEYOND_DRAIN_S = 15.0


async def supervise(values: Settings, config: Path | None) -> None:
    """Run the workers until a signal stops them; SIGHUP replaces them one at a time.

    `config` is the settings file, which workers read themselves. Raises InputError for settings that cannot be used,
    TallygateError when a worker had to be killed at the end.
    """
    require(values, "postgres_dsn", "redis_url", "pepper")
    TlsFiles.of(values.tls_cert_file, values.tls_key_file, values.tls_client_ca_file)
    shared = await _shared(values)
    try:
        await _run(values, shared, Launch(environment=_named(config)))
    finally:
        if shared is not None:
            shared.close()


async def _run(values: Settings, shared: socket.socket | None, launch: Launch) -> None:
    metrics, totals = SupervisorMetrics(), Totals()
    terms = Terms(grace_s=values.drain_s + _BEYOND_DRAIN_S)
    supervisor = Supervisor(
        [
            Worker(number, endpoint, shared, launch, terms, totals.add_gone, metrics.restarts.count)
            for number, endpoint in enumerate(_endpoints(values, shared))
        ]
    )
    pages = HttpServer(workers_app(supervisor, metrics, totals), values.metrics_listen, f"{PREFIX}METRICS_LISTEN")
    stop, roll = stop_on_signals(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, roll.set)
    await pages.start()
    try:
        served = sorted({worker.endpoint for worker in supervisor.workers})
        _log.info("workers serve", workers=values.workers, at=served, metrics=pages.address)
        await supervisor.run(stop, roll)
    finally:
        await pages.stop()


async def _shared(values: Settings) -> socket.socket | None:
    """Return the socket that all workers accept from; None when each has its own."""
    if values.worker_endpoints == "each":
        return None
    return await listening.bind(shared_endpoint(values.listen, values.transport))


def _endpoints(values: Settings, shared: socket.socket | None) -> list[str]:
    if shared is None:
        return endpoints(values.listen, values.workers)
    address = listening.address_of(shared)
    return [address.at(address.port)] * values.workers


def _named(config: Path | None) -> dict[str, str]:
    return {} if config is None else {f"{PREFIX}CONFIG": str(config.absolute())}

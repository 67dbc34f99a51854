"""The whole system on one machine: what `tallygate dev` starts, in the order it starts it.

Postgres, Valkey, Envoy and `tallygate serve` are child processes that go with this one, however it ends;
the sample upstream API lives in it. Owns the data directory and its environment file. Does not own how any
server is started (`devservers`) nor what is seeded (`seeds`).
"""

import asyncio
import json
import shlex
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tallygate import __version__
from tallygate.admin.operations import Operations
from tallygate.app.background import background, worker_page
from tallygate.app.control_plane import control_plane
from tallygate.app.rest_api import admin_api
from tallygate.app.services_at import services_at
from tallygate.cli.seeds import Seed, admin_key, seed
from tallygate.cli.shipped import shipped
from tallygate.core.errors import InputError
from tallygate.devservers.directory import exclusive, secret_in
from tallygate.devservers.envoy import EmbeddedEnvoy
from tallygate.devservers.envoy_config import Address, with_endpoints
from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.postgres import EmbeddedPostgres
from tallygate.devservers.process import Child, Program, running
from tallygate.devservers.upstream import SampleUpstream
from tallygate.devservers.valkey import EmbeddedValkey
from tallygate.metrics import WorkerMetrics
from tallygate.plans.document import Catalogue
from tallygate.settings import PREFIX, Settings, load
from tallygate.storage.migrate import migrate
from tallygate.storage.postgres import connect
from tallygate.transport.listening import ListenAddress
from tallygate.workers.endpoints import endpoints

_DATABASE = "tallygate"
_DATA_PLANE_LOGIN = "tallygate_dev"
_ENVOY_CONFIG = "deploy/envoy/05-access-log.yaml"
_KEY_IN_CONFIG = "CHANGE-THIS-KEY"
_SERVICES = "tallygate-services"
_SERVE_START_S, _SERVE_STOP_S = 30, 10


@dataclass(frozen=True, slots=True)
class System:
    """A running system.

    `environment` is what `<data-dir>/env` exports; `seeds` are the sample customers and their tokens.
    """

    data_dir: Path
    envoy_admin_url: str
    upstream_log: Path
    environment: Mapping[str, str]
    seeds: tuple[Seed, ...]
    control: Operations

    @property
    def gateway_url(self) -> str:
        """Return where Envoy answers, in front of the sample API."""
        return self.environment["GATEWAY_URL"]

    @property
    def metrics_url(self) -> str:
        """Return where Prometheus scrapes the data plane."""
        return self.environment["METRICS_URL"]

    @property
    def worker_metrics_url(self) -> str:
        """Return where it scrapes the worker: usage on its way to the ledger, subscriptions and what they come to."""
        return self.environment["WORKER_METRICS_URL"]

    @property
    def admin_url(self) -> str:
        """Return where the REST API answers."""
        return self.environment["ADMIN_URL"]

    @property
    def env_file(self) -> Path:
        """Return the file to `source`."""
        return self.data_dir / "env"


@asynccontextmanager
async def running_system(
    data_dir: Path,
    catalogue: Catalogue,
    *,
    port: int = 0,
    settings: Mapping[str, str] | None = None,
    envoy_config: str | None = None,
) -> AsyncIterator[System]:
    """Run everything while the block runs; Envoy listens on `port` of this machine (0: any free one).

    `settings` go to `serve` beside its own; `envoy_config` stands in for the shipped hardened one.

    Raises InputError when the directory or the port is in use, ServerStartError when a server does not start.
    """
    logs = data_dir / "logs"
    postgres = EmbeddedPostgres(data_dir / "postgres", log_dir=logs)
    valkey = EmbeddedValkey(data_dir / "valkey", log_dir=logs)
    upstream = SampleUpstream(log_path=logs / "upstream.jsonl")
    async with AsyncExitStack() as started:
        started.enter_context(exclusive(data_dir))
        _refuse_taken(port)
        await started.enter_async_context(_together(postgres, valkey))
        await started.enter_async_context(upstream)
        data_plane_dsn = await _prepare(postgres, secret_in(data_dir / "data-plane-password"))
        environment = {
            "POSTGRES_DSN": postgres.dsn(_DATABASE),
            "REDIS_URL": valkey.url,
            "PEPPER": secret_in(data_dir / "pepper"),
            "LISTEN": f"{LOOPBACK}:{free_port()}",
            "METRICS_LISTEN": f"{LOOPBACK}:{free_port()}",
            "SERVICES_LISTEN": f"{LOOPBACK}:{free_port()}",
            "SERVICES_KEY": secret_in(data_dir / "services-key"),
            "ADMIN_LISTEN": f"{LOOPBACK}:0",
        } | dict(settings or {})
        values = load({PREFIX + name: value for name, value in environment.items()}).values
        control = await started.enter_async_context(control_plane(values, actor="cli:dev"))
        seeds = await seed(control, catalogue)
        api = await started.enter_async_context(admin_api(values))
        metrics = WorkerMetrics(__version__)
        await started.enter_async_context(background(values, metrics))
        page = await started.enter_async_context(worker_page(metrics, f"{LOOPBACK}:0"))
        config = _write_config(data_dir, environment | {"POSTGRES_DSN": data_plane_dsn})
        await started.enter_async_context(_serving(config, logs, environment["METRICS_LISTEN"]))
        envoy = await started.enter_async_context(
            _envoy(envoy_config or shipped(_ENVOY_CONFIG), data_dir / "envoy", values, upstream, port)
        )
        environment |= {
            "ADMIN_LISTEN": api.address,
            "ADMIN_URL": f"http://{api.address}",
            "ADMIN_KEY": await admin_key(control),
            "GATEWAY_URL": envoy.url("gateway"),
            "METRICS_URL": f"http://{environment['METRICS_LISTEN']}/metrics",
            "WORKER_METRICS_URL": f"http://{page.address}/metrics",
        }
        system = System(data_dir, envoy.admin_url, logs / "upstream.jsonl", environment, seeds, control)
        started.enter_context(_env_file(system))
        yield system


def _refuse_taken(port: int) -> None:
    """Raise InputError for a port that is in use: an Envoy would share another Envoy's without a word."""
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError as error:
        raise InputError("--port", f"{port} cannot be had: {error.strerror}", "choose another") from None


@asynccontextmanager
async def _together(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> AsyncIterator[None]:
    """Start both at once, for their start-up is most of ours."""
    servers: tuple[EmbeddedPostgres | EmbeddedValkey, ...] = (postgres, valkey)
    started = await asyncio.gather(*(server.__aenter__() for server in servers), return_exceptions=True)
    failures = [outcome for outcome in started if isinstance(outcome, BaseException)]
    try:
        if failures:
            raise failures[0]
        yield
    finally:
        for server, outcome in zip(servers, started, strict=True):
            if not isinstance(outcome, BaseException):
                await server.__aexit__(None, None, None)


async def _prepare(postgres: EmbeddedPostgres, password: str) -> str:
    """Make the database and the data plane's login; return that login's DSN."""
    server = await connect(postgres.dsn(), application_name="tallygate dev")
    try:
        if not await server.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", _DATABASE):
            await server.execute(f"CREATE DATABASE {_DATABASE}")
        await migrate(postgres.dsn(_DATABASE))
        if not await server.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", _DATA_PLANE_LOGIN):
            # The password is ours: letters, digits, - and _ only.
            await server.execute(
                f"CREATE ROLE {_DATA_PLANE_LOGIN} LOGIN PASSWORD '{password}' IN ROLE tallygate_dataplane"
            )
    finally:
        await server.close()
    return f"postgresql://{_DATA_PLANE_LOGIN}:{password}@{LOOPBACK}:{postgres.port}/{_DATABASE}?sslmode=disable"


def _write_config(data_dir: Path, environment: Mapping[str, str]) -> Path:
    """Write the settings of the child, which a command line or an environment would show to others."""
    path = data_dir / "serve.toml"
    path.touch(mode=0o600)
    values = {"drain_s": "0"} | {name.lower(): value for name, value in environment.items()}
    # A JSON string of plain text is a TOML string too.
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    return path


@asynccontextmanager
async def _serving(config: Path, logs: Path, metrics: str) -> AsyncIterator[None]:
    command = (sys.executable, "-m", "tallygate", "--config", str(config.absolute()), "serve")
    program = Program("tallygate serve", command, config.parent.absolute(), logs.absolute() / "serve.log")

    async def is_ready(_child: Child) -> bool:
        try:
            return (await http.get(f"http://{metrics}/readyz")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async with (
        httpx.AsyncClient(timeout=2, trust_env=False) as http,
        running(program, is_ready, start_deadline_s=_SERVE_START_S, stop_deadline_s=_SERVE_STOP_S),
    ):
        yield


def _endpoints(values: Settings) -> list[Address]:
    """Return what Envoy asks: each worker's endpoint, or the one they share."""
    is_shared = values.worker_endpoints == "shared"
    listened = map(ListenAddress.parse, endpoints(values.listen, 1 if is_shared else values.workers))
    return [(one.host, one.port) if one.path is None else Path(one.path) for one in listened]


@asynccontextmanager
async def _envoy(
    config: str, run_dir: Path, values: Settings, upstream: SampleUpstream, port: int
) -> AsyncIterator[EmbeddedEnvoy]:
    clusters: dict[str, Address | list[Address]] = {
        "tallygate": _endpoints(values),
        "upstream": (upstream.host, upstream.port),
    }
    if _SERVICES in config:
        services = ListenAddress.parse(services_at(values) or "")
        clusters[_SERVICES] = (services.host, services.port)
        assert values.services_key is not None  # noqa: S101 - we have made it
        config = config.replace(_KEY_IN_CONFIG, values.services_key.get_secret_value())
    text = with_endpoints(config, listeners={"gateway": (LOOPBACK, port)}, clusters=clusters)
    async with EmbeddedEnvoy(text, run_dir=run_dir) as envoy:
        yield envoy


@contextmanager
def _env_file(system: System) -> Iterator[None]:
    system.env_file.touch(mode=0o600)
    lines = [f"export {PREFIX}{name}={shlex.quote(value)}\n" for name, value in system.environment.items()]
    system.env_file.write_text("".join(lines))
    try:
        yield
    finally:
        system.env_file.unlink(missing_ok=True)

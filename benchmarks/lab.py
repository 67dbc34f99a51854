"""The laboratory: real servers for one benchmark, started by it and gone with it.

Owns Postgres, Valkey, the schema, a login for each plane, and `tallygate serve` processes. Durable, as in
production: what is measured includes the wait for the disk. Failure: whatever does not start says so and all else
is stopped.
"""

import asyncio
import json
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx

from tallygate.admin.operations import ControlPlane
from tallygate.admin.postgres import Registry
from tallygate.core.clock import SystemClock
from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.postgres import EmbeddedPostgres
from tallygate.devservers.process import Child, Program, running
from tallygate.devservers.valkey import EmbeddedValkey
from tallygate.storage.migrate import migrate
from tallygate.storage.postgres import close_pool, connect, create_pool
from tallygate.tokens.digest import Pepper, Peppers
from tallygate.tokens.format import TokenFormat

FORMAT = TokenFormat()
PEPPER = "the pepper of benchmarks, known to all"
PEPPERS = Peppers(Pepper(PEPPER))
_DATABASE = "tallygate"
_NO_MORE: Mapping[str, object] = {}
_numbers = count()
_LOGINS = {"bench_control": "tallygate_control", "bench_dataplane": "tallygate_dataplane"}


@dataclass(frozen=True, slots=True)
class Lab:
    """Running servers: a DSN for the owner and for each plane, and where files may be put."""

    directory: Path
    owner_dsn: str = field(repr=False)
    control_dsn: str = field(repr=False)
    data_plane_dsn: str = field(repr=False)
    redis_url: str = field(repr=False)


@contextmanager
def scratch() -> Iterator[Path]:
    """Return a directory for the data of servers, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="tallygate-bench-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # a Postgres that has to become user `nobody` passes through
        yield directory


@asynccontextmanager
async def laboratory(directory: Path, *, is_durable: bool = True) -> AsyncIterator[Lab]:
    """Run Postgres, migrated, and Valkey in `directory`; what an earlier run left there is still there."""
    async with (
        EmbeddedPostgres(directory / "postgres", is_durable=is_durable) as postgres,
        EmbeddedValkey(directory / "valkey", is_durable=is_durable) as valkey,
    ):
        password = secrets.token_urlsafe(12)
        await _prepare(postgres, password)
        control, data_plane = (
            f"postgresql://{login}:{password}@{LOOPBACK}:{postgres.port}/{_DATABASE}?sslmode=disable"
            for login in _LOGINS
        )
        yield Lab(directory, postgres.dsn(_DATABASE), control, data_plane, valkey.url)


async def _prepare(postgres: EmbeddedPostgres, password: str) -> None:
    """Make the database and both logins, unless an earlier run has."""
    server = await connect(postgres.dsn(), application_name="benchmark")
    try:
        if not await server.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", _DATABASE):
            await server.execute(f"CREATE DATABASE {_DATABASE}")
        await migrate(postgres.dsn(_DATABASE))
        for login, role in _LOGINS.items():
            if not await server.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", login):
                await server.execute(f"CREATE ROLE {login} LOGIN IN ROLE {role}")
            await server.execute(f"ALTER ROLE {login} PASSWORD '{password}'")
    finally:
        await server.close()


@asynccontextmanager
async def control_plane(dsn: str, *, connections: int = 4) -> AsyncIterator[ControlPlane]:
    """Open the control plane in this process, with no more rights than it needs."""
    pool = await create_pool(dsn, min_size=connections, max_size=connections, application_name="tallygate")
    try:
        yield ControlPlane(Registry(pool), SystemClock(), FORMAT, PEPPERS)
    finally:
        await close_pool(pool)


@dataclass(frozen=True, slots=True)
class DataPlane:
    """A `tallygate serve` process and the address it answers at."""

    address: str
    child: Child


@asynccontextmanager
async def data_planes(
    lab: Lab, number: int, *, dsn: str | None = None, more: Mapping[str, object] = _NO_MORE
) -> AsyncIterator[list[DataPlane]]:
    """Run so many `tallygate serve` processes, ready; `dsn` may lead them to Postgres another way.

    `more` are settings beside, or instead of, those of the laboratory, by their names in the configuration file.
    """
    async with AsyncExitStack() as stack:
        starting = [_serving(lab, dsn or lab.data_plane_dsn, more) for _ in range(number)]
        yield list(await asyncio.gather(*(stack.enter_async_context(process) for process in starting)))


@asynccontextmanager
async def _serving(lab: Lab, dsn: str, more: Mapping[str, object]) -> AsyncIterator[DataPlane]:
    index = next(_numbers)
    address, metrics = f"{LOOPBACK}:{free_port()}", f"{LOOPBACK}:{free_port()}"
    settings = {
        "postgres_dsn": dsn,
        "redis_url": lab.redis_url,
        "pepper": PEPPER,
        "listen": address,
        "metrics_listen": metrics,
        "services_listen": "off",
        "drain_s": 0,
        **more,
    }
    config = lab.directory / f"serve-{index}.toml"
    config.touch(mode=0o600)
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    command = (sys.executable, "-m", "tallygate", "--config", str(config), "serve")
    program = Program(f"tallygate serve {index}", command, lab.directory, lab.directory / f"serve-{index}.log")

    async def is_ready(_child: Child) -> bool:
        try:
            return (await http.get(f"http://{metrics}/readyz")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async with (
        httpx.AsyncClient(timeout=2, trust_env=False) as http,
        running(program, is_ready, start_deadline_s=60, stop_deadline_s=10) as child,
    ):
        yield DataPlane(address, child)

"""Fixtures every test may use: real servers, started once for each test process, and gone after it.

With pytest-xdist every worker has servers of its own. Their data lives in a temporary directory that others
may pass through, so that a Postgres that has to become user `nobody` reaches its part.
"""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio
from hypothesis import HealthCheck, settings
from support.servers import Database, DatabaseFactory

from tallygate.devservers.binaries import prometheus_binaries
from tallygate.devservers.postgres import EmbeddedPostgres, PostgresServer
from tallygate.devservers.valkey import EmbeddedValkey, ValkeyServer

# No law is broken by a machine that is slow to look for a counter-example.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def servers_dir() -> Iterator[Path]:
    """Return a directory for the data of servers, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="tallygate-tests-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        yield directory


@pytest.fixture
def data_dir(servers_dir: Path) -> Path:
    """Return a directory of this test's own for servers it starts itself."""
    directory = Path(tempfile.mkdtemp(dir=servers_dir))
    directory.chmod(0o711)
    return directory


@pytest.fixture(scope="session")
async def postgres_server(servers_dir: Path) -> AsyncIterator[PostgresServer]:
    """Return a running Postgres, `dsn(database)` logs in as superuser."""
    async with EmbeddedPostgres(servers_dir / "postgres", is_durable=False) as server:
        yield server


@pytest.fixture(scope="session")
async def valkey_server(servers_dir: Path) -> AsyncIterator[ValkeyServer]:
    """Return a running Valkey; tests that want it empty ask for `redis_url`."""
    async with EmbeddedValkey(servers_dir / "valkey", is_durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def prometheus_programs() -> tuple[Path, Path]:
    """Return (`prometheus`, `promtool`); where this machine has none, Debian's package is fetched."""
    return prometheus_binaries()


@pytest.fixture
async def redis_url(valkey_server: ValkeyServer) -> str:
    """Return the URL of a Valkey without keys, scripts and functions."""
    client = redis.asyncio.from_url(valkey_server.url, socket_timeout=10)
    try:
        await client.flushall()
        await client.script_flush()
        await client.function_flush()
    finally:
        await client.aclose()
    return valkey_server.url


@pytest.fixture(scope="session")
async def database_factory(postgres_server: PostgresServer) -> DatabaseFactory:
    """Return the maker of migrated databases, for tests that need several."""
    factory = DatabaseFactory(postgres_server)
    await factory.prepare()
    return factory


@pytest.fixture
async def database(database_factory: DatabaseFactory) -> AsyncIterator[Database]:
    """Return a fresh, migrated database of this test's own."""
    async with database_factory.clone() as made:
        yield made

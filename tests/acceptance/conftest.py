"""Running systems for all acceptance tests of a process: Postgres, Valkey, the data plane, a real Envoy.

`world` runs as `tallygate dev` runs it, in real time; in `shop` the test moves time.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.movable import Shop, open_shop
from support.servers import DatabaseFactory
from support.world import World, plans

from tallygate.cli.system import running_system


@pytest.fixture(scope="session")
async def world(servers_dir: Path) -> AsyncIterator[World]:
    """Return the running system; tests make accounts of their own in it. No request may end without a decision."""
    async with (
        running_system(servers_dir / "world", plans()) as system,
        httpx.AsyncClient(timeout=20, trust_env=False) as http,
    ):
        world = World(system, http)
        yield world
        assert not [name for name in await world.metrics() if 'decision="error"' in name]


@pytest.fixture(scope="session")
async def shop(servers_dir: Path, database_factory: DatabaseFactory) -> AsyncIterator[Shop]:
    """Return the running system that sells the example catalogue, with a clock to move forward."""
    async with database_factory.clone() as database, open_shop(database, servers_dir / "shop") as shop:
        yield shop

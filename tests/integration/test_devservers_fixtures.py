"""The shared fixtures: what other tests take for granted."""

import asyncpg
import pytest
import redis.asyncio
from support.servers import Database, DatabaseFactory


async def test_every_test_has_a_database_of_its_own(database: Database, database_factory: DatabaseFactory) -> None:
    """Two databases of one session share the schema and no rows."""
    insert = "INSERT INTO plans (key, created_at) VALUES ('pro', now())"
    async with database_factory.clone() as other:
        connections = [await asyncpg.connect(dsn, timeout=10) for dsn in (database.dsn, other.dsn)]
        try:
            await connections[0].execute(insert)
            counts = [await connection.fetchval("SELECT count(*) FROM plans") for connection in connections]
        finally:
            for connection in connections:
                await connection.close()
    assert counts == [1, 0]


async def test_the_data_plane_login_reads_through_functions_only(database: Database) -> None:
    """The login given as the data plane's has its role's rights and no more."""
    connection = await asyncpg.connect(database.data_plane_dsn, timeout=10)
    try:
        assert await connection.fetchval("SELECT newest FROM current_generation_v1()") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM tokens")
    finally:
        await connection.close()


@pytest.mark.parametrize("turn", [1, 2])
async def test_a_redis_url_is_of_an_empty_valkey(redis_url: str, turn: int) -> None:
    """What one test writes, the next does not see."""
    client = redis.asyncio.from_url(redis_url)
    try:
        assert await client.dbsize() == 0
        await client.set("left-behind", turn)
    finally:
        await client.aclose()

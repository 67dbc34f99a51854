"""The Postgres store when Postgres is late, lost, silent, busy or odd."""

import asyncio
import json
from collections.abc import AsyncIterator

import asyncpg
import pytest
from support.licensing import TERMS, PostgresWriter, digest_of, license_of
from support.servers import Database
from support.tcp_proxy import tcp_proxy

from tallygate.core.errors import InputError, StoreUnavailableError
from tallygate.devservers.postgres import PostgresServer
from tallygate.licenses.postgres import MOST_CHANGES, PostgresLicenseStore
from tallygate.storage.postgres import Connection, Pool, acquire, close_pool, connect, create_pool, store_errors


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    """Return a connection that may write."""
    connection = await asyncpg.connect(database.dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """Return a small pool with the data plane's rights."""
    made = await create_pool(database.data_plane_dsn, max_size=2)
    yield made
    await close_pool(made)


async def test_a_process_starts_while_postgres_is_down_and_works_when_it_comes(database: Database) -> None:
    """Start order does not matter: no pool that never heals, no crash loop."""
    async with tcp_proxy(database.data_plane_dsn, is_open=False) as proxy:
        pool = await create_pool(proxy.dsn, min_size=1, max_size=2)
        store = PostgresLicenseStore(pool)
        with pytest.raises(StoreUnavailableError, match="cannot find license"):
            await store.find([digest_of(1)])
        await proxy.open()
        assert (await store.find([digest_of(1)])).license is None
        await close_pool(pool)


async def test_connections_that_were_cut_are_replaced(database: Database) -> None:
    """A restarted or failed-over Postgres is used again without a restart of ours."""
    async with tcp_proxy(database.data_plane_dsn) as proxy:
        pool = await create_pool(proxy.dsn, max_size=2)
        store = PostgresLicenseStore(pool)
        await store.generation()
        await proxy.close()
        with pytest.raises(StoreUnavailableError):
            await store.generation()
        await proxy.open()
        assert await store.generation() == 0
        await close_pool(pool)


async def test_a_silent_postgres_ends_in_time_and_then_at_once(database: Database) -> None:
    """A black hole costs a few calls their deadline; after that the breaker answers, and it heals by itself."""
    now = 0.0
    async with tcp_proxy(database.data_plane_dsn) as proxy:
        pool = await create_pool(proxy.dsn, max_size=2)
        store = PostgresLicenseStore(pool, 0.2, monotonic=lambda: now)
        await store.generation()
        proxy.silence()
        for _ in range(3):
            with pytest.raises(StoreUnavailableError, match="no answer in time"):
                await store.generation()
        with pytest.raises(StoreUnavailableError, match="has not been answering"):
            await store.generation()
        proxy.speak()
        now = 10.0
        patient = PostgresLicenseStore(pool, 10.0)
        assert await patient.generation() == 0
        await close_pool(pool)


async def test_more_requests_than_connections_wait_their_turn(pool: Pool, owner: Connection) -> None:
    """A pool of two serves a hundred at once; nobody is told that there are too few connections."""
    await PostgresWriter(owner).put(digest_of(1), license_of(1))
    store = PostgresLicenseStore(pool, 30.0)
    found = await asyncio.gather(*(store.find([digest_of(1)]) for _ in range(100)))
    assert all(answer.license == license_of(1) for answer in found)


async def test_a_call_that_is_given_up_leaves_the_pool_whole(pool: Pool, owner: Connection) -> None:
    """Cancelled reads neither leak a connection nor leave their answer for the next one."""
    for number in range(1, 5):
        await PostgresWriter(owner).put(digest_of(number), license_of(number))
    store = PostgresLicenseStore(pool, 30.0)
    calls = [asyncio.create_task(store.find([digest_of(number % 4 + 1)])) for number in range(100)]
    for index, call in enumerate(calls):
        if index % 3 == 0:
            await asyncio.sleep(0)
            call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for index, answer in enumerate(answers):
        if not isinstance(answer, BaseException):
            assert answer.license == license_of(index % 4 + 1)
    assert (await store.find([digest_of(1)])).license == license_of(1)


async def test_tokens_of_a_subscription_share_one_terms_object(pool: Pool, owner: Connection) -> None:
    """A million tokens of one subscription hold its terms once; changed terms are another object."""
    store, writer = PostgresLicenseStore(pool), PostgresWriter(owner)
    await writer.put(digest_of(1), license_of(1))
    await writer.put(digest_of(2), license_of(1, token=f"tok_{2:026}"))
    first, second = [(await store.find([digest_of(number)])).license for number in (1, 2)]
    assert first is not None
    assert second is not None
    assert first.terms is second.terms
    await owner.execute("UPDATE licenses SET terms = jsonb_set(terms, '{phases,0,grant,plan}', '\"pro@2\"')")
    third = (await store.find([digest_of(1)])).license
    assert third is not None
    assert third.terms.phases[0].grant.plan == "pro@2"
    assert first.terms == TERMS


async def test_a_license_that_cannot_be_read_is_an_error_and_no_outage(pool: Pool, owner: Connection) -> None:
    """One broken row refuses one subscription; it does not open the breaker for everyone."""
    store, writer = PostgresLicenseStore(pool), PostgresWriter(owner)
    await writer.put(digest_of(1), license_of(1))
    await writer.put(digest_of(2), license_of(2))
    await owner.execute("UPDATE licenses SET terms = $1 WHERE subscription_id = $2", json.dumps({}), f"sub_{1:026}")
    for _ in range(5):
        with pytest.raises(StoreUnavailableError, match="cannot read"):
            await store.find([digest_of(1)])
    assert (await store.find([digest_of(2)])).license == license_of(2)


async def test_routes_that_cannot_be_read_are_an_error(pool: Pool, owner: Connection) -> None:
    """Rules we do not understand are not taken for "no rules", which would allow everything."""
    await owner.execute("INSERT INTO route_tables VALUES (1, '{}', now())")
    with pytest.raises(StoreUnavailableError, match="route rules"):
        await PostgresLicenseStore(pool).routes()


async def test_being_far_behind_is_said_instead_of_read(pool: Pool, owner: Connection) -> None:
    """A bulk change of a million tokens does not come as a million rows into every worker's memory."""
    await owner.execute("SELECT record_change('cus_' || n) FROM generate_series(1, $1) n", MOST_CHANGES + 1)
    store = PostgresLicenseStore(pool)
    behind, near = await store.changes_since(0), await store.changes_since(1)
    assert (len(behind.changes), behind.is_complete) == (MOST_CHANGES, False)
    assert (len(near.changes), near.is_complete) == (MOST_CHANGES, True)


async def test_a_database_without_our_schema_says_so(postgres_server: PostgresServer) -> None:
    """Before `db migrate` the data plane waits, with a reason in its log, instead of crashing."""
    pool = await create_pool(postgres_server.dsn(), max_size=1)
    with pytest.raises(StoreUnavailableError, match="current_generation_v1"):
        await PostgresLicenseStore(pool).generation()
    await close_pool(pool)


async def test_what_a_caller_sent_stays_the_callers_error(database: Database) -> None:
    """A duplicate key is a conflict to be named, not "Postgres is down"."""
    pool = await create_pool(database.dsn, max_size=1)
    with pytest.raises(asyncpg.UniqueViolationError):
        async with acquire(pool, 10.0, "insert twice") as connection:
            await connection.execute("INSERT INTO plans VALUES ('pro', now()), ('pro', now())")
    async with acquire(pool, 10.0, "see that the pool is whole") as connection:
        assert await connection.fetchval("SELECT count(*) FROM plans") == 0
    await close_pool(pool)


async def test_a_statement_ends_in_the_server_as_well(database: Database) -> None:
    """When we die in the middle of a statement, Postgres does not work on for nobody."""
    pool = await create_pool(database.dsn, max_size=1, command_timeout_s=7.0)
    async with acquire(pool, 10.0, "ask") as connection:
        assert await connection.fetchval("SHOW statement_timeout") == "7s"
        assert await connection.fetchval("SHOW timezone") == "UTC"
    await close_pool(pool)


@pytest.mark.parametrize("dsn", ["nonsense", "mysql://user:hunter2@host/db", "postgresql://user:hunter2@host:port/db"])
async def test_a_dsn_that_is_none_is_bad_input_and_is_not_repeated(dsn: str) -> None:
    """A typing error is told as one, and the password in it reaches no log."""
    lazy = PostgresLicenseStore(await create_pool(dsn, min_size=0))
    for attempt in (connect(dsn, application_name="test"), create_pool(dsn), lazy.generation()):
        with pytest.raises(InputError, match="no Postgres connection string") as caught:
            await attempt
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None


async def test_closing_a_pool_does_not_wait_for_ever(database: Database) -> None:
    """A stop ends although somebody still holds a connection."""
    pool = await create_pool(database.dsn, max_size=1)
    async with pool.acquire():
        await close_pool(pool, timeout_s=0.01)
        assert pool.get_size() == 0


def test_every_outage_has_words() -> None:
    """An error without a message of its own is still told apart in the log."""
    with pytest.raises(StoreUnavailableError, match="cannot try: ConnectionResetError"), store_errors("try"):
        raise ConnectionResetError

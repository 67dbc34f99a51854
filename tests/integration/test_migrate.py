"""Migrations: each once, in order, all of it or nothing, whoever else is at it."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import asyncpg
import pytest

from tallygate.core.errors import ConflictError, InputError, StoreUnavailableError
from tallygate.devservers.postgres import PostgresServer
from tallygate.storage.migrate import _LOCK_KEY as LOCK_KEY
from tallygate.storage.migrate import Migration, compare, migrate, shipped, status
from tallygate.storage.migrate import _read as read
from tallygate.storage.postgres import Connection

_numbers = count(1)


def written(*statements: str) -> list[Migration]:
    """Return migrations 1, 2, … with these statements."""
    return [read(f"{number:04}_step.sql", sql.encode()) for number, sql in enumerate(statements, 1)]


@pytest.fixture
async def dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """Return the DSN of an empty database."""
    name = f"empty_{next(_numbers)}"
    admin = await asyncpg.connect(postgres_server.dsn())
    await admin.execute(f"CREATE DATABASE {name}")
    yield postgres_server.dsn(name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[Connection]:
    """Return a connection to that database."""
    made = await asyncpg.connect(dsn)
    yield made
    await made.close()


async def has_table(connection: Connection, name: str) -> bool:
    """Say whether a table is there."""
    found: bool = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"public.{name}")
    return found


async def test_what_is_shipped_is_applied_once(dsn: str) -> None:
    """`db migrate` may be run at every start: the second time it finds nothing to do."""
    assert all(line.applied_at is None for line in await status(dsn))
    applied = await migrate(dsn)
    assert [migration.version for migration in applied] == [migration.version for migration in shipped()]
    assert await migrate(dsn) == []
    assert all(line.applied_at is not None and line.is_as_shipped for line in await status(dsn))


async def test_asking_for_the_status_changes_nothing(dsn: str, connection: Connection) -> None:
    """`db status` is safe on any database."""
    await status(dsn)
    assert not await has_table(connection, "schema_migrations")


async def test_runs_at_the_same_time_do_the_work_once(dsn: str) -> None:
    """Ten replicas that start together and migrate do not trip over each other."""
    applied = await asyncio.gather(*(migrate(dsn) for _ in range(10)))
    assert sum(bool(run) for run in applied) == 1


async def test_two_databases_of_one_server_migrate_at_the_same_time(dsn: str, postgres_server: PostgresServer) -> None:
    """Roles belong to the whole server: the second database finds them there and goes on."""
    admin = await asyncpg.connect(postgres_server.dsn())
    try:
        await admin.execute("CREATE DATABASE its_neighbour")
        both = await asyncio.gather(migrate(dsn), migrate(postgres_server.dsn("its_neighbour")))
        assert [len(applied) for applied in both] == [len(shipped())] * 2
    finally:
        await admin.execute("DROP DATABASE its_neighbour WITH (FORCE)")
        await admin.close()


async def test_a_file_that_fails_leaves_no_trace(dsn: str, connection: Connection) -> None:
    """What came before stays, what failed is undone as a whole, and the error names the file."""
    steps = written("CREATE TABLE one ()", "CREATE TABLE two (); SELECT 1 / 0", "CREATE TABLE three ()")
    with pytest.raises(ConflictError, match="migration 0002 step: was rolled back: division by zero"):
        await migrate(dsn, migrations=steps)
    assert [await has_table(connection, name) for name in ("one", "two", "three")] == [True, False, False]
    assert [line.applied_at is not None for line in await status(dsn, migrations=steps)] == [True, False, False]
    mended = [steps[0], *written("", "CREATE TABLE two ()", "CREATE TABLE three ()")[1:]]
    assert [migration.version for migration in await migrate(dsn, migrations=mended)] == [2, 3]


async def test_an_edited_file_is_refused(dsn: str) -> None:
    """History is not rewritten: a database keeps what it was given, so the file must stay as it was."""
    steps = written("CREATE TABLE one ()")
    await migrate(dsn, migrations=steps)
    with pytest.raises(ConflictError, match="has been edited"):
        await migrate(dsn, migrations=written("CREATE TABLE one (id int)"))
    (line,) = await status(dsn, migrations=written("CREATE TABLE one (id int)"))
    assert not line.is_as_shipped


async def test_a_newer_database_is_refused(dsn: str, connection: Connection) -> None:
    """An old program does not run against a schema it has never seen, and touches nothing."""
    await migrate(dsn, migrations=written("CREATE TABLE one ()", "CREATE TABLE two ()"))
    older = written("CREATE TABLE one ()")
    with pytest.raises(ConflictError, match="newer than this program"):
        await migrate(dsn, migrations=older)
    assert [line.version for line in await status(dsn, migrations=older)] == [1, 2]
    assert await has_table(connection, "two")


async def test_a_file_slipped_in_below_what_was_applied_is_refused(dsn: str, connection: Connection) -> None:
    """Numbers are an order: a migration merged late gets a new number."""
    await migrate(dsn, migrations=written("CREATE TABLE one ()", "CREATE TABLE two ()"))
    await connection.execute("DELETE FROM schema_migrations WHERE version = 1")
    with pytest.raises(ConflictError, match="without this one"):
        await migrate(dsn, migrations=written("CREATE TABLE one ()", "CREATE TABLE two ()"))


async def test_waiting_for_another_run_has_an_end(dsn: str, connection: Connection) -> None:
    """A migration that hangs elsewhere is told, not waited for until the deploy times out."""
    await connection.execute(f"SELECT pg_advisory_lock({LOCK_KEY})")
    with pytest.raises(StoreUnavailableError, match=r"another migration has been running for 0\.05 s"):
        await migrate(dsn, wait_s=0.05)
    await connection.execute(f"SELECT pg_advisory_unlock({LOCK_KEY})")
    assert await migrate(dsn) != []


async def test_a_busy_table_is_not_waited_for_in_front_of_everyone(dsn: str, connection: Connection) -> None:
    """A migration that waits for a lock makes all later queries wait behind it: it gives up instead."""
    await connection.execute("CREATE TABLE busy ()")
    async with connection.transaction():
        await connection.execute("SELECT FROM busy")
        with pytest.raises(StoreUnavailableError, match=r"when the database is quieter: .*lock timeout"):
            await migrate(dsn, migrations=written("ALTER TABLE busy ADD id int"), lock_timeout_s=0.05)


async def test_a_statement_that_takes_too_long_is_stopped(dsn: str) -> None:
    """No migration runs for ever."""
    with pytest.raises(StoreUnavailableError, match="statement timeout"):
        await migrate(dsn, migrations=written("SELECT pg_sleep(60)"), statement_timeout_s=0.05)


async def test_names_mean_ours_whatever_the_role_has_set(dsn: str, connection: Connection) -> None:
    """A search_path of the database or the role puts our tables and functions nowhere else."""
    await connection.execute("CREATE SCHEMA elsewhere")
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET search_path = elsewhere")
    await migrate(dsn)
    assert await has_table(connection, "tokens")
    paths = await connection.fetch(
        "SELECT proconfig FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"
    )
    assert paths
    assert {row["proconfig"][0] for row in paths} == {"search_path=public, pg_temp"}


async def test_a_database_that_cannot_be_reached_is_said_so() -> None:
    """No traceback: which thing did not answer, and why."""
    for call in (migrate, status):
        with pytest.raises(StoreUnavailableError, match="cannot connect to Postgres"):
            await call("postgresql://nobody@127.0.0.1:1/nothing")
        with pytest.raises(InputError, match="postgres_dsn"):
            await call("host=here")


def test_a_checksum_does_not_depend_on_line_ends() -> None:
    """A checkout on another system is no edit."""
    assert read("0001_a.sql", b"SELECT 1;\r\nSELECT 2;\r\n") == read("0001_a.sql", b"SELECT 1;\nSELECT 2;\n")


@pytest.mark.parametrize("name", ["licensing.sql", "0001.sql", "one_licensing.sql", "-1_a.sql"])
def test_a_file_without_a_number_is_refused(name: str) -> None:
    """A file whose place is unclear stops the program rather than being left out."""
    with pytest.raises(ConflictError, match="is no migration's name"):
        read(name, b"")


def test_shipped_numbers_are_an_unbroken_row() -> None:
    """What is in the package is 1, 2, 3 … and reports itself as pending on an empty database."""
    assert [migration.version for migration in shipped()] == list(range(1, len(shipped()) + 1))
    assert all(not line.problem and line.applied_at is None for line in compare(shipped(), {}))

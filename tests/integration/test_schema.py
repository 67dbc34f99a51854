"""`schema.sql` is what the migrations make.

`.ci/schema` runs this module with TALLYGATE_WRITE_SCHEMA=1, which writes the file anew before comparing.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import asyncpg
import pytest
from support.catalog import facts
from support.schema_file import write_schema
from support.servers import Database

from tallygate.devservers.binaries import postgres_binaries
from tallygate.devservers.postgres import PostgresServer
from tallygate.storage.postgres import Connection

SCHEMA = Path(str(files("tallygate.storage") / "schema.sql"))


def schema_file() -> str:
    """Return the file's text."""
    return SCHEMA.read_text()


def write_anew(text: str) -> None:
    """Replace the file if we were started to do so."""
    if os.environ.get("TALLYGATE_WRITE_SCHEMA"):
        SCHEMA.write_text(text)


@pytest.fixture
async def migrated(database: Database) -> AsyncIterator[Connection]:
    """Return a connection to a database made by the migrations."""
    connection = await asyncpg.connect(database.dsn)
    write_anew(await write_schema(connection))
    yield connection
    await connection.close()


@pytest.fixture
async def applied_dsn(postgres_server: PostgresServer, migrated: Connection) -> AsyncIterator[str]:
    """Return the DSN of a database made by `schema.sql` alone."""
    assert not migrated.is_closed()
    admin = await asyncpg.connect(postgres_server.dsn())
    await admin.execute("CREATE DATABASE made_by_schema_file")
    dsn = postgres_server.dsn("made_by_schema_file")
    connection = await asyncpg.connect(dsn)
    await connection.execute(schema_file())
    await connection.close()
    yield dsn
    await admin.execute("DROP DATABASE made_by_schema_file WITH (FORCE)")
    await admin.close()


async def test_the_schema_file_makes_what_the_migrations_make(migrated: Connection, applied_dsn: str) -> None:
    """Who reads schema.sql reads the truth: tables, defaults, constraints, functions, triggers, rights, comments."""
    applied = await asyncpg.connect(applied_dsn)
    try:
        theirs, ours = await facts(applied), await facts(migrated)
    finally:
        await applied.close()
    assert [fact for fact in ours if fact not in theirs] == []
    assert [fact for fact in theirs if fact not in ours] == []


async def test_the_schema_file_is_the_one_that_would_be_written(migrated: Connection) -> None:
    """It is complete and in its usual layout: run `.ci/schema` after adding a migration."""
    assert schema_file() == await write_schema(migrated)


async def test_pg_dump_sees_no_difference_either(database: Database, applied_dsn: str) -> None:
    """An independent reader of the whole catalog finds both databases the same."""
    pg_dump = postgres_binaries()[0].with_name("pg_dump")
    if not pg_dump.exists():
        pytest.skip("no pg_dump beside this postgres")
    dumps = []
    for dsn in (database.dsn, applied_dsn):
        dump = await asyncio.create_subprocess_exec(
            pg_dump, "--schema-only", "--restrict-key=same", dsn, stdout=asyncio.subprocess.PIPE
        )
        text, _ = await dump.communicate()
        assert dump.returncode == 0
        dumps.append(text.decode())
    assert len(dumps[0]) > 10_000
    assert dumps[0] == dumps[1]


@pytest.mark.parametrize(
    "difference",
    [
        "ALTER TABLE tokens ADD COLUMN mood text",
        "ALTER TABLE tokens ALTER COLUMN hint DROP NOT NULL",
        "ALTER TABLE subscriptions ALTER COLUMN timezone SET DEFAULT 'Europe/Berlin'",
        "ALTER TABLE customers DROP CONSTRAINT customers_status_check",
        "DROP INDEX tokens_by_family",
        "ALTER TABLE audit DISABLE TRIGGER audit_only_grows",
        "ALTER FUNCTION find_license_v1 RESET search_path",
        "ALTER FUNCTION find_license_v1 SECURITY INVOKER",
        "GRANT SELECT ON tokens TO tallygate_dataplane",
        "GRANT SELECT (id) ON tokens TO tallygate_dataplane",
        "GRANT EXECUTE ON FUNCTION record_change TO PUBLIC",
        "COMMENT ON TABLE tokens IS 'secret'",
        "CREATE VIEW digests AS SELECT digest FROM tokens",
        "CREATE TYPE mood AS ENUM ('good')",
        "UPDATE license_generation SET newest = 1",
    ],
)
async def test_the_comparison_sees_every_kind_of_difference(migrated: Connection, difference: str) -> None:
    """The proof above has eyes: whatever is changed, a fact changes."""
    before = await facts(migrated)
    await migrated.execute(difference)
    assert await facts(migrated) != before

"""What the database itself guarantees: the data plane's rights, and what can never be changed."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from support.licensing import PostgresWriter, digest_of, license_of
from support.servers import Database

from tallygate.storage.postgres import Connection

TABLES = (
    "customers",
    "plans",
    "plan_versions",
    "route_tables",
    "subscriptions",
    "token_families",
    "tokens",
    "licenses",
    "license_changes",
    "license_generation",
    "audit",
    "audit_head",
    "plan_shadows",
    "subscription_changes",
    "subscription_overrides",
    "credit_grants",
    "token_last_used",
    "leak_reports",
    "admin_keys",
    "idempotency_keys",
    "schema_migrations",
    "customer_references",
    "exports",
    "export_asides",
    "export_files",
    "usage_entries",
    "usage_hours",
    "usage_days",
    "usage_months",
    "usage_totals",
    "usage_ledger",
)


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    """Return the owner's connection to a database with one license."""
    connection = await asyncpg.connect(database.dsn)
    await PostgresWriter(connection).put(digest_of(1), license_of(1))
    yield connection
    await connection.close()


@pytest.fixture
async def data_plane(database: Database, owner: Connection) -> AsyncIterator[Connection]:
    """Return the data plane's connection to the same."""
    assert not owner.is_closed()
    connection = await asyncpg.connect(database.data_plane_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def control_plane(database: Database, owner: Connection) -> AsyncIterator[Connection]:
    """Return a connection with the control plane's rights and no more."""
    assert not owner.is_closed()
    connection = await asyncpg.connect(database.dsn)
    await connection.execute("SET ROLE tallygate_control")
    yield connection
    await connection.close()


async def test_the_data_plane_may_call_what_it_needs(data_plane: Connection) -> None:
    """Four functions and LISTEN are all that deciding requests takes."""
    found = await data_plane.fetchrow("SELECT * FROM find_license_v1($1)", [digest_of(1)])
    assert found is not None
    assert (found["as_of"], found["license"] is None) == (1, False)
    assert await data_plane.fetchrow("SELECT * FROM current_routes_v1()") is not None
    assert await data_plane.fetchval("SELECT newest FROM current_generation_v1()") == 1
    assert len(await data_plane.fetch("SELECT * FROM changes_since_v1(0)")) == 1
    await data_plane.execute("LISTEN license_changed_v1")


@pytest.mark.parametrize("table", TABLES)
async def test_the_data_plane_touches_no_table(data_plane: Connection, table: str) -> None:
    """A stolen data-plane password lists no customer, reads no digest and changes nothing."""
    for statement in (
        "SELECT * FROM {}",
        "SELECT count(*) FROM {}",
        "INSERT INTO {} DEFAULT VALUES",
        "DELETE FROM {}",
        "TRUNCATE {}",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await data_plane.execute(statement.format(table))


async def test_the_list_of_tables_is_complete(owner: Connection) -> None:
    """A table added later is covered by the test above."""
    rows = await owner.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition"
    )
    assert {row["relname"] for row in rows} == set(TABLES)


async def test_a_month_of_a_table_is_no_way_around(owner: Connection) -> None:
    """Partitions have rights of their own: the data plane has none on any relation, by whatever name."""
    rows = await owner.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')"
        " AND has_table_privilege('tallygate_dataplane', oid, $1)",
        "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER",
    )
    assert rows == []


@pytest.mark.parametrize(
    "call",
    [
        "SELECT record_change('cus_a')",
        "SELECT prune_changes('0 seconds')",
        "CREATE TABLE mine (id int)",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER TABLE tokens DISABLE TRIGGER ALL",
        "SET ROLE tallygate_control",
    ],
)
async def test_the_data_plane_changes_nothing(data_plane: Connection, call: str) -> None:
    """It can neither announce changes, nor forget them, nor put objects in the way of ours."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await data_plane.execute(call)


async def test_a_temporary_table_does_not_stand_in_for_ours(data_plane: Connection) -> None:
    """The functions run with the owner's rights: a caller's own `tokens` must not reach them."""
    await data_plane.execute("CREATE TEMP TABLE license_generation (newest bigint, pruned_to bigint)")
    await data_plane.execute("INSERT INTO license_generation VALUES (666, 666)")
    assert await data_plane.fetchval("SELECT newest FROM current_generation_v1()") == 1


async def test_the_control_plane_may_do_its_work(control_plane: Connection) -> None:
    """Everything issuing and changing takes works without being the owner, the audit included."""
    await PostgresWriter(control_plane).put(digest_of(2), license_of(2))
    await PostgresWriter(control_plane).put_routes([])
    await control_plane.execute("INSERT INTO audit (at, actor, action, object) VALUES (now(), 'me', 'try', 'it')")
    await control_plane.execute("SELECT prune_changes('1 day')")
    assert await control_plane.fetchval("SELECT newest FROM current_generation_v1()") == 3


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE plan_versions SET name = 'Cheaper'",
        "UPDATE plan_versions SET published_at = NULL",
        "UPDATE plan_versions SET document = '{}'",
        "DELETE FROM plan_versions",
        "TRUNCATE plan_versions CASCADE",
        "UPDATE audit SET actor = 'somebody else'",
        "DELETE FROM audit",
        "TRUNCATE audit",
    ],
)
async def test_what_is_published_or_audited_stays(owner: Connection, control_plane: Connection, statement: str) -> None:
    """A published plan version never changes and the audit only grows, whoever asks: the database refuses."""
    await owner.execute("INSERT INTO audit (at, actor, action, object) VALUES (now(), 'me', 'try', 'it')")
    with pytest.raises(asyncpg.RestrictViolationError):
        await owner.execute(statement)
    with pytest.raises((asyncpg.RestrictViolationError, asyncpg.InsufficientPrivilegeError)):
        await control_plane.execute(statement)
    assert await owner.fetchval("SELECT name FROM plan_versions") == "Pro"
    assert await owner.fetchval("SELECT actor FROM audit") == "me"


async def test_a_draft_may_still_change(owner: Connection) -> None:
    """Only publishing makes a version final."""
    await owner.execute("INSERT INTO plan_versions VALUES ('pro', 2, 'Draft', '{}', now(), NULL)")
    await owner.execute("UPDATE plan_versions SET name = 'Better', published_at = now() WHERE version = 2")
    with pytest.raises(asyncpg.RestrictViolationError, match="pro@2 is published"):
        await owner.execute("UPDATE plan_versions SET name = 'Worse' WHERE version = 2")


async def test_nothing_that_is_in_use_can_be_deleted(owner: Connection) -> None:
    """Nothing cascades: a plan, a customer or a family with something hanging on it stays."""
    for table in ("customers", "plans", "subscriptions", "token_families"):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await owner.execute(f"DELETE FROM {table}")  # noqa: S608 - the names stand above

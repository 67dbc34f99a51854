"""`tallygate db`: the schema, by exit code and in words; and a database that is not there."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from support.commands import Commands, Shell

from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.postgres import PostgresServer
from tallygate.storage.migrate import shipped


@pytest.fixture
async def empty_shell(commands: Commands, postgres_server: PostgresServer) -> AsyncIterator[Shell]:
    """A shell whose database holds nothing yet."""
    admin = await asyncpg.connect(postgres_server.dsn(), timeout=10)
    await admin.execute("CREATE DATABASE unmigrated")
    try:
        yield Shell(commands, {"TALLYGATE_POSTGRES_DSN": postgres_server.dsn("unmigrated")})
    finally:
        await admin.execute("DROP DATABASE unmigrated WITH (FORCE)")
        await admin.close(timeout=5)


def test_a_schema_is_brought_up_once(empty_shell: Shell) -> None:
    """`status` exits 1 until `migrate` has run, which may run again and then does nothing."""
    names = [f"{migration.version:04} {migration.name}" for migration in shipped()]
    before = empty_shell("db", "status")
    assert (before.code, before.err) == (1, "")
    assert before.out.count("pending") == len(names)
    assert empty_shell("db", "migrate", "--json").json == {"applied": names}
    after = empty_shell("db", "status", "--json").items
    assert [f"{row['version']:04} {row['name']}" for row in after] == names
    assert {row["problem"] for row in after} == {""}
    assert all(row["applied_at"] for row in after)
    again = empty_shell("db", "migrate")
    assert (again.code, again.out) == (0, "the schema is up to date\n")


def test_before_it_is_migrated_every_command_says_what_is_wrong(empty_shell: Shell) -> None:
    """A forgotten migration is a failure with a reason, not a traceback."""
    pepper = "a pepper of tests, long enough to be one"
    complaint = empty_shell("customers", "list", PEPPER=pepper).refused(1)
    assert "customers" in complaint
    assert "`tallygate db migrate`" in complaint


def test_a_database_that_is_not_there_is_1(shell: Shell) -> None:
    """Postgres down, or a login it refuses: exit 1, and no password in the complaint."""
    gone = f"postgresql://user:hunter2secret@{LOOPBACK}:{free_port()}/none"
    commands = (["db", "status"], ["db", "migrate"], ["customers", "list"], ["explain", "--token", "x", "GET", "/v1"])
    for arguments in commands:
        assert "hunter2secret" not in shell(*arguments, POSTGRES_DSN=gone).refused(1)
    user, _, rest = shell.environment["TALLYGATE_POSTGRES_DSN"].rpartition("@")
    wrong_login = f"{user.rpartition(':')[0]}:hunter2secret@{rest}"
    assert "hunter2secret" not in shell("customers", "list", POSTGRES_DSN=wrong_login).refused(1)


def test_a_dsn_that_is_none_is_bad_input(shell: Shell) -> None:
    """Exit 2, and what was typed is not repeated, for it may hold a password anywhere."""
    for dsn in ("hunter2secret", "mysql://u:hunter2secret@h/d", "postgresql://u:hunter2secret@h:port/d"):
        for arguments in (["db", "status"], ["db", "migrate"], ["customers", "list"]):
            assert "hunter2secret" not in shell(*arguments, POSTGRES_DSN=dsn).refused(2)

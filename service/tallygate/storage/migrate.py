"""Migrations: the numbered SQL files beside this module, applied in order, each once.

Owns the table `schema_migrations` and the order of changes. Does not own what the SQL says, nor the two
roles' logins. Concurrent runs are safe: one advisory lock covers a whole run, and whoever waits for it
finds nothing left to do. Each file is one transaction with a lock timeout, so that a migration never
queues the API's own queries behind itself; a failed file leaves no trace, earlier ones stay.
The connection must reach Postgres itself or a pooler in session mode: an advisory lock belongs to a session.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from importlib.resources.abc import Traversable

import asyncpg

from tallygate.core.errors import ConflictError, StoreUnavailableError
from tallygate.storage.postgres import Connection, connect, store_errors

_LOCK_KEY = 0x74_67_6D_69_67  # "tgmig": the advisory lock every version of Tallygate takes
_SEARCH_PATH = "public, pg_temp"  # pg_temp last, or a temporary table could stand in for one of ours
# SQLSTATE classes that pass: connection, rollback, resources, a lock not had in time, cancelled, system.
_TRY_AGAIN = ("08", "40", "53", "55", "57", "58")
_LEDGER = """
CREATE TABLE IF NOT EXISTS public.schema_migrations (
    version     integer PRIMARY KEY CHECK (version > 0),
    name        text NOT NULL,
    checksum    text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
)"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file `<version>_<name>.sql`; `checksum` is the SHA-256 of its text, whatever its line ends."""

    version: int
    name: str
    checksum: str
    sql: str


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """Where one migration stands: `applied_at` None means it is still to come.

    `is_as_shipped` False: the database and this program disagree about it, `problem` says how.
    """

    version: int
    name: str
    applied_at: datetime | None
    problem: str = ""

    @property
    def is_as_shipped(self) -> bool:
        """Say whether database and program agree about this migration."""
        return not self.problem


def shipped() -> list[Migration]:
    """Return the migrations of this program in order; raise ConflictError when numbers are missing or double."""
    found = [_read(entry.name, entry.read_bytes()) for entry in _folder().iterdir() if entry.name.endswith(".sql")]
    found.sort(key=lambda migration: migration.version)
    numbers = [migration.version for migration in found]
    if numbers != list(range(1, len(numbers) + 1)):
        field, problem = "migrations", f"their numbers are {numbers}"
        raise ConflictError(field, problem, "number them 1, 2, 3 … without a gap")
    return found


async def migrate(
    dsn: str,
    *,
    migrations: list[Migration] | None = None,
    lock_timeout_s: float = 5.0,
    statement_timeout_s: float = 300.0,
    wait_s: float = 60.0,
) -> list[Migration]:
    """Bring the database at `dsn` up to `migrations` (the shipped ones) and return those applied now.

    Waits up to `wait_s` for another run to end. Raises ConflictError when an applied file differs from
    ours, when the database is newer than this program, or when SQL fails for a reason of its own;
    StoreUnavailableError when Postgres does not answer or a lock is not had in time. Both name the file.
    """
    wanted = shipped() if migrations is None else migrations
    async with _session(dsn, "migrate") as connection:
        await _lock(connection, wait_s)
        await connection.execute(_LEDGER)
        standing = compare(wanted, await _applied(connection))
        for line in standing:
            if line.problem:
                raise ConflictError(f"migration {line.version:04} {line.name}", line.problem)
        pending = {line.version for line in standing if line.applied_at is None}
        todo = [migration for migration in wanted if migration.version in pending]
        for migration in todo:
            await _apply(connection, migration, lock_timeout_s, statement_timeout_s)
        return todo


async def status(dsn: str, *, migrations: list[Migration] | None = None) -> list[MigrationStatus]:
    """Return where every migration known to the program or to the database stands; changes nothing."""
    wanted = shipped() if migrations is None else migrations
    async with _session(dsn, "read the schema's version") as connection:
        exists = await connection.fetchval("SELECT to_regclass('public.schema_migrations') IS NOT NULL")
        return compare(wanted, await _applied(connection) if exists else {})


@dataclass(frozen=True, slots=True)
class Applied:
    """A row of `schema_migrations`."""

    name: str
    checksum: str
    applied_at: datetime


def compare(wanted: list[Migration], applied: dict[int, Applied]) -> list[MigrationStatus]:
    """Return one line per migration that either side knows, by number."""
    lines = [_line(migration, applied) for migration in wanted]
    known = {migration.version for migration in wanted}
    newer = "the database is newer than this program: run a newer Tallygate against it"
    lines += [
        MigrationStatus(version, row.name, row.applied_at, newer)
        for version, row in sorted(applied.items())
        if version not in known
    ]
    return lines


def _line(migration: Migration, applied: dict[int, Applied]) -> MigrationStatus:
    row = applied.get(migration.version)
    if row is None:
        late = any(version > migration.version for version in applied)
        problem = "a later migration has been applied without this one" if late else ""
        return MigrationStatus(migration.version, migration.name, None, problem)
    problem = ""
    if row.checksum != migration.checksum:
        problem = "its file has been edited since it was applied: restore it and write a new migration"
    return MigrationStatus(migration.version, migration.name, row.applied_at, problem)


def _folder() -> Traversable:
    return files("tallygate.storage") / "migrations"


def _read(file_name: str, content: bytes) -> Migration:
    sql = content.decode().replace("\r\n", "\n")
    number, _, name = file_name.removesuffix(".sql").partition("_")
    if not number.isdecimal() or not name:
        raise ConflictError(file_name, "is no migration's name", "call it 0002_what_it_does.sql")
    return Migration(int(number), name, hashlib.sha256(sql.encode()).hexdigest(), sql)


@asynccontextmanager
async def _session(dsn: str, action: str) -> AsyncIterator[Connection]:
    connection = await connect(dsn, application_name="tallygate-migrate")
    try:
        with store_errors(action):
            yield connection
    finally:
        # Closing gives the advisory lock back, however this ends.
        await connection.close(timeout=5.0)


async def _lock(connection: Connection, wait_s: float) -> None:
    await connection.execute(f"SET search_path = {_SEARCH_PATH}")
    await connection.execute(f"SET lock_timeout = {round(wait_s * 1000)}")
    try:
        await connection.execute(f"SELECT pg_advisory_lock({_LOCK_KEY})")
    except asyncpg.LockNotAvailableError:
        message = f"another migration has been running for {wait_s:g} s"
        raise StoreUnavailableError(message) from None


async def _applied(connection: Connection) -> dict[int, Applied]:
    rows = await connection.fetch("SELECT version, name, checksum, applied_at FROM public.schema_migrations")
    return {row["version"]: Applied(row["name"], row["checksum"], row["applied_at"]) for row in rows}


async def _apply(
    connection: Connection, migration: Migration, lock_timeout_s: float, statement_timeout_s: float
) -> None:
    title = f"migration {migration.version:04} {migration.name}"
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL search_path = {_SEARCH_PATH}")
            await connection.execute(f"SET LOCAL lock_timeout = {round(lock_timeout_s * 1000)}")
            await connection.execute(f"SET LOCAL statement_timeout = {round(statement_timeout_s * 1000)}")
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO public.schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
                migration.version,
                migration.name,
                migration.checksum,
            )
    except asyncpg.PostgresError as error:
        if error.sqlstate.startswith(_TRY_AGAIN):
            message = f"{title} was rolled back, try again when the database is quieter: {error}"
            raise StoreUnavailableError(message) from error
        raise ConflictError(title, f"was rolled back: {error}") from error

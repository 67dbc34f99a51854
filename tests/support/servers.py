"""What the shared fixtures hand out: databases cloned from one migrated template, each dropped after use."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tallygate.devservers.postgres import PostgresServer

_TEMPLATE = "tallygate_template"
_DATA_PLANE_LOGIN = "data_plane_of_tests"


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated, empty database: `dsn` logs in as its owner, `data_plane_dsn` as the data plane may."""

    dsn: str = field(repr=False)
    data_plane_dsn: str = field(repr=False)


class DatabaseFactory:
    """Clones of a migrated template on one server; a clone costs some 20 ms, a migration many times that."""

    def __init__(self, server: PostgresServer) -> None:
        """Take the server; `prepare` before the first clone."""
        self._server = server
        self._data_plane_password = secrets.token_urlsafe(12)
        self._made = 0

    async def prepare(self) -> None:
        """Make and migrate the template, and the login that stands for the data plane."""
        # Imported late: the tests of the servers themselves need no schema.
        from tallygate.storage.migrate import migrate  # noqa: PLC0415

        await self._execute(f"CREATE DATABASE {_TEMPLATE}")
        await migrate(self._server.dsn(_TEMPLATE))
        await self._execute(
            f"CREATE ROLE {_DATA_PLANE_LOGIN} LOGIN PASSWORD '{self._data_plane_password}' IN ROLE tallygate_dataplane"
        )

    @asynccontextmanager
    async def clone(self) -> AsyncIterator[Database]:
        """Make a database; drop it afterwards, whoever is still connected."""
        self._made += 1
        name = f"test_{self._made}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        try:
            dsn = self._server.dsn(name)
            yield Database(dsn, with_login(dsn, _DATA_PLANE_LOGIN, self._data_plane_password))
        finally:
            await self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._server.dsn(), timeout=10, command_timeout=30)
        try:
            await connection.execute(statement)
        finally:
            await connection.close(timeout=5)


def with_login(dsn: str, user: str, password: str) -> str:
    """Return `dsn` with another user and password (both safe in a URL)."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.netloc.rpartition('@')[2]}"))

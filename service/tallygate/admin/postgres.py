"""The control plane's way to Postgres: one transaction at a time, and what a failure of it is called.

Owns running the statements of `queries.sql` and the translation of the database's refusals. Does not own
what a row means (`rows/`) nor what a use case does. `Statements` belongs to one task; Postgres unavailable
is StoreUnavailableError, and nothing was changed.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias

import asyncpg

from tallygate.billing.postgres import PostgresBilledUsage
from tallygate.core.errors import ConflictError, InputError, StoreUnavailableError
from tallygate.storage.postgres import Pool, PooledConnection, acquire
from tallygate.storage.queries import load

Row: TypeAlias = asyncpg.Record

_SQL = load("tallygate.admin", "queries.sql")


class OverlapError(ConflictError):
    """Two subscriptions of a customer in one environment would run at the same time."""


class Registry:
    """Where the control plane keeps its rows."""

    def __init__(self, pool: Pool, *, deadline_s: float = 10.0) -> None:
        """Use `pool`; a whole transaction must be done within `deadline_s`."""
        self._pool = pool
        self._deadline_s = deadline_s

    @asynccontextmanager
    async def session(self) -> AsyncIterator["Statements"]:
        """Run the block in one transaction: all of it becomes visible, or nothing."""
        with _refusals():
            async with (
                acquire(self._pool, self._deadline_s, "change licenses") as connection,
                connection.transaction(),
            ):
                yield Statements(connection)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator["Statements"]:
        """Run the block, which may only read, on the rows as they are at one instant."""
        with _refusals():
            async with (
                acquire(self._pool, self._deadline_s, "read licenses and usage") as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                yield Statements(connection)


class Statements:
    """The statements of `queries.sql` by name, on one connection that is inside a transaction."""

    def __init__(self, connection: PooledConnection) -> None:
        """Use a connection that is inside a transaction."""
        self._connection = connection

    @property
    def connection(self) -> PooledConnection:
        """Return the connection, for statements of another feature that belong to this transaction."""
        return self._connection

    async def run(self, name: str, *values: object) -> None:
        """Run a statement."""
        await self._connection.execute(_SQL[name], *values)

    async def run_many(self, name: str, values: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row of values, in one round trip."""
        await self._connection.executemany(_SQL[name], values)

    async def row(self, name: str, *values: object) -> Row | None:
        """Return the first row of a statement's answer."""
        return await self._connection.fetchrow(_SQL[name], *values)

    async def rows(self, name: str, *values: object) -> list[Row]:
        """Return all rows of a statement's answer."""
        return await self._connection.fetch(_SQL[name], *values)

    def billed_usage(self) -> PostgresBilledUsage:
        """Return the ledger as bills read it, on the same connection."""
        return PostgresBilledUsage(self._connection)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo the block, and only the block, when it raises."""
        with _refusals():
            async with self._connection.transaction():
                yield


@contextmanager
def _refusals() -> Iterator[None]:
    """Call what the database refuses by the names of `core.errors`."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise ConflictError(error.table_name or "object", error.detail or "exists already") from None
    except asyncpg.ExclusionViolationError:
        raise OverlapError("subscription", "another one of this customer runs at that time") from None
    except asyncpg.DataError:
        # Not quoted: a token may have been typed where a name belongs.
        raise InputError("input", "holds what no database can store", "use printable characters") from None
    except asyncpg.RaiseError as error:
        raise StoreUnavailableError(str(error)) from error

"""The ledger in Postgres: rows of entries, and their roll-ups, in one transaction.

Owns the order of a transaction: partitions first, then the ledger's lock, then the rows, `ROWS_AT_ONCE` in a statement.
Its deadline grows with its rows, for a bucket is never divided: readers tell by it what was moved. Does not own the
schema (`storage/migrations`). Failure: StoreUnavailableError for everything that ends without us, UnstorableError for
rows that Postgres will never take. A statement that was cut off may have been committed: it is repeated, to no effect.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import starmap
from typing import TypeAlias

import asyncpg

from tallygate.core.errors import StoreUnavailableError
from tallygate.storage.postgres import Pool, PooledConnection, acquire
from tallygate.storage.queries import load
from tallygate.usage.buckets import Bucket
from tallygate.usage.entry import UsageEntry, minute_at
from tallygate.usage.ledger import UnstorableError

_SQL = load("tallygate.usage", "queries.sql")
_MONTHS_AHEAD = 4
ROWS_AT_ONCE = 20_000
"""What a statement stores, well within its own deadline."""
_ROWS_A_S = 1_000
"""The least a database stores: beyond `ROWS_AT_ONCE` so many rows have a second more."""
Row: TypeAlias = tuple[datetime, int, UsageEntry]
"""When it is recorded, its bucket, and the entry."""
_REFUSALS = (asyncpg.DataError, asyncpg.ProgramLimitExceededError)


class PostgresLedger:
    """Entries and roll-ups behind a pool."""

    def __init__(self, pool: Pool, *, deadline_s: float = 30.0, rows_at_once: int = ROWS_AT_ONCE) -> None:
        """Use `pool`, whose statements may take `deadline_s`; so may a transaction of `rows_at_once`."""
        self._pool = pool
        self._deadline_s = deadline_s
        self._rows_at_once = rows_at_once

    async def store(self, buckets: Sequence[Bucket]) -> int:
        """Store these buckets in one transaction; return how many entries are new."""
        rows = [
            (minute_at(bucket.name.minute), bucket.name.opened_us, entry)
            for bucket in buckets
            for entry in bucket.entries
        ]
        if not rows:
            return 0
        more_s = max(0, len(rows) - self._rows_at_once) / _ROWS_A_S
        async with self._connection("store usage", more_s) as connection:
            with suppress(asyncpg.CheckViolationError):
                return await self._store(connection, rows)
            # A partition whose time is over was dropped between its making and these rows. Made again it lasts until
            # that is looked at next, in an hour.
            try:
                return await self._store(connection, rows)
            except asyncpg.CheckViolationError as error:
                raise StoreUnavailableError(f"cannot store usage: {error}") from error

    async def _store(self, connection: PooledConnection, rows: Sequence[Row]) -> int:
        instants = {at for recorded_at, _, entry in rows for at in (recorded_at, entry.minute_at)}
        await make_partitions(connection, instants)
        parts = [rows[at : at + self._rows_at_once] for at in range(0, len(rows), self._rows_at_once)]
        try:
            async with connection.transaction():
                return sum([await store_rows(connection, part) for part in parts])
        except _REFUSALS as error:
            raise UnstorableError(str(error)) from error

    async def reached(self, moved_to: datetime) -> None:
        """Note that everything counted before an instant is here."""
        async with self._connection("note what the ledger has") as connection:
            await connection.execute(_SQL["note_moved_to"], moved_to)

    async def unsent(self, before: datetime) -> Mapping[str, datetime]:
        """Return the exports that have not sent all that was recorded before an instant, and since when that is so."""
        async with self._connection("look how far exports are") as connection:
            return {row["name"]: row["oldest_at"] for row in await connection.fetch(_SQL["unsent"], before)}

    async def keep(self, now: datetime, *, entries: datetime | None, hours: datetime | None) -> list[str]:
        """Make the partitions of the months to come; drop those over by these instants, and return their names."""
        async with self._connection("keep the ledger's partitions") as connection:
            first = now.replace(day=1)  # so that no step of 31 days leaves out a month
            await make_partitions(
                connection, [first + months * timedelta(days=31) for months in range(_MONTHS_AHEAD + 1)]
            )
            return [str(row["name"]) for row in await connection.fetch(_SQL["drop_partitions"], entries, hours)]

    @asynccontextmanager
    async def _connection(self, action: str, more_s: float = 0) -> AsyncIterator[PooledConnection]:
        async with acquire(self._pool, self._deadline_s + more_s, action) as connection:
            yield connection


async def make_partitions(connection: PooledConnection, instants: Iterable[datetime]) -> None:
    """Make what is missing of the partitions for these instants."""
    months = {datetime(at.year, at.month, 1, tzinfo=UTC) for at in instants}
    await connection.execute(_SQL["make_partitions"], sorted(months))


async def next_correction(connection: PooledConnection) -> int:
    """Return a number that no other correction has, and no entry."""
    return int(await connection.fetchval(_SQL["next_correction"]))


async def store_rows(connection: PooledConnection, rows: Sequence[Row], reason: str = "") -> int:
    """Store rows within the transaction of `connection`, partitions being there."""
    await connection.execute(_SQL["lock_ledger"])
    columns = zip(*starmap(_columns, rows), strict=True)
    return int(await connection.fetchval(_SQL["store_entries"], *map(list, columns), reason))


def _columns(recorded_at: datetime, bucket: int, entry: UsageEntry) -> tuple[object, ...]:
    """Return a row in the order of the statement's columns."""
    whose = entry.customer, entry.subscription, entry.family, entry.plan
    what = entry.meter, entry.route, entry.outcome, entry.entry
    return recorded_at, bucket, *whose, *what, entry.minute_at, entry.quantity

"""The ledger in Postgres: rows of entries, and their roll-ups, in one transaction.

Owns the order of a transaction: partitions first, then the ledger's lock, then the rows. Does not own the schema
(`storage/migrations`). Failure: StoreUnavailableError for everything that ends without us, UnstorableError for rows
that Postgres will never take. A statement that was cut off may have been committed: it is repeated, to no effect.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import starmap

import asyncpg

from tallygate.storage.postgres import Pool, PooledConnection, acquire
from tallygate.storage.queries import load
from tallygate.usage.buckets import Bucket
from tallygate.usage.entry import UsageEntry, minute_at
from tallygate.usage.ledger import UnstorableError

_SQL = load("tallygate.usage", "queries.sql")
_MONTHS_AHEAD = 4
_REFUSALS = (asyncpg.DataError, asyncpg.ProgramLimitExceededError)


class PostgresLedger:
    """Entries and roll-ups behind a pool."""

    def __init__(self, pool: Pool, *, deadline_s: float = 30.0) -> None:
        """Use `pool`, whose statements may take `deadline_s`; a whole transaction must be done within it."""
        self._pool = pool
        self._deadline_s = deadline_s

    async def store(self, buckets: Sequence[Bucket]) -> int:
        """Store these buckets in one transaction; return how many entries are new."""
        rows = [
            (minute_at(bucket.name.minute), bucket.name.opened_us, entry)
            for bucket in buckets
            for entry in bucket.entries
        ]
        if not rows:
            return 0
        instants = [at for recorded_at, _, entry in rows for at in (recorded_at, entry.minute_at)]
        async with self._connection("store usage") as connection:
            await make_partitions(connection, instants)
            try:
                async with connection.transaction():
                    return await store_rows(connection, rows)
            except _REFUSALS as error:
                raise UnstorableError(str(error)) from error

    async def reached(self, moved_to: datetime) -> None:
        """Note that everything counted before an instant is here."""
        async with self._connection("note what the ledger has") as connection:
            await connection.execute(_SQL["note_moved_to"], moved_to)

    async def keep(self, now: datetime, *, entries: timedelta | None, hours: timedelta | None) -> list[str]:
        """Make the partitions of the months to come; drop those older than these spans, and return their names."""
        async with self._connection("keep the ledger's partitions") as connection:
            first = now.replace(day=1)  # so that no step of 31 days leaves out a month
            await make_partitions(
                connection, [first + months * timedelta(days=31) for months in range(_MONTHS_AHEAD + 1)]
            )
            before = [None if span is None else now - span for span in (entries, hours)]
            return [str(row["name"]) for row in await connection.fetch(_SQL["drop_partitions"], *before)]

    @asynccontextmanager
    async def _connection(self, action: str) -> AsyncIterator[PooledConnection]:
        async with acquire(self._pool, self._deadline_s, action) as connection:
            yield connection


async def make_partitions(connection: PooledConnection, instants: Sequence[datetime]) -> None:
    """Make what is missing of the partitions for these instants."""
    months = {datetime(at.year, at.month, 1, tzinfo=UTC) for at in instants}
    await connection.execute(_SQL["make_partitions"], sorted(months))


async def next_correction(connection: PooledConnection) -> int:
    """Return a number that no other correction has, and no entry."""
    return int(await connection.fetchval(_SQL["next_correction"]))


async def store_rows(
    connection: PooledConnection, rows: Sequence[tuple[datetime, int, UsageEntry]], reason: str = ""
) -> int:
    """Store (recorded at, bucket, entry) within the transaction of `connection`, partitions being there."""
    await connection.execute(_SQL["lock_ledger"])
    columns = zip(*starmap(_columns, rows), strict=True)
    return int(await connection.fetchval(_SQL["store_entries"], *map(list, columns), reason))


def _columns(recorded_at: datetime, bucket: int, entry: UsageEntry) -> tuple[object, ...]:
    """Return a row in the order of the statement's columns."""
    whose = entry.customer, entry.subscription, entry.family, entry.plan
    what = entry.meter, entry.route, entry.outcome, entry.entry
    return recorded_at, bucket, *whose, *what, entry.minute_at, entry.quantity

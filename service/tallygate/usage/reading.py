"""Answers to questions about usage: what the ledger has, and what Redis holds that it does not have yet.

Owns that no unit is in an answer twice or missing: Redis is read first, the ledger after it in one snapshot, and of
what Redis held a bucket counts that is not in that snapshot. A bucket is moved whole, and forgotten by Redis only after
it is in the ledger: so each is in one of both. Does not own how either is written (`mover`), nor what can be asked
(`question`).

Rows of hours, days and months are read from what was added up already, in the order of its primary key: a page costs
a page. Those of minutes are added up of the ledger's own, for bills that begin within an hour. Any number of tasks.
Failure: StoreUnavailableError. Without Redis, or with more in it than can be read, the answer says what it lacks, and
is no error.
"""

import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tallygate.core.errors import LimiterUnavailableError, OverloadedError
from tallygate.storage.postgres import Pool, PooledConnection, acquire
from tallygate.storage.queries import load
from tallygate.usage.entry import minute_at
from tallygate.usage.live import LiveBucket, LiveBuckets, Tail
from tallygate.usage.question import By, Column, Key, UsageQuery, UsageRow, row_of, sums

_SQL = load("tallygate.usage", "reading.sql")
_TABLES = {
    By.MINUTE: "(SELECT *, minute_at AS from_at FROM usage_entries) AS entries",
    By.HOUR: "usage_hours",
    By.DAY: "usage_days",
    By.MONTH: "usage_months",
}
_NAMES = {
    Column.CUSTOMER: "customer_id",
    Column.SUBSCRIPTION: "subscription_id",
    Column.FAMILY: "family_id",
    Column.PLAN: "plan",
    Column.METER: "meter",
    Column.ROUTE: "route",
    Column.OUTCOME: "outcome",
}
_WHOSE = {Column.CUSTOMER, Column.SUBSCRIPTION, Column.FAMILY}
_UNTOLD = Tail((), None)
_BUCKETS_A_TURN = 200


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Rows in order; `after` is the key of the last when there are more. `lacks` tells what of Redis is missing."""

    rows: tuple[UsageRow, ...]
    after: Key | None
    lacks: str | None


class UsageReader:
    """Reads usage from both."""

    def __init__(self, pool: Pool, live: LiveBuckets | None, *, deadline_s: float = 30.0) -> None:
        """Read the ledger through `pool` and Redis through `live`; None answers from the ledger alone.

        `deadline_s` is for a page, and ten times that for all of them.
        """
        self._pool = pool
        self._live = live
        self._deadline_s = deadline_s

    async def page(self, query: UsageQuery, after: Key | None = None, limit: int = 1000) -> UsagePage:
        """Return so many rows after the key `after`."""
        async with self._opened(query, self._deadline_s) as answer:
            return await answer.page(after, limit)

    async def pages(self, query: UsageQuery, limit: int = 1000) -> AsyncIterator[UsagePage]:
        """Return all rows, page by page, as of one instant."""
        async with self._opened(query, 10 * self._deadline_s) as answer:
            page = await answer.page(None, limit)
            yield page
            while page.after is not None:
                page = await answer.page(page.after, limit)
                yield page

    async def _tail(self, query: UsageQuery) -> Tail:
        if self._live is None:
            return _UNTOLD
        try:
            return await self._live.read(query.customer)
        except (LimiterUnavailableError, OverloadedError) as error:
            return Tail((), f"{error}; what is not in the ledger yet is missing")

    @asynccontextmanager
    async def _opened(self, query: UsageQuery, deadline_s: float) -> AsyncIterator["_Answer"]:
        """Read Redis, then take a snapshot of the ledger, and leave out of the former what is in the latter."""
        tail = await self._tail(query)
        async with (
            acquire(self._pool, deadline_s, "read usage") as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            known = await moved(connection, tail.buckets)
            left = [bucket for place, bucket in enumerate(tail.buckets) if place not in known]
            yield _Answer(connection, query, await _live(query, left), tail.lacks)


async def _live(query: UsageQuery, buckets: Sequence[LiveBucket]) -> Mapping[Key, int]:
    """Return what buckets come to; there may be thousands, and others have their turns in between."""
    found: Counter[Key] = Counter()
    for first in range(0, len(buckets), _BUCKETS_A_TURN):
        part = buckets[first : first + _BUCKETS_A_TURN]
        found.update(sums(query, (entry for bucket in part for entry in bucket.entries())))
        await asyncio.sleep(0)
    return found


async def moved(connection: PooledConnection, buckets: Sequence[LiveBucket]) -> set[int]:
    """Return which of these buckets, by their place here, are in the ledger."""
    if not buckets:
        return set()
    names = ((minute_at(bucket.name.minute), bucket.name.customer, bucket.name.opened_us) for bucket in buckets)
    return {row["place"] - 1 for row in await connection.fetch(_SQL["moved"], *map(list, zip(*names, strict=True)))}


class _Answer:
    """The answer to one question, as of one snapshot."""

    def __init__(
        self, connection: PooledConnection, query: UsageQuery, live: Mapping[Key, int], lacks: str | None
    ) -> None:
        self._connection = connection
        self._query = query
        self._live = live
        self._live_keys = sorted(live)
        self._lacks = lacks

    async def page(self, after: Key | None, limit: int) -> UsagePage:
        """Return the first rows of both after `after`; each is among the first of the part that it is in."""
        text, values = statement(self._query, after, limit + 1)
        found: dict[Key, int] = {
            tuple(row)[:-1]: row["quantity"] for row in await self._connection.fetch(text, *values)
        }
        first = 0 if after is None else bisect_right(self._live_keys, after)
        for key in self._live_keys[first : first + limit + 1]:
            found[key] = found.get(key, 0) + self._live[key]
        keys = sorted(found)
        rows = tuple(row_of(self._query, key, found[key]) for key in keys[:limit])
        return UsagePage(rows, keys[limit - 1] if len(keys) > limit else None, self._lacks)


def statement(query: UsageQuery, after: Key | None, limit: int) -> tuple[str, list[object]]:
    """Return the SQL of a page of the ledger's rows, and its values."""
    values: list[object] = []

    def value(given: object) -> str:
        values.append(given)
        return f"${len(values)}"

    table, time = _source(query)
    where = [f"from_at >= {value(query.from_at)}", f"from_at < {value(query.to_at)}"]
    for column, given in query.filters.items():
        is_any_version = column is Column.PLAN and "@" not in given
        where.append(f"{'split_part(plan, $$@$$, 1)' if is_any_version else _NAMES[column]} = {value(given)}")
    names = [_NAMES[column] for column in query.columns]
    names.insert(query.time_at, time)
    key = ", ".join(names)
    if after is not None:
        where.append(f"({key}) > ({', '.join(map(value, after))})")
    is_summed = len(query.columns) < len(Column) or query.by is By.MINUTE
    quantity, group = ("sum(quantity)::bigint AS quantity", f" GROUP BY {key}") if is_summed else ("quantity", "")
    # Made of names that stand in this file; what was given travels apart.
    text = f"SELECT {key}, {quantity} FROM {table} WHERE {' AND '.join(where)}{group}"  # noqa: S608
    return f"{text} ORDER BY {key} LIMIT {value(limit)}", values


def _source(query: UsageQuery) -> tuple[str, str]:
    """Return the table that answers, and what of it is the time of a row.

    What is about everybody, whoever it was, is added up by day; only hours of everybody have to be gone through.
    """
    if query.by not in (By.DAY, By.MONTH) or not _WHOSE.isdisjoint({*query.columns, *query.filters}):
        return _TABLES[query.by], "from_at"
    return "usage_totals", "from_at" if query.by is By.DAY else "date_trunc('month', from_at, 'UTC')"

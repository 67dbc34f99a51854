"""Answers about usage, from Postgres and Redis together: each unit once, wherever it is just then."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from support.servers import Database
from support.usage_rows import NOON, buckets_of, made_up, put, summed
from support.valkeys import cluster, cluster_url_of

from tallygate.storage.postgres import Pool, close_pool, create_pool
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_topology import link
from tallygate.usage import redis_live as live_module
from tallygate.usage.entry import UsageEntry
from tallygate.usage.postgres import PostgresLedger
from tallygate.usage.question import EVERY_COLUMN, By, Column, UsageQuery, UsageRow
from tallygate.usage.reading import UsageReader
from tallygate.usage.redis_live import RedisLiveBuckets

SPRING, AUTUMN = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC)
SOME = (EVERY_COLUMN, (Column.CUSTOMER, Column.METER), (Column.PLAN, Column.ROUTE), (Column.FAMILY, Column.OUTCOME))
ENTRIES = made_up(600)
HALF = len(ENTRIES) // 2


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """A pool with the rights of the control plane."""
    separator = "&" if "?" in database.dsn else "?"
    pool = await create_pool(f"{database.dsn}{separator}role=tallygate_control")
    yield pool
    await close_pool(pool)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    """A client of an empty Valkey."""
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@asynccontextmanager
async def reader_of(pool: Pool, url: str) -> AsyncIterator[UsageReader]:
    """Read from both."""
    links = link(url, LinkTerms(deadline_s=10))
    try:
        yield UsageReader(pool, RedisLiveBuckets(links, deadline_s=30))
    finally:
        await links.close()


async def all_rows(reader: UsageReader, query: UsageQuery, limit: int = 1000) -> list[UsageRow]:
    """Return every row, page by page, each page asked for by itself."""
    page = await reader.page(query, None, limit)
    rows = list(page.rows)
    while page.after is not None:
        assert len(page.rows) == limit
        page = await reader.page(query, page.after, limit)
        rows += page.rows
    assert page.lacks is None
    return rows


def told(query: UsageQuery, rows: list[UsageRow]) -> dict[tuple[object, ...], int]:
    """Return rows as `summed` does; no two may be of one key."""
    found = {
        (*(getattr(row, column.value) for column in query.columns), row.from_at): row.quantity for row in rows
    }  # fmt: skip
    assert len(found) == len(rows)
    return found


async def stored(pool: Pool, entries: list[UsageEntry]) -> None:
    """Put entries into the ledger as the worker does."""
    await PostgresLedger(pool).store(buckets_of(entries))


@pytest.mark.parametrize("by", By)
@pytest.mark.parametrize("columns", SOME, ids=len)
async def test_each_unit_is_counted_once(
    pool: Pool, client: Redis, redis_url: str, by: By, columns: tuple[Column, ...]
) -> None:
    """Whether it is in the ledger, in Redis, or in both since it was just moved: rows are the sums done by hand."""
    await stored(pool, ENTRIES[:HALF])
    await put(client, buckets_of(ENTRIES[:HALF])[::3])  # moved, and not yet forgotten
    await put(client, buckets_of(ENTRIES[HALF:], opened_after_us=2))
    async with reader_of(pool, redis_url) as reader:
        for filters in ({}, {"customer": "cus_1"}, {"plan": "pro", "meter": "tokens"}, {"plan": "pro@2"}):
            given: dict[str, Any] = filters
            query = UsageQuery(SPRING, AUTUMN, by, columns=columns, **given)
            expected = summed(query, ENTRIES)
            rows = await all_rows(reader, query)
            assert told(query, rows) == expected
            assert await all_rows(reader, query, len(rows) // 5 + 1) == rows
            assert [row async for page in reader.pages(query, 50) for row in page.rows] == rows


async def test_an_open_bucket_counts_until_the_ledger_has_it(pool: Pool, client: Redis, redis_url: str) -> None:
    """It is told apart by when it was opened: once that is in the ledger, what Redis still shows adds nothing."""
    entries = [each for each in ENTRIES if each.customer == "cus_0"][:20]
    buckets = buckets_of(entries)
    query = UsageQuery(SPRING, AUTUMN, By.MONTH, customer="cus_0")
    await put(client, buckets, is_open=True)
    async with reader_of(pool, redis_url) as reader:
        before = await all_rows(reader, query)
        await PostgresLedger(pool).store(buckets)
        assert await all_rows(reader, query) == before
    assert told(query, before) == summed(query, entries)


async def test_what_is_settled_later_belongs_to_its_own_hour(pool: Pool, client: Redis, redis_url: str) -> None:
    """A refund counted now is in the row of the hour of its request."""
    (late,) = buckets_of([ENTRIES[0]])
    entry = late.entries[0]
    before_at = entry.minute_at - timedelta(days=1)
    refund = UsageEntry(
        entry.customer, entry.subscription, entry.family, entry.plan, entry.meter, entry.route, entry.outcome,
        "refund", before_at, -1,
    )  # fmt: skip
    await put(client, [type(late)(late.name, (refund,))])
    async with reader_of(pool, redis_url) as reader:
        (row,) = await all_rows(reader, UsageQuery(SPRING, AUTUMN, By.HOUR))
    assert (row.from_at, row.quantity) == (By.HOUR.start_of(before_at), -1)


async def test_without_redis_the_ledger_answers_and_says_what_is_missing(pool: Pool) -> None:
    """Whoever asks how much was used last month need not wait until Redis is back."""
    await stored(pool, ENTRIES)
    query = UsageQuery(SPRING, AUTUMN, By.MONTH)
    async with reader_of(pool, "redis://127.0.0.1:1") as reader:
        page = await reader.page(query)
        pages = [page async for page in reader.pages(query)]
    assert told(query, list(page.rows)) == summed(query, ENTRIES)
    assert page.lacks == pages[0].lacks
    assert "redis does not answer" in str(page.lacks)


async def test_of_too_much_in_redis_some_is_read_and_that_is_said(
    pool: Pool, client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that has stood still for long makes no answer slow, and none that looks whole."""
    buckets = buckets_of(ENTRIES)
    await put(client, buckets)
    monkeypatch.setattr(live_module, "MOST_OF_ONE", 5)
    monkeypatch.setattr(live_module, "MOST_OF_ALL", 10)
    async with reader_of(pool, redis_url) as reader:
        one = await reader.page(UsageQuery(SPRING, AUTUMN, By.MONTH, customer="cus_1", columns=(Column.CUSTOMER,)))
        every = await reader.page(UsageQuery(SPRING, AUTUMN, By.MONTH, columns=(Column.CUSTOMER,)))
    assert "only 5 of the buckets" in str(one.lacks)
    assert every.lacks is not None
    assert one.rows


async def test_what_cannot_be_read_hides_nothing_else(pool: Pool, client: Redis, redis_url: str) -> None:
    """A field that somebody wrote by hand is the worker's to keep aside; the others are answered."""
    (bucket,) = buckets_of([ENTRIES[0]])
    await put(client, [bucket])
    customer, minute, opened = bucket.name
    await client.hset(f"tg:v1:{{{customer}}}:u:{minute}:{opened}", "nonsense", "1")
    async with reader_of(pool, redis_url) as reader:
        (row,) = await all_rows(reader, UsageQuery(SPRING, AUTUMN, By.MONTH))
    assert row.quantity == ENTRIES[0].quantity


async def test_in_a_cluster_every_slot_is_looked_at(pool: Pool, data_dir: Path) -> None:
    """Keys of different slots cannot be read in one call there: one for each finds the same."""
    async with cluster(data_dir) as clients:
        url = cluster_url_of(clients)
        client = RedisCluster("127.0.0.1", clients[0].connection_pool.connection_kwargs["port"])
        try:
            await put(client, buckets_of(ENTRIES))
        finally:
            await client.aclose()
        query = UsageQuery(SPRING, AUTUMN, By.DAY)
        async with reader_of(pool, url) as reader:
            for _ in range(2):
                assert told(query, await all_rows(reader, query)) == summed(query, ENTRIES)


def test_the_example_is_one() -> None:
    """It has rows in several months, and some are worth nothing."""
    assert len({each.minute_at.month for each in ENTRIES}) > 2
    assert min(each.minute_at for each in ENTRIES) < NOON < max(each.minute_at for each in ENTRIES)

"""The ledger in Postgres: what it refuses, how its partitions come and go, and who may write."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from support.servers import Database
from support.usage import FIELD, OWNER, sums_of

from tallygate.core.clock import ManualClock
from tallygate.core.errors import StoreUnavailableError
from tallygate.limits import keys
from tallygate.limits.keys import usage_field
from tallygate.storage import postgres
from tallygate.storage.queries import load
from tallygate.usage.buckets import Bucket, BucketName
from tallygate.usage.entry import minute_at
from tallygate.usage.ledger import UnstorableError
from tallygate.usage.partitions import Retention, Tended
from tallygate.usage.postgres import PostgresLedger

MINUTE = 29_000_000  # 2025-02-19
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
PARTITIONS = "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' AND relname LIKE $1 ORDER BY relname"


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[postgres.Pool]:
    """Return a pool of a fresh database."""
    made = await postgres.create_pool(database.dsn, max_size=4, command_timeout_s=30)
    yield made
    await postgres.close_pool(made)


def bucket(customer: str = "cus_1", minute: int = MINUTE, units: int = 1) -> Bucket:
    """Return a bucket with one entry."""
    return Bucket.of(BucketName(customer, minute, 5), {FIELD.encode(): b"%d" % units})


def large(entries: int) -> Bucket:
    """Return a bucket of so many entries, of 3 units each."""
    fields = {usage_field(OWNER, "requests", keys.ALLOWED, f"GET /{at}").encode(): b"3" for at in range(entries)}
    return Bucket.of(BucketName("cus_large", MINUTE, 5), fields)


async def partitions(pool: postgres.Pool, like: str) -> list[str]:
    """Return the names of partitions."""
    return [row[0] for row in await pool.fetch(PARTITIONS, like)]


@pytest.mark.parametrize("route", ["\0", "x" * 9_000], ids=["no text", "too long for an index"])
async def test_nothing_of_a_refused_batch_is_stored(pool: postgres.Pool, route: str) -> None:
    """All or nothing, and the refusal is told from an outage: the caller finds out which bucket it was."""
    bad = bucket("cus_bad")
    if len(route) > 1:  # what can be compressed fits: let it be random
        route = "".join(chr(33 + hash((route, at)) % 90) for at in range(len(route)))
    bad = replace(bad, entries=(replace(bad.entries[0], route=route),))
    with pytest.raises(UnstorableError):
        await PostgresLedger(pool).store([bucket(), bad])
    assert set(await sums_of(pool)) == {0}
    assert await PostgresLedger(pool).store([bucket()]) == 1


async def test_a_ledger_that_is_away_is_an_outage(database: Database, pool: postgres.Pool) -> None:
    """A writer that cannot have the lock in time gives up, and nothing was stored."""
    other = await asyncpg.connect(database.dsn)
    async with other.transaction():
        await other.execute("SELECT FROM usage_ledger FOR UPDATE")
        with pytest.raises(StoreUnavailableError, match="cannot store usage"):
            await PostgresLedger(pool, deadline_s=0.3).store([bucket()])
    await other.close()
    assert set(await sums_of(pool)) == {0}
    assert await PostgresLedger(pool).store([bucket()]) == 1


async def test_partitions_of_the_months_to_come_are_there(pool: postgres.Pool) -> None:
    """The worker makes them ahead, so that no month begins with a surprise; doing it twice changes nothing."""
    now = datetime(2031, 12, 15, tzinfo=UTC)
    for _ in range(2):
        await PostgresLedger(pool).keep(now, entries=None, hours=None)
        names = ["usage_entries_2031_12", *(f"usage_entries_2032_0{month}" for month in (1, 2, 3, 4))]
        assert await partitions(pool, "usage_entries_203%") == names
        assert await partitions(pool, "usage_hours_203%") == [name.replace("entries", "hours") for name in names]
        assert await partitions(pool, "usage_days_203%") == ["usage_days_2031", "usage_days_2032"]


async def test_a_partition_made_by_two_at_once_is_made_once(pool: postgres.Pool) -> None:
    """Workers and writers do not stand in each other's way."""
    now = datetime(2041, 1, 1, tzinfo=UTC)
    await asyncio.gather(*(PostgresLedger(pool).keep(now, entries=None, hours=None) for _ in range(4)))
    assert len(await partitions(pool, "usage_entries_2041%")) == 5


async def test_what_is_too_old_is_dropped_by_whole_months(pool: postgres.Pool) -> None:
    """Entries go after their days, hours after theirs, days and months never; 0 days keep for ever."""
    ledger = PostgresLedger(pool)
    clock = ManualClock(datetime(2025, 4, 5, tzinfo=UTC))
    await ledger.store([bucket(units=4)])
    await Retention(ledger, clock, minutes_days=0, hours_days=0).tend()
    await Retention(ledger, clock, minutes_days=40, hours_days=90).tend()
    assert list(await sums_of(pool)) == [4, 4, 4, 4]  # the month's end is not 40 days ago
    clock.set(datetime(2025, 4, 10, tzinfo=UTC))
    await Retention(ledger, clock, minutes_days=40, hours_days=90).tend()
    assert list(await sums_of(pool)) == [0, 4, 4, 4]
    clock.set(datetime(2025, 6, 10, tzinfo=UTC))
    await Retention(ledger, clock, minutes_days=40, hours_days=90).tend()
    assert list(await sums_of(pool)) == [0, 0, 4, 4]


async def test_a_partition_dropped_before_its_rows_come_is_made_again(database: Database, pool: postgres.Pool) -> None:
    """A backlog older than entries are kept meets retention: it is stored, and nobody hears of the meeting."""
    other = await asyncpg.connect(database.dsn)
    async with other.transaction():
        await other.execute("SELECT FROM usage_ledger FOR UPDATE")
        storing = asyncio.create_task(PostgresLedger(pool).store([bucket(units=4)]))
        async with asyncio.timeout(30):
            while not await other.fetchval(WAITING):
                pass
        await other.execute("SELECT drop_usage_partitions_v1(now(), now())")
    assert await storing == 1
    assert list(await sums_of(pool)) == [4, 4, 4, 4]
    await other.close()


async def test_rows_without_a_partition_are_an_outage(database: Database, pool: postgres.Pool) -> None:
    """Whatever keeps partitions from being made keeps usage where it is, under an error the mover knows."""
    owner = await asyncpg.connect(database.dsn)
    await owner.execute(
        "CREATE OR REPLACE FUNCTION make_usage_partitions_v1(instants timestamptz[]) RETURNS void "
        "LANGUAGE sql AS 'SELECT'"
    )
    await owner.close()
    with pytest.raises(StoreUnavailableError, match="cannot store usage: no partition"):
        await PostgresLedger(pool).store([bucket()])


async def test_a_large_bucket_is_stored_whole_or_not_at_all(pool: postgres.Pool) -> None:
    """It takes many statements and one transaction: a refusal of the last row leaves none, a repeat adds none."""
    ledger = PostgresLedger(pool, rows_at_once=2)
    whole = large(5)
    bad = replace(whole, entries=(*whole.entries, replace(whole.entries[0], route="\0")))
    with pytest.raises(UnstorableError):
        await ledger.store([bad])
    assert set(await sums_of(pool)) == {0}
    assert [await ledger.store([whole]) for _ in range(2)] == [5, 0]
    assert set(await sums_of(pool)) == {15}


async def test_the_deadline_grows_with_the_rows(pool: postgres.Pool) -> None:
    """A minute of very many kinds of requests is stored however long that takes, not tried for ever."""
    ledger = PostgresLedger(pool, deadline_s=0, rows_at_once=1_000)
    with pytest.raises(StoreUnavailableError, match="no answer in time"):
        await ledger.store([large(1_000)])
    assert await ledger.store([large(16_000)]) == 16_000


async def test_retention_waits_for_exports(pool: postgres.Pool) -> None:
    """What an export has not sent outlives its time, by 30 days at most; then it is dropped, and counted."""
    ledger = PostgresLedger(pool)
    await ledger.store([bucket(units=4)])
    for name, last_id in (("ahead", 1), ("behind", 0), ("new", None)):
        await pool.execute("INSERT INTO exports (name, last_id, updated_at) VALUES ($1, $2, now())", name, last_id)
    recorded_at = minute_at(MINUTE)
    clock = ManualClock(datetime(2025, 3, 1, tzinfo=UTC) + timedelta(days=40 + 29))
    retention = Retention(ledger, clock, minutes_days=40, hours_days=0)
    waited = clock.now() - timedelta(days=40) - recorded_at
    assert await retention.tend() == Tended({"behind": waited, "new": waited})
    clock.advance(2 * 86_400)
    assert await retention.tend() == Tended(
        dict.fromkeys(("behind", "new"), waited + timedelta(days=2)), ("usage_entries_2025_02",), unsent=1
    )
    assert list(await sums_of(pool)) == [0, 4, 4, 4]
    assert await retention.tend() == Tended()


async def test_every_month_that_was_dropped_unsent_is_counted(pool: postgres.Pool) -> None:
    """After a long pause, or where entries are to be kept for less time than before, several go at once."""
    ledger = PostgresLedger(pool)
    await ledger.store([bucket(minute=MINUTE + months * 31 * 1440) for months in range(3)])
    await pool.execute("INSERT INTO exports (name, last_id, updated_at) VALUES ('behind', 1, now())")
    retention = Retention(ledger, ManualClock(datetime(2025, 9, 1, tzinfo=UTC)), minutes_days=40, hours_days=40)
    tended = await retention.tend()
    assert set(tended.dropped) >= {
        f"usage_{kind}_2025_0{month}" for kind in ("entries", "hours") for month in (2, 3, 4)
    }
    assert tended.unsent == 2


async def test_retention_goes_on_once_exports_have_sent(pool: postgres.Pool) -> None:
    """Entries are dropped in their time where every export is past them, files written included."""
    ledger = PostgresLedger(pool)
    await ledger.store([bucket(units=4)])
    await pool.execute("INSERT INTO exports (name, last_id, updated_at) VALUES ('daily', 1, now())")
    await pool.execute(
        "INSERT INTO export_files (export, day, after_id, to_id) VALUES ('daily', $1, 0, 1)", minute_at(MINUTE).date()
    )
    retention = Retention(ledger, ManualClock(datetime(2025, 4, 12, tzinfo=UTC)), minutes_days=40, hours_days=0)
    assert set((await retention.tend()).waiting) == {"daily"}
    await pool.execute("UPDATE export_files SET written_at = now()")
    assert await retention.tend() == Tended(dropped=("usage_entries_2025_02",))


async def test_what_exports_have_sent_is_not_looked_through(pool: postgres.Pool) -> None:
    """Each hour the worker asks whether an old month was sent: of one that was, however large, it reads no row."""
    ledger = PostgresLedger(pool)
    await ledger.store([large(5_000)])
    await pool.execute(
        "INSERT INTO exports (name, last_id, updated_at) SELECT 'ahead', max(id), now() FROM usage_entries"
    )
    await pool.execute("ANALYZE")
    asked = "EXPLAIN (ANALYZE, FORMAT JSON) " + load("tallygate.usage", "queries.sql")["unsent"]
    (plan,) = json.loads(await pool.fetchval(asked, minute_at(MINUTE) + timedelta(days=1)))
    assert sum(rows_read(plan["Plan"])) == 0
    await pool.execute("UPDATE exports SET last_id = last_id - 1")
    assert list(await ledger.unsent(minute_at(MINUTE) + timedelta(days=1))) == ["ahead"]


def rows_read(node: dict[str, Any]) -> Iterator[float]:
    """Return how many rows of the ledger each step of a plan read, those it threw away too."""
    if node.get("Relation Name", "").startswith("usage_entries"):
        yield node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    for each in node.get("Plans", ()):
        yield from rows_read(each)


async def test_a_partition_in_use_is_dropped_another_time(database: Database, pool: postgres.Pool) -> None:
    """A long report keeps the ledger's writers waiting for seconds at most, and is not cut off."""
    ledger = PostgresLedger(pool)
    await ledger.store([bucket()])
    reader = await asyncpg.connect(database.dsn)
    async with reader.transaction():
        await reader.fetch("SELECT * FROM usage_entries")
        with pytest.raises(StoreUnavailableError, match="lock timeout"):
            await Retention(ledger, ManualClock(datetime(2026, 4, 5, tzinfo=UTC)), minutes_days=40, hours_days=0).tend()
        assert len(await reader.fetch("SELECT * FROM usage_entries")) == 1
    await reader.close()


async def test_the_data_plane_cannot_write_the_ledger(database: Database) -> None:
    """What is billed is written by the control plane's login alone; nobody changes or removes an entry with it."""
    connection = await asyncpg.connect(database.data_plane_dsn)
    for statement in ("SELECT * FROM usage_entries", "UPDATE usage_ledger SET last_id = 0"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()
    owner = await asyncpg.connect(database.dsn)
    await owner.execute("SET ROLE tallygate_control")
    for statement in ("UPDATE usage_entries SET quantity = 0", "DELETE FROM usage_entries"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.execute(statement)
    await owner.close()


async def test_the_control_planes_login_can_do_all_of_it(database: Database) -> None:
    """Rights granted are enough to store, to note, to make and to drop partitions."""
    pool = await postgres.create_pool(database.dsn, max_size=1, command_timeout_s=30)
    async with pool.acquire() as connection:
        await connection.execute("SET SESSION AUTHORIZATION tallygate_control")
    # The pool resets a connection's settings, but not whose session it is.
    assert await pool.fetchval("SELECT current_user") == "tallygate_control"
    ledger = PostgresLedger(pool)
    assert await ledger.store([bucket(), bucket(minute=MINUTE + 900_000)]) == 2
    await ledger.reached(datetime(2025, 1, 1, tzinfo=UTC))
    dropped = await ledger.keep(datetime(2027, 1, 1, tzinfo=UTC), entries=None, hours=None)
    assert dropped == []
    await postgres.close_pool(pool)

"""The contract of the ledger: a bucket is stored once, however often and by however many it is delivered."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol

import pytest
from support.servers import Database
from support.usage import FIELD, OWNER, entries_of, sums_of

from tallygate.limits import keys
from tallygate.limits.keys import usage_field
from tallygate.storage import postgres
from tallygate.usage.buckets import Bucket, BucketName
from tallygate.usage.entry import UsageEntry, minute_at
from tallygate.usage.ledger import Ledger
from tallygate.usage.memory import MemoryLedger
from tallygate.usage.postgres import PostgresLedger

MINUTE = 66_700_000


class Opened(Protocol):
    """A ledger, laid open."""

    ledger: Ledger

    async def entries(self) -> list[UsageEntry]:
        """Return all entries in the order of their numbers."""
        ...

    async def sums(self) -> set[int]:
        """Return what entries and roll-ups add up to."""
        ...

    async def moved_to(self) -> datetime | None:
        """Return how far it is."""
        ...


class OpenedMemory:
    """The ledger in memory."""

    def __init__(self) -> None:
        """Begin empty."""
        self.memory = MemoryLedger()
        self.ledger: Ledger = self.memory

    async def entries(self) -> list[UsageEntry]:
        """Return all entries."""
        return self.memory.entries

    async def sums(self) -> set[int]:
        """Return what entries add up to."""
        return {sum(entry.quantity for entry in self.memory.entries)}

    async def moved_to(self) -> datetime | None:
        """Return how far it is."""
        return self.memory.moved_to


class OpenedPostgres:
    """The ledger in Postgres."""

    def __init__(self, pool: postgres.Pool) -> None:
        """Use a migrated database."""
        self.pool = pool
        self.ledger: Ledger = PostgresLedger(pool)

    async def entries(self) -> list[UsageEntry]:
        """Return all entries."""
        return await entries_of(self.pool)

    async def sums(self) -> set[int]:
        """Return what entries and each of the roll-ups add up to."""
        return set(await sums_of(self.pool))

    async def moved_to(self) -> datetime | None:
        """Return how far it is."""
        at: datetime | None = await self.pool.fetchval("SELECT moved_to FROM usage_ledger")
        return at


@pytest.fixture(params=["memory", "postgres"])
async def opened(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Opened]:
    """Return each adapter in turn, empty."""
    if request.param == "memory":
        yield OpenedMemory()
        return
    pool = await postgres.create_pool(database.dsn, max_size=4, command_timeout_s=30)
    yield OpenedPostgres(pool)
    await postgres.close_pool(pool)


def bucket(customer: str = "cus_1", minute: int = MINUTE, opened_us: int = 5, **fields: int) -> Bucket:
    """Return a bucket with units by route."""
    held = {usage_field(OWNER, "requests", keys.ALLOWED, route).encode(): b"%d" % fields[route] for route in fields}
    return Bucket.of(BucketName(customer, minute, opened_us), held)


async def test_what_is_delivered_twice_is_stored_once(opened: Opened) -> None:
    """The second delivery changes no entry and no roll-up, alone or among others."""
    first, second = bucket(a=3, b=4), bucket("cus_2", a=5)
    assert await opened.ledger.store([first]) == 2
    assert await opened.ledger.store([first]) == 0
    assert await opened.ledger.store([second, first]) == 1
    assert await opened.sums() == {12}


async def test_another_bucket_of_the_same_minute_counts_beside_the_first(opened: Opened) -> None:
    """A bucket is told by when it was opened: the same numbers in another are other units."""
    for opened_us in (5, 6, 5):
        await opened.ledger.store([bucket(opened_us=opened_us, a=3)])
    assert await opened.sums() == {6}


async def test_entries_come_back_as_they_were(opened: Opened) -> None:
    """Nothing is lost of whose they are, how they came about, and when."""
    field = usage_field(OWNER, "tokens", keys.OVERAGE, "GET /a|b", entry=keys.REFUND, at=MINUTE - 100_000)
    stored = Bucket.of(BucketName("cus_1", MINUTE, 5), {field.encode(): b"-7", FIELD.encode(): b"9"})
    await opened.ledger.store([stored])
    assert sorted(await opened.entries(), key=repr) == sorted(stored.entries, key=repr)


async def test_several_workers_at_once_store_each_bucket_once(opened: Opened) -> None:
    """Two leaders for a moment do no harm."""
    buckets = [bucket(f"cus_{number}", a=1, b=2) for number in range(50)]
    await asyncio.gather(*(opened.ledger.store(buckets[at : at + 20]) for at in (0, 10, 20, 30, 0, 10, 20, 30)))
    assert await opened.sums() == {150}


async def test_months_without_a_partition_are_stored_too(opened: Opened) -> None:
    """However far from now a minute lies, its entries and roll-ups have somewhere to go."""
    minutes = (15_778_080, MINUTE, 200_000_000)
    assert await opened.ledger.store([bucket(minute=minute, a=2) for minute in minutes]) == 3
    assert await opened.sums() == {6}


async def test_how_far_it_is_is_noted(opened: Opened) -> None:
    """Who asks the ledger alone learns up to when it has everything."""
    assert await opened.moved_to() is None
    await opened.ledger.reached(minute_at(MINUTE))
    assert await opened.moved_to() == minute_at(MINUTE)

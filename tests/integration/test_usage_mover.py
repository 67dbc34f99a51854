"""The mover: from enforcement to the ledger, each unit once, wherever it is cut off."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import pytest
from redis.asyncio import Redis
from support.servers import Database
from support.usage import FIELD, START_AT, BucketsAt, MemoryBucketsAt, RedisBucketsAt, entries_of, sums_of
from support.valkeys import cluster, cluster_url_of

from tallygate.core.errors import LimiterUnavailableError, StoreUnavailableError
from tallygate.limits import keys
from tallygate.storage import postgres
from tallygate.storage.redis import connect
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_topology import link
from tallygate.usage.buckets import Bucket, BucketName, Sealing, UsageBuckets
from tallygate.usage.ledger import Ledger, UnstorableError
from tallygate.usage.memory import MemoryLedger
from tallygate.usage.mover import Mover
from tallygate.usage.postgres import PostgresLedger
from tallygate.usage.redis import RedisUsageBuckets

T = TypeVar("T")


class KilledError(Exception):
    """The process ends here."""


class Fault:
    """Ends the process at its n-th step: before the step is done, or after it, when the answer is lost."""

    def __init__(self, at: int, *, is_after: bool, error: Exception | None = None) -> None:
        """Count steps to `at`."""
        self._at = at
        self._is_after = is_after
        self._error = error or KilledError()
        self._steps = 0

    @property
    def has_struck(self) -> bool:
        """Say whether it came to that."""
        return self._steps > self._at

    async def __call__(self, step: Awaitable[T]) -> T:
        """Do a step."""
        self._steps += 1
        is_here = self._steps == self._at + 1
        if is_here and not self._is_after:
            asyncio.ensure_future(step).cancel()
            raise self._error
        done = await step
        if is_here:
            raise self._error
        return done


@dataclass
class FaultyBuckets:
    """Buckets, each step of which may be the last."""

    buckets: UsageBuckets
    fault: Fault

    async def now_us(self) -> int:
        """Pass on."""
        return await self.fault(self.buckets.now_us())

    async def names(self) -> AsyncIterator[list[BucketName]]:
        """Pass on."""
        async for page in self.buckets.names():
            yield await self.fault(_value(page))

    async def seal(self, names: Sequence[BucketName]) -> Sealing:
        """Pass on."""
        return await self.fault(self.buckets.seal(names))

    async def read(self, names: Sequence[BucketName]) -> list[Bucket]:
        """Pass on."""
        return await self.fault(self.buckets.read(names))

    async def forget(self, buckets: Sequence[Bucket], *, is_kept: bool = False) -> None:
        """Pass on."""
        await self.fault(self.buckets.forget(buckets, is_kept=is_kept))

    async def strike(self, names: Sequence[BucketName]) -> list[BucketName]:
        """Pass on."""
        return await self.fault(self.buckets.strike(names))

    async def moved_to_us(self) -> int | None:
        """Pass on."""
        return await self.fault(self.buckets.moved_to_us())

    async def tell_moved_to(self, at_us: int, *, is_first: bool = False) -> None:
        """Pass on."""
        await self.fault(self.buckets.tell_moved_to(at_us, is_first=is_first))


@dataclass
class FaultyLedger:
    """A ledger, each step of which may be the last."""

    ledger: Ledger
    fault: Fault

    async def store(self, buckets: Sequence[Bucket]) -> int:
        """Pass on."""
        return await self.fault(self.ledger.store(buckets))

    async def reached(self, moved_to: datetime) -> None:
        """Pass on."""
        await self.fault(self.ledger.reached(moved_to))


async def _value(value: T) -> T:
    return value


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[RedisBucketsAt]:
    """Return buckets in Redis."""
    async with Redis.from_url(redis_url) as client:
        world = RedisBucketsAt(client)
        await world.start()
        yield world
        await world.close()


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[postgres.Pool]:
    """Return a pool of a fresh database."""
    made = await postgres.create_pool(database.dsn, max_size=4, command_timeout_s=30)
    yield made
    await postgres.close_pool(made)


async def survive(world: BucketsAt, ledger: Ledger, faults: int) -> int:
    """Count and move while the process ends at every step in turn; return the units that were counted."""
    counted = 0
    for at in range(faults):
        for is_after in (False, True):
            for customer in ("cus_1", "cus_2", "cus_3"):
                await world.count(customer, at + 1)
                await world.count(customer, 2, FIELD + customer)
                counted += at + 3
            await world.advance(61)
            fault = Fault(at, is_after=is_after)
            with suppress(KilledError):
                await Mover(FaultyBuckets(world.buckets, fault), FaultyLedger(ledger, fault)).round()
            assert fault.has_struck or at > 6
    await world.advance(60)
    done = await Mover(world.buckets, ledger).round()
    assert (done.left, done.problem, done.kept_aside, done.expired) == (0, "", [], [])
    return counted


async def test_a_process_that_ends_at_any_step_loses_nothing_and_counts_nothing_twice() -> None:
    """Before and after each step of a round: the totals are what was counted."""
    world, ledger = MemoryBucketsAt(), MemoryLedger()
    assert await survive(world, ledger, 12) == sum(entry.quantity for entry in ledger.entries)


async def test_the_same_with_redis_and_postgres(redis: RedisBucketsAt, pool: postgres.Pool) -> None:
    """The scripts and the statements keep what the order of the steps promises, roll-ups included."""
    counted = await survive(redis, PostgresLedger(pool), 8)
    assert set(await sums_of(pool)) == {counted}
    left = [key async for key in redis.client.scan_iter("tg:v1:*") if b":u:" in key or b":open" in key]
    assert left == []


async def test_two_movers_at_once_count_nothing_twice(redis: RedisBucketsAt, pool: postgres.Pool) -> None:
    """Two leaders for a moment are slower, and not wrong."""
    movers = [Mover(redis.buckets, PostgresLedger(pool)) for _ in range(3)]
    for _ in range(5):
        for number in range(40):
            await redis.count(f"cus_{number}", 3)
        await redis.advance(61)
        await asyncio.gather(*(mover.round() for mover in movers))
    assert set(await sums_of(pool)) == {5 * 40 * 3}


async def test_buckets_of_before_are_found_in_any_order(redis: RedisBucketsAt, pool: postgres.Pool) -> None:
    """A clock that stepped back, and a backlog of some minutes, are moved like any others."""
    for step_s in (61, 61, -120, 30, -90, 300):
        await redis.count("cus_1", 5)
        await redis.advance(step_s)
    done = await Mover(redis.buckets, PostgresLedger(pool)).round()
    assert set(await sums_of(pool)) == {30}
    assert done.moved_to_us == int(redis.clock.now().timestamp() - 2) // 60 * 60_000_000


async def test_what_is_moved_says_up_to_when(redis: RedisBucketsAt, pool: postgres.Pool) -> None:
    """Everything before that instant is in the ledger; the present minute is not, and an idle round goes on."""
    await redis.count("cus_1", 5)
    done = await Mover(redis.buckets, PostgresLedger(pool)).round()
    began = START_AT.replace(second=0)
    assert done.moved_to_us == int(began.timestamp()) * 1_000_000
    assert await pool.fetchval("SELECT moved_to FROM usage_ledger") == began
    assert await redis.buckets.moved_to_us() == done.moved_to_us
    await redis.advance(300)
    assert (await Mover(redis.buckets, PostgresLedger(pool)).round()).moved_to_us == done.moved_to_us + 300_000_000


class AwayLedger(MemoryLedger):
    """A ledger that does not answer after so many batches."""

    def __init__(self, answers: int) -> None:
        """Answer so often."""
        super().__init__()
        self.answers = answers

    async def store(self, buckets: Sequence[Bucket]) -> int:
        """Store, or not."""
        self.answers -= 1
        if self.answers < 0:
            raise StoreUnavailableError("cannot store usage: no answer in time")
        return await super().store(buckets)


async def test_without_the_ledger_usage_waits_and_is_counted_as_left() -> None:
    """How far the ledger is stays as it was, and the backlog is known."""
    world, ledger = MemoryBucketsAt(), AwayLedger(0)
    for number in range(7):
        await world.count(f"cus_{number}")
    await world.advance(61)
    done = await Mover(world.buckets, ledger).round()
    assert (done.left, done.problem) == (7, "cannot store usage: no answer in time")
    assert ledger.moved_to is None
    assert await world.buckets.moved_to_us() is None
    ledger.answers = 100
    assert (await Mover(world.buckets, ledger).round()).left == 0
    assert len(ledger.entries) == 7


async def test_without_redis_the_round_says_so(redis: RedisBucketsAt) -> None:
    """Nothing is taken for moved."""
    fault = Fault(1, is_after=False, error=LimiterUnavailableError("redis does not answer"))
    await redis.count("cus_1")
    with pytest.raises(LimiterUnavailableError):
        await Mover(FaultyBuckets(redis.buckets, fault), MemoryLedger()).round()


class PickyLedger(MemoryLedger):
    """A ledger that refuses the buckets of one customer."""

    async def store(self, buckets: Sequence[Bucket]) -> int:
        """Store, or refuse all."""
        if any(bucket.name.customer == "cus_bad" for bucket in buckets):
            raise UnstorableError("index row is too large")
        return await super().store(buckets)


async def test_a_bucket_the_ledger_refuses_keeps_back_no_other(redis: RedisBucketsAt) -> None:
    """It is kept aside, under a name that does not expire, and the round goes on."""
    for number in range(9):
        await redis.count(f"cus_{number}", 2)
    await redis.count("cus_bad", 7)
    await redis.advance(61)
    ledger = PickyLedger()
    done = await Mover(redis.buckets, ledger).round()
    assert [name.customer for name in done.kept_aside] == ["cus_bad"]
    assert sum(entry.quantity for entry in ledger.entries) == 18
    assert (await redis.aside())[FIELD.encode()] == b"7"
    assert (await Mover(redis.buckets, ledger).round()).kept_aside == []


async def test_a_field_that_cannot_be_read_keeps_back_no_other(redis: RedisBucketsAt, pool: postgres.Pool) -> None:
    """The rest of its bucket is moved, and it is kept aside once, even if the worker ends in between."""
    await redis.count("cus_1", 2)
    await redis.count("cus_1", 5, b"not \xff one")
    await redis.advance(61)
    fault = Fault(4, is_after=True)  # stored, and not forgotten
    with suppress(KilledError):
        await Mover(FaultyBuckets(redis.buckets, fault), FaultyLedger(PostgresLedger(pool), fault)).round()
    assert fault.has_struck
    done = await Mover(redis.buckets, PostgresLedger(pool)).round()
    assert [name.customer for name in done.kept_aside] == ["cus_1"]
    assert await redis.aside() == {b"not \xff one": b"5"}
    assert set(await sums_of(pool)) == {2}


async def test_a_bucket_that_expired_is_reported_as_lost(redis: RedisBucketsAt, pool: postgres.Pool) -> None:
    """After seven days without a worker something is lost, and nobody is left to guess."""
    await redis.count("cus_1")
    await redis.advance(61)
    await redis.client.delete(*[key async for key in redis.client.scan_iter("*:u:*")])
    done = await Mover(redis.buckets, PostgresLedger(pool)).round()
    assert [name.customer for name in done.expired] == ["cus_1"]
    assert (await Mover(redis.buckets, PostgresLedger(pool)).round()).expired == []


async def test_a_sealed_bucket_that_expired_is_reported_as_lost(redis: RedisBucketsAt, pool: postgres.Pool) -> None:
    """Sealing does not lengthen its life: it is told once, and its name does not stay in the list for ever."""
    for customer in ("cus_1", "cus_2"):
        await redis.count(customer)
    await redis.advance(60)
    names = [name async for page in redis.buckets.names() for name in page]
    lost = next(name for name in (await redis.buckets.seal(names)).sealed if name.customer == "cus_1")
    await redis.client.delete(keys.sealed_bucket(*lost))
    done = await Mover(redis.buckets, PostgresLedger(pool)).round()
    assert (done.expired, done.entries) == ([lost], 1)
    assert [page async for page in redis.buckets.names()] == []
    assert (await Mover(redis.buckets, PostgresLedger(pool)).round()).expired == []


async def test_numbers_follow_the_order_of_commits(redis: RedisBucketsAt, pool: postgres.Pool) -> None:
    """Whoever reads on from a number misses nothing: entries of a later commit have greater ones."""
    newest = 0
    for _ in range(3):
        await redis.count("cus_1")
        await redis.advance(61)
        await Mover(redis.buckets, PostgresLedger(pool)).round()
        ids = [row["id"] for row in await pool.fetch("SELECT id FROM usage_entries WHERE id > $1", newest)]
        assert len(ids) == 1
        newest = ids[0]
        assert await pool.fetchval("SELECT last_id FROM usage_ledger") == newest


async def test_a_large_backlog_is_moved_in_batches(redis: RedisBucketsAt, pool: postgres.Pool) -> None:
    """More buckets than one transaction takes, and one with more entries than usual, arrive whole."""
    for number in range(1200):
        await redis.count(f"cus_{number}")
    for number in range(3000):
        await redis.count("cus_large", 1, FIELD + str(number))
    await redis.advance(61)
    done = await Mover(redis.buckets, PostgresLedger(pool)).round()
    assert (done.buckets, done.entries) == (1201, 4200)
    assert set(await sums_of(pool)) == {4200}


async def test_a_cluster_is_moved_like_one_server(tmp_path: Path, pool: postgres.Pool) -> None:
    """Buckets, indexes and scripts of a customer are in one slot, on whichever node that is; here by Redis's clock."""
    async with cluster(tmp_path) as nodes:
        client = connect(cluster_url_of(nodes), deadline_s=30)
        links = link(cluster_url_of(nodes), LinkTerms(deadline_s=30, max_in_flight=4096))
        buckets = RedisUsageBuckets(links)
        minute = await buckets.now_us() // 60_000_000 - 5
        for number in range(60):
            customer = f"cus_{number}"
            await client.hset(keys.usage_bucket(customer, minute), mapping={FIELD: 2, "bad": 1, "#": minute})
            await client.sadd(keys.index_key(customer), keys.index_member(customer, minute))
        done = await Mover(buckets, PostgresLedger(pool)).round()
        assert (done.buckets, len(done.kept_aside), done.left) == (60, 60, 0)
        assert set(await sums_of(pool)) == {120}
        assert done.moved_to_us == await buckets.moved_to_us()
        assert (await Mover(buckets, PostgresLedger(pool)).round()).buckets == 0
        await links.close()
        await client.aclose()


async def test_entries_say_what_was_counted(redis: RedisBucketsAt, pool: postgres.Pool) -> None:
    """A row of the ledger has whose units they are, under which plan, and when."""
    await redis.count("cus_1", 4)
    await redis.advance(61)
    await Mover(redis.buckets, PostgresLedger(pool)).round()
    (entry,) = await entries_of(pool)
    assert (entry.customer, entry.subscription, entry.family, entry.plan) == ("cus_1", "sub_1", "fam_1", "pro@3")
    assert (entry.meter, entry.route, entry.outcome) == ("requests", "GET /v1/things", "allowed")
    assert entry == replace(entry, entry="counted", minute_at=START_AT.replace(second=0), quantity=4)

"""The contract of usage buckets: listed until forgotten, sealed once, and nothing lost that is counted meanwhile."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from support.usage import FIELD, BucketsAt, MemoryBucketsAt, RedisBucketsAt

from tallygate.usage.buckets import Bucket, BucketName


@pytest.fixture(params=["memory", "redis"])
async def world(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[BucketsAt]:
    """Return each adapter in turn, empty."""
    if request.param == "memory":
        yield MemoryBucketsAt()
        return
    async with Redis.from_url(redis_url) as client:
        redis = RedisBucketsAt(client)
        await redis.start()
        yield redis
        await redis.close()


async def listed(world: BucketsAt) -> set[BucketName]:
    """Return all names."""
    return {name async for page in world.buckets.names() for name in page}


async def sealed(world: BucketsAt) -> list[BucketName]:
    """Seal what can be sealed and return it."""
    sealing = await world.buckets.seal([name for name in await listed(world) if not name.is_sealed])
    assert sealing.expired == []
    return sealing.sealed


async def quantities(world: BucketsAt, names: list[BucketName]) -> list[int]:
    """Return the quantity of every entry in these."""
    return sorted(entry.quantity for bucket in await world.buckets.read(names) for entry in bucket.entries)


async def test_a_bucket_is_sealed_when_its_minute_is_over_and_not_before(world: BucketsAt) -> None:
    """While somebody may count in it, it stays; two seconds after its end it does not change any more."""
    await world.count("cus_1", 3)
    await world.advance(41.9)  # 1.9 s after the minute's end
    assert await sealed(world) == []
    await world.advance(0.1)
    (name,) = await sealed(world)
    assert name.is_sealed
    assert await listed(world) == {name}
    assert await quantities(world, [name]) == [3]


async def test_what_is_counted_after_sealing_goes_to_another_bucket(world: BucketsAt) -> None:
    """A clock that steps back changes nothing that was sealed, and loses nothing."""
    await world.count("cus_1", 3)
    await world.advance(60)
    first = await sealed(world)
    await world.advance(-60)
    await world.count("cus_1", 4)
    await world.advance(60)
    second = await sealed(world)
    assert first != second
    assert await quantities(world, first + second) == [3, 4]


async def test_two_buckets_opened_in_one_instant_are_told_apart(world: BucketsAt) -> None:
    """The instant is what the ledger knows a bucket by, so no two of a minute have the same."""
    await world.count("cus_1", 3)
    await world.advance(60)
    first = await sealed(world)
    await world.advance(-60)
    await world.count("cus_1", 4)
    await world.advance(60)
    second = await sealed(world)
    await world.advance(-60)
    await world.count("cus_1", 5)
    await world.advance(60)
    third = await sealed(world)
    assert len({*first, *second, *third}) == 3
    assert await quantities(world, first + second + third) == [3, 4, 5]


async def test_sealing_twice_is_harmless(world: BucketsAt) -> None:
    """Another worker may have been there: nothing is sealed again, and nothing is taken for lost."""
    await world.count("cus_1")
    await world.advance(60)
    names = list(await listed(world))
    assert len((await world.buckets.seal(names)).sealed) == 1
    assert await world.buckets.seal(names) == ([], [], [])


async def test_forgetting_forgets_what_was_read_and_no_more(world: BucketsAt) -> None:
    """The other customers' buckets stay, and forgetting again is harmless."""
    for customer in ("cus_1", "cus_2"):
        await world.count(customer, 2)
    await world.advance(60)
    names = sorted(await sealed(world))
    buckets = await world.buckets.read(names[:1])
    for _ in range(2):
        await world.buckets.forget(buckets)
    assert await listed(world) == set(names[1:])
    assert await world.buckets.read(names[:1]) == []


async def test_fields_that_cannot_be_read_are_kept_aside(world: BucketsAt) -> None:
    """What is good is read without them; forgetting the bucket keeps them, for good."""
    await world.count("cus_1", 2)
    await world.count("cus_1", 5, "what is this")
    await world.advance(60)
    (bucket,) = await world.buckets.read(await sealed(world))
    assert [entry.quantity for entry in bucket.entries] == [2]
    assert bucket.unreadable == (b"what is this",)
    await world.buckets.forget([bucket])
    assert await world.aside() == {b"what is this": b"5"}
    assert await listed(world) == set()


async def test_a_bucket_nobody_will_store_is_kept_aside_whole(world: BucketsAt) -> None:
    """It is out of the way, and nothing of it is lost."""
    await world.count("cus_1", 2)
    await world.advance(60)
    buckets = await world.buckets.read(await sealed(world))
    await world.buckets.forget(buckets, is_kept=True)
    assert (await world.aside())[FIELD.encode()] == b"2"
    assert await listed(world) == set()


async def test_many_buckets_are_all_listed_and_read(world: BucketsAt) -> None:
    """Lists are paged: of some thousand customers, and of a customer with thousands of fields, nothing is missed."""
    for number in range(1500):
        await world.count(f"cus_{number}")
    for number in range(2500):
        await world.count("cus_large", 2, FIELD + str(number))
    await world.advance(60)
    names = await sealed(world)
    assert len(names) == 1501
    buckets: list[Bucket] = await world.buckets.read(names)
    assert sum(entry.quantity for bucket in buckets for entry in bucket.entries) == 1500 + 5000


async def test_how_far_the_ledger_is_can_be_told(world: BucketsAt) -> None:
    """Who tells first only says where time begins; after that only the worker moves it."""
    assert await world.buckets.moved_to_us() is None
    for told, is_first, known in ((7, True, 7), (8, True, 7), (9, False, 9)):
        await world.buckets.tell_moved_to(told, is_first=is_first)
        assert await world.buckets.moved_to_us() == known

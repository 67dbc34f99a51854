"""Who is busy, as all workers see it: ranked in a real Redis."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tallygate.core.errors import DependencyError
from tallygate.insights.customers import BusyCustomers
from tallygate.insights.redis import RedisCustomerRanks


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    """Return a client of an empty Valkey."""
    client = Redis.from_url(redis_url, socket_timeout=10)
    yield client
    await client.aclose()


@pytest.fixture
def ranks(client: Redis) -> RedisCustomerRanks:
    """Return ranks that nobody has told anything."""
    return RedisCustomerRanks(client)


def asked(worker: BusyCustomers, **requests: int) -> dict[str, str]:
    """Have a worker decide so many requests of each; return the names it gave."""
    return {customer: worker.name(customer) for customer, number in requests.items() for _ in range(number)}


async def test_the_busiest_are_named_and_all_others_together(ranks: RedisCustomerRanks) -> None:
    """Nobody is named before anybody is known; then the busiest are, so many as were asked for."""
    worker = BusyCustomers(2)
    assert set(asked(worker, acme=5, globex=9, initech=1).values()) == {"other"}
    await worker.rank(ranks)
    assert asked(worker, acme=1, globex=1, initech=1) == {"acme": "acme", "globex": "globex", "initech": "other"}


async def test_all_workers_name_the_same(ranks: RedisCustomerRanks) -> None:
    """What several workers saw is added up: who is busy in none of them, but in all together, is named by each."""
    workers = [BusyCustomers(1) for _ in range(3)]
    for worker, alone in zip(workers, ("a", "b", "c"), strict=True):
        asked(worker, **{alone: 4, "acme": 3})
    for worker in workers * 3:
        await worker.rank(ranks)
        asked(worker, acme=3)
    for worker in workers:
        await worker.rank(ranks)
    assert [worker.named for worker in workers] == [{"acme"}] * 3


async def test_two_who_are_about_equal_do_not_take_turns(ranks: RedisCustomerRanks) -> None:
    """A customer stays named until another is more than twice as busy: then the idlest goes, and nobody else."""
    assert await ranks.rank({"acme": 100, "globex": 10}, 2) == {"acme", "globex"}
    assert await ranks.rank({"initech": 20}, 2) == {"acme", "globex"}
    assert await ranks.rank({"initech": 1}, 2) == {"acme", "initech"}
    assert await ranks.rank({"globex": 11}, 2) == {"acme", "initech"}


async def test_use_of_long_ago_weighs_less(ranks: RedisCustomerRanks, client: Redis) -> None:
    """After ten minutes use weighs half, and only once: yesterday's busiest gives its place to today's."""
    await ranks.rank({"acme": 100}, 1)
    assert 500 < await client.ttl("tg:v1:{customers}:halved") <= 600
    await client.delete("tg:v1:{customers}:halved")  # its time is over
    assert await ranks.rank({"globex": 100}, 1) == {"acme"}
    assert await ranks.rank({"globex": 1}, 1) == {"globex"}


async def test_fewer_places_are_kept_by_the_busiest(ranks: RedisCustomerRanks) -> None:
    """An operator who asks for fewer names keeps the busiest; one who asks for more gets the next."""
    requests = {"acme": 3, "globex": 2, "initech": 1}
    assert await ranks.rank(requests, 3) == {"acme", "globex", "initech"}
    assert await ranks.rank({}, 1) == {"acme"}
    assert await ranks.rank({}, 2) == {"acme", "globex"}


async def test_what_is_kept_is_bounded_and_ends(ranks: RedisCustomerRanks, client: Redis) -> None:
    """Ten times as many are ranked as are named, and a day after the last was told nothing is left."""
    await ranks.rank({f"cus_{number}": number + 1 for number in range(100)}, 2)
    assert await client.zcard("tg:v1:{customers}:requests") == 20
    lives_s = [await client.ttl(key) for key in await client.keys("tg:v1:{customers}:*")]
    assert len(lives_s) == 3
    assert all(0 < lives <= 86_400 for lives in lives_s)


async def test_while_redis_is_away_who_is_named_stays(ranks: RedisCustomerRanks) -> None:
    """Names do not vanish from dashboards with the ranks, and requests are counted all the same."""
    worker = BusyCustomers(1)
    asked(worker, acme=1)
    await worker.rank(ranks)
    nowhere = Redis(port=1, socket_timeout=1)
    with pytest.raises(DependencyError):
        await worker.rank(RedisCustomerRanks(nowhere))
    await nowhere.aclose()
    assert asked(worker, acme=1, globex=1) == {"acme": "acme", "globex": "other"}


async def test_a_crowd_does_not_fill_the_memory() -> None:
    """A worker that meets more customers than it can know counts those it has met; the others are met next time."""
    worker = BusyCustomers(1)
    for number in range(20_000):
        worker.name(f"cus_{number}")
    assert len(worker._requests) == 10_000

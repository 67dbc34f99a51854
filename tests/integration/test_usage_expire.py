"""What was charged ahead and never settled is given back once its time is over, once, where the meter says so."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from redis.asyncio import Redis
from support.counting import START_AT, RedisCounting, asking, quota, url_of

from tallygate.limits.algorithms import microseconds
from tallygate.limits.keys import due_key, due_member, receipt_key
from tallygate.limits.limiter import Acquisition
from tallygate.limits.receipt import amendment
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_topology import RedisLinks, link
from tallygate.usage.expire import Expiry

LIMIT = quota(10_000)
WITHIN_S = 600


@pytest.fixture
async def counting(redis_url: str) -> AsyncIterator[RedisCounting]:
    """Return the limiter in Redis, whose time the test moves."""
    redis = RedisCounting(Redis.from_url(redis_url))
    await redis.start()
    yield redis
    await redis.close()


@pytest.fixture
async def links(counting: RedisCounting) -> AsyncIterator[RedisLinks]:
    """Return a connection of the worker's own."""
    opened = link(url_of(counting.client), LinkTerms(deadline_s=30, max_in_flight=4096))
    yield opened
    await opened.close()


def charged(number: int, *, is_given_back: bool = True) -> Acquisition:
    """Return a request that is charged 10 units ahead."""
    asked = asking((LIMIT, 10), request_id=f"request-{number}", usage=(("requests", 10),))
    return asked._replace(receipt_s=WITHIN_S, unsettled=(("requests", 0),) if is_given_back else ())


def now_us(counting: RedisCounting) -> int:
    """Return the tests' time."""
    return microseconds(counting.clock.now())


async def used(counting: RedisCounting) -> int:
    """Return the units of all usage."""
    return sum((await counting.usage()).values())


async def test_it_is_given_back_when_its_time_is_over_and_not_before(
    counting: RedisCounting, links: RedisLinks
) -> None:
    """Counter and usage are as if the request had cost nothing; a request that stands as charged is left."""
    expiry = Expiry(links, counting.limiter)
    await counting.advance(86_400)  # into a month that does not end meanwhile
    for number in range(150):  # more than a page
        await counting.limiter.acquire(charged(number, is_given_back=number > 0))
    await counting.advance(WITHIN_S - 1)
    assert await expiry.round(now_us(counting)) == 0
    assert await used(counting) == 1500
    await counting.advance(2)
    assert await expiry.round(now_us(counting)) == 149
    assert await used(counting) == 10
    remaining = (await counting.limiter.peek(charged(999))).states[0].remaining
    assert remaining == 10_000 - 10 - 10
    assert await counting.client.exists(due_key("cus_1")) == 0
    assert await expiry.round(now_us(counting)) == 0


async def test_what_was_settled_is_left_alone(counting: RedisCounting, links: RedisLinks) -> None:
    """A settlement in time is the truth; it is not given back later."""
    await counting.limiter.acquire(charged(1))
    receipt = await counting.limiter.receipt("cus_1", "request-1")
    assert receipt is not None
    await counting.limiter.amend(amendment(receipt, {"requests": 4}, "settlement"))
    await counting.advance(WITHIN_S + 1)
    assert await Expiry(links, counting.limiter).round(now_us(counting)) == 0
    assert await used(counting) == 4


async def test_two_workers_give_back_once(counting: RedisCounting, links: RedisLinks) -> None:
    """Both may find it; one amendment is done."""
    for number in range(20):
        await counting.limiter.acquire(charged(number))
    await counting.advance(WITHIN_S + 1)
    workers = [Expiry(links, counting.limiter) for _ in range(3)]
    await asyncio.gather(*(worker.round(now_us(counting)) for worker in workers))
    assert await used(counting) == 0


async def test_a_name_without_a_receipt_does_not_stay(counting: RedisCounting, links: RedisLinks) -> None:
    """A receipt that was lost is not looked for each round."""
    late_ms = microseconds(START_AT - timedelta(days=1)) // 1000
    await counting.client.zadd(due_key("cus_1"), {due_member("cus_1", "gone"): late_ms})
    assert await Expiry(links, counting.limiter).round(now_us(counting)) == 0
    assert await counting.client.exists(due_key("cus_1")) == 0


async def test_one_that_cannot_be_given_back_keeps_back_no_other(counting: RedisCounting, links: RedisLinks) -> None:
    """What was written by somebody else is passed over, however much there is of it, and tried again."""
    await counting.advance(86_400)
    for number in range(230):  # more than two pages
        await counting.limiter.acquire(charged(number))
    strange = [receipt_key("cus_1", f"request-{number}") for number in range(0, 230, 2)]
    await counting.client.mset(dict.fromkeys(strange, "what is this"))
    await counting.advance(WITHIN_S + 1)
    expiry = Expiry(links, counting.limiter)
    assert await expiry.round(now_us(counting)) == 115
    assert await used(counting) == 1150
    assert await expiry.round(now_us(counting)) == 0
    await counting.client.delete(*strange)  # in the end they expire
    assert await expiry.round(now_us(counting)) == 0
    assert await counting.client.exists(due_key("cus_1")) == 0

"""The limiter on a real Valkey with its own clock: exactness under concurrency, and what stays behind."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from redis.asyncio import Redis
from support.counting import (
    ALICE,
    RedisCounting,
    asking,
    at_once,
    overage,
    prepaid,
    quota,
    rate,
    readable,
    scripted_clock,
)
from support.limiters import PATIENT_S, limiter_to

from tallygate.core.clock import ManualClock
from tallygate.core.errors import LimiterUnavailableError
from tallygate.core.periods import PeriodUnit
from tallygate.limits.algorithms import instant
from tallygate.limits.keys import (
    OPENED_FIELD,
    first_use_key,
    holding_key,
    holds_key,
    idempotency_key,
    record_key,
    usage_prefix,
)
from tallygate.limits.limit import CountedPer, CreditBucket
from tallygate.limits.limiter import Acquisition, Subject
from tallygate.limits.redis import RedisLimiter
from tallygate.limits.script import ACQUIRE_LUA, Scripts

RECORD = record_key(ALICE, CountedPer.SUBSCRIPTION)
DAY_MS = 86_400_000
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    """Return a client for looking at what was stored."""
    looking = Redis.from_url(redis_url, decode_responses=True, encoding="latin-1")
    yield looking
    await looking.aclose()


@pytest.fixture
async def limiters(redis_url: str) -> AsyncIterator[list[RedisLimiter]]:
    """Return four limiters on connections of their own, as four workers have them."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(4):
            made.append(limiter_to(redis_url, max_in_flight=100_000))
            stack.push_async_callback(made[-1].close)
        yield made


async def fields(client: Redis, key: str) -> dict[str, str]:
    """Return a hash."""
    found = await cast("Awaitable[dict[str, str]]", client.hgetall(key))
    return {field: readable(field, value.encode("latin-1")) for field, value in found.items()}


async def everything(client: Redis) -> dict[str, tuple[object, int]]:
    """Return every key with its content and expiry."""
    found: dict[str, tuple[object, int]] = {}
    async for name in client.scan_iter():
        key = str(name)
        content = await client.dump(key) if await client.type(key) != "hash" else await fields(client, key)
        found[key] = (content, await client.pexpiretime(key))
    return found


async def test_many_workers_admit_exactly_the_amount(limiters: list[RedisLimiter], client: Redis) -> None:
    """However many ask at once, through however many workers, what is admitted equals the limit."""
    asked = asking(prepaid(150), overage(100, ceiling=400, name="counted", per=CountedPer.CUSTOMER))
    verdicts = await asyncio.gather(*(limiters[number % 4].acquire(asked) for number in range(800)))
    assert sum(verdict.is_admitted for verdict in verdicts) == 150
    assert (await fields(client, RECORD))["c:prepaid"] == "150"
    usage = [await fields(client, str(key)) async for key in client.scan_iter(f"{usage_prefix('cus_1')}:*")]
    assert sum(int(units) for bucket in usage for field, units in bucket.items() if field != OPENED_FIELD) == 150


async def test_many_workers_begin_exactly_so_many_at_once(limiters: list[RedisLimiter], client: Redis) -> None:
    """However many come and go through however many workers, every slot is used and none twice."""
    limit = at_once(7)

    async def come(number: int) -> bool:
        return (await limiters[number % 4].acquire(asking(limit, request_id=str(number)))).is_admitted

    first = await asyncio.gather(*(come(number) for number in range(100)))
    assert sum(first) == 7
    leaving = [number for number, is_in in enumerate(first) if is_in][:5]
    await asyncio.gather(*(limiters[number % 3].release(ALICE, str(number)) for number in leaving * 2))
    assert sum(await asyncio.gather(*(come(number) for number in range(100, 200)))) == 5
    assert await client.zcard(holds_key(ALICE, limit)) == 7


async def test_all_workers_agree_on_the_first_use(limiters: list[RedisLimiter], client: Redis) -> None:
    """Of many first requests at once one is the first, and it is kept without an end."""
    times = await asyncio.gather(*(limiters[number % 4].first_used_at(ALICE) for number in range(100)))
    assert len(set(times)) == 1
    assert await client.pttl(first_use_key(ALICE)) == -1


async def test_a_limit_that_is_full_leaves_the_others_untouched(limiters: list[RedisLimiter], client: Redis) -> None:
    """Refused requests, many at once, change not a byte and not an expiry anywhere."""
    others = (rate(1, burst=1_000, name="other"), quota(10**6, PeriodUnit.YEAR, per=CountedPer.TOKEN))
    await limiters[0].acquire(asking(*others, (prepaid(9), 9), request_id="1"))
    before = await everything(client)
    asked = [asking(*others, prepaid(9), request_id=str(number + 2)) for number in range(200)]
    verdicts = await asyncio.gather(*(limiters[number % 4].acquire(each) for number, each in enumerate(asked)))
    assert not any(verdict.is_admitted for verdict in verdicts)
    assert await everything(client) == before


async def test_one_id_at_once_is_one_request(limiters: list[RedisLimiter], client: Redis) -> None:
    """A hundred copies of one request, racing through all workers, are all admitted and counted once."""
    asked = asking(prepaid(5), request_id="7")
    verdicts = await asyncio.gather(*(limiters[number % 4].acquire(asked) for number in range(100)))
    assert all(verdict.is_admitted for verdict in verdicts)
    assert sum(not verdict.is_repeat for verdict in verdicts) == 1
    assert (await fields(client, RECORD))["c:prepaid"] == "1"


async def test_no_reply_ever_reaches_another_call(limiters: list[RedisLimiter]) -> None:
    """Of 20,000 calls or more 30 % are cancelled at any moment of their life; every other one gets its own answer."""
    dice = random.Random(20_000)  # noqa: S311 - moments, not secrets
    limiter = limiters[0]

    async def call(number: int) -> bool:
        subject = Subject(f"cus_{number}", "sub", "fam")
        verdict = await limiter.acquire(asking(prepaid(number + 1), subject=subject, usage=()))
        return verdict.states[0].remaining == number

    async def cancelled_or_right(number: int) -> bool | None:
        task = asyncio.create_task(call(number))
        if dice.random() < 0.3:
            for _ in range(dice.randrange(40)):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait({task})
        return None if task.cancelled() else task.result()

    answers: list[bool | None] = []
    first = 0
    while first < 20_000 or answers.count(None) <= 3_000:  # where the loop is slow, more are answered before
        answers += await asyncio.gather(*(cancelled_or_right(number) for number in range(first, first + 250)))
        first += 250
    assert answers.count(False) == 0
    assert answers.count(True) >= 14_000


async def test_more_calls_than_a_write_holds_wait_their_turn(redis_url: str) -> None:
    """Three hundred calls, two in each write at most, are all answered: a busy connection is no error."""
    sizes: list[int] = []
    limiter = limiter_to(redis_url, max_batch=2, on_batch=sizes.append)
    verdicts = await asyncio.gather(*(limiter.acquire(asking(prepaid(300))) for _ in range(300)))
    assert all(verdict.is_admitted for verdict in verdicts)
    assert (set(sizes), sum(sizes) >= 300) == ({2}, True)
    await limiter.close()


async def test_the_script_comes_back_after_a_flush(limiters: list[RedisLimiter], client: Redis) -> None:
    """A server that lost its scripts runs the next call, once."""
    await limiters[0].acquire(asking(prepaid(9)))
    await client.script_flush()
    verdicts = await asyncio.gather(*(limiters[0].acquire(asking(prepaid(9))) for _ in range(3)))
    assert sorted(verdict.states[0].remaining for verdict in verdicts) == [5, 6, 7]
    await limiters[0].release(ALICE, "stranger")
    assert await limiters[0].first_used_at(ALICE, is_look=True) is None


async def test_a_flush_costs_one_script_however_many_calls(limiters: list[RedisLimiter], client: Redis) -> None:
    """Calls that find the script gone together send its text once, not each: a restart is busy enough as it is."""
    await limiters[0].acquire(asking(prepaid(99)))
    await client.script_flush()
    await client.config_resetstat()
    await asyncio.gather(*(limiters[0].acquire(asking(prepaid(99))) for _ in range(30)))
    stats = await client.info("commandstats")
    assert stats["cmdstat_eval"]["calls"] == 1
    assert (await limiters[0].peek(asking(prepaid(99)))).states[0].remaining == 99 - 32


async def test_customers_without_limits_keep_their_calls_ready(limiters: list[RedisLimiter], client: Redis) -> None:
    """What has no charges shares Python's one empty tuple: each customer's call is its own, and is kept."""
    every = [asking(subject=Subject(f"cus_{number}", "sub", "fam")) for number in range(3)]
    for asked in [*every, *every]:
        await limiters[0].acquire(asked)
    assert len(limiters[0]._ready._kept) == 3
    for asked in every:
        keys = client.scan_iter(f"{usage_prefix(asked.subject.customer)}:*")
        usage = [await fields(client, str(key)) async for key in keys]
        assert sum(int(units) for bucket in usage for field, units in bucket.items() if "|allowed|" in field) == 2


async def test_time_is_redis_own(limiters: list[RedisLimiter], client: Redis) -> None:
    """A verdict is dated by Redis's clock, between two readings of it."""
    before = await client.time()
    verdict = await limiters[0].acquire(asking())
    after = await client.time()
    first, last = (datetime.fromtimestamp(s, UTC) + timedelta(microseconds=us) for s, us in (before, after))
    assert first <= instant(verdict.at_us) <= last


async def test_a_wrong_clock_of_ours_changes_nothing(redis_url: str, limiters: list[RedisLimiter]) -> None:
    """A worker whose clock is decades off guesses the wrong period once, is corrected, and counts in the right one."""
    limit = quota(10, PeriodUnit.YEAR)
    right = await limiters[0].acquire(asking(limit))
    off = limiter_to(redis_url, clock=ManualClock(datetime(2001, 2, 3, tzinfo=UTC)))
    wrong = await off.acquire(asking(limit))
    assert wrong.states[0].remaining == 8
    assert abs((right.states[0].reset_s or 0) - (wrong.states[0].reset_s or 0)) <= PATIENT_S
    await off.close()


async def test_a_period_ends_by_redis_clock(redis_url: str, client: Redis) -> None:
    """A worker a microsecond behind, at the very end of a month, counts in the month Redis is in."""
    redis = RedisCounting(Redis.from_url(redis_url))
    february = datetime(2096, 2, 1, tzinfo=UTC)
    await redis.step_to(february)
    behind = ManualClock(february - timedelta(microseconds=1))
    limiter = limiter_to(redis_url, clock=behind, scripts=Scripts(scripted_clock(ACQUIRE_LUA)))
    assert instant((await limiter.acquire(asking(quota(9)))).at_us) == february
    end_us = round(datetime(2096, 3, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert (await fields(client, RECORD))["q:monthly:month"] == f"1:{end_us}"
    await limiter.close()
    await redis.close()


async def test_a_clock_that_runs_away_is_an_outage(redis_url: str, client: Redis) -> None:
    """When each look at the clock finds another period, the call gives up instead of asking for ever."""
    running = ACQUIRE_LUA.replace("redis.call('TIME')", f"{{ redis.call('INCRBY', 'test:clock', {40 * 86_400}), '0' }}")
    limiter = limiter_to(redis_url, scripts=Scripts(acquire=running))
    with pytest.raises(LimiterUnavailableError, match="left the period"):
        await limiter.acquire(asking(quota(10)))
    assert await client.get("test:clock") == str(3 * 40 * 86_400)
    await limiter.close()


async def test_records_go_when_they_mean_nothing(limiters: list[RedisLimiter], client: Redis) -> None:
    """A record outlives its period by one to two days, a bucket lives a week, a request id half a minute."""
    await limiters[0].acquire(asking(quota(9, PeriodUnit.DAY), rate(1, burst=60), request_id="1"))
    assert DAY_MS <= await client.pttl(RECORD) <= 3 * DAY_MS
    assert 0 < await client.pttl(idempotency_key("cus_1", "1")) <= 30_000
    (bucket,) = [str(key) async for key in client.scan_iter(f"{usage_prefix('cus_1')}:*")]
    assert 6 * DAY_MS < await client.pttl(bucket) <= 7 * DAY_MS


async def test_credits_make_a_record_permanent(limiters: list[RedisLimiter], client: Redis) -> None:
    """A record that would have expired is kept for ever from the first credit on."""
    await limiters[0].acquire(asking(quota(9)))
    assert await client.pttl(RECORD) > 0
    await limiters[0].acquire(asking(prepaid(9)))
    await limiters[0].acquire(asking(quota(9)))
    assert (await client.pttl(RECORD), (await fields(client, RECORD))["x"]) == (-1, "0")


async def test_holds_go_when_they_mean_nothing(limiters: list[RedisLimiter], client: Redis) -> None:
    """How to release a request is known for the longest of its holds; a set nobody releases outlives it by days."""
    limits = (at_once(9, hold_s=60), at_once(9, hold_s=600, name="long"))
    await limiters[0].acquire(asking(*limits, request_id="1"))
    assert 540_000 < await client.pttl(holding_key("cus_1", "1")) <= 600_000
    for limit in limits:
        assert DAY_MS < await client.pttl(holds_key(ALICE, limit)) < 3 * DAY_MS
    await limiters[0].release(ALICE, "1")
    left = [str(key) async for key in client.scan_iter("*h:*")]
    assert left == []


async def test_what_is_stored_is_what_was_used(limiters: list[RedisLimiter], client: Redis) -> None:
    """A record says what was used and when, exactly; it names no amount, plan version, route or node."""
    limits = ((rate(7, burst=9), 2), (quota(5, PeriodUnit.YEAR), 3), (prepaid(8), 4), at_once(9))
    verdict = await limiters[0].acquire(asking(*limits, request_id="7"))
    year_end_us = round(datetime(instant(verdict.at_us).year + 1, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert await fields(client, RECORD) == {
        "r:burst": f"2000000:{verdict.at_us}:1000000",
        "q:monthly:year": f"3:{year_end_us}",
        "c:prepaid": "4",
        "x": "0",
    }
    assert await client.zrange(holds_key(ALICE, at_once(9)), 0, -1, withscores=True) == [("i:7", verdict.at_us)]


BROKEN = {
    "negative cost": asking((prepaid(5), -1)),
    "amount not exact in a double": asking(quota(2**53, name="other")),
    "grant not exact in a double": asking(prepaid(5, buckets=(CreditBucket("gift", 2**53, LONG_AGO),))),
    "bucket not exact in a double": asking(rate(1, burst=2**40)),
    "rate of nothing": asking(rate(0, burst=1)),
    "negative hold": asking(at_once(5, hold_s=-1)),
}


@pytest.mark.parametrize("asked", BROKEN.values(), ids=BROKEN.keys())
async def test_what_cannot_be_counted_is_refused_whole(
    limiters: list[RedisLimiter], client: Redis, asked: Acquisition
) -> None:
    """What is asked is validated before anything is sent, so a mistake of ours charges nobody."""
    await limiters[0].acquire(asking(quota(9)))
    before = await everything(client)
    with pytest.raises(ValueError, match="cannot be counted"):
        await limiters[0].acquire(Acquisition(ALICE, (*asking(quota(9)).charges, *asked.charges)))
    assert await everything(client) == before


@pytest.mark.parametrize("field", ["c:prepaid", "q:monthly:month", "r:burst", "x"])
async def test_an_unreadable_counter_refuses_its_owner_only(
    limiters: list[RedisLimiter], client: Redis, field: str
) -> None:
    """A counter that something else overwrote is an error and stays as it is; other customers go on."""
    await client.hset(RECORD, field, "1.5")
    before = await everything(client)
    asked = asking(prepaid(9), quota(9), rate(1, burst=1))
    for _ in range(20):  # more than open a breaker: this is an answer, not a silence
        with pytest.raises(LimiterUnavailableError, match="redis refuses"):
            await limiters[0].acquire(asked)
    assert await everything(client) == before
    other = Subject("cus_2", "sub_2", "fam_2")
    assert (await limiters[0].acquire(asking(prepaid(9), subject=other))).is_admitted


async def test_unreadable_holds_grants_and_first_uses_are_errors_too(
    limiters: list[RedisLimiter], client: Redis
) -> None:
    """Nothing that something else overwrote is taken for empty, or mended in silence."""
    await client.set(holds_key(ALICE, at_once(9)), "1")
    await client.set(first_use_key(ALICE), "yesterday")
    await client.hset(RECORD, "c:prepaid:gift", "many")
    before = await everything(client)
    granted = prepaid(9, buckets=(CreditBucket("gift", 5, LONG_AGO),))
    for limit in (at_once(9), granted):
        with pytest.raises(LimiterUnavailableError, match="redis refuses"):
            await limiters[0].acquire(asking(limit))
    with pytest.raises(LimiterUnavailableError, match="not readable"):
        await limiters[0].first_used_at(ALICE)
    assert await everything(client) == before

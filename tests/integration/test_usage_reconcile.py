"""Counters and ledger: equal after any traffic, however much of it was moved; a counter that was touched shows."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis
from support.limiters import limiter_to
from support.rest import settings_of
from support.servers import Database

from tallygate.admin.operations import Operations
from tallygate.admin.records import Subscription
from tallygate.app.control_plane import control_over, control_plane
from tallygate.app.reconciliation import Reconciliation
from tallygate.app.secret_settings import plain
from tallygate.app.usage import reconciler
from tallygate.core.clock import SystemClock
from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.licenses.codec import decode_terms
from tallygate.licenses.license import Grant
from tallygate.limits.limiter import Acquisition, Charge, Subject
from tallygate.limits.redis import RedisLimiter
from tallygate.metrics import WorkerMetrics
from tallygate.plans.parse import parse
from tallygate.storage.postgres import Pool, close_pool, create_pool
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_topology import link
from tallygate.tokens.format import Environment
from tallygate.usage.postgres import PostgresLedger
from tallygate.usage.reconcile import EVER, Account, Comparison, Reconciler
from tallygate.usage.redis import RedisUsageBuckets
from tallygate.usage.redis_live import RedisLiveBuckets

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PLANS = """
meters: {requests: {}, tokens: {}}
routes: [{match: "* /**", cost: {requests: 3, tokens: 7}}]
plans:
  - key: pro
    name: Pro
    limits:
      - {name: monthly, quota: 20, period: month, on_exceed: overage}
      - {name: words, quota: 1000, period: year, meter: tokens, per: customer}
      - {name: each, quota: 500, period: month, per: token}
      - {name: tried, quota: 1, period: month, mode: shadow}
      - {name: burst, rate: 100000/s}
  - key: plus
    name: Plus
    limits:
      - {name: monthly, quota: 200, period: month}
      - {name: fresh, quota: 300, period: month, meter: tokens}
"""


@dataclass(slots=True)
class Shop:
    """A customer on a plan, and what reads, counts and moves."""

    operations: Operations
    limiter: RedisLimiter
    client: Redis
    pool: Pool
    subscription: Subscription
    families: list[str]
    url: str

    async def grant(self) -> Grant:
        """Return what is granted now."""
        text = await self.pool.fetchval("SELECT terms FROM licenses WHERE subscription_id = $1", self.subscription.id)
        return decode_terms(text.encode()).phase_at(datetime.now(UTC)).grant

    async def serve(self, requests: int, *, costs: dict[str, int] | None = None, counters: str = "") -> None:
        """Count so many requests, of each token by turns, as the data plane does."""
        costs, grant = costs or {"requests": 3, "tokens": 7}, await self.grant()
        for number in range(requests):
            subject = Subject(
                self.subscription.customer, self.subscription.id, self.families[number % len(self.families)], counters
            )
            charges = tuple(Charge(limit, costs[limit.meter]) for limit in grant.limits if limit.meter in costs)
            asked = Acquisition(subject, charges, tuple(costs.items()), "* /**", None, grant.plan)
            assert (await self.limiter.acquire(asked)).is_admitted

    async def move(self) -> int:
        """Move everything to the ledger, as if its minute were over; return how many entries that were."""
        links = link(self.url, LinkTerms(deadline_s=10))
        try:
            buckets = RedisUsageBuckets(links)
            names = [name async for page in buckets.names() for name in page]
            for name in names:
                await self._seal(name.customer, name.minute)
            names = [name async for page in buckets.names() for name in page]
            read = await buckets.read(names)
            stored = await PostgresLedger(self.pool).store(read)
            await buckets.forget(read)
            return stored
        finally:
            await links.close()

    async def _seal(self, customer: str, minute: int) -> None:
        key, index = f"tg:v1:{{{customer}}}:u:{minute}", f"{customer}:{minute}"
        opened = bytes(await self.client.hget(key, "#") or b"").decode()  # type: ignore[arg-type]  # these are bytes
        (slot,) = [name async for name in self.client.scan_iter("tg:v1:*:open")]
        await self.client.rename(key, f"{key}:{opened}")
        await self.client.srem(slot, index)
        await self.client.sadd(slot, f"{index}:{opened}")

    async def stored(self, key: str, field: str) -> tuple[float, float]:
        """Return the units and the end of a quota's counter."""
        used, end_us = struct.unpack("<dd", await self.client.hget(key, field))  # type: ignore[arg-type]  # bytes
        return used, end_us

    async def compared(self) -> dict[tuple[str, str], Comparison]:
        """Return what comparing finds, by limit and owner."""
        async with reconciler_of(self) as both:
            found = await self.operations.usage.reconcile("acme", reconciler=both)
        assert len({(each.limit, each.owner) for each in found}) == len(found)
        return {(each.limit, each.owner): each for each in found}


@asynccontextmanager
async def reconciler_of(
    shop: Shop, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> AsyncIterator[Reconciler]:
    """Compare over connections of its own."""
    links = link(shop.url, LinkTerms(deadline_s=10))
    try:
        yield Reconciler(shop.pool, RedisLiveBuckets(links), sleep=sleep)
    finally:
        await links.close()


@pytest.fixture
async def shop(database: Database, redis_url: str) -> AsyncIterator[Shop]:
    """A customer with two tokens."""
    values = settings_of(database, redis_url)
    limiter, client = limiter_to(redis_url), Redis.from_url(redis_url)
    pool = await create_pool(database.dsn)
    try:
        async with control_plane(values, "test") as operations:
            await operations.plans.apply(parse(PLANS, "plans.yaml"))
            await operations.customers.create("acme", None)
            contract = await operations.subscriptions.create("acme", "pro")
            families = [(await operations.tokens.issue(subscription=contract.id)).record.family for _ in range(2)]
            yield Shop(operations, limiter, client, pool, contract, families, redis_url)
    finally:
        await limiter.close()
        await client.aclose()
        await close_pool(pool)


async def test_counters_and_ledger_are_equal_after_traffic(shop: Shop) -> None:
    """Within the amounts and beyond; whether all of it is in Redis, part of it was moved, or everything."""
    found = {}
    for requests in (5, 6):
        await shop.serve(requests)
        for _ in range(2):
            found = await shop.compared()
            assert all((each.difference, each.why_not) == (0, None) for each in found.values()), found
            await shop.move()
    one, other = shop.families
    told = {key: each.counter for key, each in found.items()}
    assert told == {
        ("monthly", shop.subscription.id): 33,
        ("words", shop.subscription.customer): 77,
        ("each", one): 18,
        ("each", other): 15,
    }


@pytest.mark.parametrize("is_moved", [False, True])
async def test_a_counter_that_was_touched_shows(shop: Shop, is_moved: bool) -> None:  # noqa: FBT001 - a parameter
    """Whoever may write counters may give themselves a quota; the ledger is not theirs, and says how much."""
    await shop.serve(5)
    if is_moved:
        await shop.move()
    key = f"tg:v1:{{{shop.subscription.customer}}}:s:{shop.subscription.id}"
    used, end_us = await shop.stored(key, "q:monthly:month")
    await shop.client.hset(key, "q:monthly:month", struct.pack("<dd", used - 15, end_us))
    found = await shop.compared()
    touched = found.pop(("monthly", shop.subscription.id))
    assert (touched.counter, touched.ledger, touched.difference) == (0, 15, -15)
    assert all(each.difference == 0 for each in found.values())


async def test_what_was_counted_in_another_way_is_not_compared(shop: Shop) -> None:
    """After a change of plan the limits that go on do compare, and one that began in mid-period says since when."""
    await shop.serve(4)
    await shop.operations.contracts.change(shop.subscription.id, "plus")
    await shop.serve(2)
    found = {limit: each for (limit, _), each in (await shop.compared()).items()}
    assert (found["monthly"].counter, found["monthly"].difference) == (18, 0)
    assert found["fresh"].difference is None
    assert "since" in str(found["fresh"].why_not)
    await shop.operations.contracts.override(shop.subscription.id, {"limits": {"monthly": {"amount": 5000}}})
    (monthly, *_) = [each for (limit, _), each in (await shop.compared()).items() if limit == "monthly"]
    assert monthly.difference is None


async def test_a_limit_of_the_customer_needs_all_of_their_contracts(shop: Shop) -> None:
    """A second contract whose plan lacks the limit uses units of its meter that it does not count."""
    await shop.serve(2)
    await shop.operations.subscriptions.create("acme", "plus", environment=Environment.TEST)
    found = {limit: each for (limit, _), each in (await shop.compared()).items()}
    assert "not all of the customer's contracts" in str(found["words"].why_not)
    assert found["monthly"].difference in (0, None)


async def test_nothing_used_is_no_difference(shop: Shop) -> None:
    """A counter that is not there, and a ledger without rows, are both 0."""
    found = await shop.compared()
    assert {(each.counter, each.ledger, each.difference) for each in found.values()} == {(0, 0, 0)}


async def test_corrections_and_units_without_counters_are_the_ledgers_alone(shop: Shop) -> None:
    """A correction is no difference, nor is what was admitted while counters were away."""
    await shop.serve(2)
    await shop.move()
    rows = await shop.pool.fetch("SELECT * FROM usage_entries WHERE meter = 'requests' LIMIT 1")
    for entry in ("correction", "degraded"):
        await shop.pool.execute(
            """INSERT INTO usage_entries (recorded_at, bucket, customer_id, subscription_id, family_id, plan, meter,
                route, outcome, entry, minute_at, quantity)
            SELECT recorded_at, bucket, customer_id, subscription_id, family_id, plan, meter, route, outcome, $1,
                minute_at, 1000 FROM usage_entries WHERE id = $2""",
            entry,
            rows[0]["id"],
        )
    assert {each.difference for each in (await shop.compared()).values()} == {0}


async def test_a_minute_in_which_a_period_begins_is_given_the_benefit(shop: Shop) -> None:
    """Its units may be of the period before: a counter with or without them agrees, one with more does not."""
    await shop.serve(3)
    limit = next(limit for limit in (await shop.grant()).limits if limit.name == "monthly")
    subject = Subject(shop.subscription.customer, shop.subscription.id, "")
    (bucket,) = [name async for name in shop.client.scan_iter(f"tg:v1:{{{subject.customer}}}:u:*")]
    minute_began_at = EPOCH + timedelta(minutes=int(bucket.rpartition(b":")[2]))
    calendar = Calendar(PeriodUnit.MONTH, minute_began_at + timedelta(microseconds=1))
    account = Account(replace(limit, calendar=calendar), subject, EVER)
    end_us = (calendar.period_at(datetime.now(UTC)).end_at - EPOCH) // timedelta(microseconds=1)
    key = f"tg:v1:{{{subject.customer}}}:s:{subject.subscription}"
    async with reconciler_of(shop) as both:
        for used, difference in ((0, 0), (4, 0), (9, 0), (10, 1)):
            await shop.client.hset(key, "q:monthly:month", struct.pack("<dd", used, end_us))
            (found,) = await both.compare(subject.customer, [account])
            assert found.difference == difference


async def _nothing(_shop: Shop) -> None:
    """Let nothing happen."""


async def _requests(shop: Shop) -> None:
    await shop.serve(1)


async def _give_back(shop: Shop) -> None:
    key = f"tg:v1:{{{shop.subscription.customer}}}:s:{shop.subscription.id}"
    used, end_us = await shop.stored(key, "q:monthly:month")
    await shop.client.hset(key, "q:monthly:month", struct.pack("<dd", used - 6, end_us))


@pytest.mark.parametrize(("meanwhile", "difference"), [(_nothing, 6), (_requests, None), (_give_back, 0)])
async def test_units_held_ahead_of_need_are_no_difference(
    shop: Shop, meanwhile: Callable[[Shop], Awaitable[None]], difference: int | None
) -> None:
    """A slab is over within seconds: what is missing after that is; while requests come, nobody can tell."""
    await shop.serve(2)
    limit = next(limit for limit in (await shop.grant()).limits if limit.name == "monthly")
    subject = Subject(shop.subscription.customer, shop.subscription.id, shop.families[0])
    slab = Acquisition(subject, (Charge(limit, 6),))
    assert (await shop.limiter.acquire(slab)).is_admitted
    account = Account(replace(limit, is_leased=True), subject, EVER)

    async def wait(_: float) -> None:
        await meanwhile(shop)

    async with reconciler_of(shop, wait) as both:
        (found,) = await both.compare(subject.customer, [account])
    assert found.difference == difference
    assert (found.why_not is None) == (difference is not None)


async def test_the_worker_goes_round_and_tells_the_largest_difference(
    shop: Shop, database: Database, redis_url: str
) -> None:
    """Each round takes the next customers; a difference stays in the metric until that customer was looked at again."""
    await shop.serve(5)
    values, metrics = settings_of(database, redis_url), WorkerMetrics("test")
    key = f"tg:v1:{{{shop.subscription.customer}}}:c"
    right, end_us = await shop.stored(key, "q:words:year")
    async with reconciler(values) as both:
        pool = await create_pool(plain(values.postgres_dsn))
        try:
            background = Reconciliation(control_over(values, pool, SystemClock()), both, metrics)
            for used, expected in ((right, 0.0), (right + 5, 5.0), (right, 0.0)):
                await shop.client.hset(key, "q:words:year", struct.pack("<dd", used, end_us))
                await background.round()
                sample = metrics.registry.get_sample_value("tallygate_usage_reconciliation_difference_units")
                assert sample == expected
        finally:
            await close_pool(pool)
    assert metrics.registry.get_sample_value("tallygate_usage_reconciliation_checked_total") == 12

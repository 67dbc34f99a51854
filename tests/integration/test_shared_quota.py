"""One quota of a customer, used up through two subscriptions: from the plan file to the counters in Valkey."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis
from support.counting import RedisCounting, asking
from support.office import Office, office
from support.servers import Database

from tallygate.licenses.license import License
from tallygate.limits.limiter import LimitState, Subject, Verdict
from tallygate.plans.parse import parse
from tallygate.tokens.format import Environment

PLANS = """
plans:
  - key: pro
    price: {amount: "49.00", currency: USD, every: month}
    limits: [{name: shared, quota: 10, period: month, per: customer}]
"""
NOON_ON_10_MAY = datetime(2096, 5, 10, 12, tzinfo=UTC)
JUNE = datetime(2096, 6, 1, tzinfo=UTC)


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Office]:
    """An office with the plan published, and customer `acme`."""
    async with office(database) as opened:
        await opened.plans.apply(parse(PLANS, "plans.yaml"))
        await opened.customers.create("acme", None)
        yield opened


@pytest.fixture
async def counting(redis_url: str) -> AsyncIterator[RedisCounting]:
    """Counters in Valkey, in the middle of May."""
    client = Redis.from_url(redis_url)
    counting = RedisCounting(client)
    await counting.step_to(NOON_ON_10_MAY)
    yield counting
    await counting.close()


async def licensed(desk: Office, environment: Environment, zone: str, anchor_at: datetime) -> License:
    """Return the license of a token of a new subscription, as the data plane reads it."""
    made = await desk.subscriptions.create(
        "acme", "pro", environment=environment, timezone=zone, anchor_at=anchor_at, reason="test"
    )
    license_ = await desk.license_of((await desk.tokens.issue(subscription=made.id)).secret)
    assert license_ is not None
    return license_


async def ask(counting: RedisCounting, license_: License) -> tuple[Verdict, LimitState]:
    """Take one unit."""
    (limit,) = license_.terms.phase_at(counting.clock.now()).grant.limits
    subject = Subject(license_.customer, license_.subscription, license_.family)
    verdict = await counting.limiter.acquire(asking(limit, subject=subject))
    return verdict, verdict.states[0]


async def test_two_subscriptions_share_one_exact_quota_whose_period_does_not_move(
    desk: Office, counting: RedisCounting
) -> None:
    """Live and test, half a world and half a month apart: ten in all until June begins in UTC, then ten again."""
    # The west's June begins last, the east's first: by either, one of the two would shift the other's end.
    west = await licensed(desk, Environment.LIVE, "Pacific/Pago_Pago", datetime(2026, 1, 31, 9, tzinfo=UTC))
    east = await licensed(desk, Environment.TEST, "Pacific/Kiritimati", datetime(2026, 3, 14, 21, 30, tzinfo=UTC))
    for taken in range(1, 11):
        verdict, state = await ask(counting, (west, east)[taken % 2])
        assert (verdict.is_admitted, state.remaining) == (True, 10 - taken)
        assert state.reset_s == (JUNE - counting.clock.now()) // timedelta(seconds=1)
        await counting.advance(86_400)
    await counting.step_to(JUNE - timedelta(microseconds=1))
    assert [(await ask(counting, each))[0].is_admitted for each in (west, east)] == [False, False]
    await counting.step_to(JUNE)
    verdicts = [(await ask(counting, (west, east)[number % 2]))[0] for number in range(11)]
    assert [verdict.is_admitted for verdict in verdicts] == [True] * 10 + [False]

"""What all subscriptions come to: read from a real ledger of customers of every kind, and held against each one."""

import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from support.office import NOW, Office, office
from support.servers import Database
from support.usage_rows import buckets_of

from tallygate.admin.records import Subscription
from tallygate.billing.invoice import LineKind
from tallygate.insights.postgres import PostgresRevenue
from tallygate.insights.revenue import Revenue
from tallygate.plans.contract import Carry
from tallygate.plans.parse import parse
from tallygate.storage.postgres import Pool, close_pool, create_pool
from tallygate.tokens.format import Environment
from tallygate.usage.entry import UsageEntry
from tallygate.usage.postgres import PostgresLedger

PLANS = """
routes: [{match: "* /v1/**", cost: {requests: 1, bytes: 9}}]
plans:
  - key: pro
    name: Pro
    price: {amount: "40.00", currency: USD, prorate: true}
    grace: {days: 7, limits: reduced}
    charges: {bytes: {model: per_unit, unit: "0.001", included: 100}}
    limits:
      - {name: daily, quota: 5_000, period: day}
      - {name: monthly, quota: 1_000, period: billing, on_exceed: overage}
      - {name: per-token, quota: 77, period: month, per: token, meter: bytes}
    overage: {requests: {model: graduated, tiers: [{up_to: 10, unit: "1.00"}, {unit: "0.50"}]}}
  - key: euro
    name: Euro
    price: {amount: "1200.00", currency: EUR, every: year}
    limits: [{name: all, quota: 900, period: month, per: customer, on_exceed: overage}]
    overage: {requests: {model: package, size: 100, price: "3.00"}}
  - key: weekly
    name: Weekly
    price: {amount: "7.00", currency: USD, every: week}
    limits: [{name: all, quota: 50, period: billing, on_exceed: overage}]
    overage: {requests: {model: per_unit, unit: "0.01"}}
  - key: trying
    name: Trying
    price: {amount: "10.00", currency: USD}
    trial: {days: 20, at_end: convert}
    limits: [{name: all, quota: 10, period: billing, on_exceed: overage}]
    overage: {requests: {model: per_unit, unit: "0.10"}}
  - {key: free, name: Free, limits: [{name: all, quota: 100, period: day}]}
"""
KINDS = ("pro", "euro", "weekly", "trying", "free")


class Business:
    """Customers of every kind, and a ledger of what they used."""

    def __init__(self, desk: Office, pool: Pool) -> None:
        """Act through `desk`; the ledger is written through `pool`."""
        self.desk = desk
        self._pool = pool
        self._unmoved: list[UsageEntry] = []

    async def join(self, key: str, plan: str, **more: object) -> Subscription:
        """Put a new customer on a plan."""
        await self.desk.customers.create(key, None)
        return await self.desk.subscriptions.create(key, plan, **more)  # type: ignore[arg-type]

    def use(self, made: Subscription, what: str, at: datetime, units: int) -> None:
        """Count units; `what` is plan version, meter and outcome."""
        plan, meter, outcome = what.split()
        entry = UsageEntry(
            made.customer, made.id, f"fam_{made.id}", plan, meter, "GET /v1/things", outcome, "counted", at, units
        )  # fmt: skip
        self._unmoved.append(entry)

    async def read(self, page: int = 500) -> Revenue:
        """Have what was counted moved, and return what the worker would tell."""
        await PostgresLedger(self._pool).store(buckets_of(self._unmoved))
        self._unmoved.clear()
        return await PostgresRevenue(self._pool, page=page).read(self.desk.clock.now())

    async def billed(self) -> dict[tuple[str, ...], Decimal]:
        """Return what the previews of all customers have for usage, by plan and currency."""
        found: defaultdict[tuple[str, ...], Decimal] = defaultdict(Decimal)
        for customer in await self.desk.customers.list(limit=1000):
            for bill in await self.desk.operations.invoices.preview(customer.id):
                for line in bill.lines:
                    if line.kind is not LineKind.FEE:
                        found[line.plan.partition("@")[0], line.currency] += line.amount
        return found


@pytest.fixture
async def business(database: Database) -> AsyncIterator[Business]:
    """A business without customers, in the middle of June, with the rights of the control plane."""
    separator = "&" if "?" in database.dsn else "?"
    pool = await create_pool(f"{database.dsn}{separator}role=tallygate_control", min_size=0)
    try:
        async with office(database) as desk:
            await desk.plans.apply(parse(PLANS, "plans.yaml"))
            yield Business(desk, pool)
    finally:
        await close_pool(pool)


async def grow(business: Business, seed: int = 1) -> None:
    """Have customers of each kind join, use, change, fail to pay and leave, by chance, over the last three months."""
    chance = random.Random(seed)  # noqa: S311 - an example
    joined = []
    for number in range(20):
        starts_at = NOW - timedelta(days=chance.randrange(90), minutes=chance.randrange(1440), seconds=number)
        joined.append(await business.join(f"customer-{number}", KINDS[number % 5], starts_at=starts_at))
    joined.append(await business.join("newcomer", "trying"))
    await business.desk.plans.apply(parse(PLANS.replace('"40.00"', '"80.00"'), "plans.yaml"))
    contracts, subscriptions = business.desk.contracts, business.desk.subscriptions
    business.desk.clock.advance(3 * 3600)
    await contracts.change(joined[0].id, "euro")  # other periods, another currency
    await contracts.change(joined[5].id, "pro")  # its newer version
    await contracts.change(joined[1].id, "pro", carry=Carry.RESET)
    await contracts.change(joined[14].id, "pro", carry=Carry.PRORATE)
    business.desk.clock.advance(3 * 3600)
    await subscriptions.cancel(joined[10].id)
    await subscriptions.create(joined[10].customer, "weekly")
    await business.desk.customers.set_status(joined[15].customer, "past_due")
    await subscriptions.suspend(joined[2].id)
    await business.desk.customers.set_status(joined[7].customer, "suspended")
    tried = await subscriptions.create(joined[3].customer, "pro", environment=Environment.TEST)
    await contracts.override(joined[6].id, {"limits": {"all": {"amount": 4321}}})
    for made in (*joined, tried):
        for _ in range(25):
            days, minutes = chance.choice([0, 0, chance.randrange(60)]), chance.randrange(600)
            at = business.desk.clock.now() - timedelta(days=days, minutes=minutes)
            outcome, meter = chance.choice(["allowed", "overage"]), chance.choice(["requests", "requests", "bytes"])
            plan = chance.choice([made.plan, made.plan, "pro@2", "pro@99", "none"])
            units = chance.choice([1, 30, 400, -3])
            business.use(made, f"{plan} {meter} {outcome}", at.replace(second=0, microsecond=0), units)


@pytest.mark.parametrize("seed", range(1, 4))
async def test_usage_costs_what_all_previews_say(business: Business, seed: int) -> None:
    """By plan and currency the same amount, to the cent: whatever became of a contract, and however the ledger lies."""
    await grow(business, seed)
    found, billed = await business.read(), await business.billed()
    assert {key: amount for key, amount in found.overage.items() if amount} == billed
    assert {key for key, amount in billed.items() if amount} == {
        ("pro", "USD"), ("euro", "EUR"), ("weekly", "USD"), ("trying", "USD")
    }  # fmt: skip


async def test_it_comes_to_the_same_by_pages(business: Business) -> None:
    """A page is a way of reading: it changes no sum."""
    await grow(business)
    assert await business.read(page=3) == await business.read()


async def test_statements_are_about_pages(business: Business, database: Database) -> None:
    """However many subscriptions are on a page, it is read by the same handful of statements."""
    await grow(business)
    await business.read()
    pool = await create_pool(database.dsn, min_size=1, max_size=1)
    try:
        asked: list[str] = []
        async with pool.acquire() as connection:
            connection.add_query_logger(lambda record: asked.append(record.query))
        await PostgresRevenue(pool).read(business.desk.clock.now())
        assert 4 <= sum("-- " in query for query in asked) <= 6
    finally:
        await close_pool(pool)


async def test_statuses_are_those_that_are_shown(business: Business) -> None:
    """Whoever adds up `subscriptions list` gets these numbers, but for what is over, and for trying things out."""
    await grow(business)
    shown = await business.desk.subscriptions.list(limit=1000)
    expected = Counter(
        (each.plan.partition("@")[0], each.status)
        for each in shown
        if each.environment == Environment.LIVE and each.status not in ("canceled", "expired")
    )
    found = await business.read()
    assert dict(found.subscriptions) == dict(expected)
    assert {status for _, status in expected} >= {"active", "trialing", "grace", "suspended"}
    served: Counter[tuple[str, ...]] = Counter()
    for each in shown:
        customer = await business.desk.customers.show(each.customer)
        is_served = each.status in ("active", "trialing", "grace") and customer.status != "suspended"
        if is_served and each.environment == Environment.LIVE:
            served[each.plan.partition("@")[0],] += 1
    assert dict(found.customers) == dict(served)


async def test_a_fixed_price_counts_by_the_month(business: Business) -> None:
    """A year is twelve, a week as many as a month has; nothing in a trial, before the start, or once suspended."""
    await business.join("acme", "pro")
    await business.join("dear", "euro")
    await business.join("small", "weekly")
    await business.join("new", "trying")
    await business.join("later", "pro", starts_at=NOW + timedelta(days=3))
    gone = await business.join("gone", "pro")
    await business.desk.subscriptions.suspend(gone.id)
    late = await business.join("late", "pro")
    await business.desk.customers.set_status(late.customer, "past_due")
    found = await business.read()
    money = {key: round(float(amount), 2) for key, amount in found.recurring.items()}
    assert money == {("pro", "USD"): 80.00, ("euro", "EUR"): 100.00, ("weekly", "USD"): 30.44}
    assert found.subscriptions["pro", "scheduled"] == 1
    assert dict(found.customers) == {("pro",): 2, ("euro",): 1, ("weekly",): 1, ("trying",): 1}


async def test_use_is_told_against_what_is_included(business: Business) -> None:
    """Of a meter's quotas the longest, in the period that it is counted in, with the contract's own terms."""
    anchor_at = NOW - timedelta(days=40, minutes=7)
    acme = await business.join("acme", "pro", starts_at=anchor_at)
    began_at = datetime(2026, 6, 6, 11, 53, tzinfo=UTC)
    minute = timedelta(minutes=1)
    for at, units in ((began_at - minute, 7), (began_at, 100), (began_at + 40 * minute, 20), (NOW, 3), (NOW, -1)):
        business.use(acme, "pro@1 requests allowed", at, units)
    business.use(acme, "pro@1 bytes allowed", NOW, 55)
    found = await business.read()
    assert (dict(found.included), dict(found.used)) == ({("pro", "requests"): 1000}, {("pro", "requests"): 122})
    await business.desk.contracts.override(acme.id, {"limits": {"monthly": {"amount": 2500}}})
    assert (await business.read()).included["pro", "requests"] == 2500
    await business.desk.customers.set_status(acme.customer, "past_due")
    assert (await business.read()).included["pro", "requests"] == 250


async def test_a_customers_quota_counts_all_that_is_theirs(business: Business) -> None:
    """What their subscriptions share is used by each, also by one that is over."""
    first = await business.join("dear", "euro", starts_at=NOW - timedelta(days=9))
    business.use(first, "euro@1 requests allowed", NOW - timedelta(days=1), 11)
    await business.desk.subscriptions.cancel(first.id)
    second = await business.desk.subscriptions.create(first.customer, "euro")
    business.use(second, "euro@1 requests allowed", NOW, 5)
    found = await business.read()
    assert (found.included["euro", "requests"], found.used["euro", "requests"]) == (900, 16)


async def test_counters_that_began_afresh_are_told_from_there(business: Business) -> None:
    """A change that resets begins the period's use anew, as it does what enforcement counts."""
    acme = await business.join("acme", "pro", starts_at=NOW - timedelta(days=3))
    business.use(acme, "pro@1 requests allowed", NOW - timedelta(hours=2), 500)
    await business.desk.plans.apply(parse(PLANS.replace('"40.00"', '"80.00"'), "plans.yaml"))
    await business.desk.contracts.change(acme.id, "pro", carry=Carry.RESET)
    business.use(acme, "pro@2 requests allowed", NOW, 40)
    assert (await business.read()).used["pro", "requests"] == 40


async def test_plans_without_use_are_told_from_the_start(business: Business) -> None:
    """A price for usage that nobody owes yet is 0, not missing: a graph begins with the plan."""
    await business.join("acme", "pro")
    found = await business.read()
    assert dict(found.overage) == {("pro", "USD"): 0}
    assert found.used["pro", "requests"] == 0

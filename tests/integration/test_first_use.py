"""A trial that begins with the first request, from the counter store to what people are shown: Postgres and Valkey.

A worker is a pipeline of its own over both, as one process of `serve` is; the test hands on what it has learnt.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis
from support.counting import RedisCounting
from support.office import FORMAT, PEPPERS, Office, office
from support.servers import Database
from support.tcp_proxy import tcp_proxy

from tallygate.admin.records import as_json
from tallygate.core.errors import StoreUnavailableError
from tallygate.decision.decision import CheckInput, Decision
from tallygate.decision.pipeline import Pipeline
from tallygate.licenses.cache import LicenseCache
from tallygate.licenses.first_used import FirstUses
from tallygate.licenses.postgres import PostgresLicenseStore
from tallygate.limits.memory import MemoryLimiter
from tallygate.plans.parse import parse
from tallygate.storage.postgres import Pool, close_pool, create_pool

DAY, MOMENT = timedelta(days=1), timedelta(microseconds=1)
_PLANS = """
routes: [{match: "* /v1/**"}]
plans:
  - {key: free, name: FREE_NAME, scopes: [things.read], price: {amount: 1, currency: USD, every: year}}
  - key: trial
    name: Trial
    price: {amount: 9, currency: USD, every: week}
    scopes: [things.read, things.write]
    trial: {days: 14, basis: first_use, at_end: downgrade, to: free}
"""


def plans(free_name: str = "Free") -> Any:  # noqa: ANN401 - a catalogue
    """Return the catalogue; another name of `free` makes another version of it."""
    return parse(_PLANS.replace("FREE_NAME", free_name), "first_use.yaml")


class Worker:
    """One process of the data plane."""

    def __init__(self, desk: Office, counting: RedisCounting, pool: Pool) -> None:
        """Know nothing yet."""
        self.store = PostgresLicenseStore(pool)
        self.cache = LicenseCache(self.store, desk.clock)
        self.uses = FirstUses()
        self.pipeline = Pipeline(
            licenses=self.cache,
            limiter=counting.limiter,
            local=MemoryLimiter(desk.clock),
            token_format=FORMAT,
            peppers=PEPPERS,
            clock=desk.clock,
            first_uses=self.uses,
        )

    async def ask(self, secret: str) -> Decision:
        """Decide a request."""
        await self.cache.load_routes()
        return await self.pipeline.check(CheckInput("GET", "/v1/things", {"authorization": f"Bearer {secret}"}))

    async def plan(self, secret: str) -> str | None:
        """Decide a request, and return the plan version it was decided on."""
        decision = await self.ask(secret)
        return None if decision.phase is None else decision.phase.grant.plan

    async def report(self) -> None:
        """Hand on what was learnt."""
        await self.uses.hand_on(self.store)


@dataclass
class Place:
    """The control plane, workers to be hired, one customer who tries, and one time for all."""

    desk: Office
    counting: RedisCounting
    redis: Redis
    hire: Callable[[], Worker]
    subscription: str
    secret: str

    @property
    def now(self) -> datetime:
        """Return the present."""
        return self.desk.clock.now()

    async def pass_by(self, time: timedelta) -> None:
        """Let time pass, everywhere."""
        self.desk.clock.advance(time.total_seconds())
        self.desk.clock.set(self.counting.clock.now() + time)
        await self.counting.step_to(self.desk.clock.now())


@pytest.fixture
async def place(database: Database, redis_url: str) -> AsyncIterator[Place]:
    """A customer on a trial that has not begun."""
    redis = Redis.from_url(redis_url)
    counting = RedisCounting(redis)
    await counting.start()
    pool = await create_pool(database.data_plane_dsn, max_size=2)
    async with office(database) as desk:
        desk.clock.set(counting.clock.now())
        await desk.plans.apply(plans())
        made = await desk.subscriptions.create((await desk.customers.create("acme", None)).id, "trial")
        secret = (await desk.tokens.issue(subscription=made.id)).secret
        yield Place(desk, counting, redis, lambda: Worker(desk, counting, pool), made.id, secret)
    await close_pool(pool)
    await counting.close()


async def test_people_are_shown_what_a_trial_by_first_use_became(place: Place) -> None:
    """Waiting, running and over: status, plan, end and what is ahead are those by which requests are decided."""
    show = place.desk.subscriptions.show
    worker, announced = place.hire(), await place.desk.changes()
    waiting = await show(place.subscription)
    assert (waiting.status, waiting.plan, waiting.first_used_at, waiting.trial_ends_at) == (
        "trialing", "trial@1", None, None,
    )  # fmt: skip
    await place.pass_by(100 * DAY)
    began_at = place.now
    assert await worker.plan(place.secret) == "trial@1"
    await place.pass_by(timedelta(seconds=5))
    await worker.report()
    running = await show(place.subscription)
    assert (running.status, running.first_used_at, running.trial_ends_at) == ("trialing", began_at, began_at + 14 * DAY)
    assert [(each.at, each.status, each.plan) for each in running.phases] == [(began_at + 14 * DAY, "active", "free@1")]
    await place.pass_by(began_at + 14 * DAY - MOMENT - place.now)
    assert ((await show(place.subscription)).status, await worker.plan(place.secret)) == ("trialing", "trial@1")
    await place.pass_by(MOMENT)
    over = await show(place.subscription)
    assert (over.status, over.plan, over.trial_ends_at, over.phases) == ("active", "free@1", None, ())
    assert await worker.plan(place.secret) == "free@1"
    json = as_json(over)
    assert (json["status"], json["plan"], json["pinned"]) == ("active", "free@1", "trial@1")
    assert json["first_used_at"] == began_at.isoformat().replace("+00:00", "Z")
    listed = await place.desk.subscriptions.list()
    assert listed == [over]
    assert (running.revision, over.revision) == (1, 1), "nobody has changed anything"
    assert await place.desk.changes() == announced, "nothing was compiled anew"


async def test_whoever_moves_subscriptions_finds_those_whose_trial_is_over(place: Place) -> None:
    """A running trial stays where it is and is counted; over, it goes with all who are on the plan it fell to."""
    worker, migrate = place.hire(), place.desk.operations.versions.migrate
    await place.desk.plans.apply(plans("Freedom"))
    await worker.ask(place.secret)
    await worker.report()
    running = await migrate("trial@1", "free@2")
    assert (running.eligible, running.moved, running.trialing) == (1, 0, 1)
    assert (await migrate("free@1", "free@2")).eligible == 0
    await place.pass_by(14 * DAY)
    assert (await migrate("trial@1", "free@2")).eligible == 0
    moved = await migrate("free@1", "free@2")
    assert (moved.eligible, moved.moved, moved.trialing) == (1, 1, 0)
    assert (await place.desk.subscriptions.show(place.subscription)).plan == "free@2"
    assert await place.hire().plan(place.secret) == "free@2"


async def test_the_end_of_a_period_is_that_of_the_plan_it_became(place: Place) -> None:
    """After the trial the year of the free plan is what runs, not the week of the trial's."""
    worker, began_at = place.hire(), place.now
    await worker.ask(place.secret)
    await worker.report()
    await place.pass_by(15 * DAY)
    changed = await place.desk.contracts.change(place.subscription, "trial", at="period-end")
    assert changed.changes[0].at == began_at.replace(year=began_at.year + 1, second=0, microsecond=0)


async def test_a_lost_counter_store_begins_no_trial_anew(place: Place) -> None:
    """Once reported, the first use outlives Redis: for workers that start, and for those that have run on."""
    worker, began_at = place.hire(), place.now
    await worker.ask(place.secret)
    await worker.report()
    await place.redis.flushall()
    await place.counting.start()
    await place.pass_by(13 * DAY)
    fresh = place.hire()
    assert [await each.plan(place.secret) for each in (worker, fresh)] == ["trial@1"] * 2
    await fresh.report()
    await place.pass_by(DAY)
    assert [await each.plan(place.secret) for each in (worker, fresh, place.hire())] == ["free@1"] * 3
    shown = await place.desk.subscriptions.show(place.subscription)
    assert (shown.first_used_at, shown.plan) == (began_at, "free@1")
    assert not [key for key in await place.counting.keys() if ":first:" in key], "nobody needed it any more"


async def test_a_late_report_of_an_earlier_use_is_the_one_that_counts(place: Place) -> None:
    """One worker could not report, Redis was lost, another began anew and reported: the first instant stands."""
    first, second, began_at = place.hire(), place.hire(), place.now
    await first.ask(place.secret)
    await place.redis.flushall()
    await place.counting.start()
    await place.pass_by(10 * DAY)
    await second.ask(place.secret)
    await second.report()
    await first.report()
    await second.report()
    await place.pass_by(4 * DAY)
    assert [await each.plan(place.secret) for each in (first, second, place.hire())] == ["free@1"] * 3
    assert (await place.desk.subscriptions.show(place.subscription)).first_used_at == began_at


async def test_a_report_waits_for_nobody_and_is_made_again(place: Place, database: Database) -> None:
    """While somebody works on the subscription it is put off, without a deadline that would look like an outage."""
    worker = place.hire()
    await worker.ask(place.secret)
    other = await asyncpg.connect(database.dsn)
    try:
        async with other.transaction():
            await other.execute("SELECT 1 FROM subscriptions FOR NO KEY UPDATE")
            await worker.report()
        assert (await place.desk.subscriptions.show(place.subscription)).first_used_at is None
        await worker.report()
        assert (await place.desk.subscriptions.show(place.subscription)).first_used_at == place.now
    finally:
        await other.close()


async def test_a_report_that_finds_no_database_is_made_again(place: Place, database: Database) -> None:
    """An outage loses no instant: it is on record as soon as Postgres answers again."""
    worker = place.hire()
    await worker.ask(place.secret)
    began_at = place.now
    async with tcp_proxy(database.data_plane_dsn) as way:
        pool = await create_pool(way.dsn, max_size=1)
        await way.close()
        with pytest.raises(StoreUnavailableError):
            await worker.uses.hand_on(PostgresLicenseStore(pool))
        await close_pool(pool)
    await place.pass_by(DAY)
    await worker.report()
    assert (await place.desk.subscriptions.show(place.subscription)).first_used_at == began_at


async def test_a_token_may_have_the_scopes_of_the_plan_after_the_trial(place: Place) -> None:
    """What a subscription will be granted when its trial is over can be issued beforehand."""
    issued = await place.desk.tokens.issue(subscription=place.subscription, scopes=("things.read",))
    assert issued.record.scopes == ("things.read",)

"""One worker that leases: what it decides in memory, what it asks for, and what it gives back."""

from datetime import timedelta

import pytest
from support.counting import (
    ALICE,
    START_AT,
    MemoryCounting,
    asking,
    at_once,
    by_minute,
    left,
    outcomes,
    overage,
    prepaid,
    quota,
    rate,
)
from support.leasing import Fault, Worker

from tallygate.core.errors import LimiterUnavailableError
from tallygate.core.periods import PeriodUnit
from tallygate.limits.keys import record_key
from tallygate.limits.leased import LeaseResult
from tallygate.limits.limit import CountedPer, CreditBucket, Limit
from tallygate.limits.limiter import Acquisition, LimitOutcome, Subject, Verdict

RECORD = record_key(ALICE, CountedPer.SUBSCRIPTION)
PLENTY = 1_000_000


class Scene:
    """A worker over counters in memory, both in the test's time."""

    def __init__(self) -> None:
        """Begin well within a minute."""
        self.counting = MemoryCounting()
        self.counting.clock.set(START_AT - timedelta(seconds=30))
        self.worker = Worker(self.counting.memory, self.now_s)

    def now_s(self) -> float:
        """Return the worker's time."""
        return (self.counting.clock.now() - START_AT) / timedelta(seconds=1)

    async def ask(self, asked: Acquisition, times: int = 1) -> list[Verdict]:
        """Ask so often, each time when all that went on is done."""
        verdicts: list[Verdict] = []
        for _ in range(times):
            verdicts.append(await self.worker.limiter.acquire(asked))
            await self.worker.quiet()
        return verdicts

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and the worker tend what it holds."""
        await self.counting.advance(seconds)
        await self.worker.limiter.tend()

    async def used(self, field: str) -> int:
        """Return what is counted of a limit."""
        return int((await self.counting.record(RECORD))[field].split(":")[0])

    @property
    def singles(self) -> int:
        """Return how many requests the store was asked for one by one."""
        return sum(not (asked.idempotency_key or "").startswith("lease:") for asked in self.worker.store.asked)


@pytest.fixture
def scene() -> Scene:
    """Return a worker that holds nothing."""
    return Scene()


def monthly(amount: int = PLENTY) -> Limit:
    """Return a leased quota."""
    return quota(amount, is_leased=True)


async def test_a_busy_kind_of_request_is_decided_in_memory(scene: Scene) -> None:
    """After the first few, requests cost no call each; every one is counted all the same."""
    asked = asking(monthly(), prepaid(PLENTY, is_leased=True))
    verdicts = await scene.ask(asked, 500)
    assert all(verdict.is_admitted for verdict in verdicts)
    assert scene.singles == 4
    await scene.worker.limiter.close()
    assert await scene.used("q:monthly:month") == await scene.used("c:prepaid") == 500
    assert sum((await scene.counting.usage()).values()) == 500


async def test_remaining_counts_down_as_if_each_were_asked_for(scene: Scene) -> None:
    """With one worker the client reads the numbers it would read without leases, and never more than there is."""
    verdicts = await scene.ask(asking(monthly(5_000), rate(1_000, 900, is_leased=True)), 300)
    assert [left(verdict)[0] for verdict in verdicts] == list(range(4_999, 4_699, -1))
    assert all(outcomes(verdict) == [LimitOutcome.OK] * 2 for verdict in verdicts)
    assert all(0 <= left(verdict)[1] <= 900 for verdict in verdicts)


@pytest.mark.parametrize(
    "other",
    [quota(PLENTY, name="exact"), quota(PLENTY, name="tried", is_shadow=True, is_leased=True), at_once(1_000)],
    ids=["exact", "shadow", "concurrency"],
)
async def test_one_limit_that_is_not_leased_has_every_request_asked_for(scene: Scene, other: Limit) -> None:
    """What must be counted where all count is, with all that the request takes."""
    await scene.ask(asking(monthly(), other), 100)
    assert scene.singles == 100


async def test_credits_with_grants_are_asked_for(scene: Scene) -> None:
    """What is given back would have to return to the grant it came from, so nothing is taken ahead."""
    grant = CreditBucket("g", PLENTY, START_AT - timedelta(days=1))
    await scene.ask(asking(prepaid(PLENTY, buckets=(grant,), is_leased=True)), 100)
    assert scene.singles == 100


async def test_the_last_units_go_one_by_one(scene: Scene) -> None:
    """With little left nothing is taken ahead, the amount is used up to the last unit, and overage is told exactly."""
    limit = overage(1_000, ceiling=1_005, is_leased=True)
    verdicts = await scene.ask(asking(limit), 1_010)
    assert [verdict.is_admitted for verdict in verdicts] == [True] * 1_005 + [False] * 5
    told = [outcomes(verdict)[0] for verdict in verdicts]
    assert told == [LimitOutcome.OK] * 1_000 + [LimitOutcome.OVERAGE] * 5 + [LimitOutcome.EXCEEDED] * 5
    assert 0 < scene.singles < 1_000
    await scene.worker.limiter.close()
    assert sorted((await scene.counting.usage()).values()) == [5, 1_000]


async def test_what_is_not_needed_goes_back(scene: Scene) -> None:
    """A kind of request that is asked for no longer holds nothing a second later, and its usage is told."""
    await scene.ask(asking(monthly()), 100)
    assert scene.worker.held > 0
    assert await scene.used("q:monthly:month") == 100 + scene.worker.held
    await scene.pass_time(1)
    assert scene.worker.held == 0
    assert await scene.used("q:monthly:month") == 100
    assert sum((await scene.counting.usage()).values()) == 100


async def test_a_slab_ends_with_its_period(scene: Scene) -> None:
    """Units of one minute are never spent in the next, nor given back to it."""
    asked = asking(quota(PLENTY, PeriodUnit.MINUTE, name="minute", is_leased=True))
    await scene.pass_time(39.5)
    await scene.ask(asked, 100)
    held = scene.worker.held
    assert held > 0
    await scene.counting.advance(0.5)
    singles = scene.singles
    await scene.ask(asked)
    assert scene.singles == singles + 1
    await scene.worker.limiter.close()
    assert await scene.used("q:minute:minute") == 1
    told = by_minute(await scene.counting.by_minute_counted())
    assert sorted(sum(minute.values()) for minute in told.values()) == [1, 100]


async def test_units_of_a_rate_are_spent_at_once_or_not_at_all(scene: Scene) -> None:
    """Held longer they would make a burst larger than the plan allows."""
    asked = asking(rate(10_000, 8_000, is_leased=True))
    await scene.ask(asked, 100)
    assert scene.worker.held > 0
    await scene.counting.advance(0.18)
    singles = scene.singles
    await scene.ask(asked)
    assert scene.singles == singles + 1


async def test_a_new_license_spends_nothing_of_the_old_one(scene: Scene) -> None:
    """A lowered limit holds from the next request on, and what was held under the old terms goes back."""
    await scene.ask(asking(monthly()), 100)
    assert scene.worker.held > 0
    verdicts = await scene.ask(asking(monthly(50)), 10)
    assert not any(verdict.is_admitted for verdict in verdicts)
    await scene.pass_time(1)
    assert await scene.used("q:monthly:month") == 100


async def test_a_retry_is_the_same_request(scene: Scene) -> None:
    """Envoy's retry of what this worker admitted takes nothing more, out of a slab or not."""
    limit = monthly()
    charges, usage = asking(limit).charges, asking(limit).usage
    for number in range(50):
        for attempt in range(2):
            asked = Acquisition(ALICE, charges, usage, "GET /v1/things", str(number))
            (verdict,) = await scene.ask(asked)
            assert (verdict.is_admitted, verdict.is_repeat) == (True, attempt == 1)
    await scene.worker.limiter.close()
    assert await scene.used("q:monthly:month") == 50


async def test_a_slab_in_hand_is_spent_while_redis_is_away(scene: Scene) -> None:
    """What was paid for may be used; then the fail policy of the plan is asked, as ever."""
    asked = asking(monthly())
    await scene.ask(asked, 100)
    held = scene.worker.held
    scene.worker.store.is_away = True
    assert all(verdict.is_admitted for verdict in await scene.ask(asked, held))
    with pytest.raises(LimiterUnavailableError):
        await scene.ask(asked)


@pytest.mark.parametrize("fault", [Fault.UNHEARD, Fault.LATE])
async def test_a_slab_that_was_never_heard_of_goes_back(scene: Scene, fault: Fault) -> None:
    """Whether it was granted, and its reply lost, or arrives when it was given up: nothing is taken in the end."""
    asked = asking(monthly())
    await scene.ask(asked, 7)
    scene.worker.store.fault = fault
    await scene.ask(asked, 20)
    assert scene.worker.became[LeaseResult.UNHEARD] > 0
    assert scene.worker.held == 0
    scene.worker.store.fault = Fault.NONE
    await scene.pass_time(0.1)
    await scene.worker.store.arrive()
    assert await scene.used("q:monthly:month") == 27


async def test_a_settlement_is_tried_until_it_succeeds_and_counts_once(scene: Scene) -> None:
    """Redis away, or its replies lost, for some seconds: usage is told once and units go back once."""
    await scene.ask(asking(monthly()), 100)
    for fault in (Fault.UNSENT, Fault.UNHEARD, Fault.UNHEARD, Fault.NONE):
        scene.worker.store.fault = fault
        await scene.pass_time(5)
    assert await scene.used("q:monthly:month") == 100
    assert sum((await scene.counting.usage()).values()) == 100
    assert scene.worker.became[LeaseResult.LOST] == 0


async def test_a_settlement_waits_for_a_store_that_is_away_for_hours(scene: Scene) -> None:
    """The store knows a slab for a day if it was not settled, so its usage and units come back with the store."""
    await scene.ask(asking(prepaid(PLENTY, is_leased=True)), 100)
    scene.worker.store.fault = Fault.UNSENT
    for _ in range(6):
        await scene.pass_time(3_000)
    scene.worker.store.fault = Fault.NONE
    await scene.pass_time(1)
    assert await scene.used("c:prepaid") == sum((await scene.counting.usage()).values()) == 100
    assert scene.worker.became[LeaseResult.LOST] == 0


async def test_a_slab_the_store_does_not_know_is_settled_once_at_most(scene: Scene) -> None:
    """Half a minute after its reply was lost a settlement may be forgotten: it is not done again, but told as lost."""
    await scene.ask(asking(prepaid(PLENTY, is_leased=True)), 100)
    scene.worker.store.fault = Fault.UNHEARD
    for _ in range(6):
        await scene.pass_time(31)
    scene.worker.store.fault = Fault.NONE
    await scene.pass_time(31)
    assert await scene.used("c:prepaid") == sum((await scene.counting.usage()).values()) == 100
    assert scene.worker.became[LeaseResult.LOST] > 0


async def test_what_cannot_be_settled_is_given_up_and_told(scene: Scene) -> None:
    """After a day the store knows no slab any more: it is lost, and a metric says so."""
    await scene.ask(asking(monthly()), 100)
    scene.worker.store.fault = Fault.UNSENT
    await scene.pass_time(1)
    for _ in range(2):
        await scene.pass_time(86_400)
    told = sum((await scene.counting.usage()).values())
    assert 0 < scene.worker.became[LeaseResult.LOST] == 100 - told
    assert not scene.worker.limiter._waiting


async def test_kinds_of_requests_are_bounded(scene: Scene) -> None:
    """However many tokens come by, few are remembered, and what the forgotten held goes back."""
    scene.worker.limiter._max_kinds = 10
    every = [asking(monthly()) for _ in range(25)]
    for asked in every:
        await scene.ask(asked, 20)
    assert len(scene.worker.limiter._kinds) <= 10
    await scene.worker.limiter.close()
    assert await scene.used("q:monthly:month") == 25 * 20
    assert sum((await scene.counting.usage()).values()) == 25 * 20


async def test_customers_without_limits_do_not_push_each_other_out(scene: Scene) -> None:
    """What has no charges shares Python's one empty tuple: each customer's kind is known by itself all the same."""
    one, other = asking(), asking(subject=Subject("cus_other", "sub_other", "fam_other"))
    await scene.ask(one)
    kind = next(iter(scene.worker.limiter._kinds.values()))
    await scene.ask(other)
    await scene.ask(one)
    assert [each.is_of(one) for each in scene.worker.limiter._kinds.values()] == [True, False]
    assert next(iter(scene.worker.limiter._kinds.values())) is kind

"""The port of the counters, continued: credits that are refilled and granted. Run on every adapter."""

from dataclasses import replace
from datetime import datetime, timedelta

from support.counting import ALICE, START_AT, Counting, admitted, asking, left, outcomes, prepaid

from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.limits.limit import EXACT_INTEGER, CreditBucket, CreditRefill, Limit, OnExceed
from tallygate.limits.limiter import LimitOutcome

MONTHLY = CreditRefill(3, Calendar(PeriodUnit.MONTH), START_AT - timedelta(days=10))
LARGEST = EXACT_INTEGER - 1
DAY = timedelta(days=1)
LONG_AGO = START_AT - 9 * DAY


def granted(
    *buckets: tuple[str, int, datetime | None], from_at: datetime = LONG_AGO, amount: int = 0, **rest: object
) -> Limit:
    """Return credits with buckets of (id, units, end), beside a balance of `amount`."""
    made = tuple(CreditBucket(name, units, from_at, until_at) for name, units, until_at in buckets)
    return replace(prepaid(amount), buckets=made, **rest)  # type: ignore[arg-type]  # the fields of Limit


async def remaining(counting: Counting, limit: Limit) -> int:
    """Return the units left."""
    return left(await counting.limiter.peek(asking((limit, 0), usage=())))[0]


async def test_each_period_adds_to_the_balance(counting: Counting) -> None:
    """Unused units stay, and every first of a month brings three more, on time."""
    limit = prepaid(2, refill=MONTHLY)
    assert await admitted(counting, 1, limit) == 1
    await counting.advance(9.999999)
    assert await remaining(counting, limit) == 1
    await counting.advance(0.000001)
    assert await remaining(counting, limit) == 4
    await counting.step_to(datetime.fromisoformat("2096-05-15T00:00:00+00:00"))
    assert await admitted(counting, 99, limit) == 13


async def test_a_refill_at_the_very_beginning_is_the_balance(counting: Counting) -> None:
    """Begun on the first of a month, that month's units are the balance itself and not added twice."""
    began_at = datetime.fromisoformat("2096-02-01T00:00:00+00:00")
    limit = prepaid(2, refill=replace(MONTHLY, since_at=began_at))
    assert await remaining(counting, limit) == 2
    await counting.step_to(began_at)
    assert await remaining(counting, limit) == 2
    await counting.step_to(datetime.fromisoformat("2096-03-01T00:00:00+00:00"))
    assert await remaining(counting, limit) == 5


async def test_a_refusal_names_the_next_refill_if_that_is_enough(counting: Counting) -> None:
    """Exhausted credits say when more come; a request that needs still more is not told to come then."""
    limit = prepaid(0, refill=MONTHLY)
    waits = [(await counting.limiter.acquire(asking((limit, cost)))).states[0].retry_after_s for cost in (1, 3, 4)]
    assert waits == [10, 10, None]
    assert (await counting.limiter.peek(asking((limit, 0)))).states[0].reset_s == 10
    await counting.advance(10)
    assert (await counting.limiter.acquire(asking((limit, 3)))).is_admitted


async def test_what_ends_first_is_spent_first(counting: Counting) -> None:
    """Buckets in the order of their end, those without one after them, the balance last; one request spans several."""
    limit = granted(("late", 2, START_AT + 2 * DAY), ("ever", 2, None), ("soon", 2, START_AT + DAY), amount=2)
    assert left(await counting.limiter.acquire(asking((limit, 3)))) == [5]
    assert await remaining(counting, granted(("soon", 2, None))) == 0
    assert await remaining(counting, granted(("late", 2, None))) == 1
    assert left(await counting.limiter.acquire(asking((limit, 4)))) == [1]
    assert await remaining(counting, granted(("ever", 2, None))) == 0
    assert await remaining(counting, prepaid(2)) == 1
    refused = await counting.limiter.acquire(asking((limit, 2)))
    assert (outcomes(refused), left(refused)) == ([LimitOutcome.EXCEEDED], [1])


async def test_a_bucket_counts_in_its_own_time(counting: Counting) -> None:
    """Before its beginning a bucket holds nothing, from its end on nothing any more, to the microsecond."""
    limit = granted(("promo", 5, START_AT + 2 * DAY), from_at=START_AT + DAY)
    refused = await counting.limiter.acquire(asking(limit))
    assert refused.states[0].retry_after_s == 86_400
    await counting.advance(86_399.999999)
    assert await admitted(counting, 1, limit) == 0
    await counting.advance(0.000001)
    assert await admitted(counting, 2, limit) == 2
    await counting.advance(86_400)
    assert await remaining(counting, limit) == 0
    assert (await counting.limiter.acquire(asking(limit))).states[0].retry_after_s is None


async def test_a_grant_keeps_what_the_balance_counted(counting: Counting) -> None:
    """A grant that comes and goes in mid-life leaves the balance as used as it was."""
    assert await admitted(counting, 2, prepaid(5)) == 2
    assert await admitted(counting, 3, granted(("gift", 3, None), amount=5)) == 3
    assert await remaining(counting, prepaid(5)) == 3


async def test_a_refused_request_spends_from_no_bucket(counting: Counting) -> None:
    """All or nothing: what another limit refuses leaves every bucket as it was."""
    limit = granted(("gift", 3, None), amount=5)
    assert await admitted(counting, 3, (limit, 4), prepaid(0, name="none")) == 0
    assert await remaining(counting, limit) == 8


async def test_overage_falls_on_the_balance_and_the_next_refill_pays_it(counting: Counting) -> None:
    """Beyond grant and balance three units are overage; of the next refill's three nothing is left."""
    limit = granted(("gift", 1, None), amount=1, refill=MONTHLY, on_exceed=OnExceed.OVERAGE)
    verdict = await counting.limiter.acquire(asking((limit, 5), usage=(("requests", 5),)))
    assert (outcomes(verdict), left(verdict)) == ([LimitOutcome.OVERAGE], [0])
    assert sorted((await counting.usage()).values()) == [2, 3]
    await counting.advance(10)
    assert await remaining(counting, limit) == 0
    assert outcomes(await counting.limiter.acquire(asking(limit))) == [LimitOutcome.OVERAGE]


async def test_a_ceiling_leaves_the_same_room_after_a_refill(counting: Counting) -> None:
    """Two units of overage beyond the balance, however often it was refilled."""
    limit = prepaid(1, refill=MONTHLY, on_exceed=OnExceed.OVERAGE, ceiling=3)
    assert await admitted(counting, 9, limit) == 3
    await counting.advance(10)
    assert await admitted(counting, 9, limit) == 3
    await counting.step_to(datetime.fromisoformat("2096-04-01T00:00:00+00:00"))
    assert await admitted(counting, 99, limit) == 6


async def test_lowering_a_balance_leaves_its_grants(counting: Counting) -> None:
    """A balance lowered under what was used takes nothing from what was granted beside it."""
    assert await admitted(counting, 4, prepaid(5)) == 4
    limit = granted(("gift", 2, None), amount=1)
    assert await remaining(counting, limit) == 2
    assert await admitted(counting, 9, limit) == 2


async def test_a_grant_corrected_below_what_was_spent_owes_nothing(counting: Counting) -> None:
    """A grant lowered after most of it was spent is empty, and takes nothing from the balance beside it."""
    assert await admitted(counting, 4, granted(("gift", 5, None))) == 4
    lowered = granted(("gift", 2, None), amount=3)
    assert await remaining(counting, lowered) == 3
    assert await admitted(counting, 9, lowered) == 3
    assert await remaining(counting, granted(("gift", 5, None))) == 1


async def test_a_refill_that_only_pays_a_debt_is_no_time_to_retry(counting: Counting) -> None:
    """Four units over a lowered balance, the next three bring nothing to spend, and nobody is sent to wait for them."""
    assert await admitted(counting, 5, prepaid(5)) == 5
    state = (await counting.limiter.acquire(asking(prepaid(1, refill=MONTHLY)))).states[0]
    assert (state.outcome, state.retry_after_s, state.reset_s) == (LimitOutcome.EXCEEDED, None, 10)


async def test_more_than_can_be_counted_is_told_as_the_most(counting: Counting) -> None:
    """Grants that add up beyond what a number holds are told as its largest, and spent unit by unit all the same."""
    limit = granted(("gift", LARGEST, None), amount=LARGEST)
    assert left(await counting.limiter.acquire(asking((limit, 5)))) == [LARGEST]
    assert await remaining(counting, granted(("gift", LARGEST, None))) == LARGEST - 5


async def test_counters_begun_afresh_grant_nothing_twice(counting: Counting) -> None:
    """`carry: reset` begins the balance anew; what was granted once is spent once."""
    limit = granted(("gift", 3, None), amount=2)
    assert await admitted(counting, 4, limit) == 4
    afresh = replace(ALICE, counters="chg_1")
    assert left(await counting.limiter.peek(asking((limit, 0), subject=afresh))) == [2]
    assert await remaining(counting, limit) == 1

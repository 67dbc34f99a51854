"""One suite for the port of the counters, run on every adapter."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.counting import (
    ALICE,
    START_AT,
    Counting,
    admitted,
    asking,
    left,
    outcomes,
    overage,
    prepaid,
    quota,
    rate,
)

from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.limits.algorithms import instant
from tallygate.limits.keys import record_key
from tallygate.limits.limit import CountedPer
from tallygate.limits.limiter import IDEMPOTENCY_TTL_S, LimitOutcome, Subject

SAME_CUSTOMER = Subject(ALICE.customer, "sub_2", "fam_3")
OTHER_FAMILY = Subject(ALICE.customer, ALICE.subscription, "fam_2")


async def test_a_rate_lets_a_burst_through_and_then_its_pace(counting: Counting) -> None:
    """A full bucket refills at the rate, unit by unit, and no faster."""
    limit = rate(2, burst=5)
    assert await admitted(counting, 10, limit) == 5
    await counting.advance(0.499999)
    assert await admitted(counting, 1, limit) == 0
    await counting.advance(0.000001)
    assert await admitted(counting, 2, limit) == 1
    await counting.advance(3600)
    assert await admitted(counting, 10, limit) == 5


async def test_a_refused_rate_says_when_to_come_back(counting: Counting) -> None:
    """Coming back after `retry_after_s` passes, a second earlier does not."""
    limit = rate(1, burst=4, window_s=10)
    verdict = await counting.limiter.acquire(asking((limit, 4)))
    assert (left(verdict), verdict.states[0].reset_s) == ([0], 10)
    refused = await counting.limiter.acquire(asking((limit, 3)))
    assert refused.states[0].retry_after_s == 30
    await counting.advance(29)
    assert (await counting.limiter.acquire(asking((limit, 3)))).states[0].retry_after_s == 1
    await counting.advance(1)
    assert (await counting.limiter.acquire(asking((limit, 3)))).is_admitted


async def test_more_than_the_burst_never_passes(counting: Counting) -> None:
    """A cost above the burst has no time to retry."""
    verdict = await counting.limiter.acquire(asking((rate(1, burst=4), 5)))
    assert (verdict.is_admitted, verdict.states[0].retry_after_s, left(verdict)) == (False, None, [4])


async def test_a_step_back_of_the_clock_locks_nobody_out(counting: Counting) -> None:
    """With its clock an hour back, a full bucket admits again within a second's worth, though nothing was written."""
    limit = rate(1, burst=2)
    assert await admitted(counting, 3, limit) == 2
    await counting.step_to(START_AT - timedelta(hours=1))
    assert await admitted(counting, 3, limit) == 2
    await counting.advance(1)
    assert await admitted(counting, 2, limit) == 1


async def test_a_small_step_back_gives_no_more_than_its_worth(counting: Counting) -> None:
    """A step of 0.4 s is not a unit; the wait that is told is the true one."""
    limit = rate(1, burst=2)
    assert await admitted(counting, 3, limit) == 2
    await counting.step_to(START_AT - timedelta(seconds=0.4))
    refused = await counting.limiter.acquire(asking(limit))
    assert (refused.is_admitted, refused.states[0].retry_after_s) == (False, 2)
    await counting.advance(1.4)
    assert await admitted(counting, 2, limit) == 1


async def test_a_quota_begins_anew_with_the_period(counting: Counting) -> None:
    """What was used in January is gone on 1 February at 00:00, not before, and not 30 days later."""
    limit = quota(3)
    assert await admitted(counting, 5, limit) == 3
    refused = await counting.limiter.acquire(asking(limit))
    assert (refused.states[0].retry_after_s, refused.states[0].reset_s) == (10, 10)
    await counting.advance(9.999999)
    assert await admitted(counting, 1, limit) == 0
    await counting.advance(0.000001)
    assert await admitted(counting, 5, limit) == 3


async def test_a_billing_quota_follows_its_anchor(counting: Counting) -> None:
    """Anchored on the 31st at noon, February's period ends on the 29th of a leap year at noon."""
    anchor = datetime(2095, 12, 31, 12, tzinfo=UTC)
    limit = replace(quota(1), calendar=Calendar(PeriodUnit.MONTH, anchor))
    assert await admitted(counting, 2, limit) == 1
    await counting.step_to(datetime(2096, 2, 29, 11, 59, 59, tzinfo=UTC))
    assert await admitted(counting, 1, limit) == 0
    await counting.step_to(datetime(2096, 2, 29, 12, tzinfo=UTC))
    assert await admitted(counting, 2, limit) == 1
    await counting.step_to(datetime(2096, 3, 31, 11, 59, 59, tzinfo=UTC))
    assert await admitted(counting, 1, limit) == 0


async def test_a_period_never_comes_twice(counting: Counting) -> None:
    """With the clock set back over the end of a period, what was used in the later one still counts."""
    limit = quota(3)
    await counting.advance(10)
    assert await admitted(counting, 2, limit) == 2
    await counting.step_to(START_AT)
    assert await admitted(counting, 5, limit) == 1


async def test_credits_only_go_down(counting: Counting) -> None:
    """Credits survive any time, and nobody is told to come back for more."""
    limit = prepaid(2)
    assert await admitted(counting, 1, limit) == 1
    await counting.advance(50 * 365 * 86_400)
    assert await admitted(counting, 3, limit) == 1
    state = (await counting.limiter.acquire(asking(limit))).states[0]
    assert (state.remaining, state.retry_after_s, state.reset_s) == (0, None, None)
    assert await admitted(counting, 5, prepaid(4)) == 2


async def test_a_request_consumes_all_or_nothing(counting: Counting) -> None:
    """Refused by one limit, a request leaves every other as it was, wherever that is counted."""
    full = quota(1, PeriodUnit.DAY, name="daily", per=CountedPer.CUSTOMER)
    others = (rate(1, burst=9), quota(9), prepaid(9, per=CountedPer.TOKEN))
    assert await admitted(counting, 5, *others, full) == 1
    looked = await counting.limiter.peek(asking(*((limit, 0) for limit in others)))
    assert left(looked) == [8, 8, 8]


async def test_what_each_limit_said_is_told_in_order(counting: Counting) -> None:
    """A refusal shows which limits had room and what they have left, unspent."""
    verdict = await counting.limiter.acquire(asking(quota(5), (prepaid(1), 2), rate(1, burst=3)))
    assert outcomes(verdict) == [LimitOutcome.OK, LimitOutcome.EXCEEDED, LimitOutcome.OK]
    assert (left(verdict), instant(verdict.at_us), verdict.is_repeat) == ([5, 1, 3], START_AT, False)


async def test_raising_and_lowering_keep_what_was_used(counting: Counting) -> None:
    """Used 4 of 5; raised to 8 there are 4 left, lowered to 3 there are none, and raised again 4."""
    assert await admitted(counting, 4, quota(5)) == 4
    assert left(await counting.limiter.peek(asking((quota(8), 0)))) == [4]
    lowered = await counting.limiter.acquire(asking(quota(3)))
    assert (lowered.is_admitted, left(lowered)) == (False, [0])
    assert await admitted(counting, 9, quota(8)) == 4


async def test_a_smaller_burst_locks_nobody_out(counting: Counting) -> None:
    """After 100 at once on the old plan, the new plan's burst of 2 is full, and refills at its own rate."""
    assert await admitted(counting, 100, rate(100, burst=100)) == 100
    assert await admitted(counting, 1, rate(1, burst=2)) == 0
    await counting.advance(1)
    assert await admitted(counting, 2, rate(1, burst=2)) == 1


async def test_another_window_keeps_the_level(counting: Counting) -> None:
    """A rate said per minute instead of per second is as full as it was."""
    assert await admitted(counting, 3, rate(1, burst=4)) == 3
    assert await admitted(counting, 3, rate(60, burst=4, window_s=60)) == 1
    await counting.advance(1)
    assert await admitted(counting, 3, rate(1, burst=4)) == 1


async def test_another_window_rounds_up(counting: Counting) -> None:
    """A level of three units and a half is four under another window, so that a change gives nothing away."""
    assert await admitted(counting, 3, rate(1, burst=4)) == 3
    await counting.advance(0.5)
    assert await admitted(counting, 1, rate(1, burst=4)) == 1
    assert await admitted(counting, 1, rate(60, burst=4, window_s=60)) == 0


async def test_rotation_keeps_what_was_used(counting: Counting) -> None:
    """Counters know the family, never a token: nothing of a token is in an acquisition at all."""
    limit = quota(3, per=CountedPer.TOKEN)
    assert await admitted(counting, 2, limit) == 2
    record = await counting.record(record_key(ALICE, CountedPer.TOKEN))
    assert record["q:monthly:month"].split(":")[0] == "2"


async def test_each_limit_counts_its_own_subject(counting: Counting) -> None:
    """Per token, per subscription and per customer: a sibling shares exactly what is wider than itself."""
    limits = (
        quota(9, per=CountedPer.TOKEN, name="token"),
        quota(9, per=CountedPer.SUBSCRIPTION, name="subscription"),
        quota(9, per=CountedPer.CUSTOMER, name="customer"),
    )
    await counting.limiter.acquire(asking(*limits))
    assert left(await counting.limiter.acquire(asking(*limits, subject=OTHER_FAMILY))) == [8, 7, 7]
    assert left(await counting.limiter.acquire(asking(*limits, subject=SAME_CUSTOMER))) == [8, 8, 6]
    stranger = Subject("cus_2", ALICE.subscription, ALICE.family)
    assert left(await counting.limiter.acquire(asking(*limits, subject=stranger))) == [8, 8, 8]


async def test_overage_goes_on_up_to_its_ceiling(counting: Counting) -> None:
    """Past the amount a request is admitted and says so; past the ceiling it is refused."""
    limit = overage(2, ceiling=4)
    verdicts = [await counting.limiter.acquire(asking(limit)) for _ in range(5)]
    assert [outcomes(verdict)[0] for verdict in verdicts] == [
        LimitOutcome.OK,
        LimitOutcome.OK,
        LimitOutcome.OVERAGE,
        LimitOutcome.OVERAGE,
        LimitOutcome.EXCEEDED,
    ]
    assert [verdict.is_admitted for verdict in verdicts] == [True, True, True, True, False]
    assert await admitted(counting, 50, overage(2)) == 50


async def test_usage_is_split_where_overage_begins(counting: Counting) -> None:
    """With 3 of 5 used, 4 more are 2 allowed and 2 overage, of that meter only; refused requests count nothing."""
    usage = (("requests", 4), ("bytes", 700))
    limits = ((overage(5, ceiling=7), 4), (quota(10_000, name="volume", meter="bytes"), 700))
    await counting.limiter.acquire(asking((overage(5, ceiling=7), 3), usage=(("requests", 3),)))
    crossing = await counting.limiter.acquire(asking(*limits, usage=usage))
    assert [state.over for state in crossing.states] == [2, 0]
    refused = await counting.limiter.acquire(asking(*limits, usage=usage))
    assert (refused.is_admitted, [state.over for state in refused.states]) == (False, [0, 0])
    assert await counting.usage() == {
        "sub_1|pro@3|fam_1|requests|allowed|||GET /v1/things": 5,
        "sub_1|pro@3|fam_1|requests|overage|||GET /v1/things": 2,
        "sub_1|pro@3|fam_1|bytes|allowed|||GET /v1/things": 700,
    }


async def test_of_two_overages_the_larger_counts(counting: Counting) -> None:
    """Beyond two limits of one meter by 3 and by 1, 3 units are overage, not 1 and not 4."""
    daily = overage(1, name="daily")
    for limits in ((daily, overage(3)), (overage(3), daily)):
        await counting.step_to(START_AT + timedelta(days=40 if limits[0] is daily else 80))
        before = await counting.usage()
        verdict = await counting.limiter.acquire(asking(*((limit, 4) for limit in limits), usage=(("requests", 4),)))
        assert sorted(state.over for state in verdict.states) == [1, 3]
        after = await counting.usage()
        counted = {field.split("|")[4]: after[field] - before.get(field, 0) for field in after}
        assert counted == {"allowed": 1, "overage": 3}


async def test_usage_counts_without_any_limit(counting: Counting) -> None:
    """An unlimited plan is still counted."""
    verdict = await counting.limiter.acquire(asking())
    assert (verdict.is_admitted, verdict.states) == (True, ())
    assert await counting.usage() == {"sub_1|pro@3|fam_1|requests|allowed|||GET /v1/things": 1}


async def test_a_shadow_limit_counts_apart_and_decides_nothing(counting: Counting) -> None:
    """A shadow limit of the same name takes what fits it, says when it would refuse, and shares no counter."""
    real, shadow = quota(5), quota(2, is_shadow=True)
    verdicts = [await counting.limiter.acquire(asking(real, shadow)) for _ in range(4)]
    assert all(verdict.is_admitted for verdict in verdicts)
    assert [outcomes(verdict)[1] for verdict in verdicts] == [LimitOutcome.OK] * 2 + [LimitOutcome.SHADOW_EXCEEDED] * 2
    assert left(verdicts[-1]) == [1, 0]
    assert verdicts[-1].states[1].retry_after_s is None


async def test_a_shadow_overage_is_no_overage(counting: Counting) -> None:
    """A limit that is only tried bills nobody: its overage is told as shadow, and usage stays allowed."""
    shadow = overage(1, is_shadow=True)
    verdicts = [await counting.limiter.acquire(asking(shadow)) for _ in range(2)]
    assert [outcomes(verdict)[0] for verdict in verdicts] == [LimitOutcome.OK, LimitOutcome.SHADOW_EXCEEDED]
    assert await counting.usage() == {"sub_1|pro@3|fam_1|requests|allowed|||GET /v1/things": 2}


async def test_looking_costs_nothing_and_is_never_refused(counting: Counting) -> None:
    """A charge of 0 tells where a limit stands, an exceeded one too."""
    assert await admitted(counting, 2, quota(2)) == 2
    verdict = await counting.limiter.acquire(asking((quota(1), 0), (rate(1, burst=0), 0), usage=()))
    assert (verdict.is_admitted, outcomes(verdict), left(verdict)) == (True, [LimitOutcome.OK] * 2, [0, 0])
    assert await admitted(counting, 2, quota(3)) == 1


async def test_a_peek_foretells_and_changes_nothing(counting: Counting) -> None:
    """Peeking gives the verdict of the acquisition that follows, however often."""
    asked = asking(quota(1), rate(1, burst=1), request_id="7")
    peeks = [await counting.limiter.peek(asked) for _ in range(3)]
    assert [await counting.limiter.acquire(asked)] * 3 == peeks
    assert not (await counting.limiter.peek(asking(quota(1)))).is_admitted
    assert (await counting.limiter.peek(asked)).is_repeat


async def test_a_repeated_request_is_the_same_request(counting: Counting) -> None:
    """The same id is admitted again with its first outcomes, takes nothing more, and counts no usage."""
    limit = overage(1)
    await counting.limiter.acquire(asking(limit, request_id="1"))
    first = await counting.limiter.acquire(asking(limit, request_id="2"))
    again = await counting.limiter.acquire(asking(limit, request_id="2"))
    assert again == first._replace(is_repeat=True, states=(first.states[0]._replace(over=0),))
    assert outcomes(again) == [LimitOutcome.OVERAGE]
    assert sum((await counting.usage()).values()) == 2


async def test_a_repetition_passes_a_limit_that_is_full_by_now(counting: Counting) -> None:
    """Envoy's retry of an admitted request is admitted, though others took the rest meanwhile."""
    await counting.limiter.acquire(asking(quota(2), request_id="1"))
    assert await admitted(counting, 2, quota(2)) == 1
    assert (await counting.limiter.acquire(asking(quota(2), request_id="1"))).is_admitted


async def test_a_refused_request_is_judged_afresh(counting: Counting) -> None:
    """A refusal is not remembered: the same id passes once there is room."""
    limit = rate(1, burst=1)
    await counting.limiter.acquire(asking(limit))
    assert not (await counting.limiter.acquire(asking(limit, request_id="1"))).is_admitted
    await counting.advance(1)
    verdict = await counting.limiter.acquire(asking(limit, request_id="1"))
    assert (verdict.is_admitted, verdict.is_repeat) == (True, False)


async def test_a_request_is_remembered_for_its_time_and_customer(counting: Counting) -> None:
    """After `IDEMPOTENCY_TTL_S` the id is new again; another customer's equal id always was."""
    await counting.limiter.acquire(asking(quota(9), request_id="1"))
    other = Subject("cus_2", "sub_9", "fam_9")
    assert not (await counting.limiter.acquire(asking(quota(9), request_id="1", subject=other))).is_repeat
    await counting.advance(IDEMPOTENCY_TTL_S - 0.001)
    assert (await counting.limiter.acquire(asking(quota(9), request_id="1"))).is_repeat
    await counting.advance(0.001)
    assert not (await counting.limiter.acquire(asking(quota(9), request_id="1"))).is_repeat


async def test_one_counter_cannot_be_charged_twice_at_once(counting: Counting) -> None:
    """Two charges on one counter are a mistake of the caller, for each would see room for itself alone."""
    with pytest.raises(ValueError, match="same counter"):
        await counting.limiter.acquire(asking(quota(1), quota(2)))

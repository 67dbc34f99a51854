"""The port of the counters, continued: counters begun afresh, and first use. Run on every adapter."""

from dataclasses import replace

from support.counting import ALICE, START_AT, Counting, asking, left, prepaid, quota

from tallygate.limits.limit import CountedPer
from tallygate.limits.limiter import Subject

AFRESH = replace(ALICE, counters="chg_1")
LIMITS = tuple(quota(9, per=per, name=per) for per in CountedPer)


async def test_counters_begin_afresh_for_subscription_and_token_only(counting: Counting) -> None:
    """After a change with `carry: reset` the customer's counter goes on; back again, the old ones are as they were."""
    for _ in range(3):
        await counting.limiter.acquire(asking(*LIMITS))
    assert left(await counting.limiter.acquire(asking(*LIMITS, subject=AFRESH))) == [5, 8, 8]
    assert left(await counting.limiter.acquire(asking(*LIMITS))) == [4, 5, 5]
    again = replace(ALICE, counters="chg_2")
    assert left(await counting.limiter.acquire(asking(*LIMITS, subject=again))) == [3, 8, 8]


async def test_an_id_is_one_request_whatever_the_counters(counting: Counting) -> None:
    """A retry that arrives after a change consumes nothing from the new counters."""
    await counting.limiter.acquire(asking(prepaid(9), request_id="1"))
    verdict = await counting.limiter.acquire(asking(prepaid(9), request_id="1", subject=AFRESH))
    assert (verdict.is_repeat, left(verdict)) == (True, [9])


async def test_the_first_use_is_kept_for_good(counting: Counting) -> None:
    """However much later and often it is asked, the answer is the first time."""
    assert await counting.limiter.first_used_at(ALICE) == START_AT
    await counting.advance(50 * 365 * 86_400)
    assert await counting.limiter.first_used_at(ALICE) == START_AT
    assert await counting.limiter.first_used_at(ALICE, is_look=True) == START_AT


async def test_looking_is_no_use(counting: Counting) -> None:
    """Explaining a decision does not begin anybody's trial; the first request after it does."""
    assert await counting.limiter.first_used_at(ALICE, is_look=True) is None
    await counting.advance(1.000001)
    used_at = await counting.limiter.first_used_at(ALICE)
    assert used_at is not None
    assert (used_at - START_AT).total_seconds() == 1.000001


async def test_the_first_use_is_the_subscriptions(counting: Counting) -> None:
    """Another token, or counters begun afresh, are the same subscription; another subscription is not."""
    await counting.limiter.first_used_at(ALICE)
    await counting.advance(1)
    for same in (AFRESH, Subject(ALICE.customer, ALICE.subscription, "fam_2")):
        assert await counting.limiter.first_used_at(same) == START_AT
    other = Subject(ALICE.customer, "sub_2", ALICE.family)
    assert await counting.limiter.first_used_at(other, is_look=True) is None

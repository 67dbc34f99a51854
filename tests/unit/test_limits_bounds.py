"""What can be counted exactly, and what must be refused before it is ever enforced."""

from dataclasses import replace

import pytest
from support.counting import START_AT, at_once, overage, prepaid, quota, rate

from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.limits.limit import (
    EXACT_INTEGER,
    LONGEST_HOLD_S,
    MOST_BUCKETS,
    CreditBucket,
    CreditRefill,
    Limit,
    unenforceable,
)


def refilled(amount: int) -> Limit:
    """Return credits that grow by `amount` each month."""
    return prepaid(5, refill=CreditRefill(amount, Calendar(PeriodUnit.MONTH), START_AT))


def granted(*amounts: int) -> Limit:
    """Return credits with a bucket of each amount."""
    return prepaid(5, buckets=tuple(CreditBucket(f"g{n}", amount, START_AT) for n, amount in enumerate(amounts)))


GOOD = {
    "rate": rate(50, burst=100),
    "largest bucket": rate(1, burst=(EXACT_INTEGER - 1) // 1_000_000),
    "rate without burst": rate(1, burst=0),
    "quota": quota(1_000_000),
    "quota of nothing": quota(0),
    "largest quota": quota(EXACT_INTEGER - 1),
    "endless overage": overage(5),
    "ceiling": overage(5, ceiling=EXACT_INTEGER - 1),
    "credits": prepaid(5),
    "refill": refilled(EXACT_INTEGER - 1),
    "grants": granted(0, EXACT_INTEGER - 1),
    "as many grants as may be": granted(*[1] * MOST_BUCKETS),
    "nothing at once": at_once(0),
    "longest hold": at_once(5, hold_s=LONGEST_HOLD_S),
}
BAD = {
    "rate of nothing": rate(0, burst=1),
    "no window": rate(1, burst=1, window_s=0),
    "negative burst": rate(1, burst=-1),
    "bucket too large": rate(1, burst=EXACT_INTEGER // 1_000_000 + 1),
    "amount too large": prepaid(EXACT_INTEGER),
    "negative amount": prepaid(-1),
    "ceiling too large": overage(5, ceiling=EXACT_INTEGER),
    "no calendar": replace(quota(5), calendar=None),
    "refill too large": refilled(EXACT_INTEGER),
    "negative refill": refilled(-1),
    "grant too large": granted(EXACT_INTEGER),
    "negative grant": granted(1, -1),
    "too many grants": granted(*[1] * (MOST_BUCKETS + 1)),
    "two grants of one id": prepaid(5, buckets=granted(1).buckets * 2),
    "grant without time": prepaid(5, buckets=(CreditBucket("g", 1, START_AT, START_AT),)),
    "no hold": at_once(5, hold_s=0),
    "hold too long": at_once(5, hold_s=LONGEST_HOLD_S + 1),
}


@pytest.mark.parametrize("limit", GOOD.values(), ids=GOOD.keys())
def test_what_lua_counts_exactly_is_accepted(limit: Limit) -> None:
    """Every limit whose numbers stay below 2**53 may be enforced."""
    assert unenforceable(limit) is None


@pytest.mark.parametrize("limit", BAD.values(), ids=BAD.keys())
def test_what_lua_cannot_count_exactly_is_named(limit: Limit) -> None:
    """A limit that would be counted wrongly is refused with a sentence, when the plan is published."""
    assert unenforceable(limit)

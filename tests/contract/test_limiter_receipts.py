"""Receipts, amendments and reports: one suite for the port of the counters, run on every adapter."""

import pytest
from support.counting import (
    ALICE,
    START_AT,
    Counting,
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

from tallygate.core.periods import PeriodUnit
from tallygate.limits.amendment import AmendOutcome
from tallygate.limits.keys import due_member
from tallygate.limits.limit import CreditBucket, Limit
from tallygate.limits.limiter import Acquisition, LimitOutcome, Verdict
from tallygate.limits.receipt import Receipt, amendment, expiry

DONE, REPEATED, UNKNOWN = AmendOutcome.DONE, AmendOutcome.REPEATED, AmendOutcome.UNKNOWN
MINUTE = int(START_AT.timestamp()) // 60


def charging(
    *charges: tuple[Limit, int], units: int = 4, request_id: str = "7", unsettled: bool = False, receipt_s: int = 600
) -> Acquisition:
    """Return a request of 4 requests and 100 bytes that leaves a receipt."""
    usage = (("requests", units), ("bytes", 100))
    return asking(
        *charges,
        usage=usage,
        request_id=request_id,
        receipt_s=receipt_s,
        unsettled=(("requests", 0),) if unsettled else (),
    )


async def taken(counting: Counting, asked: Acquisition) -> Receipt:
    """Acquire it, and return its receipt."""
    assert (await counting.limiter.acquire(asked)).is_admitted
    receipt = await counting.limiter.receipt(ALICE.customer, asked.idempotency_key or "")
    assert receipt is not None
    return receipt


async def remaining(counting: Counting, *limits: Limit) -> list[int]:
    """Return what each limit has left."""
    return left(await counting.limiter.peek(asking(*((limit, 0) for limit in limits))))


async def counted(counting: Counting) -> dict[str, int]:
    """Return the usage by meter, outcome and entry."""
    found: dict[str, int] = {}
    for field, units in (await counting.usage()).items():
        _, _, _, meter, outcome, entry, _, _ = field.split("|", 7)
        name = f"{meter} {outcome} {entry}".strip()
        found[name] = found.get(name, 0) + units
    return found


async def test_a_receipt_says_what_was_charged(counting: Counting) -> None:
    """It tells the request's plan, route and time, each limit's part, and how much of it was overage."""
    receipt = await taken(counting, charging((overage(3), 4), (rate(9, burst=9), 4), (at_once(5), 1)))
    assert (receipt.customer, receipt.id, receipt.plan, receipt.route) == ("cus_1", "7", "pro@3", "GET /v1/things")
    assert (receipt.at_us, receipt.until_us) == (START_AT.timestamp() * 10**6, (START_AT.timestamp() + 600) * 10**6)
    assert receipt.charged == {"requests": 4, "bytes": 100}
    assert [(charge.field, charge.units, charge.over) for charge in receipt.charges] == [
        ("q:monthly:month", 4, 1),
        ("r:burst", 4, 0),
    ]
    assert [(each.meter, each.over) for each in receipt.usage] == [("requests", 1), ("bytes", 0)]


async def test_only_who_asks_for_a_receipt_and_is_admitted_leaves_one(counting: Counting) -> None:
    """A refusal leaves none, nor does a request whose end changes nothing."""
    await counting.limiter.acquire(asking(quota(9), request_id="1"))
    assert not (await counting.limiter.acquire(charging((quota(1), 4), request_id="2"))).is_admitted
    for request_id in ("1", "2", "3"):
        assert await counting.limiter.receipt(ALICE.customer, request_id) is None
        assert await counting.limiter.receipt("cus_2", request_id) is None


async def test_a_receipt_needs_a_name(counting: Counting) -> None:
    """Asking for one without an id is our mistake, and charges nobody."""
    for asked in (charging((quota(9), 4))._replace(idempotency_key=None),):
        with pytest.raises(ValueError, match="need an idempotency key"):
            await counting.limiter.acquire(asked)
        with pytest.raises(ValueError, match="need an idempotency key"):
            await counting.limiter.report(asked)
    assert await counting.usage() == {}


async def test_a_refund_gives_everything_back_once(counting: Counting) -> None:
    """Twice refunded is once refunded; other meters stay as they are; the ledger has a row of its own."""
    limits = quota(9), prepaid(9), quota(500, name="volume", meter="bytes")
    receipt = await taken(counting, charging((limits[0], 4), (limits[1], 4), (limits[2], 100)))
    refund = amendment(receipt, {"requests": 0}, "refund")
    assert [await counting.limiter.amend(refund) for _ in range(3)] == [DONE, REPEATED, REPEATED]
    assert await remaining(counting, *limits) == [9, 9, 400]
    assert await counted(counting) == {"requests allowed": 4, "requests allowed refund": -4, "bytes allowed": 100}
    assert await counting.limiter.receipt(ALICE.customer, "7") is None


async def test_a_settled_request_is_settled_for_good(counting: Counting) -> None:
    """After one amendment another of the same receipt changes nothing, whatever it says."""
    limit = quota(9)
    receipt = await taken(counting, charging((limit, 4)))
    assert await counting.limiter.amend(amendment(receipt, {"requests": 6}, "settlement")) is DONE
    assert await counting.limiter.amend(amendment(receipt, {"requests": 0}, "refund")) is REPEATED
    assert await remaining(counting, limit) == [3]


async def test_a_retry_finds_the_same_receipt(counting: Counting) -> None:
    """A repeated request neither charges again nor makes its settled receipt new."""
    asked = charging((quota(9), 4))
    receipt = await taken(counting, asked)
    assert (await counting.limiter.acquire(asked)).is_repeat
    assert await counting.limiter.receipt(ALICE.customer, "7") == receipt
    await counting.limiter.amend(amendment(receipt, {"requests": 0}, "refund"))
    assert (await counting.limiter.acquire(asked)).is_repeat
    assert await counting.limiter.receipt(ALICE.customer, "7") is None


async def test_more_than_was_estimated_is_taken(counting: Counting) -> None:
    """What lies beyond the amount is overage, though the limit would have refused; the rest is allowed."""
    limit = quota(6)
    receipt = await taken(counting, charging((limit, 4)))
    assert await counting.limiter.amend(amendment(receipt, {"requests": 9}, "settlement")) is DONE
    assert await remaining(counting, limit) == [0]
    found = await counted(counting)
    assert (found["requests allowed settlement"], found["requests overage settlement"]) == (2, 3)
    assert not (await counting.limiter.acquire(asking(quota(9)))).is_admitted
    assert (await counting.limiter.acquire(asking(quota(10)))).is_admitted


async def test_nothing_at_first_and_everything_later(counting: Counting) -> None:
    """A route that costs 0 of a meter leaves its counters ready for what is settled, of every kind, for their time."""
    limits = quota(9), prepaid(9), rate(1, burst=9)
    receipt = await taken(counting, charging(*((limit, 0) for limit in limits), units=0))
    assert await counting.limiter.amend(amendment(receipt, {"requests": 5}, "settlement")) is DONE
    assert await remaining(counting, *limits) == [4, 4, 4]


async def test_overage_is_given_back_first(counting: Counting) -> None:
    """Of 4 units of which 1 was overage, giving back 2 leaves 2 allowed and none overage."""
    receipt = await taken(counting, charging((overage(3), 4)))
    await counting.limiter.amend(amendment(receipt, {"requests": 2}, "settlement"))
    found = await counted(counting)
    assert (found["requests allowed settlement"], found["requests overage settlement"]) == (-1, -1)


async def test_a_period_that_is_over_is_left_alone(counting: Counting) -> None:
    """A refund after midnight gives no unit to the new day, and the ledger tells the minute it belongs to."""
    limit = quota(9, PeriodUnit.DAY, name="daily")
    receipt = await taken(counting, charging((limit, 4)))
    await counting.advance(20)
    await counting.limiter.acquire(asking((limit, 3)))
    assert await counting.limiter.amend(amendment(receipt, {"requests": 0}, "refund")) is DONE
    assert await remaining(counting, limit) == [6]
    assert [field for field in await counting.usage() if "refund" in field] == [
        f"sub_1|pro@3|fam_1|requests|allowed|refund|{MINUTE}|GET /v1/things"
    ]


async def test_beyond_an_amount_it_goes_on_as_overage_in_a_period_that_is_over(counting: Counting) -> None:
    """Where the counter cannot say any more, units after overage are overage, and others are not."""
    limit = overage(3, name="daily")
    first = await taken(counting, charging((limit, 2), units=2, request_id="1"))
    second = await taken(counting, charging((limit, 2), units=2, request_id="2"))
    await counting.advance(20)
    for receipt in (first, second):
        await counting.limiter.amend(amendment(receipt, {"requests": 5}, "settlement"))
    found = await counted(counting)
    assert (found["requests allowed settlement"], found["requests overage settlement"]) == (3, 3)


async def test_a_rate_gets_back_what_time_has_not(counting: Counting) -> None:
    """What has drained of a request's units since is not given back again."""
    limit = rate(1, burst=9)
    receipt = await taken(counting, charging((limit, 6), units=6))
    await counting.advance(2)
    await counting.limiter.acquire(asking((limit, 5)))
    assert await remaining(counting, limit) == [0]
    await counting.limiter.amend(amendment(receipt, {"requests": 0}, "refund"))
    assert await remaining(counting, limit) == [4]


async def test_grants_get_back_what_they_gave(counting: Counting) -> None:
    """Units go back to the balance first, which was spent last, and then to the grants they came from."""
    limit = prepaid(5, buckets=(CreditBucket("gift", 3, START_AT),))
    receipt = await taken(counting, charging((limit, 6), units=6))
    record = receipt.charges[0].key
    await counting.limiter.amend(amendment(receipt, {"requests": 2}, "settlement"))
    fields = await counting.record(record)
    assert (fields["c:prepaid"], fields["c:prepaid:gift"]) == ("0", "2")
    more = await taken(counting, charging((limit, 1), units=1, request_id="8"))
    await counting.limiter.amend(amendment(more, {"requests": 4}, "settlement"))
    fields = await counting.record(record)
    assert (fields["c:prepaid"], fields["c:prepaid:gift"]) == ("3", "3")


async def test_a_receipt_ends(counting: Counting) -> None:
    """Once its time is over, the estimate stands: settling is refused and changes nothing."""
    limit = quota(9, PeriodUnit.YEAR)
    receipt = await taken(counting, charging((limit, 4), receipt_s=60))
    await counting.advance(60)
    assert await counting.limiter.amend(amendment(receipt, {"requests": 0}, "refund")) is UNKNOWN
    assert await counting.limiter.receipt(ALICE.customer, "7") is None
    assert await remaining(counting, limit) == [5]


async def test_an_unsettled_request_can_be_given_back(counting: Counting) -> None:
    """When its time is over, a receipt that says so is there still, to be given back, and for nothing else."""
    limit = quota(9, PeriodUnit.YEAR)
    receipt = await taken(counting, charging((limit, 4), receipt_s=60, unsettled=True))
    assert receipt.unsettled == (("requests", 0),)
    assert await counting.due() == {due_member("cus_1", "7"): receipt.until_us // 1000}
    await counting.advance(60)
    assert await counting.limiter.amend(amendment(receipt, {"requests": 2}, "settlement")) is UNKNOWN
    assert await counting.limiter.receipt(ALICE.customer, "7") == receipt
    assert [await counting.limiter.amend(expiry(receipt)) for _ in range(2)] == [DONE, REPEATED]
    assert await remaining(counting, limit) == [9]
    assert await counting.due() == {}


async def test_a_settled_request_is_due_no_more(counting: Counting) -> None:
    """Settling takes a receipt out of those that are given back."""
    receipt = await taken(counting, charging((quota(9), 4), unsettled=True))
    await counting.limiter.amend(amendment(receipt, {"requests": 4}, "settlement"))
    assert await counting.due() == {}
    assert await counting.limiter.amend(expiry(receipt)) is REPEATED


async def test_what_is_wrong_about_an_amendment_is_told(counting: Counting) -> None:
    """A meter that the receipt does not have and units that cannot be counted are refused before anything is sent."""
    receipt = await taken(counting, charging((quota(9), 4)))
    for actual, told in (({"tokens": 1}, "no tokens: it has requests, bytes"), ({"bytes": -1}, "bytes: units are")):
        with pytest.raises(ValueError, match=told):
            amendment(receipt, actual, "settlement")


async def test_a_report_is_taken_though_it_does_not_fit(counting: Counting) -> None:
    """What has happened is charged to every limit, told where it would have been refused, and split by the amount."""
    limits = quota(5), prepaid(2), rate(1, burst=3), at_once(1)
    verdict = await counting.limiter.report(
        asking(*((limit, 7) for limit in limits), usage=(("requests", 7),), request_id="a")
    )
    assert (verdict.is_admitted, left(verdict)) == (True, [0, 0, 0])
    assert outcomes(verdict) == [LimitOutcome.EXCEEDED] * 3
    assert await remaining(counting, quota(9), prepaid(9), at_once(1)) == [2, 2, 1]
    assert await counted(counting) == {"requests allowed report": 2, "requests overage report": 5}


async def test_a_report_is_taken_once(counting: Counting) -> None:
    """A key is known for a day, and apart from the ids of requests."""
    asked = asking(quota(50, PeriodUnit.YEAR), request_id="7")

    async def report() -> Verdict:
        return await counting.limiter.report(asked)

    await counting.limiter.acquire(asked)
    assert not (await report()).is_repeat
    await counting.advance(86_399)
    assert (await report()).is_repeat
    assert sum((await counting.usage()).values()) == 2
    await counting.advance(1)
    assert not (await report()).is_repeat


async def test_usage_is_counted_when_it_is_known(counting: Counting) -> None:
    """Every bucket holds what was counted in its minute, so one that is over never changes."""
    receipt = await taken(counting, charging((quota(9), 4)))
    await counting.advance(60)
    before = (await counting.by_minute_counted())[MINUTE]
    await counting.limiter.amend(amendment(receipt, {"requests": 1}, "settlement"))
    buckets = await counting.by_minute_counted()
    assert buckets[MINUTE] == before
    assert sum(buckets[MINUTE + 1].values()) == -3
    assert sum(by_minute(buckets)[MINUTE].values()) == 101

"""The port of the counters, continued: requests at once. Run on every adapter."""

from dataclasses import replace
from datetime import timedelta

from support.counting import ALICE, START_AT, Counting, admitted, asking, at_once, left, outcomes, prepaid

from tallygate.limits.keys import EXPIRY_FIELD, holds_key
from tallygate.limits.limit import CountedPer, Limit
from tallygate.limits.limiter import IDEMPOTENCY_TTL_S, LimitOutcome, Subject

TWO = at_once(2)


async def begin(counting: Counting, *limits: Limit, ids: str) -> list[bool]:
    """Return which requests of these one-letter ids are admitted."""
    return [(await counting.limiter.acquire(asking(*limits, request_id=each))).is_admitted for each in ids]


async def free(counting: Counting, *limits: Limit) -> list[int]:
    """Return the free slots of each limit."""
    return left(await counting.limiter.peek(asking(*((limit, 0) for limit in limits), usage=())))


async def test_so_many_at_once_and_no_more(counting: Counting) -> None:
    """A request over frees its slot for the next, and no other."""
    assert await begin(counting, TWO, ids="abc") == [True, True, False]
    await counting.limiter.release(ALICE, "a")
    assert await begin(counting, TWO, ids="cd") == [True, False]
    assert await free(counting, TWO) == [0]


async def test_releasing_twice_or_nothing_is_harmless(counting: Counting) -> None:
    """An access log that arrives twice, or for a request that never held anything, frees nobody's slot."""
    await begin(counting, TWO, ids="ab")
    for request_id in ("a", "a", "stranger"):
        await counting.limiter.release(ALICE, request_id)
    await counting.limiter.release(Subject("cus_2", "sub_2", "fam_2"), "b")
    assert await free(counting, TWO) == [1]


async def test_a_hold_ends_by_itself(counting: Counting) -> None:
    """A request nobody released counts for `hold_s`, to the microsecond, and the wait that is told is that long."""
    await begin(counting, TWO, ids="a")
    await counting.advance(20)
    await begin(counting, TWO, ids="b")
    refused = await counting.limiter.acquire(asking(TWO, request_id="c"))
    assert (outcomes(refused), refused.states[0].retry_after_s) == ([LimitOutcome.EXCEEDED], 40)
    await counting.advance(39.999999)
    assert await begin(counting, TWO, ids="c") == [False]
    await counting.advance(0.000001)
    assert await begin(counting, TWO, ids="cd") == [True, False]


async def test_a_request_takes_one_slot_whatever_it_costs(counting: Counting) -> None:
    """Five units of the meter are one request at once; none is a look, which even a full limit allows."""
    for cost, remaining in ((5, 1), (1000, 0), (0, 0)):
        verdict = await counting.limiter.acquire(asking((TWO, cost)))
        assert (verdict.is_admitted, left(verdict)) == (True, [remaining])


async def test_a_repeated_request_holds_one_slot(counting: Counting) -> None:
    """A retried check takes no second slot, and none at all once its request is over."""
    assert await begin(counting, TWO, ids="aaa") == [True] * 3
    assert await free(counting, TWO) == [1]
    await counting.limiter.release(ALICE, "a")
    assert await begin(counting, TWO, ids="a") == [True]
    assert await free(counting, TWO) == [2]


async def test_an_id_that_comes_again_much_later_is_held_once(counting: Counting) -> None:
    """When an id is new again, its hold begins anew; one release ends it."""
    await begin(counting, TWO, ids="a")
    await counting.advance(IDEMPOTENCY_TTL_S)
    assert await begin(counting, TWO, ids="a") == [True]
    assert await free(counting, TWO) == [1]
    await counting.limiter.release(ALICE, "a")
    assert await free(counting, TWO) == [2]


async def test_a_release_ends_all_holds_of_the_request(counting: Counting) -> None:
    """Per customer, subscription and token, under any set of counters and in shadow too; others keep theirs."""
    limits = (*(at_once(3, per=per, name=per) for per in CountedPer), at_once(3, is_shadow=True))
    afresh = replace(ALICE, counters="chg_1")
    await begin(counting, *limits, ids="ab")
    await counting.limiter.acquire(asking(*limits, subject=afresh, request_id="c"))
    assert await free(counting, *limits) == [0, 1, 1, 1]
    for request_id in "ac":
        await counting.limiter.release(ALICE, request_id)
    assert await free(counting, *limits) == [2] * 4
    looked = await counting.limiter.peek(asking(*((limit, 0) for limit in limits), subject=afresh))
    assert left(looked) == [2, 3, 3, 3]


async def test_refused_elsewhere_holds_nothing(counting: Counting) -> None:
    """A request that another limit refuses holds no slot, and one that has no slot spends nothing else."""
    assert await admitted(counting, 3, TWO, prepaid(1)) == 1
    assert await free(counting, TWO) == [1]
    assert await admitted(counting, 3, TWO, prepaid(9, name="more")) == 1
    assert await free(counting, prepaid(9, name="more")) == [8]


async def test_without_an_id_only_time_ends_a_hold(counting: Counting) -> None:
    """Requests without ids, at the very same instant, are each counted."""
    assert await admitted(counting, 9, at_once(5)) == 5
    await counting.advance(60)
    assert await admitted(counting, 9, at_once(5)) == 5


async def test_lowering_and_raising_keep_what_is_held(counting: Counting) -> None:
    """Of four at once two too many must end, and the third's end is the wait that is told; raised, all is as it was."""
    for request_id in "abcd":
        await begin(counting, at_once(4), ids=request_id)
        await counting.advance(1)
    refused = await counting.limiter.acquire(asking(TWO))
    assert (left(refused), refused.states[0].retry_after_s, refused.states[0].reset_s) == ([0], 58, 58)
    assert await free(counting, at_once(6)) == [2]
    await counting.advance(58)
    assert await admitted(counting, 3, TWO) == 1


async def test_nothing_at_once_has_no_time_to_retry(counting: Counting) -> None:
    """Lowered to none, waiting does not help."""
    await begin(counting, TWO, ids="a")
    state = (await counting.limiter.acquire(asking(at_once(0)))).states[0]
    assert (state.outcome, state.retry_after_s, state.reset_s) == (LimitOutcome.EXCEEDED, None, None)


async def test_how_long_is_the_limits_present_word(counting: Counting) -> None:
    """A shorter hold frees those that had held longer already."""
    await begin(counting, TWO, ids="ab")
    await counting.advance(10)
    assert await free(counting, at_once(2, hold_s=10)) == [2]
    assert await free(counting, TWO) == [0]


async def test_a_step_of_the_clock_holds_nobody_for_ever(counting: Counting) -> None:
    """With the clock an hour back, holds are over as if an hour had passed, and do not come back with the hour."""
    await begin(counting, TWO, ids="ab")
    await counting.step_to(START_AT - timedelta(hours=1))
    assert await begin(counting, TWO, ids="cd") == [True, True]
    await counting.step_to(START_AT)
    assert await free(counting, TWO) == [2]


async def test_a_peek_holds_nothing(counting: Counting) -> None:
    """Peeking foretells the verdict, the time to the next free slot included, and takes none."""
    asked = asking(at_once(1), request_id="a")
    foretold = [await counting.limiter.peek(asked) for _ in range(2)]
    assert [await counting.limiter.acquire(asked)] * 2 == foretold
    assert foretold[0].states[0].reset_s == 60


async def test_what_has_ended_is_cleared_away(counting: Counting) -> None:
    """A set holds the requests that run, not all that ever did, and is gone with the last release."""
    for number in range(20):
        assert await begin(counting, TWO, ids=chr(ord("a") + number)) == [True]
        await counting.advance(60)
    await begin(counting, TWO, ids="z")
    key = holds_key(ALICE, TWO)
    assert (await counting.record(key)).keys() == {"i:z", EXPIRY_FIELD}
    await counting.limiter.release(ALICE, "z")
    assert await counting.record(key) == {}

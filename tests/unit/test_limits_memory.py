"""The limiter in memory stays small, whoever asks."""

import pytest
from support.counting import START_AT, asking, at_once, prepaid, quota, rate

from tallygate.core.clock import ManualClock
from tallygate.core.periods import PeriodUnit
from tallygate.limits.keys import record_key
from tallygate.limits.limit import CountedPer
from tallygate.limits.limiter import Subject
from tallygate.limits.memory import MemoryLimiter


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that moves by hand."""
    return ManualClock(START_AT)


def subject(number: int) -> Subject:
    """Return one of many."""
    return Subject(f"cus_{number}", f"sub_{number}", f"fam_{number}")


async def test_the_longest_idle_subject_is_forgotten_first(clock: ManualClock) -> None:
    """Beyond its bound, memory keeps those who came last; the others begin afresh."""
    limiter = MemoryLimiter(clock, max_records=3)
    for number in (1, 2, 3, 1, 4):
        await limiter.acquire(asking(prepaid(9), subject=subject(number)))
    left = [(await limiter.peek(asking((prepaid(9), 0), subject=subject(n)))).states[0].remaining for n in (1, 2, 3, 4)]
    assert left == [7, 9, 8, 8]


async def test_ended_periods_and_drained_buckets_are_forgotten(clock: ManualClock) -> None:
    """A record goes when its last counter means nothing, and a day or two."""
    limiter = MemoryLimiter(clock)
    await limiter.acquire(asking(quota(9, PeriodUnit.MINUTE), rate(1, burst=1)))
    key = record_key(asking().subject, CountedPer.SUBSCRIPTION)
    clock.advance(86_400)
    assert limiter.record(key)
    clock.advance(2 * 86_400)
    assert not limiter.record(key)


async def test_request_ids_are_bounded(clock: ManualClock) -> None:
    """Ids are forgotten by age, and the oldest before its time when there are too many."""
    limiter = MemoryLimiter(clock, max_records=3)
    for number in range(5):
        await limiter.acquire(asking(request_id=str(number)))
    repeats = [(await limiter.peek(asking(request_id=str(number)))).is_repeat for number in range(5)]
    assert repeats[0] is False
    assert repeats[-1] is True
    assert sum(repeats) <= 3


async def test_holds_are_bounded(clock: ManualClock) -> None:
    """Beyond its bound memory forgets how to release the oldest; its slot is free when its time is over."""
    limiter = MemoryLimiter(clock, max_records=3)
    for number in range(5):
        await limiter.acquire(asking(at_once(9), request_id=str(number)))
    for number in range(5):
        await limiter.release(asking().subject, str(number))
    assert (await limiter.peek(asking((at_once(9), 0)))).states[0].remaining == 7
    clock.advance(60)
    assert (await limiter.peek(asking((at_once(9), 0)))).states[0].remaining == 9


async def test_first_uses_are_bounded(clock: ManualClock) -> None:
    """Beyond its bound memory forgets the oldest first use."""
    limiter = MemoryLimiter(clock, max_records=3)
    for number in range(4):
        await limiter.first_used_at(subject(number))
    known = [await limiter.first_used_at(subject(number), is_look=True) for number in range(4)]
    assert known == [None, START_AT, START_AT, START_AT]


async def test_usage_is_kept_for_so_many_minutes(clock: ManualClock) -> None:
    """Usage nobody fetches does not pile up: the oldest minute goes."""
    limiter = MemoryLimiter(clock, max_minutes=2)
    for _ in range(4):
        await limiter.acquire(asking())
        clock.advance(60)
    assert len(limiter.usage) == 2

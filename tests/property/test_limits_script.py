"""Laws of the script: whatever is asked in whatever order, it says and stores what the reference does."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from redis.asyncio import Redis
from support.any_limits import (
    CALENDARS,
    COSTS,
    HOLDS_S,
    KINDS,
    LARGEST,
    METERS,
    REQUEST_IDS,
    WINDOWS_US,
    acquisitions,
)
from support.counting import ALICE, START_AT, MemoryCounting, RedisCounting

from tallygate.limits.algorithms import microseconds, period_us
from tallygate.limits.amendment import Amendment, AmendOutcome
from tallygate.limits.leases import lease_terms, settlement
from tallygate.limits.limit import Limit, LimitKind
from tallygate.limits.limiter import Acquisition, Charge
from tallygate.limits.receipt import Receipt, amendment, expiry

QUOTA, CREDITS = LimitKind.QUOTA, LimitKind.CREDITS
MICROSECOND = timedelta(microseconds=1)
MOMENTS = st.timedeltas(timedelta(), timedelta(seconds=3))
DAYS = st.builds(timedelta, seconds=st.integers(0, 3 * 86_400) | st.integers(0, 40 * 86_400))
STEPS_BACK = st.timedeltas(timedelta(seconds=-5), timedelta()) | st.timedeltas(timedelta(days=-40), timedelta())


class ScriptMachine(RuleBasedStateMachine):
    """The script and the reference, asked the same at the same times."""

    redis_url = ""
    kind = ""
    limits: list[Limit]
    last_at = START_AT

    def __init__(self) -> None:
        """Empty Redis and start both."""
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.memory = MemoryCounting()
        self.runner.run(self._start())

    async def _start(self) -> None:
        client = Redis.from_url(self.redis_url)
        await client.flushall()
        self.redis = RedisCounting(client)
        await self.redis.start()

    def teardown(self) -> None:
        """Close what was opened."""
        self.runner.run(self.redis.close())
        self.runner.close()

    @initialize(data=st.data(), seconds=st.integers(0, 400 * 86_400))
    def begin(self, data: st.DataObject, seconds: int) -> None:
        """Begin anywhere in a year or so, with up to three limits of a kind."""
        self.limits = data.draw(st.lists(KINDS[self.kind], min_size=1, max_size=3))
        self._move(timedelta(seconds=seconds))

    @rule(data=st.data(), amount=st.none() | st.integers(1, 6))
    def change(self, data: st.DataObject, amount: int | None) -> None:
        """A limit is raised or lowered, or a plan gains one, and loses one if it has three."""
        first, *others = self.limits
        if amount is not None:
            self.limits = [*others, replace(first, amount=amount)]
        else:
            self.limits = [data.draw(KINDS[self.kind]), *self.limits[:2]]

    @rule(data=st.data())
    def acquire(self, data: st.DataObject) -> None:
        """Both give the same verdicts and store the same; a refusal or repetition stores nothing."""
        for acquisition in data.draw(st.lists(acquisitions(self.limits), min_size=1, max_size=4)):
            self.runner.run(self._acquire(acquisition, data.draw(st.integers(1, 4))))

    @rule(data=st.data())
    def peek(self, data: st.DataObject) -> None:
        """A peek gives the verdict of the acquisition after it, and changes no byte."""
        self.runner.run(self._peek(data.draw(acquisitions(self.limits))))

    @rule(request_id=REQUEST_IDS)
    def release(self, request_id: str) -> None:
        """A request is over: both forget the same holds."""
        self.runner.run(self._release(request_id))

    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        """What has happened is reported, twice: both take it from every limit, once."""
        asked = data.draw(acquisitions(self.limits))
        minute = data.draw(st.none() | st.integers(28_000_000, 28_000_001))
        if asked.idempotency_key is not None:
            self.runner.run(self._report(asked._replace(degraded_minute=minute)))

    @rule(data=st.data(), request_id=REQUEST_IDS)
    def settle(self, data: st.DataObject, request_id: str) -> None:
        """A slab is settled that was taken under some request's id, or was not: both write the same, once."""
        asked = data.draw(acquisitions([limit for limit in self.limits if limit.kind in (QUOTA, CREDITS)]))
        now_us = microseconds(self.redis.clock.now())
        small = asked._replace(charges=tuple(Charge(charge.limit, min(charge.cost, 9)) for charge in asked.charges))
        ends_us = tuple(data.draw(self._ends_us(charge.limit, now_us)) for charge in small.charges)
        spent, unspent = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))
        minute = now_us // 60_000_000 - data.draw(st.integers(0, 1))
        terms = lease_terms(small, request_id, ends_us=ends_us, minute=minute)
        is_late = data.draw(st.booleans())
        self.runner.run(self._amend(settlement(terms, spent=spent, unspent=unspent, is_late=is_late)))

    def _ends_us(self, limit: Limit, now_us: int) -> st.SearchStrategy[int]:
        if limit.calendar is None:
            return st.just(0)
        return st.sampled_from([0, 0, -1, 1]).map((period_us(limit.calendar, now_us)[1]).__add__)

    @rule(data=st.data(), request_id=REQUEST_IDS, is_expiry=st.sampled_from([False, False, True]))
    def amend(self, data: st.DataObject, request_id: str, is_expiry: bool) -> None:  # noqa: FBT001 - as below
        """What a request was charged becomes any other number, or its receipt is over: both write the same, once."""
        receipt = self.runner.run(self._receipt(request_id))
        if receipt is None:
            return
        meters = data.draw(st.lists(st.sampled_from(METERS), unique=True))
        actual = {meter: data.draw(COSTS) for meter in meters if meter in receipt.charged}
        changed = expiry(receipt) if is_expiry else amendment(receipt, actual, "settlement")
        self.runner.run(self._amend(changed))

    @rule(is_look=st.booleans())
    def first_use(self, is_look: bool) -> None:  # noqa: FBT001 - hypothesis names it
        """Both remember the same first use."""
        self.runner.run(self._first_use(is_look))

    @rule(by=MOMENTS | DAYS | STEPS_BACK)
    def pass_time(self, by: timedelta) -> None:
        """A little time passes, or much, or the clock is set back."""
        self._move(by)

    @rule(data=st.data(), past=st.integers(-1, 1).map(MICROSECOND.__mul__))
    def come_to_an_end(self, data: st.DataObject, past: timedelta) -> None:
        """A period ends now, or what began at the last acquisition, or nearly."""
        now = self.redis.clock.now()
        hold_s = data.draw(st.none() | st.sampled_from(HOLDS_S))
        ends_at = data.draw(CALENDARS).period_at(now).end_at
        self._move((ends_at if hold_s is None else self.last_at + timedelta(seconds=hold_s)) - now + past)

    def _move(self, by: timedelta) -> None:
        at = self.redis.clock.now() + by
        self.runner.run(self.memory.step_to(at))
        self.runner.run(self.redis.step_to(at))

    async def _acquire(self, acquisition: Acquisition, times: int) -> None:
        self.last_at = self.redis.clock.now()
        for _ in range(times):
            expected = await self.memory.limiter.acquire(acquisition)
            is_written = expected.is_admitted and not expected.is_repeat
            before = {} if is_written else await self.redis.everything()
            assert await self.redis.limiter.acquire(acquisition) == expected
            assert is_written or await self.redis.everything() == before
        await self._compare()

    async def _peek(self, acquisition: Acquisition) -> None:
        before = await self.redis.everything()
        foretold = await self.redis.limiter.peek(acquisition)
        assert foretold == await self.memory.limiter.peek(acquisition)
        assert await self.redis.everything() == before
        assert await self.redis.limiter.acquire(acquisition) == foretold
        assert await self.memory.limiter.acquire(acquisition) == foretold
        await self._compare()

    async def _release(self, request_id: str) -> None:
        await self.memory.limiter.release(ALICE, request_id)
        await self.redis.limiter.release(ALICE, request_id)
        await self._compare()

    async def _report(self, acquisition: Acquisition) -> None:
        for _ in range(2):
            expected = await self.memory.limiter.report(acquisition)
            assert expected.is_admitted
            assert await self.redis.limiter.report(acquisition) == expected
        await self._compare()

    async def _receipt(self, request_id: str) -> Receipt | None:
        found = await self.redis.limiter.receipt(ALICE.customer, request_id)
        assert found == await self.memory.limiter.receipt(ALICE.customer, request_id)
        return found

    async def _amend(self, changed: Amendment) -> None:
        first = await self.memory.limiter.amend(changed)
        assert await self.redis.limiter.amend(changed) is first
        is_over = first is AmendOutcome.DONE or (first is AmendOutcome.UNKNOWN and changed.is_late)
        again = AmendOutcome.REPEATED if is_over else first
        before = await self.redis.everything()
        assert await self.redis.limiter.amend(changed) is again
        assert await self.redis.everything() == before
        await self._compare()

    async def _first_use(self, is_look: bool) -> None:  # noqa: FBT001 - as above
        expected = await self.memory.limiter.first_used_at(ALICE, is_look=is_look)
        assert await self.redis.limiter.first_used_at(ALICE, is_look=is_look) == expected

    async def _compare(self) -> None:
        records = await self.redis.records()
        assert records == self.memory.records()
        for key, record in records.items():
            assert await self.redis.client.pexpiretime(key) == (int(record["x"]) or -1)
        assert await self.redis.held() == self.memory.held()
        assert await self.redis.by_minute_counted() == await self.memory.by_minute_counted()
        assert await self.redis.receipts() == self.memory.receipts()
        assert await self.redis.due() == await self.memory.due()


@given(
    window_us=st.integers(1, 100) | WINDOWS_US,
    less=st.integers(0, 3),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=8),
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_unit_is_lost_beside_the_largest_number(
    redis_url: str, window_us: int, less: int, steps: list[tuple[int, int]]
) -> None:
    """The biggest bucket that may be configured is counted to the microsecond, though Lua has only doubles."""
    limit = Limit("a", LimitKind.RATE, 1, window_us=window_us, burst=LARGEST // window_us - less)

    async def compare() -> None:
        memory, redis = MemoryCounting(), RedisCounting(Redis.from_url(redis_url))
        await redis.client.flushall()
        await redis.start()
        for cost, later_us in steps:
            asked = Acquisition(ALICE, (Charge(limit, cost),))
            assert await redis.limiter.acquire(asked) == await memory.limiter.acquire(asked)
            at = memory.clock.now() + timedelta(microseconds=later_us)
            await memory.step_to(at)
            await redis.step_to(at)
        await redis.close()

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(compare())


@pytest.mark.parametrize("kind", KINDS)
def test_the_script_is_the_reference(redis_url: str, kind: str) -> None:
    """Lua counts as the Python reference does: same verdicts, same bytes, over any history of limits of a kind."""
    machine = type("Machine", (ScriptMachine,), {"redis_url": redis_url, "kind": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )

"""Laws of leases: many workers over one Redis, whatever happens to them, never admit more than was promised.

The model is the list of what was admitted, and when by Redis's time. It knows nothing of slabs.
"""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from redis.asyncio import Redis
from support.counting import (
    ALICE,
    SECOND_US,
    START_AT,
    RedisCounting,
    asking,
    by_minute,
    prepaid,
    quota,
    rate,
    scripted_clocks,
)
from support.leasing import Fault, Worker
from support.limiters import limiter_to

from tallygate.core.clock import ManualClock
from tallygate.core.periods import PeriodUnit
from tallygate.limits.algorithms import microseconds, period_us
from tallygate.limits.journal_files import FileJournal
from tallygate.limits.keys import places
from tallygate.limits.leased import LeaseResult
from tallygate.limits.leases import leased_burst
from tallygate.limits.limit import Limit, LimitKind
from tallygate.limits.limiter import Acquisition, Subject, Verdict

WORKERS = 3
RATE, BURST = 500, 400
TIMES = st.integers(1, 100) | st.integers(8, 30)
KINDS = st.integers(0, 1)
CHANGES = st.sampled_from([0.5, 0.9, 1, 1.1, 2])
PACES = st.sampled_from([0.985, 1.0, 1.01])
MOMENTS_S = st.sampled_from([0.001, 0.01, 0.05, 0.1, 0.17, 0.19, 0.5, 0.99, 2, 11])
MINUTE_US = 60 * SECOND_US


class LeasesMachine(RuleBasedStateMachine):
    """Workers that come and go, and the list of what they admitted."""

    redis_url = ""

    def __init__(self) -> None:
        """Empty Redis and connect the workers."""
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.runner.run(self._start())
        self.workers: list[Worker] = []
        self.times: list[tuple[int, int]] = []
        self.admitted: Counter[object] = Counter()
        self.usage: Counter[tuple[int, str]] = Counter()
        self.is_whole = True  # nothing crashed without a journal, and nothing was given up
        self.aged: set[int] = set()  # workers with calls under way since before the minute began
        self.directory = TemporaryDirectory()

    async def _start(self) -> None:
        client = Redis.from_url(self.redis_url)
        await client.flushall()
        self.counting = RedisCounting(client)
        await self.counting.start()
        still, scripts = ManualClock(START_AT), scripted_clocks()
        self.stores = [limiter_to(self.redis_url, clock=still, scripts=scripts) for _ in range(WORKERS)]

    def teardown(self) -> None:
        """Shut every worker down cleanly, and see that what was not spent is there again and all usage told."""
        self.runner.run(self._finish())
        self.runner.close()
        self.directory.cleanup()

    @initialize(data=st.data(), amount=st.sampled_from([900, 2_500, 6_000, 20_000]))
    def begin(self, data: st.DataObject, amount: int) -> None:
        """Begin with any of a rate, a quota and credits, all leased, and with what may happen to them."""
        counted = leased_burst(RATE, SECOND_US, BURST)
        assert counted is not None
        made = {
            "rate": rate(RATE, counted, is_leased=True),
            "minute": quota(amount, PeriodUnit.MINUTE, name="minute", is_leased=True),
            "month": quota(2 * amount, PeriodUnit.MONTH, name="month", is_leased=True),
            "prepaid": prepaid(3 * amount, is_leased=True),
        }
        names = data.draw(st.lists(st.sampled_from(sorted(made)), min_size=1, max_size=3, unique=True))
        self.limits = [made[name] for name in names]
        self.subject = ALICE
        chances = data.draw(st.tuples(*[st.booleans()] * 4))
        self.may_fail, self.may_crash, self.may_change, self.has_journal = chances
        self.workers = [self._hired(number, data.draw(PACES)) for number in range(WORKERS)]
        self._license()

    @rule(numbers=st.lists(st.integers(0, WORKERS - 1), min_size=1, max_size=8), times=TIMES, kind=KINDS)
    def ask(self, numbers: list[int], times: int, kind: int) -> None:
        """Requests come to workers by turns, many at a time, 20 ms apart."""
        for number in numbers:
            self.runner.run(self._ask(self.workers[number], self.kinds[kind], times))
            self.runner.run(self._move(0.02))

    @rule(kinds=st.permutations(range(2)))
    def exhaust_all(self, kinds: list[int]) -> None:
        """Each worker is asked, at one instant, until it refuses or gives way."""
        self._exhaust(kinds)

    def _exhaust(self, kinds: list[int]) -> None:
        for worker in self.workers:
            for kind in kinds:
                self.runner.run(self._ask(worker, self.kinds[kind], 1_000))

    @rule(number=st.integers(0, WORKERS - 1), times=st.integers(8, 30), kind=KINDS, by_s=MOMENTS_S)
    def hold_and_exhaust(self, number: int, times: int, kind: int, by_s: float) -> None:
        """A few requests come, then none while the bucket drains, then as many as anybody admits."""
        self.runner.run(self._ask(self.workers[number], self.kinds[kind], times))
        self.runner.run(self._move(by_s))
        self._exhaust([0, 1])

    @precondition(lambda self: self.may_fail)
    @rule(number=st.integers(0, WORKERS - 1), fault=st.sampled_from(Fault))
    def fail(self, number: int, fault: Fault) -> None:
        """A worker's way to Redis gets worse, or well again."""
        self.workers[number].store.fault = fault

    @precondition(lambda self: any(worker.store.late for worker in self.workers))
    @rule(number=st.integers(0, WORKERS - 1))
    def arrive(self, number: int) -> None:
        """What was given up long ago arrives. In another period than it was asked in nobody knows what to give back."""
        self.is_whole = self.is_whole and number not in self.aged
        self.aged.discard(number)
        self.runner.run(self.workers[number].store.arrive())

    @rule(by_s=MOMENTS_S)
    def pass_time(self, by_s: float) -> None:
        """Time passes; slabs end, and slow replies come."""
        self.runner.run(self._move(by_s))

    @rule(short_us=st.sampled_from([-30_000, -10_000, -1, 0, 1]))
    def come_to_the_end_of_a_minute(self, short_us: int) -> None:
        """Time passes until a minute is over, or nearly."""
        left_us = MINUTE_US - self._now_us() % MINUTE_US + short_us
        self.runner.run(self._move(left_us / SECOND_US))

    @precondition(lambda self: self.may_crash)
    @rule(number=st.integers(0, WORKERS - 1), pace=PACES)
    def crash(self, number: int, pace: float) -> None:
        """A worker is gone, and what it held with it unless it was written down; another takes its place."""
        self.is_whole = self.is_whole and self.has_journal
        self.runner.run(self.workers[number].crash())
        self.workers[number] = self._hired(number, pace)

    @rule(number=st.integers(0, WORKERS - 1), pace=PACES)
    def shut_down(self, number: int, pace: float) -> None:
        """A worker gives back what it holds, and another takes its place."""
        self.runner.run(self._shut_down(self.workers[number]))
        self.workers[number] = self._hired(number, pace)

    def _hired(self, number: int, pace: float) -> Worker:
        journal = FileJournal(Path(self.directory.name) / "slabs") if self.has_journal else None
        return Worker(self.stores[number], self._now_s, pace, journal=journal)

    @precondition(lambda self: self.may_change)
    @rule(factor=CHANGES, counters=st.sampled_from(["", "", "chg_1"]))
    def change_license(self, factor: float, counters: str) -> None:
        """Quotas and credits are raised or lowered, or begin afresh; the rate stays what it is."""
        self.subject = Subject(ALICE.customer, ALICE.subscription, ALICE.family, counters)
        self.limits = [
            limit if limit.kind is LimitKind.RATE else replace(limit, amount=int(limit.amount * factor))
            for limit in self.limits
        ]
        self._license()

    def _license(self) -> None:
        single = asking(*self.limits, subject=self.subject)
        triple = asking(*((limit, 3) for limit in self.limits), subject=self.subject, usage=(("requests", 3),))
        self.kinds = [single, triple._replace(route="GET /v1/reports")]

    async def _ask(self, worker: Worker, kind: Acquisition, times: int) -> None:
        for _ in range(times):
            verdict = await worker.limiter.acquire(kind)
            if worker.limiter._tasks:
                await worker.quiet()
            if not verdict.is_admitted:
                return
            self._count(kind, verdict)

    def _count(self, kind: Acquisition, verdict: Verdict) -> None:
        now_us = self._now_us()
        self.usage[now_us // MINUTE_US, f"{kind.route}"] += kind.usage[0][1]
        for charge, place, state in zip(kind.charges, places(kind), verdict.states, strict=True):
            limit = charge.limit
            assert 0 <= state.remaining <= (limit.burst if limit.kind is LimitKind.RATE else limit.amount)
            if limit.kind is LimitKind.RATE:
                if not self.subject.counters:
                    self._pour(charge.cost, now_us)
                continue
            account = self._account(limit, place[0], now_us)
            self.admitted[account] += charge.cost
            assert self.admitted[account] <= limit.amount

    def _pour(self, cost: int, now_us: int) -> None:
        """In every window that ends now, no more than the burst and what the rate lets through in it."""
        self.times.append((now_us, cost))
        units = 0
        for at_us, poured in reversed(self.times):
            units += poured
            assert units * SECOND_US <= BURST * SECOND_US + RATE * (now_us - at_us)
            if now_us - at_us > 10 * SECOND_US:
                break

    def _account(self, limit: Limit, place: object, now_us: int) -> object:
        return place, 0 if limit.calendar is None else period_us(limit.calendar, now_us)[1]

    async def _move(self, by_s: float) -> None:
        """Move time; what a worker holds it tends at least every 10 s."""
        while by_s > 0:
            step_s = min(by_s, 10.0)
            by_s -= step_s
            minute = self._now_us() // MINUTE_US
            await self.counting.advance(step_s)
            if self._now_us() // MINUTE_US > minute:
                self.aged |= {number for number, worker in enumerate(self.workers) if worker.store.late}
            for worker in self.workers:
                worker.store.let_through()
                await worker.quiet()
                await worker.limiter.tend()
                self._look(worker)

    def _look(self, worker: Worker) -> None:
        if worker.became[LeaseResult.LOST]:
            self.is_whole = False
            worker.became.clear()

    async def _shut_down(self, worker: Worker) -> None:
        worker.store.let_through()
        worker.store.fault = Fault.NONE
        await worker.limiter.close()
        assert worker.held == 0
        self._look(worker)
        await worker.store.arrive()

    async def _finish(self) -> None:
        try:
            if self.workers:
                await self._settle_all()
            for worker in self.workers:
                await self._shut_down(worker)
            if self.workers:
                await self._compare()
        finally:
            for store in self.stores:
                await store.close()
            await self.counting.close()

    async def _settle_all(self) -> None:
        """Have those who are left find what the others held."""
        for worker in self.workers:
            worker.store.fault = Fault.NONE
        for _ in range(3):
            await self._move(2)

    async def _compare(self) -> None:
        told: Counter[tuple[int, str]] = Counter()
        for minute, bucket in by_minute(await self.counting.by_minute_counted()).items():
            for field, units in bucket.items():
                told[minute, field.split("|", 7)[7]] += units
        if self.is_whole:
            assert told == self.usage
            for account, units in await self._used():
                assert units == self.admitted[account]
        assert all(units <= self.usage[when] for when, units in told.items())

    async def _used(self) -> list[tuple[object, int]]:
        """Return the units Redis has counted on each account that is not over."""
        found: list[tuple[object, int]] = []
        now_us = self._now_us()
        for limit, place in zip(self.limits, places(self.kinds[0]), strict=True):
            text = (await self.counting.record(place[0].key)).get(place[0].field)
            if text is not None and limit.kind is not LimitKind.RATE:
                used, _, end_us = text.partition(":")
                if not end_us or now_us < int(end_us):
                    found.append((self._account(limit, place[0], now_us), int(used)))
        return found

    def _now_us(self) -> int:
        return microseconds(self.counting.clock.now())

    def _now_s(self) -> float:
        return (self.counting.clock.now() - START_AT) / timedelta(seconds=1)


@pytest.mark.timeout(600)
def test_leases_never_admit_more_and_lose_nothing_but_in_a_crash(redis_url: str) -> None:
    """Whatever workers do and suffer: no quota, credits or window of a rate is exceeded, not by one unit.

    But for a crash without a journal, what was not spent is there again, and the ledger has each admitted unit in its
    minute.
    """
    machine = type("Machine", (LeasesMachine,), {"redis_url": redis_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )

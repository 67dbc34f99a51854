"""Laws of what is kept: whatever changes around a counter, each unit that was used stays used where it was.

The model is a ledger of single units, spent one by one by the rules of a plan's author. It knows nothing of
stored texts, plans that change, or time that passes between looks.
"""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from support.counting import ALICE, START_AT, MemoryCounting, asking, quota, rate

from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.limits.limit import CountedPer, CreditBucket, CreditRefill, Limit, LimitKind
from tallygate.limits.limiter import Subject

DAY = timedelta(days=1)
REFILL = CreditRefill(3, Calendar(PeriodUnit.DAY), START_AT - DAY)
GRANTS = tuple(
    CreditBucket(name, units, START_AT + begins * DAY, None if ends is None else START_AT + ends * DAY)
    for name, units, begins, ends in (("p", 4, -1, 3), ("q", 3, 1, 2), ("r", 5, 2, None), ("s", 2, -1, None))
)
COUNTERS = st.sampled_from(["", "chg_1", "chg_2"])
PERS = st.sampled_from(list(CountedPer))
CREDITS = st.builds(
    Limit,
    name=st.just("prepaid"),
    kind=st.just(LimitKind.CREDITS),
    amount=st.integers(0, 9),
    per=PERS,
    refill=st.sampled_from([None, REFILL]),
    buckets=st.lists(st.sampled_from(GRANTS), unique=True).map(tuple),
)
Account = tuple[str, ...]


class KeepingMachine(RuleBasedStateMachine):
    """Plans, grants and counters that come and go, beside the ledger."""

    def __init__(self) -> None:
        """Begin with nothing used."""
        super().__init__()
        self.counting = MemoryCounting()
        self.ledger: Counter[Account] = Counter()
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)

    def teardown(self) -> None:
        """End the loop."""
        self.runner.close()

    @property
    def now(self) -> datetime:
        """Return the present."""
        return self.counting.clock.now()

    @rule(hours=st.integers(1, 20))
    def pass_time(self, hours: int) -> None:
        """Refills come, grants begin and end."""
        self.runner.run(self.counting.advance(hours * 3600))

    @rule(amount=st.integers(0, 9), cost=st.integers(0, 4), counters=COUNTERS, per=PERS)
    def use_quota(self, amount: int, cost: int, counters: str, per: CountedPer) -> None:
        """A quota under any amount, in any set of counters: a year, so that none of them ends meanwhile."""
        subject = replace(ALICE, counters=counters)
        account = ("quota", per, "" if per is CountedPer.CUSTOMER else counters)
        fits = cost == 0 or self.ledger[account] + cost <= amount
        self.ledger[account] += cost if fits else 0
        self._expect(quota(amount, PeriodUnit.YEAR, per=per), cost, subject, fits, amount - self.ledger[account])

    @rule(limit=CREDITS, cost=st.integers(0, 6), counters=COUNTERS)
    def spend(self, limit: Limit, cost: int, counters: str) -> None:
        """Credits with any of the grants, refilled or not, on any balance."""
        accounts = self._accounts(limit, "" if limit.per is CountedPer.CUSTOMER else counters)
        units = [account for account, held in accounts for _ in range(max(0, held - self.ledger[account]))]
        fits = cost <= len(units)
        self.ledger.update(units[:cost] if fits else ())
        self._expect(limit, cost, replace(ALICE, counters=counters), fits, len(units) - (cost if fits else 0))

    @rule(cost=st.integers(1, 4), counters=COUNTERS)
    def refuse(self, cost: int, counters: str) -> None:
        """A request that a rate refuses takes nothing anywhere."""
        asked = asking(
            (quota(9, PeriodUnit.YEAR), cost), (rate(1, burst=0), 1), subject=replace(ALICE, counters=counters)
        )
        assert not self.runner.run(self.counting.limiter.acquire(asked)).is_admitted

    def _accounts(self, limit: Limit, counters: str) -> list[tuple[Account, int]]:
        """Return the accounts that hold units now, in the order they are spent, with what was put on each."""
        live = [
            bucket
            for bucket in limit.buckets
            if bucket.from_at <= self.now and (not bucket.until_at or self.now < bucket.until_at)
        ]
        live.sort(key=lambda bucket: (bucket.until_at is None, bucket.until_at or START_AT, bucket.from_at, bucket.id))
        midnights = (self.now.date() - (START_AT - DAY).date()).days if limit.refill else 0
        granted = [(("grant", limit.per, bucket.id), bucket.amount) for bucket in live]
        return [*granted, (("balance", limit.per, counters), limit.amount + 3 * midnights)]

    def _expect(self, limit: Limit, cost: int, subject: Subject, fits: bool, remaining: int) -> None:  # noqa: FBT001
        verdict = self.runner.run(self.counting.limiter.acquire(asking((limit, cost), subject=subject)))
        assert (verdict.is_admitted, verdict.states[0].remaining) == (fits, max(0, remaining))


def test_what_was_used_stays_used() -> None:
    """Amounts raised and lowered, counters begun afresh and back, grants and refills: no unit moves or is lost."""
    run_state_machine_as_test(
        KeepingMachine, settings=settings(max_examples=150, stateful_step_count=40, deadline=None)
    )

"""Laws of what a customer's subscriptions share: one counter, one period, whatever tells the subscriptions apart."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from support.counting import ALICE, MemoryCounting, asking
from support.lives import ZONES, amounts, instants

from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.limits.limit import Limit
from tallygate.limits.limiter import Verdict
from tallygate.plans.compile import compile_terms
from tallygate.plans.contract import Contract
from tallygate.plans.parse import parse

SUBSCRIPTIONS = tuple(replace(ALICE, subscription=f"sub_{number}", family=f"fam_{number}") for number in (1, 2))
UNITS = st.sampled_from(PeriodUnit)
PLACES = st.tuples(ZONES, instants)
WALKS = st.lists(st.tuples(st.integers(0, 1), st.timedeltas(timedelta(), timedelta(hours=30))), min_size=1, max_size=20)
BILLED = st.sampled_from(["day", "week", "month", "year"])
laws = settings(deadline=None, max_examples=100)


def compiled(limit: str, places: Sequence[tuple[str, datetime]], billed: Sequence[str] = ("month",)) -> list[Limit]:
    """Return one limit `per: customer`, as each subscription's license has it; `places` are their zones and anchors."""
    found: list[Limit] = []
    for number, (zone, anchor_at) in enumerate(places):
        price = f"{{amount: 1, currency: USD, every: {billed[number % len(billed)]}}}"
        text = f"plans: [{{key: p, price: {price}, limits: [{{name: a, per: customer, {limit}}}]}}]"
        contract = Contract(ALICE.customer, "p@1", anchor_at, zone, anchor_at)
        found += compile_terms(contract, {"p@1": parse(text, "f").plans[0]}).phases[-1].grant.limits
    return found


async def walk(limits: Sequence[Limit], steps: Sequence[tuple[int, timedelta]]) -> list[tuple[datetime, Verdict]]:
    """Return when each step asked for one unit through which subscription, and what came of it."""
    counting = MemoryCounting()
    found = []
    for who, lapse in steps:
        await counting.advance(lapse.total_seconds())
        verdict = await counting.limiter.acquire(asking(limits[who], subject=SUBSCRIPTIONS[who]))
        found.append((counting.clock.now(), verdict))
    return found


@given(st.lists(PLACES, min_size=2, max_size=2), st.lists(BILLED, min_size=2, max_size=2), UNITS, amounts)
@laws
def test_all_subscriptions_of_a_customer_have_the_same_shared_quota(
    places: list[tuple[str, datetime]], billed: list[str], unit: PeriodUnit, amount: int
) -> None:
    """Neither zone nor anchor nor billing cadence is in it, so no subscription can move what another one counts in."""
    one, other = compiled(f"quota: {amount}, period: {unit}", places, billed)
    assert one == other


@given(st.lists(PLACES, min_size=2, max_size=2), UNITS, st.integers(0, 8), WALKS)
@laws
def test_a_shared_quota_is_exact_and_its_period_stays(
    places: list[tuple[str, datetime]], unit: PeriodUnit, amount: int, steps: list[tuple[int, timedelta]]
) -> None:
    """Both together get the amount in each of UTC's periods, no more and no less, and are told when it ends."""
    calendar, used = Calendar(unit), dict[datetime, int]()
    for at, verdict in asyncio.run(walk(compiled(f"quota: {amount}, period: {unit}", places), steps)):
        end_at = calendar.period_at(at).end_at
        assert verdict.is_admitted == (used.get(end_at, 0) < amount)
        used[end_at] = used.get(end_at, 0) + verdict.is_admitted
        (state,) = verdict.states
        assert state.remaining == amount - used[end_at]
        if used[end_at]:
            assert state.reset_s == -((at - end_at) // timedelta(seconds=1))

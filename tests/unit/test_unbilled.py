"""No unit is lost: what was decided on a plan that was over is on the bill of that plan, and the rest is told."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from support.billing import Account, amounts, day, plans_of, traces_of, used, whys

from tallygate.billing.home import REACH
from tallygate.billing.period import WhichPeriod
from tallygate.billing.usage import Outcome

MINUTE = timedelta(minutes=1)
LEFT = day("2026-08-11T12:00:30")
PLANS = """
pro@1: {price: {amount: 31, currency: USD, prorate: true}, charges: {requests: {model: per_unit, unit: 1}}}
team@1: {price: {amount: 365, currency: EUR, every: year, prorate: true}, \
charges: {requests: {model: per_unit, unit: 2}}}
free@1: {scopes: [a]}
"""


def account(*changes: tuple[datetime, str], ends_at: datetime | None = None, plans: str = PLANS) -> Account:
    """Return an account on `pro@1` since the first of August."""
    return Account(plans_of(plans), day("2026-08-01"), day("2026-01-01"), changes, ends_at)


@pytest.mark.parametrize("to", ["free@1", "team@1"])
def test_units_decided_on_a_plan_that_was_left_are_on_its_last_bill(to: str) -> None:
    """Three minutes after a change from pro: pro's price, on pro's bill, and on no other."""
    left = account((LEFT, to))
    late = used("pro@1", allowed=1_000_000, at=day("2026-08-11T12:03"))
    made = left.bill(day("2026-08-05"), *late)
    assert amounts(made) == [("Pro, a month, 10 of 31 days", "10.00"), ("Pro, requests", "1000000.00")]
    assert (made.to_at, made.unbilled) == (LEFT, ())
    (trace,) = made.lines[1].usage
    assert (trace.from_at, trace.to_at) == (day("2026-08-01"), day("2026-08-12T12:00"))
    on_time = left.bill(day("2026-08-05"), *used("pro@1", allowed=1, at=day("2026-08-11T12:00")))
    assert on_time.lines[1].usage[0].to_at == day("2026-08-11T12:01")
    after = left.bill(day("2026-08-20"), *late)
    assert [each for each in traces_of(after) if each.plan == "pro@1"] == []


def test_units_of_the_next_plan_that_came_early_are_on_its_first_bill() -> None:
    """A clock that is ahead puts them before the change; they are paid as they were decided."""
    early = used("team@1", allowed=3, at=day("2026-08-11T11:50"))
    changed = account((LEFT, "team@1"))
    assert amounts(changed.bill(day("2026-08-20"), *early))[1] == ("Team, requests", "6.00")
    assert traces_of(changed.bill(day("2026-08-05"), *early)) == set()


def test_a_change_at_the_end_of_a_month_leaves_its_late_units_in_that_month() -> None:
    """With the same currency too: they go on in the tiers of their own version."""
    changed = account((day("2026-09-01"), "pro@2"), plans=PLANS + PLANS.splitlines()[1].replace("pro@1", "pro@2"))
    rows = (*used("pro@1", allowed=2, at=day("2026-09-01T00:01")), *used("pro@1", allowed=3, at=day("2026-08-30")))
    august, september = (changed.bill(day(at), *rows) for at in ("2026-08-20", "2026-09-20"))
    assert amounts(august)[1] == ("Pro, requests", "5.00")
    assert amounts(september) == [("Pro, a month", "31.00")]


def test_units_after_the_end_are_on_the_last_bill() -> None:
    """Who cancels at the end of the month, and is served a minute longer, pays that; the next month has no bill."""
    ended = account(ends_at=day("2026-09-01"))
    late = used("pro@1", allowed=7, at=day("2026-09-01T00:01"))
    assert amounts(ended.bill(day("2026-08-20"), *late))[1] == ("Pro, requests", "7.00")
    assert traces_of(ended.bill(day("2026-09-20"), *late)) == set()


def test_units_after_a_trial_that_was_left_are_of_the_trial() -> None:
    """They were decided in the trial, in which usage is free, though it was over."""
    trial = PLANS.replace("USD, prorate: true}", "USD}, trial: {days: 20}")
    left = account((LEFT, "free@1"), plans=trial)
    made = left.bill(day("2026-08-05"), *used("pro@1", allowed=5, at=day("2026-08-11T12:03")))
    assert (made.lines, whys(made)) == ((), [("trial", "pro@1", "requests", 5)])


def test_units_on_another_plan_in_a_trial_are_of_the_trial() -> None:
    """A change that was taken back and not heard of does not make a customer pay who is trying."""
    plans = PLANS.replace("USD, prorate: true}", "USD}, trial: {days: 20}")
    other = PLANS.splitlines()[1].replace("pro@1", "pro@7")
    tried = account(plans=plans + other)
    rows = [used("pro@7", allowed=number, at=day(at)) for number, at in ((5, "2026-08-11"), (3, "2026-08-25"))]
    made = tried.bill(day("2026-08-05"), *rows[0], *rows[1])
    assert whys(made) == [("trial", "pro@7", "requests", 5)]
    assert amounts(made)[-1] == ("Pro, requests", "3.00")


@pytest.mark.parametrize(("lapse", "is_late"), [(REACH - MINUTE, True), (REACH, False)])
def test_a_plan_reaches_so_far_and_no_further(lapse: timedelta, *, is_late: bool) -> None:
    """After a day units are on the bill of their own time, and told where that has another currency."""
    left = account((LEFT, "free@1"))
    counted = used("pro@1", allowed=5, at=LEFT.replace(second=0) + lapse)
    assert len(left.bill(day("2026-08-05"), *counted).lines) == 1 + is_late
    told = whys(left.bill(day("2026-08-20"), *counted))
    assert told == ([] if is_late else [("other_currency", "pro@1", "requests", 5)])


def test_units_of_a_plan_that_was_never_in_force_are_told() -> None:
    """Priced where the currency is the period's, as a change that was taken back may leave them; told elsewhere."""
    never = account()
    (euros,) = never.bill(day("2026-08-20"), *used("team@1", allowed=5)).unbilled
    assert (euros.reason.value, euros.usage.quantity, euros.usage.rows) == ("other_currency", 5, 1)
    assert euros.usage.query == (
        "/v1/usage?subscription=sub_1&plan=team%401&meter=requests&outcome=allowed"
        "&from=2026-08-01T00%3A00%3A00Z&to=2026-09-01T00%3A00%3A00Z&by=day"
    )
    other = plans_of(PLANS.splitlines()[1].replace("pro@1", "pro@7"))
    dollars = replace(never, plans={**never.plans, **other})
    assert amounts(dollars.bill(day("2026-08-20"), *used("pro@7", allowed=5)))[1] == ("Pro, requests", "5.00")


CHARGES = (
    "pro@1: {price: {amount: 0, currency: USD}, limits: [{name: all, quota: 9, period: billing, on_exceed: overage}], \
overage: {requests: {model: per_unit, unit: 1}}, \
charges: {cents: {model: percentage, rate: 1.5%, fee: '0.10', events: payments}}}"
)


def test_units_that_cost_nothing_say_why() -> None:
    """Within the limits, of a meter without a charge, on a plan without a price, on no plan: each is told once."""
    rows = (
        *used("pro@1", allowed=9, overage=2),
        *used("pro@1", "bytes", 5),
        *used("pro@1", "cents", 100),
        *used("pro@1", "payments", 1),
        *used("free@1", allowed=4),
        *used("pro@99", allowed=3),
        *used("what the ledger takes", allowed=1),
    )
    made = account(plans=CHARGES + "\nfree@1: {scopes: [a]}").bill(day("2026-08-20"), *rows)
    assert sorted(whys(made)) == [
        ("no_charge", "pro@1", "bytes", 5),
        ("no_price", "free@1", "requests", 4),
        ("unknown_plan", "pro@99", "requests", 3),
        ("unknown_plan", "what the ledger takes", "requests", 1),
        ("within_limits", "pro@1", "requests", 9),
    ]
    assert sum(trace.quantity for trace in traces_of(made)) == sum(row.quantity for row in rows)
    assert {trace.outcome for line in made.lines for trace in line.usage if trace.meter == "requests"} == {
        Outcome.OVERAGE
    }


def test_a_free_plan_has_its_units_on_a_bill_of_nothing() -> None:
    """Of a subscription that never had a price every unit is on a bill that comes to 0."""
    made = account(plans="pro@1: {scopes: [a]}").bill(day("2026-08-20"), *used("pro@1", allowed=4, overage=1))
    assert (str(made.total), made.currency, made.lines) == ("0", None, ())
    assert whys(made) == [("no_price", "pro@1", "requests", 4), ("no_price", "pro@1", "requests", 1)]


def test_a_subscription_that_ended_before_it_began_has_its_units_told() -> None:
    """It was on no plan at any time; what the ledger has of it is still somewhere."""
    never = account(ends_at=day("2026-08-01"))
    made = never.bill(day("2026-08-20"), *used("pro@1", allowed=4))
    assert (made.from_at, made.to_at, made.lines) == (day("2026-08-01"), day("2026-09-01"), ())
    assert whys(made) == [("other_currency", "pro@1", "requests", 4)]
    assert never.bill(day("2026-08-20"), which=WhichPeriod.PREVIOUS).unbilled == ()

"""What a plan version grants under one contract."""

from datetime import UTC, datetime

import pytest

from tallygate.core.periods import Calendar, Period, PeriodUnit
from tallygate.licenses.license import Grant
from tallygate.limits.limit import CountedPer, FailPolicy, Limit, LimitKind, OnExceed
from tallygate.plans.contract import Contract
from tallygate.plans.document import Plan, PlanLimit, QuotaPeriod
from tallygate.plans.grant import compile_grant, reduced
from tallygate.plans.parse import parse

ANCHOR = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
CONTRACT = Contract("cus_1", "pro@1", ANCHOR, "Europe/Berlin", datetime(2026, 2, 1, tzinfo=UTC))


def plan_with(body: str) -> Plan:
    """Return a plan that has `body`."""
    return parse(f"plans: [{{key: pro, {body}}}]", "f").plans[0]


def only_limit(text: str, rest: str = "") -> Limit:
    """Return the compiled form of one limit."""
    (limit,) = compile_grant(plan_with(f"limits: [{{name: it, {text}}}]{rest}"), "pro@1", CONTRACT).limits
    return limit


def test_a_grant_is_what_the_plan_says() -> None:
    """Scopes, features and the way up arrive as they were published."""
    plan = plan_with("scopes: [a, b], features: {x: 1}, upgrade_url: https://example.com/")
    assert compile_grant(plan, "pro@3", CONTRACT) == Grant(
        plan="pro@3",
        plan_key="pro",
        scopes=frozenset({"a", "b"}),
        features={"x": 1},
        limits=(),
        upgrade_url="https://example.com/",
    )


def test_a_rate_needs_no_calendar() -> None:
    """Amount, window and burst arrive as they were written."""
    assert only_limit("rate: 50/s, burst: 100, per: token, mode: shadow, fail: open") == Limit(
        "it",
        LimitKind.RATE,
        50,
        per=CountedPer.TOKEN,
        window_us=1_000_000,
        burst=100,
        is_shadow=True,
        fail=FailPolicy.OPEN,
    )


def test_credits_need_no_calendar() -> None:
    """A balance has no period."""
    assert only_limit("credits: 7, meter: tokens") == Limit("it", LimitKind.CREDITS, 7, meter="tokens")


@pytest.mark.parametrize("unit", PeriodUnit)
def test_a_calendar_period_keeps_to_the_subscription_s_time_zone(unit: PeriodUnit) -> None:
    """A day is the customer's day, not UTC's, and it has nothing to do with the billing anchor."""
    assert only_limit(f"quota: 1, period: {unit.value}").calendar == Calendar(unit, None, "Europe/Berlin")


@pytest.mark.parametrize("unit", PeriodUnit)
def test_a_period_that_a_customer_s_subscriptions_share_is_utc_s(unit: PeriodUnit) -> None:
    """One quota of a customer has one period, in whatever zones the subscriptions are that use it up."""
    assert only_limit(f"quota: 1, period: {unit.value}, per: customer").calendar == Calendar(unit)


@pytest.mark.parametrize("unit", ["day", "week", "month", "year"])
def test_a_refill_that_a_customer_s_subscriptions_share_is_utc_s(unit: str) -> None:
    """What is added to one balance of a customer comes at one instant for all subscriptions."""
    refill = only_limit(f"credits: 1, per: customer, refill: {{amount: 5, every: {unit}}}").refill
    assert refill is not None
    assert refill.calendar == Calendar(PeriodUnit(unit))


def test_a_shared_billing_period_of_an_older_version_is_the_calendar_s() -> None:
    """A version published before such a quota was refused gives the customer one period, not one for each anchor."""
    shared = PlanLimit("it", LimitKind.QUOTA, 1, period=QuotaPeriod.BILLING, per=CountedPer.CUSTOMER)
    (limit,) = compile_grant(Plan("pro", "Pro", limits=(shared,)), "pro@1", CONTRACT).limits
    assert limit.calendar == Calendar(PeriodUnit.MONTH)


@pytest.mark.parametrize("every", ["day", "week", "month", "year"])
def test_the_billing_period_is_the_price_s_from_the_anchor(every: str) -> None:
    """A quota per billing period begins anew when the subscription is billed."""
    limit = only_limit("quota: 1, period: billing", f", price: {{amount: 1, currency: USD, every: {every}}}")
    assert limit.calendar == Calendar(PeriodUnit(every), ANCHOR, "Europe/Berlin")


def test_without_a_price_the_billing_period_is_a_month() -> None:
    """A free plan still has billing periods; the anchor's day 31 is clamped in a shorter month."""
    calendar = only_limit("quota: 1, period: billing").calendar
    assert calendar == Calendar(PeriodUnit.MONTH, ANCHOR, "Europe/Berlin")
    february = Period(datetime(2026, 2, 28, 9, 30, tzinfo=UTC), datetime(2026, 3, 31, 8, 30, tzinfo=UTC))
    assert calendar.period_at(datetime(2026, 3, 1, tzinfo=UTC)) == february


def test_a_leased_rate_keeps_back_what_it_lets_through_while_it_is_leased() -> None:
    """What is counted with is what is left of the burst; one too small for that is exact, with all of it."""
    leased, small = only_limit("rate: 50/s, burst: 100, exactness: leased"), only_limit("rate: 5/s, exactness: leased")
    assert (leased.is_leased, leased.burst) == (True, 90)
    assert (small.is_leased, small.burst) == (False, 5)
    assert only_limit("quota: 5, period: day, exactness: leased").is_leased
    assert not only_limit("quota: 5, period: day").is_leased


def test_a_rate_reduced_in_grace_is_not_leased() -> None:
    """What is left of its burst was counted for the whole rate; a quota stays leased."""
    words = ("rate: 50/s, burst: 100", "quota: 5, period: day")
    limits = tuple(only_limit(f"{text}, exactness: leased") for text in words)
    less = reduced(Grant("pro@1", "pro", frozenset(), {}, limits), lambda units: units // 2)
    assert [(limit.is_leased, limit.amount) for limit in less.limits] == [(False, 25), (True, 2)]


def test_an_overage_has_the_end_that_is_written() -> None:
    """`allow_until` becomes units; without it an overage has no end, and without overage there is no ceiling."""
    text = "quota: 1_000, period: day, on_exceed: overage"
    for end, ceiling in ((", allow_until: 1.5x", 1500), (", allow_until: 1_200 units", 1200), ("", None)):
        limit = only_limit(text + end)
        assert (limit.on_exceed, limit.ceiling, limit.admits_up_to) == (OnExceed.OVERAGE, ceiling, ceiling)
    assert only_limit("quota: 1_000, period: day").admits_up_to == 1000


def test_a_license_does_not_share_the_plan_s_features() -> None:
    """Changing one subscription's terms could otherwise change a plan."""
    plan = plan_with("features: {x: 1}")
    assert compile_grant(plan, "pro@1", CONTRACT).features is not plan.features

"""Decisions counted by customer: the busiest by their ids, everything else as `other`, and all of it adds up."""

from dataclasses import replace

import pytest
from support.decisions import BURST, DAILY, ROUTE, allow, deny, license_of, state

from tallygate.decision.decision import Decision, Reason
from tallygate.envoy.count_customers import CustomerCounting
from tallygate.insights.customers import BusyCustomers
from tallygate.limits.limit import CountedPer, Limit, LimitKind
from tallygate.limits.limiter import LimitOutcome
from tallygate.metrics import CustomerMetrics, Metrics

CREDITS = Limit("credits", LimitKind.CREDITS, 100)


class Desk:
    """Counts by customer, and says what a scrape would show; customer `cus_1` is named."""

    def __init__(self, *named: str) -> None:
        """Begin with nothing counted."""
        self.told: list[tuple[Decision, float]] = []
        self.registry = Metrics("1").registry
        self.customers = BusyCustomers(10)
        self.customers.named = frozenset(named or ("cus_1",))
        self.now_s = 100.0
        self.metrics = CustomerMetrics(self.registry, lambda: self.now_s)
        self.count = CustomerCounting(lambda *told: self.told.append(told), self.metrics, self.customers)

    def shows(self, name: str, **labels: str) -> float | None:
        """Return the number of a series under plan `pro`, None where there is no such series."""
        return self.registry.get_sample_value(f"tallygate_customer_{name}", {"plan": "pro", **labels})


def test_an_allowed_request_is_counted_under_its_customer() -> None:
    """One check and its units, and whatever else counts decisions is told first."""
    desk, decision = Desk(), allow()._replace(route=replace(ROUTE, costs=(("requests", 2), ("bytes", 500))))
    desk.count(decision, 0.25)
    assert desk.told == [(decision, 0.25)]
    assert desk.shows("checks_total", customer="cus_1", decision="allow", reason="ok") == 1
    assert desk.shows("units_total", customer="cus_1", meter="requests", outcome="allowed") == 2
    assert desk.shows("units_total", customer="cus_1", meter="bytes", outcome="allowed") == 500


def test_others_are_counted_together() -> None:
    """Who is not named is `other`, with plan and reason, and without limits: they are not one customer's."""
    desk = Desk("cus_9")
    desk.count(allow(states=(state(DAILY, remaining=10, reset_s=60),)), 0.1)
    desk.count(deny(Reason.RATE_LIMITED, license_=license_of(), route=ROUTE), 0.1)
    assert desk.shows("checks_total", customer="other", decision="allow", reason="ok") == 1
    assert desk.shows("checks_total", customer="other", decision="deny", reason="rate_limited") == 1
    assert desk.shows("units_total", customer="other", meter="requests", outcome="allowed") == 1
    assert desk.shows("limit_used_ratio", customer="other", limit="daily") is None


def test_a_refusal_uses_nothing_and_a_stranger_is_no_customer() -> None:
    """A refused request has no units; a token that is not known belongs to nobody, and is told to the others only."""
    desk = Desk()
    desk.count(deny(Reason.TOKEN_UNKNOWN), 0.1)
    desk.count(deny(Reason.QUOTA_EXCEEDED, license_=license_of(), route=ROUTE), 0.1)
    assert len(desk.told) == 2
    assert desk.shows("checks_total", customer="cus_1", decision="deny", reason="quota_exceeded") == 1
    assert desk.shows("checks_total", customer="other", decision="deny", reason="token_unknown") is None
    assert desk.shows("units_total", customer="cus_1", meter="requests", outcome="allowed") is None


def test_envoys_retry_is_no_second_use() -> None:
    """The same request asked about twice is two checks, and its units once."""
    desk = Desk()
    desk.count(allow(), 0.1)
    desk.count(allow()._replace(is_repeat=True), 0.1)
    assert desk.shows("checks_total", customer="cus_1", decision="allow", reason="ok") == 2
    assert desk.shows("units_total", customer="cus_1", meter="requests", outcome="allowed") == 1


def test_a_request_that_crosses_an_amount_is_split_as_the_ledger_splits_it() -> None:
    """Units beyond the amount are overage, here as in `tallygate_units_total`."""
    desk = Desk()
    states = (state(DAILY, LimitOutcome.OVERAGE, over=3),)
    route = replace(ROUTE, costs=(("requests", 5),))
    desk.count(allow(states=states)._replace(reason=Reason.OVERAGE, route=route), 0.1)
    assert desk.shows("units_total", customer="cus_1", meter="requests", outcome="allowed") == 2
    assert desk.shows("units_total", customer="cus_1", meter="requests", outcome="overage") == 3
    assert desk.shows("limit_used_ratio", customer="cus_1", limit="daily") == 1


@pytest.mark.parametrize(("limit", "remaining", "ratio"), [(DAILY, 250, 0.75), (CREDITS, 100, 0), (CREDITS, 150, 0)])
def test_how_far_a_limit_is_used_is_shown(limit: Limit, remaining: int, ratio: float) -> None:
    """Of quotas and credits the share that is gone; credits granted beside the plan's are none used."""
    desk = Desk()
    desk.count(allow(states=(state(limit, remaining=remaining, reset_s=60),)), 0.1)
    assert desk.shows("limit_used_ratio", customer="cus_1", limit=limit.name) == ratio


def test_a_request_of_other_limits_hides_none() -> None:
    """Between two looks a token may use several meters, each with limits of its own."""
    desk, pages = Desk(), replace(DAILY, name="pages", meter="pages")
    desk.count(allow(states=(state(pages, remaining=400, reset_s=60),)), 0.1)
    desk.count(allow(states=(state(DAILY, remaining=250, reset_s=60),)), 0.1)
    assert desk.shows("limit_used_ratio", customer="cus_1", limit="pages") == 0.6
    assert desk.shows("limit_used_ratio", customer="cus_1", limit="daily") == 0.75


def test_a_refusal_tells_how_far_its_limits_are_used() -> None:
    """Who meets the end of a quota shows as being there."""
    desk = Desk()
    states = (state(DAILY, LimitOutcome.EXCEEDED, remaining=0, reset_s=60),)
    desk.count(deny(Reason.QUOTA_EXCEEDED, license_=license_of(), route=ROUTE, states=states), 0.1)
    assert desk.shows("limit_used_ratio", customer="cus_1", limit="daily") == 1


def test_what_says_nothing_of_tomorrow_is_not_shown() -> None:
    """No rate, no limit in shadow, no amount of nothing, and no guess made while the counters are away."""
    desk = Desk()
    quiet = (replace(DAILY, name="tried", is_shadow=True), replace(DAILY, name="none", amount=0), BURST)
    desk.count(allow(states=tuple(state(limit, reset_s=60) for limit in quiet)), 0.1)
    desk.count(allow(states=(state(DAILY, reset_s=60),))._replace(degraded="local"), 0.1)
    assert [desk.shows("limit_used_ratio", customer="cus_1", limit=each.name) for each in (*quiet, DAILY)] == [None] * 4


@pytest.mark.parametrize(
    ("per", "counter"),
    [(CountedPer.CUSTOMER, "cus_1"), (CountedPer.SUBSCRIPTION, "sub_1"), (CountedPer.TOKEN, "fam_1")],
)
def test_each_counter_of_a_limit_is_known_apart(per: CountedPer, counter: str) -> None:
    """A limit per token has a counter for each, and a rotated token the one of its family."""
    desk = Desk()
    desk.count(allow(states=(state(replace(DAILY, per=per), remaining=500, reset_s=60),)), 0.1)
    desk.shows("limit_used_ratio")
    assert [list(counters) for counters in desk.metrics.limit_used._known.values()] == [[counter]]


def test_the_newest_of_what_two_tokens_saw_is_shown() -> None:
    """Two tokens of one subscription share its quota; where it was raised, what one saw before is no more."""
    desk, other = Desk(), replace(license_of(), family="fam_2")
    for license_, amount in ((None, 1000), (other, 1000), (None, 2000)):
        limit = replace(DAILY, amount=amount)
        desk.now_s += 1
        desk.count(allow(license_=license_, states=(state(limit, remaining=500, reset_s=60),)), 0.1)
    assert desk.shows("limit_used_ratio", customer="cus_1", limit="daily") == 0.75
    desk.now_s += 60
    assert desk.shows("limit_used_ratio", customer="cus_1", limit="daily") is None


def test_limits_of_who_is_named_no_more_do_not_come_back() -> None:
    """What was noted of a customer before the name was lost, and not looked at yet, is not shown afterwards."""
    desk = Desk()
    desk.count(allow(states=(state(DAILY, remaining=250, reset_s=60),)), 0.1)
    desk.customers.named = frozenset({"cus_9"})
    desk.metrics.keep(desk.customers.named)
    assert desk.shows("limit_used_ratio", customer="cus_1", limit="daily") is None


def test_what_nobody_looks_at_is_bounded() -> None:
    """Between two looks no more tokens are kept than there is room for: they are worked out then and there."""
    desk = Desk()
    for number in range(10_001):
        desk.count(allow(license_=replace(license_of(), family=f"fam_{number}")), 0.1)
    assert desk.count._seen == {}

"""Every decision moves the documented series, and allowed ones tell who used what."""

from dataclasses import replace

import pytest
from support.decisions import BURST, DAILY, ROUTE, allow, deny, license_of, state

from tallygate.decision.decision import Opinion, Reason
from tallygate.envoy.count import Counting
from tallygate.insights.shadow import ShadowTally
from tallygate.licenses.last_used import LastUsed
from tallygate.limits.limiter import LimitOutcome
from tallygate.metrics import Metrics


class Desk:
    """Counts, and says what a scrape would show."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self.metrics, self.shadows, self.last_used = Metrics("1"), ShadowTally(), LastUsed()
        self.count = Counting(self.metrics, self.shadows, self.last_used)

    def shows(self, name: str, **labels: str) -> float | None:
        """Return a series' number, None where there is no such series."""
        return self.metrics.registry.get_sample_value("tallygate_" + name, labels)


COSTLY = replace(ROUTE, costs=(("requests", 2), ("bytes", 500)))
BYTES = replace(DAILY, name="bytes", meter="bytes")


def test_an_allowed_request_is_counted() -> None:
    """One check under its plan, its duration, and the units of every meter."""
    desk = Desk()
    desk.count(allow()._replace(route=COSTLY), 0.0003)
    desk.count(allow()._replace(route=COSTLY), 0.3)
    assert desk.shows("checks_total", decision="allow", reason="ok", plan="pro") == 2
    assert desk.shows("units_total", plan="pro", meter="requests", outcome="allowed") == 4
    assert desk.shows("units_total", plan="pro", meter="bytes", outcome="allowed") == 1000
    assert desk.shows("check_duration_seconds_count") == 2
    assert desk.shows("check_duration_seconds_sum") == pytest.approx(0.3003)
    assert desk.shows("check_duration_seconds_bucket", le="0.0005") == 1
    assert desk.shows("overage_units_total", plan="pro", meter="requests") is None


def test_a_refused_request_consumed_nothing() -> None:
    """It is one check and no units; without a license it has no plan."""
    desk = Desk()
    desk.count(deny(Reason.TOKEN_UNKNOWN), 0.001)
    desk.count(deny(Reason.RATE_LIMITED, license_=license_of(), route=ROUTE), 0.001)
    assert desk.shows("checks_total", decision="deny", reason="token_unknown", plan="") == 1
    assert desk.shows("checks_total", decision="deny", reason="rate_limited", plan="pro") == 1
    assert desk.shows("units_total", plan="pro", meter="requests", outcome="allowed") is None


def test_a_plans_first_failure_through_us_is_seen_to_grow() -> None:
    """Prometheus takes the first number of a series for no growth: the error budget would miss what it began with."""
    desk = Desk()
    desk.count(allow(), 0.001)
    assert desk.shows("checks_total", decision="deny", reason="dependency_down", plan="pro") == 0
    assert desk.shows("checks_total", decision="deny", reason="overloaded", plan="pro") == 0


def test_a_repeated_question_is_no_second_use() -> None:
    """Envoy's retry of one check is counted as a check, not as units."""
    desk = Desk()
    desk.count(allow()._replace(is_repeat=True), 0.001)
    assert desk.shows("checks_total", decision="allow", reason="ok", plan="pro") == 1
    assert desk.shows("units_total", plan="pro", meter="requests", outcome="allowed") is None


def test_overage_is_counted_by_the_meter_that_is_over() -> None:
    """Units of a meter beyond a limit's amount are overage; those of another meter are not."""
    desk = Desk()
    states = (state(BURST, remaining=9), state(DAILY, LimitOutcome.OVERAGE, over=2), state(BYTES, remaining=9))
    desk.count(allow(states=states)._replace(reason=Reason.OVERAGE, route=COSTLY), 0.001)
    assert desk.shows("units_total", plan="pro", meter="requests", outcome="overage") == 2
    assert desk.shows("units_total", plan="pro", meter="requests", outcome="allowed") is None
    assert desk.shows("units_total", plan="pro", meter="bytes", outcome="allowed") == 500
    assert desk.shows("overage_units_total", plan="pro", meter="requests") == 2
    assert desk.shows("overage_units_total", plan="pro", meter="bytes") is None


def test_the_request_that_crosses_an_amount_is_split() -> None:
    """Of its units those beyond the amount are overage: of several limits those of the one that is furthest over."""
    desk = Desk()
    weekly = replace(BYTES, name="weekly")
    states = (state(BYTES, LimitOutcome.OVERAGE, over=120), state(weekly, LimitOutcome.OVERAGE, over=180))
    desk.count(allow(states=states)._replace(reason=Reason.OVERAGE, route=COSTLY), 0.001)
    assert desk.shows("units_total", plan="pro", meter="bytes", outcome="allowed") == 320
    assert desk.shows("units_total", plan="pro", meter="bytes", outcome="overage") == 180
    assert desk.shows("overage_units_total", plan="pro", meter="bytes") == 180
    assert desk.shows("units_total", plan="pro", meter="requests", outcome="allowed") == 2


def test_a_lost_counter_store_shows() -> None:
    """The policy that stood in is counted, whatever it decided."""
    desk = Desk()
    desk.count(allow()._replace(degraded="local"), 0.001)
    desk.count(replace(deny(Reason.DEPENDENCY_DOWN), degraded="closed"), 0.001)
    assert desk.shows("degraded_decisions_total", policy="local") == 1
    assert desk.shows("degraded_decisions_total", policy="closed") == 1


def test_a_shadow_and_a_token_in_use_are_noted() -> None:
    """What each thing in shadow would have said is counted under it, and the token is remembered as used."""
    desk = Desk()
    tried, limit = Opinion("pro@4", None), Opinion("pro@3:burst", Reason.RATE_LIMITED)
    desk.count(allow()._replace(opinions=(tried, limit)), 0.001)
    desk.count(allow()._replace(opinions=(replace(tried, would_refuse=Reason.QUOTA_EXCEEDED),)), 0.001)
    counted = {("pro@4", "ok"): 1, ("pro@4", "quota_exceeded"): 1, ("pro@3:burst", "rate_limited"): 1}
    for (shadow, reason), number in counted.items():
        assert desk.shows("shadow_decisions_total", plan="pro", shadow=shadow, reason=reason) == number
    assert desk.shadows.take() == {
        ("pro@3", "pro@4"): {("", "ok"): 1, ("", "quota_exceeded"): 1, ("sub_1", "quota_exceeded"): 1},
        ("pro@3", "pro@3:burst"): {("", "rate_limited"): 1, ("sub_1", "rate_limited"): 1},
    }
    assert desk.last_used._seen == {"tok_1"}


def test_what_is_asked_again_is_no_second_opinion() -> None:
    """Envoy's retry of one check moves no shadow's numbers."""
    desk = Desk()
    desk.count(allow()._replace(is_repeat=True, opinions=(Opinion("pro@4", None),)), 0.001)
    assert desk.shows("shadow_decisions_total", plan="pro", shadow="pro@4", reason="ok") is None
    assert desk.shadows.take() == {}

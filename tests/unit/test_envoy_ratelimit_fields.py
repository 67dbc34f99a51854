"""The RateLimit fields are those of draft-ietf-httpapi-ratelimit-headers-10."""

from dataclasses import replace

import pytest
from support.decisions import BURST, DAILY, state

from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.envoy.ratelimit_fields import ratelimit, ratelimit_policy
from tallygate.limits.limit import Limit, LimitKind
from tallygate.limits.limiter import LimitOutcome

CREDITS = Limit("prepaid", LimitKind.CREDITS, 500)


def test_every_limit_has_its_policy() -> None:
    """A rate tells its window and burst, a quota its period, credits their amount alone."""
    states = (state(BURST), state(DAILY), state(CREDITS))
    assert ratelimit_policy(states) == '"burst";q=50;w=1;tallygate-burst=100, "daily";q=1000;w=86400, "prepaid";q=500'


@pytest.mark.parametrize(
    ("unit", "window"),
    [
        (PeriodUnit.MINUTE, ";w=60"),
        (PeriodUnit.HOUR, ";w=3600"),
        (PeriodUnit.WEEK, ";w=604800"),
        (PeriodUnit.MONTH, ""),
        (PeriodUnit.YEAR, ""),
    ],
)
def test_a_window_is_told_only_where_its_length_is_fixed(unit: PeriodUnit, window: str) -> None:
    """A policy's value stays constant over responses, so months have no window."""
    assert ratelimit_policy((state(replace(DAILY, calendar=Calendar(unit))),)) == f'"daily";q=1000{window}'


@pytest.mark.parametrize(("window_us", "window"), [(500_000, ""), (1_500_000, ""), (2_000_000, ";w=2")])
def test_a_window_is_whole_seconds_or_not_told(window_us: int, window: str) -> None:
    """`w` is an integer above zero."""
    assert ratelimit_policy((state(replace(BURST, window_us=window_us, burst=0)),)) == f'"burst";q=50{window}'


@pytest.mark.parametrize(
    ("meter", "unit"), [("requests", ""), ("bytes", ';qu="content-bytes"'), ("tokens", ';qu="tokens"')]
)
def test_a_unit_is_told_unless_it_is_requests(meter: str, unit: str) -> None:
    """No client takes bytes or tokens for requests."""
    assert ratelimit_policy((state(replace(CREDITS, meter=meter)),)) == f'"prepaid";q=500{unit}'


def test_what_remains_and_when_more_comes() -> None:
    """`r` is always told and never negative; `t` only when it is known."""
    states = (state(BURST, remaining=9, reset_s=1), state(DAILY, remaining=-3), state(CREDITS, remaining=2**60))
    assert ratelimit(states) == '"burst";r=9;t=1, "daily";r=0, "prepaid";r=999999999999999'


def test_shadow_limits_are_not_shown() -> None:
    """A limit on trial tells callers nothing; with no other there is no field at all."""
    shadow = state(replace(DAILY, is_shadow=True), LimitOutcome.SHADOW_EXCEEDED)
    assert ratelimit((shadow, state(BURST))) == '"burst";r=0'
    assert (ratelimit((shadow,)), ratelimit_policy((shadow,))) == ("", "")

"""Strategies for limits of every kind and requests on them, all on a few counters, so that they meet there."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from support.counting import ALICE, START_AT

from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.limits.keys import Place, places
from tallygate.limits.limit import (
    EXACT_INTEGER,
    CountedPer,
    CreditBucket,
    CreditRefill,
    Limit,
    LimitKind,
    OnExceed,
    unenforceable,
)
from tallygate.limits.limiter import Acquisition, Charge, Subject

LARGEST = EXACT_INTEGER - 1
AFRESH = Subject(ALICE.customer, ALICE.subscription, ALICE.family, counters="chg_1")
SUBJECTS = st.sampled_from([ALICE, ALICE, ALICE, AFRESH])
WINDOWS_US = st.sampled_from([1, 7, 1_000_000, 60_000_000, 3_600_000_000])
PERS = st.sampled_from([CountedPer.SUBSCRIPTION, *CountedPer])
UNITS = st.sampled_from([PeriodUnit.MINUTE, PeriodUnit.DAY, PeriodUnit.WEEK, PeriodUnit.MONTH])
ANCHORS = st.sampled_from([None, START_AT.replace(hour=3), datetime.fromisoformat("2024-02-29T12:30:00.000001+00:00")])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"])
CALENDARS = st.builds(Calendar, UNITS, ANCHORS, ZONES)
AMOUNTS = st.integers(0, 6) | st.integers(0, LARGEST)
COSTS = st.integers(0, 4) | st.sampled_from([1000, EXACT_INTEGER // 3, LARGEST])
REQUEST_IDS = st.sampled_from(["1", "2", "3"])
HOLDS_S = (1, 2, 60, 86_400)
METERS = ("requests", "bytes")
USAGES = st.sampled_from([(), (("requests", 1),), (("requests", 4), ("bytes", 0)), (("bytes", 5), ("requests", 2))])
INSTANTS = st.builds(lambda seconds: START_AT + timedelta(seconds=seconds), st.integers(-86_400, 400 * 86_400))


@st.composite
def common(draw: st.DrawFn) -> dict[str, Any]:
    """Return what every limit has."""
    is_shadow = draw(st.sampled_from([False, False, True]))
    return {"per": draw(PERS), "is_shadow": is_shadow, "meter": draw(st.sampled_from(METERS))}


@st.composite
def rates(draw: st.DrawFn) -> Limit:
    """Return any rate that can be counted exactly, named `a`."""
    window_us = draw(WINDOWS_US)
    burst = draw(st.integers(0, 6) | st.integers(0, LARGEST // window_us))
    amount = draw(st.integers(1, 6) | st.integers(1, LARGEST))
    return Limit("a", LimitKind.RATE, amount, window_us=window_us, burst=burst, **draw(common()))


@st.composite
def tallies(draw: st.DrawFn) -> dict[str, Any]:
    """Return what quotas and credits have in common."""
    amount = draw(AMOUNTS)
    ceiling = draw(st.none() | st.integers(min(amount, LARGEST), LARGEST) | st.just(min(amount + 3, LARGEST)))
    return {"name": "a", "amount": amount, "ceiling": ceiling, "on_exceed": draw(st.sampled_from(list(OnExceed)))}


@st.composite
def quotas(draw: st.DrawFn) -> Limit:
    """Return any quota, named `a`."""
    return Limit(kind=LimitKind.QUOTA, calendar=draw(CALENDARS), **draw(tallies()), **draw(common()))


@st.composite
def credits_(draw: st.DrawFn) -> Limit:
    """Return any credits, named `a`, with up to three buckets of the same few ids."""
    refill = draw(st.none() | st.builds(CreditRefill, st.integers(0, 4) | AMOUNTS, CALENDARS, INSTANTS))
    ids = draw(st.lists(st.sampled_from("pqr"), max_size=3, unique=True))
    buckets = tuple(draw(buckets_of(bucket)) for bucket in ids)
    return Limit(kind=LimitKind.CREDITS, refill=refill, buckets=buckets, **draw(tallies()), **draw(common()))


@st.composite
def buckets_of(draw: st.DrawFn, bucket_id: str) -> CreditBucket:
    """Return any bucket of this id."""
    from_at = draw(INSTANTS)
    lasts = draw(st.none() | st.integers(1, 90 * 86_400))
    until_at = None if lasts is None else from_at + timedelta(seconds=lasts)
    return CreditBucket(bucket_id, draw(AMOUNTS), from_at, until_at)


@st.composite
def concurrencies(draw: st.DrawFn) -> Limit:
    """Return any concurrency, named `a`."""
    hold_s = draw(st.sampled_from(HOLDS_S))
    return Limit("a", LimitKind.CONCURRENCY, draw(st.integers(0, 4)), hold_s=hold_s, **draw(common()))


KINDS: dict[str, st.SearchStrategy[Limit]] = {
    kind: limits.filter(lambda limit: unenforceable(limit) is None)
    for kind, limits in {
        "rates": rates(),
        "quotas": quotas(),
        "credits": credits_(),
        "concurrencies": concurrencies(),
        "any": rates() | quotas() | credits_() | concurrencies(),
    }.items()
}


@st.composite
def acquisitions(draw: st.DrawFn, limits: Sequence[Limit]) -> Acquisition:
    """Return a request on some of the limits, on each counter at most once."""
    subject = draw(SUBJECTS)
    charges: dict[Place, Charge] = {}
    for limit in limits:
        cost = draw(st.none() | COSTS)
        if cost is not None:
            charges[places(Acquisition(subject, (Charge(limit, 0),)))[0][0]] = Charge(limit, cost)
    usage = draw(USAGES)
    request_id = draw(st.none() | REQUEST_IDS)
    receipt_s = 0 if request_id is None else draw(st.sampled_from([0, 0, 1, 60, 86_400]))
    unsettled = draw(st.sampled_from([(), tuple((meter, 0) for meter, _ in usage)])) if receipt_s else ()
    plan = draw(st.sampled_from(["p@1", "p@2"]))
    return Acquisition(subject, tuple(charges.values()), usage, "GET /v1/{a|b}", request_id, plan, receipt_s, unsettled)

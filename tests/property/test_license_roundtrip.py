"""Any license survives being written and read."""

import json
from datetime import UTC
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.licenses.codec import decode_license, encode_license
from tallygate.licenses.codec_routes import decode_routes, encode_routes
from tallygate.licenses.license import CustomerStatus, FirstUseTrial, Grant, License, Phase, Standing, Terms
from tallygate.licenses.routes import RouteRule
from tallygate.limits.limit import CountedPer, CreditBucket, CreditRefill, FailPolicy, Limit, LimitKind, OnExceed

TEXT = st.text(max_size=12)
INSTANTS = st.datetimes(timezones=st.just(UTC))
MAYBE_INSTANTS = st.none() | INSTANTS
AMOUNTS = st.integers(0, 2**53)
CALENDARS = st.builds(Calendar, st.sampled_from(PeriodUnit), MAYBE_INSTANTS, TEXT)
LIMITS = st.builds(
    Limit,
    name=TEXT,
    kind=st.sampled_from(LimitKind),
    amount=AMOUNTS,
    meter=TEXT,
    per=st.sampled_from(CountedPer),
    window_us=AMOUNTS,
    burst=AMOUNTS,
    calendar=st.none() | CALENDARS,
    on_exceed=st.sampled_from(OnExceed),
    ceiling=st.none() | AMOUNTS,
    is_shadow=st.booleans(),
    fail=st.sampled_from(FailPolicy),
    hold_s=AMOUNTS,
    refill=st.none() | st.builds(CreditRefill, AMOUNTS, CALENDARS, INSTANTS),
    buckets=st.lists(st.builds(CreditBucket, TEXT, AMOUNTS, INSTANTS, MAYBE_INSTANTS), max_size=2).map(tuple),
)
FEATURES = st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
GRANTS = st.builds(
    Grant,
    plan=TEXT,
    plan_key=TEXT,
    scopes=st.frozensets(TEXT, max_size=4),
    features=st.dictionaries(TEXT, FEATURES, max_size=4),
    limits=st.lists(LIMITS, max_size=3).map(tuple),
    upgrade_url=st.none() | TEXT,
)
PHASES = st.builds(
    Phase,
    starts_at=INSTANTS,
    standing=st.sampled_from(Standing),
    grant=GRANTS,
    is_unpaid=st.booleans(),
    counters=TEXT,
    shadow=st.none() | GRANTS,
)
TERMS = st.builds(
    Terms,
    phases=st.lists(PHASES, min_size=1, max_size=3).map(tuple),
    first_use=st.none()
    | st.builds(
        FirstUseTrial,
        lasts_s=AMOUNTS,
        then=st.lists(PHASES, min_size=1, max_size=3).map(tuple),
        until_at=MAYBE_INSTANTS,
    ),
)
LICENSES = st.builds(
    License,
    customer=TEXT,
    customer_status=st.sampled_from(CustomerStatus),
    subscription=TEXT,
    family=TEXT,
    token=TEXT,
    terms=TERMS,
    generation=st.integers(0, 2**62),
    scopes=st.none() | st.frozensets(TEXT, max_size=4),
    networks=st.lists(st.ip_addresses().map(ip_network), max_size=3).map(tuple),
    not_before_at=MAYBE_INSTANTS,
    expires_at=MAYBE_INSTANTS,
    revoked_at=MAYBE_INSTANTS,
    disabled_at=MAYBE_INSTANTS,
    first_used_at=MAYBE_INSTANTS,
)
WORDS = st.text("abcxyz-", min_size=1, max_size=6)
RULES = st.builds(
    RouteRule,
    method=st.sampled_from(["*", "GET", "POST"]),
    template=st.lists(WORDS | st.sampled_from(["{id}", "**"]), max_size=3).map(lambda parts: "/" + "/".join(parts)),
    costs=st.dictionaries(WORDS, AMOUNTS, max_size=3).map(lambda costs: tuple(sorted(costs.items()))),
    scope=st.none() | WORDS,
    feature=st.none() | WORDS,
)


@given(LICENSES)
def test_a_license_read_is_the_license_written(entry: License) -> None:
    """No field is lost, widened or changed in type between the control plane and the data plane."""
    read = decode_license(json.dumps(encode_license(entry)))
    assert read == entry
    for was, now in zip(entry.terms.phases, read.terms.phases, strict=True):
        assert {key: type(value) for key, value in now.grant.features.items()} == {
            key: type(value) for key, value in was.grant.features.items()
        }


@given(st.lists(RULES, max_size=4).map(tuple))
def test_routes_read_are_the_routes_written(rules: tuple[RouteRule, ...]) -> None:
    """Order, costs and requirements of every rule arrive as they were published."""
    assert decode_routes(json.dumps(encode_routes(rules))) == (rules, {})

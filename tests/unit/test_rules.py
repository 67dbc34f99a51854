"""The laws that need no counter, each at its edges."""

from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_network

import pytest
from support.pipelines import GRANT, HOME, LICENSE, NOW, PHASE, request
from support.terms import terms_of

from tallygate.decision.decision import Reason
from tallygate.decision.rules import (
    Refusal,
    find_route,
    refuse_network,
    refuse_route,
    refuse_status,
    refuse_token,
)
from tallygate.licenses.license import CustomerStatus, Feature
from tallygate.licenses.routes import RouteRule, RouteTable

INSTANT = timedelta(microseconds=1)


def reason_of(refusal: Refusal | None) -> Reason | None:
    """Return the reason of a refusal, None when there is none."""
    return None if refusal is None else refusal.reason


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("revoked_at", Reason.TOKEN_REVOKED),
        ("disabled_at", Reason.TOKEN_DISABLED),
        ("expires_at", Reason.TOKEN_EXPIRED),
    ],
)
def test_a_token_ends_at_its_instant(field: str, reason: Reason) -> None:
    """A token works until the very instant it ends at, and not in it."""
    changed = {at: replace(LICENSE, **{field: at}) for at in (NOW + INSTANT, NOW)}  # type: ignore[arg-type]
    assert reason_of(refuse_token(changed[NOW + INSTANT], NOW)) is None
    assert reason_of(refuse_token(changed[NOW], NOW)) is reason


def test_a_token_begins_at_its_instant() -> None:
    """A token is valid from its not-before on, that instant included."""
    assert refuse_token(replace(LICENSE, not_before_at=NOW), NOW) is None
    early = refuse_token(replace(LICENSE, not_before_at=NOW + INSTANT), NOW)
    assert reason_of(early) is Reason.TOKEN_NOT_YET_VALID


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (CustomerStatus.ACTIVE, None),
        (CustomerStatus.PAST_DUE, None),
        (CustomerStatus.SUSPENDED, Reason.CUSTOMER_SUSPENDED),
        (CustomerStatus.CLOSED, Reason.CUSTOMER_SUSPENDED),
    ],
)
def test_a_customer_who_owes_is_served_until_suspended(status: CustomerStatus, reason: Reason | None) -> None:
    """Being late with a payment stops nothing by itself."""
    assert reason_of(refuse_status(replace(LICENSE, customer_status=status), PHASE)) is reason


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"starts_at": NOW}, None),
        ({"starts_at": NOW + INSTANT}, Reason.SUBSCRIPTION_SUSPENDED),
        ({"ends_at": NOW + INSTANT}, None),
        ({"ends_at": NOW}, Reason.SUBSCRIPTION_ENDED),
        ({"suspended_at": NOW + INSTANT}, None),
        ({"suspended_at": NOW}, Reason.SUBSCRIPTION_SUSPENDED),
        ({"starts_at": NOW + INSTANT, "ends_at": NOW}, Reason.SUBSCRIPTION_ENDED),
    ],
)
def test_a_subscription_is_in_force_from_its_start_to_its_end(
    terms: dict[str, datetime], reason: Reason | None
) -> None:
    """Start counts, end does not; one canceled before it began has ended."""
    phase = terms_of(GRANT, **terms).phase_at(NOW)
    assert reason_of(refuse_status(LICENSE, phase)) is reason


@pytest.mark.parametrize(
    ("address", "is_home"),
    [
        ("192.0.2.0", True),
        ("192.0.2.255", True),
        ("192.0.3.0", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("", False),
        ("unknown", False),
        ("192.0.2.7, 198.51.100.1", False),
        ("192.0.2.7:443", False),
    ],
)
def test_a_token_bound_to_networks_works_inside_them(address: str, is_home: bool) -> None:  # noqa: FBT001 - a case
    """Either family of addresses; one that cannot be read is outside."""
    refusal = refuse_network(replace(LICENSE, networks=HOME), address)
    assert reason_of(refusal) is (None if is_home else Reason.NETWORK_DENIED)


def test_a_caller_over_ipv6_may_have_an_ipv4_address() -> None:
    """A dual-stack listener shows IPv4 callers as ::ffff:192.0.2.7, which is the same caller."""
    bound = replace(LICENSE, networks=(ip_network("192.0.2.0/24"),))
    assert refuse_network(bound, "::ffff:192.0.2.7") is None
    assert reason_of(refuse_network(bound, "::ffff:198.51.100.1")) is Reason.NETWORK_DENIED


def test_a_token_without_networks_works_from_anywhere() -> None:
    """Not even an address is needed."""
    assert refuse_network(LICENSE, "") is None


def test_the_first_rule_that_matches_decides() -> None:
    """Rules are read in order, and HEAD is GET."""
    special, general = RouteRule("GET", "/v1/things/{id}"), RouteRule("*", "/v1/**")
    table = RouteTable((special, general))
    assert find_route(table, request("/v1/things/7?all=1")) is special
    assert find_route(table, request("/v1/things/7", "HEAD")) is special
    assert find_route(table, request("/v1/things/7", "PUT")) is general


def test_the_gateway_may_say_which_rule_it_is() -> None:
    """The rule it names decides, whatever the path finds; one that there is not refuses, as does a path in doubt."""
    special, general = RouteRule("GET", "/@search/**"), RouteRule("*", "/v1/**")
    table = RouteTable((special, general))
    assert find_route(table, request("/v1/things")._replace(rule="GET /@search/**")) is special
    assert find_route(table, request("/elsewhere", "PUT")._replace(rule="* /v1/**")) is general
    for asked in (
        request("/v1/things")._replace(rule="GET /@search"),
        request("/v1/things")._replace(rule=""),
        request("/v1//things")._replace(rule="* /v1/**"),
    ):
        found = find_route(table, asked)
        assert isinstance(found, Refusal)
        assert found.reason is Reason.ROUTE_DENIED


@pytest.mark.parametrize("target", ["/v2", "//v1/things", "/v1/../v2", "/v1/a%2Fb", "", "*", "http://example.com/v1"])
def test_a_path_that_no_rule_covers_or_nobody_is_sure_of_is_refused(target: str) -> None:
    """What is not priced does not pass; nor does what an upstream may read as another path."""
    found = find_route(RouteTable((RouteRule("*", "/v1/**"),)), request(target))
    assert isinstance(found, Refusal)
    assert found.reason is Reason.ROUTE_DENIED


@pytest.mark.parametrize(
    ("of_token", "of_plan", "is_granted"),
    [
        (None, {"reports.read"}, True),
        (None, set(), False),
        ({"reports.read"}, {"reports.read"}, True),
        ({"reports.read"}, set(), False),
        (set(), {"reports.read"}, False),
    ],
)
def test_a_scope_is_granted_by_token_and_plan_together(
    of_token: set[str] | None,
    of_plan: set[str],
    is_granted: bool,  # noqa: FBT001 - a case
) -> None:
    """A token keeps no scope that its plan has lost, and an empty list grants nothing."""
    license_ = replace(LICENSE, scopes=None if of_token is None else frozenset(of_token))
    refusal = refuse_route(
        license_, replace(GRANT, scopes=frozenset(of_plan)), RouteRule("GET", "/reports", scope="reports.read")
    )
    assert reason_of(refusal) is (None if is_granted else Reason.SCOPE_MISSING)


@pytest.mark.parametrize(
    ("features", "is_granted"),
    [({"f": True}, True), ({"f": False}, False), ({}, False), ({"f": 0}, True), ({"f": ""}, True)],
)
def test_a_feature_is_there_unless_it_is_absent_or_false(
    features: dict[str, Feature],
    is_granted: bool,  # noqa: FBT001 - a case
) -> None:
    """A number of zero is a value for the upstream to read, not a refusal."""
    refusal = refuse_route(LICENSE, replace(GRANT, features=features), RouteRule("GET", "/", feature="f"))
    assert reason_of(refusal) is (None if is_granted else Reason.FEATURE_MISSING)

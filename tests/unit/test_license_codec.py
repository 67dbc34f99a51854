"""Licenses as JSON: strict where it is known, lenient where it is newer."""

import json
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from typing import Any

import pytest
from support.licensing import TERMS, license_of
from support.terms import START_AT

from tallygate.licenses.codec import (
    decode_license,
    decode_terms,
    encode_license,
    encode_terms,
)
from tallygate.licenses.codec_routes import decode_routes, encode_routes
from tallygate.licenses.routes import ActualSource, MeterPolicy, RouteRule
from tallygate.plans.codec_routes import routes_to_document

Document = dict[str, Any]


def stored(change: Callable[[Document], None] = lambda _document: None) -> str:
    """Return a stored license with one thing changed."""
    document = encode_license(license_of(1))
    change(document)
    return json.dumps(document)


def first_phase(document: Document) -> Document:
    """Return the first phase of a stored license."""
    phase: Document = document["terms"]["phases"][0]
    return phase


def test_terms_are_always_the_same_text() -> None:
    """Equal terms are equal JSON, so that an unchanged plan is seen to be unchanged."""
    assert json.dumps(encode_terms(TERMS)) == json.dumps(
        encode_terms(decode_terms(json.dumps(encode_terms(TERMS)).encode()))
    )
    grant = encode_terms(TERMS)["phases"][0]["grant"]
    assert grant["scopes"] == ["things.read", "things.write"]
    assert isinstance(grant["limits"], list)


def test_what_a_newer_writer_added_is_passed_over() -> None:
    """During a rolling upgrade the old data plane reads what the new control plane wrote."""

    def add(document: Document) -> None:
        document["mood"] = "good"
        document["terms"]["colour"] = {"a": [1]}
        document["terms"]["phases"][0]["grant"]["limits"][0]["smell"] = None

    assert decode_license(stored(add)) == license_of(1)


def test_tokens_of_one_subscription_share_their_terms() -> None:
    """A million tokens of one plan hold one Terms object, not a million."""
    terms_of = lru_cache(decode_terms)
    first, second = (decode_license(stored(), terms_of) for _ in range(2))
    assert first.terms is second.terms
    assert first.terms == TERMS


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("customer"),
        lambda document: document.update(customer=7),
        lambda document: document.update(customer_status="sleepy"),
        lambda document: document.update(generation="7"),
        lambda document: document.update(scopes="things.read"),
        lambda document: document.update(networks=["somewhere"]),
        lambda document: document.update(networks=["192.0.2.1/24"]),
        lambda document: document.update(expires_at="tomorrow"),
        lambda document: document.update(expires_at="infinity"),
        lambda document: document.update(expires_at="2026-01-01T00:00:00"),
        lambda document: first_phase(document).update(starts_at="2026-01-01T00:00:00"),
        lambda document: first_phase(document)["grant"].update(limits=None),
        lambda document: first_phase(document)["grant"].update(features={"x": [1]}),
        lambda document: first_phase(document)["grant"]["limits"][0].update(kind="vibes"),
        lambda document: first_phase(document)["grant"]["limits"][0].update(amount=1.5),
        lambda document: first_phase(document)["grant"]["limits"][0].update(is_shadow=1),
        lambda document: first_phase(document)["grant"]["limits"][1]["calendar"].update(
            anchor_at="2026-01-01T00:00:00"
        ),
    ],
)
def test_a_license_that_is_not_understood_is_refused_whole(change: Callable[[Document], None]) -> None:
    """A half-read license would grant what nobody meant: an unknown kind of limit is no missing limit."""
    with pytest.raises(ValueError, match=r"."):
        decode_license(stored(change))


def test_text_that_is_no_json_is_refused() -> None:
    """A broken row is an error that says so, never an empty license."""
    for text in ("", "null", "[]", "{"):
        with pytest.raises(ValueError, match="cannot read"):
            decode_license(text)


def test_instants_keep_their_microseconds_and_offsets() -> None:
    """An expiry does not move by being stored, whatever zone Postgres writes it in."""
    entry = license_of(1, expires_at=START_AT + timedelta(microseconds=1))
    document = encode_license(entry) | {"expires_at": "2026-01-01T02:00:00.000001+02:00"}
    assert decode_license(json.dumps(document)) == entry


def test_routes_are_read_as_the_plan_file_has_them() -> None:
    """What `plans apply` stores is what the data plane enforces."""
    rules = (
        RouteRule("GET", "/v1/reports/{id}", (("requests", 5), ("rows", 0)), "reports.read", "reports"),
        RouteRule("*", "/v1/**"),
    )
    assert decode_routes(json.dumps(routes_to_document(rules, {}))) == (rules, {})
    assert decode_routes(json.dumps(encode_routes(rules))) == (rules, {})
    assert decode_routes('{"routes": [{"match": "* /v1/**", "newer": 1}], "newer": 2}') == ((rules[1],), {})


def test_a_table_of_before_there_were_meters_in_it_is_read() -> None:
    """A table that an older version put in force stays in force."""
    rules, meters = decode_routes('[{"match": "GET /a", "cost": {"in": 2}, "counts": {"in": 2, "tokens": 2}}]')
    assert (rules, meters) == ((RouteRule("GET", "/a", (("in", 2), ("tokens", 2))),), {})


def test_rules_have_the_policies_of_the_meters_they_cost() -> None:
    """The data plane knows what becomes of a charge, and which meters count in which."""
    refunds = MeterPolicy("requests", ((429, 429), (500, 599)))
    read = MeterPolicy("in", actual=ActualSource.TRAILER, field_name="x-in", within_s=60, is_refunded_unsettled=True)
    rules = (
        RouteRule("GET", "/a", (("in", 0), ("requests", 1)), policies=(read, refunds)),
        RouteRule("GET", "/b", (("rows", 1),)),
    )
    meters = {"in": "tokens", "tokens": None}
    assert decode_routes(json.dumps(encode_routes(rules, meters))) == (rules, meters)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '[{"match": "/v1"}]',
        '[{"match": "GET v1"}]',
        "[{}]",
        '[{"match": "GET /", "cost": {"x": "y"}}]',
        '{"routes": [], "policies": [{"meter": "a", "actual": "oracle"}]}',
        '{"routes": [], "policies": [{"meter": "a", "refund_on": ["5xx"]}]}',
        '{"routes": [], "meters": {"a": {"parent": 7}}}',
    ],
)
def test_routes_that_are_not_understood_are_refused(text: str) -> None:
    """A rule left out would let requests fall to the next one."""
    with pytest.raises(ValueError, match=r"."):
        decode_routes(text)

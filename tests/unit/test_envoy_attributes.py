"""What Envoy tells of a request is read as Envoy means it; an independent compiler wrote the bytes."""

import pytest
from support.envoy_oracle import check_request

from tallygate.decision.decision import CheckInput
from tallygate.envoy.attributes import UnreadableRequestError, read


def test_a_request_is_read() -> None:
    """Method, target with its query, headers, the peer and Envoy's own request id arrive."""
    request = check_request(
        http_id="123", method="POST", path="/a%2Fb?x=1&y=2", headers={"authorization": "Bearer t"}, source="192.0.2.9"
    )
    assert read(request) == CheckInput("POST", "/a%2Fb?x=1&y=2", {"authorization": "Bearer t"}, "192.0.2.9", "123")


def test_the_client_is_whom_envoy_names() -> None:
    """Behind an edge Envoy the peer is not the client; Envoy's header is, and an empty one names nobody."""
    assert read(check_request(headers={"x-envoy-external-address": "203.0.113.5"})).client_address == "203.0.113.5"
    assert read(check_request(headers={"x-envoy-external-address": ""})).client_address == "192.0.2.7"


def test_without_an_id_nothing_is_idempotent() -> None:
    """An empty id must not make all requests the same request, and the client's own is no id."""
    assert read(check_request(http_id="", headers={"x-request-id": "mine"})).request_id is None


def test_raw_headers_are_joined_like_envoy_does() -> None:
    """With `encode_raw_headers` two credentials still look like two, names are lower-case, cookies stay cookies."""
    request = check_request(
        raw_headers=[
            ("X-API-Key", b"k1"),
            ("x-api-key", b"k2"),
            ("cookie", b"a=1"),
            ("cookie", b"b=2"),
            ("x-empty", b""),
        ]
    )
    assert read(request).headers == {"x-api-key": "k1,k2", "cookie": "a=1; b=2", "x-empty": ""}


def test_raw_bytes_are_never_a_failure() -> None:
    """UTF-8 is read as such; any other bytes become some text, so that a strange token is an unknown token."""
    headers = read(check_request(raw_headers=[("a", "ü".encode()), ("b", b"\xff\xfe")])).headers
    assert headers == {"a": "ü", "b": "\u00ff\u00fe"}


@pytest.mark.parametrize("request_bytes", [b"", b"\x0a\x00", b"\xff\xff\xff", b"not a message", check_request()[:-3]])
def test_what_is_no_http_request_is_told_apart(request_bytes: bytes) -> None:
    """Empty, foreign or torn bytes are one clear error and never a request without a method."""
    with pytest.raises(UnreadableRequestError):
        read(request_bytes)


@pytest.mark.parametrize(
    ("extensions", "named"),
    [
        ({}, None),
        ({"somebody.elses": "x"}, None),
        ({"tallygate.route": "GET /v1/things", "somebody.elses": "x"}, "GET /v1/things"),
        ({"tallygate.route": ""}, ""),
        ({"tallygate.rout": "GET /v1/things"}, "tallygate.rout"),
        ({"tallygate.cost": "0", "tallygate.route": "GET /v1/things"}, "tallygate.cost"),
    ],
)
def test_the_gateway_may_name_the_rule(extensions: dict[str, str], named: str | None) -> None:
    """What it says under our prefix counts, all of it: a typing error names no rule, rather than nothing."""
    assert read(check_request(extensions=extensions)).rule == named


def test_a_caller_names_no_rule() -> None:
    """Headers of that name are headers."""
    claims = {"tallygate.route": "GET /v1/free", "context-extensions": "GET /v1/free"}
    assert read(check_request(headers=claims)).rule is None

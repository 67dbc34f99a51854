"""Where a token is found, what is ambiguous, and what the upstream must not see of it."""

import pytest

from tallygate.credentials.extract import (
    AmbiguousCredential,
    Credential,
    CredentialPlaces,
    NoCredential,
    Places,
    extract,
)

NOWHERE_ELSE = CredentialPlaces()
EVERYWHERE = CredentialPlaces(query_parameter="api_key", cookie="session")


@pytest.mark.parametrize(
    "value", ["Bearer tok", "bearer tok", "BEARER tok", "Bearer   tok ", "Bearer\ttok", "DPoP tok", "dpop tok"]
)
def test_the_authorization_header_is_read(value: str) -> None:
    """Bearer and DPoP in any case and spacing give the token, and the header is removed."""
    assert extract({"authorization": value}, "/", NOWHERE_ELSE) == Credential("tok", ("authorization",))


def test_the_api_key_header_is_read() -> None:
    """X-API-Key gives the token as it is, and the header is removed."""
    assert extract({"x-api-key": " tok "}, "/", NOWHERE_ELSE) == Credential("tok", ("x-api-key",))


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": ""}, {"authorization": "Basic dTpw"}, {"authorization": "tok"}]
)
def test_what_is_not_ours_is_no_credential(headers: dict[str, str]) -> None:
    """Another scheme belongs to someone else: it is neither read nor called malformed."""
    assert extract(headers, "/", NOWHERE_ELSE) == NoCredential()


def test_another_scheme_beside_an_api_key_passes_through() -> None:
    """The upstream's own Basic credentials are neither ambiguous nor removed."""
    found = extract({"authorization": "Basic dTpw", "x-api-key": "tok"}, "/", NOWHERE_ELSE)
    assert found == Credential("tok", ("x-api-key",))


def test_a_comma_in_another_scheme_is_not_ours_to_judge() -> None:
    """Digest credentials are full of commas; without a token of ours they are no credential."""
    assert extract({"authorization": 'Digest username="u", realm="r"'}, "/", NOWHERE_ELSE) == NoCredential()


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "DPoP  "])
def test_a_scheme_without_token_is_a_malformed_credential_not_a_missing_one(value: str) -> None:
    """An empty token is found, so that the refusal says it is malformed."""
    assert extract({"authorization": value}, "/", NOWHERE_ELSE) == Credential("", ("authorization",))


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer one, Bearer two"},
        {"authorization": "Bearer same, Bearer same"},
        {"authorization": "Bearer one,DPoP two"},
        {"authorization": "Basic dTpw, Bearer one"},
        {"authorization": "Bearer one, Basic dTpw"},
        {"authorization": "Bearer one,"},
        {"x-api-key": "one,two"},
        {"x-api-key": "same, same"},
        {"authorization": "Bearer one", "x-api-key": "two"},
        {"authorization": "Bearer ", "x-api-key": "two"},
    ],
)
def test_two_credentials_are_ambiguous(headers: dict[str, str]) -> None:
    """A header given twice, which Envoy joins by a comma, or different tokens, are refused (RFC 6750 §2)."""
    assert isinstance(extract(headers, "/", NOWHERE_ELSE), AmbiguousCredential)


def test_what_is_ambiguous_is_told_without_the_secret() -> None:
    """The problem names the places, never a token."""
    found = extract({"authorization": "Bearer first-secret", "x-api-key": "other-secret"}, "/", NOWHERE_ELSE)
    assert found == AmbiguousCredential("different credentials in authorization and x-api-key")


def test_the_same_token_in_every_place_is_one_credential_removed_everywhere() -> None:
    """It does not count as ambiguous, and the upstream sees none of its copies."""
    headers = {"authorization": "Bearer tok", "x-api-key": "tok", "cookie": "a=1; session=tok; b=2"}
    assert extract(headers, "/v1?api_key=tok&x=1", EVERYWHERE) == Credential(
        "tok", ("authorization", "x-api-key"), ("api_key",), "a=1; b=2"
    )


def test_query_and_cookie_are_read_only_where_configured() -> None:
    """A token in a place that is not configured is no credential."""
    assert extract({"cookie": "session=tok"}, "/v1?api_key=tok", NOWHERE_ELSE) == NoCredential()


def test_a_query_parameter_is_read_and_removed() -> None:
    """The configured name, exactly, gives the token; the query is cut at the first question mark."""
    assert extract({}, "/v1/things?a=1&api_key=tok", EVERYWHERE) == Credential("tok", (), ("api_key",))
    assert extract({}, "/v1/things?API_KEY=tok", EVERYWHERE) == NoCredential()
    assert extract({}, "/api_key=tok", EVERYWHERE) == NoCredential()


@pytest.mark.parametrize(
    "target", ["/?api_key=one&api_key=two", "/?api_key=same&api_key=same", "/?api_key=&api_key=two"]
)
def test_a_repeated_query_parameter_is_ambiguous(target: str) -> None:
    """Upstreams differ in which of two they read, so neither is taken."""
    assert isinstance(extract({}, target, EVERYWHERE), AmbiguousCredential)


@pytest.mark.parametrize(
    ("cookie", "left"),
    [
        ("session=tok", ""),
        ("session=tok; a=1", "a=1"),
        ("a=1;session=tok;b=session", "a=1; b=session"),
        ('a=1; session="tok"', "a=1"),
        ("sessions=1; session=tok; xsession=2", "sessions=1; xsession=2"),
    ],
)
def test_only_our_cookie_is_removed(cookie: str, left: str) -> None:
    """The other cookies reach the upstream as they were."""
    assert extract({"cookie": cookie}, "/", EVERYWHERE) == Credential("tok", set_cookie_header=left)


def test_a_repeated_cookie_is_ambiguous() -> None:
    """Two cookies of the configured name are two credentials."""
    found = extract({"cookie": "session=one; session=two"}, "/", EVERYWHERE)
    assert found == AmbiguousCredential("more than one credential in cookie")


def test_cookies_without_ours_are_left_alone() -> None:
    """A cookie header without the configured name needs no change."""
    found = extract({"cookie": "a=1", "x-api-key": "tok"}, "/", EVERYWHERE)
    assert found == Credential("tok", ("x-api-key",), (), None)


def test_no_secret_is_printed() -> None:
    """The repr of a credential, as a log or a traceback shows it, holds no token."""
    assert "top-secret" not in repr(extract({"authorization": "Bearer top-secret"}, "/", NOWHERE_ELSE))


@pytest.mark.parametrize(
    ("headers", "target"),
    [
        ({"authorization": "Bearer " + "," * 59_000}, "/"),
        ({"x-api-key": "," * 59_000}, "/"),
        ({}, "/?" + "&" * 59_000),
        ({"cookie": ";" * 59_000}, "/"),
    ],
)
def test_a_header_of_separators_is_ambiguous_and_cheap(headers: dict[str, str], target: str) -> None:
    """No header makes everybody else wait: beyond some pieces it is refused unread."""
    assert isinstance(extract(headers, target, CredentialPlaces("key", "session")), AmbiguousCredential)


def test_a_password_of_another_scheme_is_not_remembered() -> None:
    """What a client sends for somebody else is not kept; what it sends for us is, within bounds."""
    places = Places(CredentialPlaces())
    places.extract({"authorization": "Basic dXNlcjpwYXNzd29yZA=="}, "/")
    places.extract({"authorization": "Bearer " + "x" * 300}, "/")
    assert places._remembered.cache_info().currsize == 0
    places.extract({"authorization": "Bearer one"}, "/")
    assert places._remembered.cache_info().currsize == 1

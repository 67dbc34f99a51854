"""Decisions are written as Envoy reads them; an independent compiler reads the bytes back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.decisions import BURST, DAILY, ROUTE, TOKEN, allow, asked, deny, license_of, state
from support.envoy_oracle import check_request, headers_of, parse_response

from tallygate.credentials.extract import Credential
from tallygate.decision.decision import CheckInput, Decision, Deny, Reason
from tallygate.decision.denials import DENIALS
from tallygate.envoy.attributes import read
from tallygate.envoy.messages import denied_response
from tallygate.envoy.responses import ResponseWriter
from tallygate.licenses.license import Feature
from tallygate.licenses.routes import RouteRule
from tallygate.limits.limiter import LimitOutcome

WRITER = ResponseWriter(realm="things")
PLAIN = asked()
GRPC = asked(content_type="application/grpc+proto")
RATE_EXCEEDED = state(BURST, LimitOutcome.EXCEEDED, remaining=0, retry_after_s=2, reset_s=1)
QUOTA_EXCEEDED = state(DAILY, LimitOutcome.EXCEEDED, remaining=0, retry_after_s=3600, reset_s=3600)
NEVER = state(DAILY, LimitOutcome.EXCEEDED, remaining=0)


def allowed(decision: Decision, question: CheckInput = PLAIN) -> tuple[dict[str, str], list[str], dict[str, str]]:
    """Return headers set and removed for the upstream, and headers set for the client."""
    response = parse_response(WRITER.write(decision, question))
    assert response.status is not None
    assert response.status.code == 0
    ok = response.ok_response
    assert ok is not None
    headers = headers_of(ok.headers)
    assert not set(headers) & set(ok.headers_to_remove), "Envoy removes a name that is in both"
    return headers, ok.headers_to_remove, headers_of(ok.response_headers_to_add)


def denied(
    decision: Decision, question: CheckInput = PLAIN, writer: ResponseWriter = WRITER
) -> tuple[int, dict[str, str], str]:
    """Return HTTP status, headers and body of a refusal."""
    response = parse_response(writer.write(decision, question))
    assert response.status is not None
    assert response.status.code != 0
    assert response.denied_response is not None
    assert response.denied_response.status is not None
    status = int(response.denied_response.status.code)
    return status, headers_of(response.denied_response.headers), response.denied_response.body


def problem(decision: Decision) -> dict[str, Any]:
    """Return the members of a refusal's body."""
    members: dict[str, Any] = json.loads(denied(decision)[2])
    return members


def test_the_upstream_is_told_who_it_is() -> None:
    """Customer, subscription, plan, token family, scopes and features arrive, sorted where order has no meaning."""
    license_ = license_of(features={"reports": True, "beta": False, "max": 20, "ratio": 0.5, "tier": 'a "b"'})
    assert allowed(allow(license_=license_))[0] == {
        "x-tallygate-customer": "cus_1",
        "x-tallygate-subscription": "sub_1",
        "x-tallygate-plan": "pro@3",
        "x-tallygate-token": "fam_1",
        "x-tallygate-scopes": "reports.read things.read",
        "x-tallygate-features": 'beta=?0, max=20, ratio=0.5, reports, tier="a \\"b\\""',
    }


def test_an_empty_identity_header_is_removed_whether_it_was_seen_or_not() -> None:
    """A caller's claim to scopes does not outlive a license without any, even if Envoy does not forward it."""
    headers, removed, _ = allowed(allow(license_=license_of(scopes=frozenset())))
    assert "x-tallygate-scopes" not in headers
    assert "x-tallygate-scopes" in removed
    assert "x-tallygate-features" in removed


def test_spoofed_headers_are_removed() -> None:
    """Every other name under our prefix goes, with underscores too, and Envoy's own mark of an open door."""
    question = CheckInput(
        "GET",
        "/",
        {
            "x-tallygate-customer": "evil",
            "x-tallygate-role": "admin",
            "x_tallygate_customer": "evil",
            "x-envoy-auth-failure-mode-allowed": "true",
            "x-other": "stays",
        },
    )
    headers, removed, _ = allowed(allow(license_=license_of(features={"a": True})), question)
    assert headers["x-tallygate-customer"] == "cus_1"
    assert sorted(removed) == [
        "authorization",
        "x-envoy-auth-failure-mode-allowed",
        "x-tallygate-receipt",
        "x-tallygate-role",
        "x_tallygate_customer",
    ]


@given(
    tail=st.text("abz09-_", max_size=5),
    marks=st.lists(st.sampled_from("-_"), min_size=2, max_size=2),
    is_upper=st.lists(st.booleans(), min_size=17, max_size=17),
)
def test_no_spelling_of_our_names_slips_through(tail: str, marks: list[str], is_upper: list[bool]) -> None:
    """Envoy writes names in lower case; were it not so, none under our prefix would reach the upstream all the same."""
    letters = f"x{marks[0]}tallygate{marks[1]}{tail}"
    spelt = "".join(char.upper() if up else char for char, up in zip(letters, is_upper + [False] * 5, strict=False))
    question = read(check_request(headers={"accept": "*/*", spelt: "evil"}))
    headers, removed, _ = allowed(allow(license_=license_of(features={"a": True})), question)
    assert letters in removed or letters in headers


def test_only_what_was_sent_is_removed() -> None:
    """An Envoy that allows mutations of few names must not fail on one that is neither the caller's nor ours."""
    _, removed, _ = allowed(allow(license_=license_of(features={"a": True})))
    assert sorted(removed) == ["authorization", "x-tallygate-receipt"]


def test_the_credential_is_removed_from_every_place() -> None:
    """Headers, query and cookie: the upstream gets none of them; other cookies stay."""
    credential = Credential(TOKEN, ("authorization", "x-api-key"), ("api_key",), "a=1; b=2")
    response = parse_response(WRITER.write(allow(credential), PLAIN))
    assert response.ok_response is not None
    assert response.ok_response.query_parameters_to_remove == ["api_key"]
    headers, removed, _ = allowed(allow(credential))
    assert headers["cookie"] == "a=1; b=2"
    assert {"authorization", "x-api-key"} <= set(removed)


def test_a_cookie_header_with_nothing_left_is_removed() -> None:
    """An empty cookie header is not sent."""
    headers, removed, _ = allowed(allow(Credential(TOKEN, set_cookie_header="")))
    assert "cookie" not in headers
    assert "cookie" in removed


def test_limits_are_told_when_there_are_any() -> None:
    """An allowed response carries the RateLimit fields, or none rather than empty ones."""
    told = allowed(allow(states=(state(BURST, remaining=9, reset_s=1),)))[2]
    assert told == {"ratelimit-policy": '"burst";q=50;w=1;tallygate-burst=100', "ratelimit": '"burst";r=9;t=1'}
    assert allowed(allow())[2] == {}


def test_metadata_tells_the_log_what_was_decided() -> None:
    """Access logs can name the customer, the decision and its cost; a refusal names what is known."""
    response = parse_response(WRITER.write(allow(), PLAIN))
    assert response.dynamic_metadata is not None
    assert response.dynamic_metadata.to_dict() == {
        "customer": "cus_1",
        "subscription": "sub_1",
        "plan": "pro@3",
        "family": "fam_1",
        "reason": "ok",
        "decision_id": "d1",
        "route": "GET /v1/things",
        "meters": {"requests": 1.0},
    }
    response = parse_response(WRITER.write(deny(Reason.TOKEN_REVOKED), PLAIN))
    assert response.dynamic_metadata is not None
    assert response.dynamic_metadata.to_dict() == {"reason": "token_revoked", "decision_id": "d1"}


def test_a_receipt_goes_to_the_upstream_and_to_the_log() -> None:
    """Whoever serves the request, and whoever logs its end, can name what it was charged; others lose a forged one."""
    forged = CheckInput("GET", "/", {"x-tallygate-receipt": "cus_2:stolen", "x_tallygate_receipt": "cus_2:stolen"})
    decision = allow()._replace(receipt="r1")
    headers, removed, _ = allowed(decision, forged)
    assert headers["x-tallygate-receipt"] == "cus_1:r1"
    assert "x_tallygate_receipt" in removed
    metadata = parse_response(WRITER.write(decision, forged)).dynamic_metadata
    assert metadata is not None
    assert metadata.to_dict()["receipt"] == "r1"
    for question in (forged, PLAIN):
        headers, removed, _ = allowed(allow(), question)
        assert "x-tallygate-receipt" in removed


def test_a_problem_is_complete() -> None:
    """A refused caller reads type, title, status, detail, instance, reason, and what would help."""
    decision = deny(
        Reason.QUOTA_EXCEEDED,
        detail="The quota is used up: daily.",
        license_=license_of(upgrade_url="https://example.com/up"),
        states=(state(BURST, remaining=3), QUOTA_EXCEEDED),
    )
    assert problem(decision) == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": 429,
        "detail": "The quota is used up: daily.",
        "instance": "urn:tallygate:decision:d1",
        "reason": "quota_exceeded",
        "violated-policies": ["daily"],
        "retry_after_s": 3600,
        "upgrade_url": "https://example.com/up",
    }


def test_a_refused_limit_is_shown_in_headers() -> None:
    """Retry-After is the longest wait; the RateLimit fields show every limit, exceeded or not."""
    status, headers, _ = denied(deny(Reason.RATE_LIMITED, states=(RATE_EXCEEDED, QUOTA_EXCEEDED)))
    assert status == 429
    assert headers == {
        "retry-after": "3600",
        "ratelimit-policy": '"burst";q=50;w=1;tallygate-burst=100, "daily";q=1000;w=86400',
        "ratelimit": '"burst";r=0;t=1, "daily";r=0;t=3600',
        "cache-control": "no-store",
        "content-type": "application/problem+json",
    }


def test_nobody_is_told_to_wait_in_vain() -> None:
    """When one exceeded limit never frees up there is no Retry-After."""
    _, headers, body = denied(deny(Reason.CREDITS_EXHAUSTED, states=(RATE_EXCEEDED, NEVER)))
    assert "retry-after" not in headers
    assert "retry_after_s" not in body


@pytest.mark.parametrize("reason", [Reason.OVERLOADED, Reason.DEPENDENCY_DOWN])
def test_lost_capacity_says_when_to_come_back(reason: Reason) -> None:
    """A 503 carries a Retry-After though no limit knows one."""
    status, headers, _ = denied(deny(reason))
    assert (status, headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    ("reason", "challenge"),
    [
        (Reason.CREDENTIAL_MISSING, 'Bearer realm="things"'),
        (Reason.CREDENTIAL_AMBIGUOUS, 'Bearer realm="things", error="invalid_request"'),
        (Reason.TOKEN_EXPIRED, 'Bearer realm="things", error="invalid_token"'),
        (Reason.SCOPE_MISSING, 'Bearer realm="things", error="insufficient_scope", scope="reports.read"'),
        (Reason.NETWORK_DENIED, None),
        (Reason.RATE_LIMITED, None),
    ],
)
def test_challenges_are_those_of_rfc_6750(reason: Reason, challenge: str | None) -> None:
    """A caller learns what a credential must be like, where one would help."""
    route = RouteRule("GET", "/v1/reports", scope="reports.read")
    assert denied(deny(reason, route=route))[1].get("www-authenticate") == challenge


def test_a_realm_cannot_break_out_of_its_quotes() -> None:
    """Whatever the setting holds, the challenge is one header with one realm."""
    writer = ResponseWriter(realm='a"b\r\nset-cookie: c')
    assert denied(deny(Reason.CREDENTIAL_MISSING), writer=writer)[1]["www-authenticate"] == (
        'Bearer realm="a\\"b??set-cookie: c"'
    )


def test_revoked_and_unknown_are_the_same_bytes() -> None:
    """Neither HTTP nor gRPC callers can tell a token that was revoked from one that never was."""
    license_ = license_of(upgrade_url="https://example.com/up")
    revoked = deny(Reason.TOKEN_REVOKED, detail="The token has been revoked.", license_=license_, route=ROUTE)
    unknown = deny(Reason.TOKEN_UNKNOWN, detail="The API token is not known.")
    for question in (PLAIN, GRPC):
        assert denied(revoked, question) == denied(unknown, question)
    assert problem(revoked)["reason"] == "token_unknown"


@pytest.mark.parametrize("reason", DENIALS)
def test_a_grpc_caller_gets_code_and_words(reason: Reason) -> None:
    """Envoy would guess a code from the HTTP status; a header says it, and the body is the message."""
    _, headers, body = denied(deny(reason, detail="In words."), GRPC)
    assert headers["grpc-status"] == str(DENIALS[reason].grpc_code)
    assert "content-type" not in headers
    assert body == (DENIALS[reason].detail or "In words.")


@pytest.mark.parametrize("content_type", ["application/grpc-web", "application/grpc;x", "application/json", ""])
def test_what_envoy_does_not_take_for_grpc_gets_a_problem(content_type: str) -> None:
    """Our test for gRPC is Envoy's own, or the caller would get half of each."""
    _, headers, body = denied(deny(Reason.RATE_LIMITED), asked(content_type=content_type))
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["status"] == 429


def test_exhausted_credits_answer_as_set() -> None:
    """402 unless the operator wants 429, in the status line and in the body."""
    decision = deny(Reason.CREDITS_EXHAUSTED)
    assert denied(decision)[0] == 402
    status, _, body = denied(decision, writer=ResponseWriter(credits_status=429))
    assert (status, json.loads(body)["status"]) == (429, 429)


def test_our_own_problem_types_live_where_the_operator_says() -> None:
    """A company can document refusals on its own pages."""
    writer = ResponseWriter(problem_base_url="https://api.example.com/p/")
    _, _, body = denied(deny(Reason.FEATURE_MISSING), writer=writer)
    assert json.loads(body)["type"] == "https://api.example.com/p/feature-missing"


@pytest.mark.parametrize(("status", "sent"), [(429, 429), (0, 500), (200, 500), (999, 500)])
def test_a_status_that_is_no_refusal_is_never_sent(status: int, sent: int) -> None:
    """Envoy passes on any number it is given."""
    assert denied_response(status, {}, "").status.code == sent


ANY_TEXT = st.text(st.characters(), max_size=40)
FEATURES: st.SearchStrategy[dict[str, Feature]] = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_-]{0,9}", fullmatch=True),
    st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    max_size=5,
)


@given(features=FEATURES, scopes=st.frozensets(ANY_TEXT, max_size=3), detail=ANY_TEXT, grpc=st.booleans())
def test_no_text_can_break_a_response(
    features: dict[str, Feature], scopes: frozenset[str], detail: str, *, grpc: bool
) -> None:
    """Whatever plans and refusals hold, the answer is whole and its headers are printable ASCII."""
    question = GRPC if grpc else PLAIN
    license_ = license_of(scopes=scopes, features=features)
    headers, _, _ = allowed(allow(license_=license_), question)
    _, refusal, body = denied(Deny(Reason.ROUTE_DENIED, "d1", detail, license_), question)
    for value in (*headers.values(), *refusal.values()):
        assert value.isascii()
        assert value.isprintable()
    if not grpc:
        assert json.loads(body)["detail"] == detail

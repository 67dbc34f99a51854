"""Answers put together from kept pieces are the messages that would be built from nothing, for any decision."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from support.decisions import license_of
from support.envoy_oracle import parse_response
from support.slow_responses import REALM, slow_response

from tallygate._proto.envoy.v3.external_auth_pb2 import CheckResponse
from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.credentials.extract import Credential
from tallygate.decision.decision import Allow, CheckInput, Decision, Deny, Opinion, Reason
from tallygate.decision.denials import DENIALS
from tallygate.envoy.responses import ResponseWriter
from tallygate.licenses.license import CustomerStatus, Grant, License, Phase, Standing, Terms
from tallygate.licenses.routes import RouteRule
from tallygate.limits.limit import Limit, LimitKind
from tallygate.limits.limiter import LimitOutcome, LimitState

TEXT = st.text(st.characters(), max_size=20) | st.text(st.sampled_from("~^az\x00\x7f"), max_size=300)
UNITS = st.integers(-5, 2**60)
FEATURES = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_-]{0,9}", fullmatch=True),
    st.booleans() | st.integers() | st.floats() | TEXT,
    max_size=3,
)
GRANTS = st.builds(Grant, TEXT, TEXT, st.frozensets(TEXT, max_size=3), FEATURES, st.just(()))
PHASES = st.builds(Phase, st.datetimes(), st.sampled_from(Standing), GRANTS)
LICENSES = st.builds(
    License,
    TEXT,
    st.just(CustomerStatus.ACTIVE),
    TEXT,
    TEXT,
    TEXT,
    st.builds(Terms, st.tuples(PHASES)),
    st.just(1),
    st.none() | st.frozensets(TEXT, max_size=2),
)
METERS = st.sampled_from(["requests", "bytes", "tokens", "ü"])
ROUTES = st.builds(
    RouteRule,
    st.just("GET"),
    st.just("/v1/**"),
    st.dictionaries(METERS, st.integers(0, 2**53), max_size=2).map(lambda costs: tuple(costs.items())),
    st.none() | TEXT,
)
LIMITS = st.builds(
    Limit,
    TEXT,
    st.sampled_from(LimitKind),
    UNITS,
    METERS,
    window_us=st.sampled_from([0, 1, 1_000_000, 60_000_000]),
    burst=st.integers(0, 9),
    calendar=st.sampled_from([Calendar(PeriodUnit.DAY), Calendar(PeriodUnit.MONTH)]),
    is_shadow=st.booleans(),
)
STATES = st.lists(
    st.builds(LimitState, LIMITS, st.sampled_from(LimitOutcome), UNITS, st.none() | UNITS, st.none() | UNITS),
    max_size=4,
).map(tuple)
CREDENTIALS = st.builds(
    Credential,
    st.just("secret"),
    st.sampled_from([(), ("authorization",), ("authorization", "x-api-key")]),
    st.sampled_from([(), ("api_key",)]),
    st.none() | TEXT,
)
NAMES = st.sampled_from(
    [
        "accept",
        "x-tally-gate",
        "xx-tallygate-role",
        "x-tallygate",
        "x-tallygate-",
        "x-tallygate-role",
        "x-tallygate-plan",
        "x-tallygate-receipt",
        "x_tallygate_receipt",
        "x_tallygate_plan",
        "x-tallygate_features",
        "x-envoy-auth-failure-mode-allowed",
        "x-envoy-auth-failure-mode-allowed-not",
    ]
)
SPELT = st.builds(
    lambda name, upper: "".join(char.upper() if upper >> at & 1 else char for at, char in enumerate(name)),
    NAMES,
    st.just(0) | st.integers(0, 2**40),
)
SENT = st.dictionaries(SPELT, st.just("v"), max_size=5)
CONTENT_TYPES = st.sampled_from(
    ["application/json", "application/grpc", "application/grpc+proto", "application/grpc-web"]
)
ASKED = st.builds(lambda sent, kind: CheckInput("GET", "/", sent | {"content-type": kind}), SENT, CONTENT_TYPES)
OPINIONS = st.lists(st.builds(Opinion, TEXT, st.none() | st.sampled_from(Reason)), max_size=3).map(tuple)


@st.composite
def decisions(draw: st.DrawFn, license_: License | None = None) -> Decision:
    """Return any decision, of this license if one is given."""
    license_, route, states = license_ or draw(LICENSES), draw(ROUTES), draw(STATES)
    phase = license_.terms.phases[0]
    if draw(st.booleans()):
        reason, opinions = draw(st.sampled_from([Reason.OK, Reason.OVERAGE])), draw(OPINIONS)
        credential = draw(CREDENTIALS)
        receipt = draw(st.none() | TEXT.filter(bool))
        return Allow(reason, draw(TEXT), credential, license_, phase, route, states, opinions=opinions, receipt=receipt)
    is_known = draw(st.booleans())
    return Deny(
        draw(st.sampled_from(sorted(DENIALS))),
        draw(TEXT),
        draw(TEXT),
        license_ if is_known else None,
        phase if is_known else None,
        route if is_known else None,
        states,
    )


def parsed(answer: bytes) -> CheckResponse:
    """Return an answer as our own protos have it. The order of a refusal's headers, and of names removed, is free."""
    response = CheckResponse.FromString(answer)
    if response.HasField("ok_response"):
        response.ok_response.headers_to_remove.sort()
    else:
        response.denied_response.headers.sort(key=lambda option: option.header.key)
    return response


def assert_same(answer: bytes, decision: Decision, asked: CheckInput) -> None:
    """Hold an answer to what the slow way builds, as our protos read it and as Envoy's own do."""
    ours, plain = parsed(answer), parsed(slow_response(decision, asked).SerializeToString())
    assert ours == plain
    # The oracle reads the bytes that are sent: the slow ones only in the order of ours.
    theirs = parse_response(answer)
    if theirs.ok_response is not None:
        theirs.ok_response.headers_to_remove.sort()
    if theirs.denied_response is not None:
        theirs.denied_response.headers.sort(key=lambda option: option.header.key if option.header else "")
    assert theirs == parse_response(plain.SerializeToString())


@given(decision=decisions(), asked=ASKED)
def test_an_answer_is_the_one_built_from_nothing(decision: Decision, asked: CheckInput) -> None:
    """No text, length or combination makes the pieces another message, the first time or when they are kept."""
    writer = ResponseWriter(realm=REALM)
    first = writer.write(decision, asked)
    assert_same(first, decision, asked)
    assert writer.write(decision, asked) == first


KEEPING = ResponseWriter(realm=REALM)
HOLDERS = [license_of(), license_of(), license_of(scopes=frozenset(), features={"a": True})]


@given(decision=st.sampled_from(HOLDERS).flatmap(decisions), asked=ASKED)
def test_what_is_kept_is_given_to_nobody_else(decision: Decision, asked: CheckInput) -> None:
    """One writer answers for many licenses, routes, limits and credentials, in any order, and mixes nothing up."""
    assert_same(KEEPING.write(decision, asked), decision, asked)


@given(st.lists(TEXT, min_size=1, max_size=5))
def test_a_change_is_seen_at_once(customers: list[str]) -> None:
    """A license that was read anew is another one, though the one before is gone and its place in memory taken."""
    asked = CheckInput("GET", "/", {})
    writer = ResponseWriter(realm=REALM)
    for customer in customers:
        license_ = replace(license_of(), customer=customer)
        decision = Allow(
            Reason.OK, "d1", Credential("t"), license_, license_.terms.phases[0], RouteRule("*", "/**"), ()
        )
        assert_same(writer.write(decision, asked), decision, asked)
        del license_, decision

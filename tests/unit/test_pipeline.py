"""The story of a request: each way it can end, in which order it is told, and what it consumes."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from support.pipelines import (
    FORMAT,
    GRANT,
    HOME,
    LICENSE,
    NOW,
    PEPPER,
    PHASE,
    TERMS,
    TOKEN,
    UNKNOWN,
    Desk,
    credits_of,
    request,
)
from support.terms import terms_of

from tallygate.core.errors import OverloadedError
from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.credentials.extract import CredentialPlaces
from tallygate.decision.decision import Allow, CheckInput, Deny, Reason
from tallygate.decision.pipeline import Pipeline, decision_ids
from tallygate.licenses.license import CustomerStatus, Standing, Terms
from tallygate.licenses.routes import RouteRule
from tallygate.limits.limit import Limit, LimitKind
from tallygate.tokens.digest import Pepper, Peppers

HOUR = timedelta(hours=1)
DAILY = Limit("daily", LimitKind.QUOTA, 2, calendar=Calendar(PeriodUnit.DAY))
BURST = Limit("burst", LimitKind.RATE, 1, window_us=1_000_000, burst=1)

Change = Callable[[Desk], None]


async def test_a_good_request_is_allowed_with_everything_its_answer_needs() -> None:
    """An Allow carries the license, the route, the credential to remove and where each limit stands."""
    desk = Desk()
    desk.issue(DAILY)
    decision = await desk.check()
    assert isinstance(decision, Allow)
    assert (decision.reason, decision.decision_id) == (Reason.OK, "decision-1")
    assert decision.license.customer == "cus_1"
    assert decision.credential.remove_headers == ("authorization",)
    assert decision.route.text == "* /**"
    assert [(state.limit.name, state.remaining) for state in decision.states] == [("daily", 1)]
    assert (decision.degraded, decision.is_repeat) == (None, False)


UNPAID = Terms((replace(PHASE, standing=Standing.SUSPENDED, is_unpaid=True),))
ENDS: dict[Reason, tuple[Change, CheckInput]] = {
    Reason.CREDENTIAL_MISSING: (lambda _: None, request(headers={})),
    Reason.CREDENTIAL_AMBIGUOUS: (lambda _: None, request(headers={"x-api-key": "a,b"})),
    Reason.TOKEN_MALFORMED: (lambda _: None, request(token=TOKEN.text[:-1] + "!")),
    Reason.TOKEN_UNKNOWN: (lambda _: None, request(token=UNKNOWN.text)),
    Reason.TOKEN_REVOKED: (lambda desk: desk.issue(license_=replace(LICENSE, revoked_at=NOW)), request()),
    Reason.TOKEN_DISABLED: (lambda desk: desk.issue(license_=replace(LICENSE, disabled_at=NOW)), request()),
    Reason.TOKEN_EXPIRED: (lambda desk: desk.issue(license_=replace(LICENSE, expires_at=NOW)), request()),
    Reason.TOKEN_NOT_YET_VALID: (
        lambda desk: desk.issue(license_=replace(LICENSE, not_before_at=NOW + HOUR)),
        request(),
    ),
    Reason.CUSTOMER_SUSPENDED: (
        lambda desk: desk.issue(license_=replace(LICENSE, customer_status=CustomerStatus.SUSPENDED)),
        request(),
    ),
    Reason.SUBSCRIPTION_ENDED: (lambda desk: desk.issue(terms=terms_of(GRANT, ends_at=NOW)), request()),
    Reason.SUBSCRIPTION_SUSPENDED: (lambda desk: desk.issue(terms=terms_of(GRANT, suspended_at=NOW)), request()),
    Reason.PAYMENT_REQUIRED: (lambda desk: desk.issue(terms=UNPAID), request()),
    Reason.NETWORK_DENIED: (
        lambda desk: desk.issue(license_=replace(LICENSE, networks=HOME)),
        request(client_address="198.51.100.1"),
    ),
    Reason.ROUTE_DENIED: (lambda desk: setattr(desk, "rules", (RouteRule("GET", "/v2/**"),)), request()),
    Reason.SCOPE_MISSING: (
        lambda desk: setattr(desk, "rules", (RouteRule("*", "/**", scope="things.delete"),)),
        request(),
    ),
    Reason.FEATURE_MISSING: (
        lambda desk: setattr(desk, "rules", (RouteRule("*", "/**", feature="beta"),)),
        request(),
    ),
    Reason.QUOTA_EXCEEDED: (lambda desk: desk.issue(replace(DAILY, amount=0)), request()),
    Reason.RATE_LIMITED: (lambda desk: desk.issue(replace(BURST, burst=0)), request()),
    Reason.CONCURRENCY_EXCEEDED: (
        lambda desk: desk.issue(Limit("none", LimitKind.CONCURRENCY, 0, hold_s=1)),
        request(),
    ),
    Reason.CREDITS_EXHAUSTED: (lambda desk: desk.issue(credits_of("prepaid", 0)), request()),
    Reason.OVERLOADED: (lambda desk: setattr(desk.counters, "failure", OverloadedError("full")), request()),
    Reason.DEPENDENCY_DOWN: (lambda desk: desk.lose(credits_of("any", 9)), request()),
}


@pytest.mark.parametrize("reason", ENDS)
async def test_every_refusal_is_reached(reason: Reason) -> None:
    """Each reason of the table is what a caller in exactly that situation is told, with a sentence."""
    change, asked = ENDS[reason]
    desk = Desk()
    change(desk)
    decision = await desk.check(asked)
    assert isinstance(decision, Deny)
    assert decision.reason is reason
    assert decision.detail.endswith(".")


def test_no_reason_is_forgotten() -> None:
    """Every reason but the allowing ones has a situation above."""
    assert set(Reason) - set(ENDS) == {Reason.OK, Reason.OVERAGE, Reason.SHADOW}


BEFORE_LIMITS = [reason for reason, (_, asked) in ENDS.items()][:16]


@pytest.mark.parametrize("reason", BEFORE_LIMITS)
async def test_a_refusal_before_the_limits_consumes_nothing(reason: Reason) -> None:
    """A request refused for another reason never reaches the counters."""
    change, asked = ENDS[reason]
    desk = Desk()
    change(desk)
    await desk.check(asked)
    assert desk.counters.calls == 0


async def test_a_bad_form_is_refused_before_any_look_up() -> None:
    """Junk costs no read of the store: it is refused even while the store is down."""
    desk = Desk()
    desk.store.is_available = False
    assert (await desk.check(request(token="tg_live_" + "0" * 36))).reason is Reason.TOKEN_MALFORMED
    assert (await desk.check(request(headers={}))).reason is Reason.CREDENTIAL_MISSING


async def test_a_lost_store_is_told_as_such() -> None:
    """A token that cannot be looked up is not called unknown."""
    desk = Desk()
    desk.store.is_available = False
    decision = await desk.check()
    assert decision.reason is Reason.DEPENDENCY_DOWN
    assert decision.license is None


@pytest.mark.parametrize("need", ["scope", "feature"])
async def test_a_refusal_by_the_route_carries_the_route(need: str) -> None:
    """The caller is to be told which scope was needed, so the decision has to know."""
    desk = Desk()
    desk.rules = (RouteRule("*", "/**", **{need: "things.delete"}),)  # type: ignore[arg-type]  # a field of it
    decision = await desk.check()
    assert decision.route == desk.rules[0]


async def test_a_known_token_outlives_the_store() -> None:
    """Whoever was served before Postgres was lost is served while it is away."""
    desk = Desk()
    await desk.check()
    desk.store.is_available = False
    desk.clock.advance(600)
    assert (await desk.check()).reason is Reason.OK


async def test_routes_that_were_never_read_are_a_lost_dependency() -> None:
    """Without the route table nothing can be priced, so nothing passes, and nothing is raised."""
    desk = Desk()
    assert (await desk.pipeline.check(request())).reason is Reason.DEPENDENCY_DOWN


async def test_too_many_waiting_look_ups_are_an_overload() -> None:
    """A bounded queue that is full refuses at once, and says so."""

    class Full:
        """A license source whose queue is full."""

        routes = None

        def at_hand(self, _digests: object) -> None:
            """Know nothing."""

        async def get(self, _digests: object) -> None:
            """Refuse."""
            raise OverloadedError("full")

    desk = Desk()
    desk.pipeline._licenses = Full()  # type: ignore[assignment]  # no routes are met
    decision = await desk.pipeline.check(request())
    assert (decision.reason, decision.license) == (Reason.OVERLOADED, None)


async def test_the_order_of_reasons() -> None:
    """Whoever is wrong in every way is told of the earliest step, then of the next one mended."""
    desk = Desk()
    desk.rules = (RouteRule("GET", "/v1/things", scope="things.delete", feature="beta"),)
    everything_wrong = replace(
        LICENSE,
        terms=terms_of(GRANT, ends_at=NOW),
        customer_status=CustomerStatus.CLOSED,
        networks=HOME,
        revoked_at=NOW,
        disabled_at=NOW,
        expires_at=NOW,
        not_before_at=NOW + HOUR,
    )
    may_delete = replace(GRANT, scopes=frozenset({"things.delete"}))
    far, wrong_path = request(client_address="198.51.100.1"), request("/v2")
    mends: list[tuple[CheckInput, dict[str, object]]] = [
        (far, {}),
        (far, {"revoked_at": None}),
        (far, {"disabled_at": None}),
        (far, {"expires_at": None}),
        (far, {"not_before_at": None}),
        (far, {"customer_status": CustomerStatus.ACTIVE}),
        (far, {"terms": terms_of(GRANT, suspended_at=NOW)}),
        (far, {"terms": TERMS}),
        (wrong_path, {}),
        (request(), {}),
        (request(), {"terms": terms_of(may_delete)}),
        (request(), {"terms": terms_of(replace(may_delete, features={"beta": True}))}),
    ]
    told, license_ = [], everything_wrong
    for asked, mend in mends:
        license_ = replace(license_, **mend)  # type: ignore[arg-type]  # fields of License
        desk.issue(terms=license_.terms, license_=license_)
        told.append((await desk.check(asked)).reason.value)
    assert told == [
        "token_revoked",
        "token_disabled",
        "token_expired",
        "token_not_yet_valid",
        "customer_suspended",
        "subscription_ended",
        "subscription_suspended",
        "network_denied",
        "route_denied",
        "scope_missing",
        "feature_missing",
        "ok",
    ]


async def test_time_is_compared_at_each_request() -> None:
    """A token expires, and another becomes valid, on time and without anybody writing anything."""
    desk = Desk()
    desk.issue(license_=replace(LICENSE, not_before_at=NOW + HOUR, expires_at=NOW + 2 * HOUR))
    told = []
    for _ in range(3):
        told.append((await desk.check()).reason.value)
        desk.clock.advance(HOUR.total_seconds())
    assert told == ["token_not_yet_valid", "ok", "token_expired"]


async def test_a_token_in_a_configured_place_counts() -> None:
    """The query parameter and the cookie are read when configured, and only then."""
    target, cookie = f"/v1/things?key={TOKEN.text}", {"cookie": f"session={TOKEN.text}"}
    closed, opened = Desk(), Desk(CredentialPlaces(query_parameter="key", cookie="session"))
    assert (await closed.check(request(target, headers={}))).reason is Reason.CREDENTIAL_MISSING
    assert (await opened.check(request(target, headers={}))).reason is Reason.OK
    assert (await opened.check(request(headers=cookie))).reason is Reason.OK
    assert (await opened.check(request(f"/?key={UNKNOWN.text}"))).reason is Reason.CREDENTIAL_AMBIGUOUS


async def test_a_token_of_the_previous_pepper_still_works() -> None:
    """While a pepper is being rotated, tokens stored under the old one are found."""
    desk = Desk()
    await desk.check()
    rotated = Pipeline(
        licenses=desk.cache,
        limiter=desk.counters,
        local=desk.local,
        token_format=FORMAT,
        peppers=Peppers(Pepper("a new pepper, as long as it has to be"), PEPPER),
        clock=desk.clock,
    )
    assert (await rotated.check(request())).reason is Reason.OK


def test_decision_ids_are_their_own() -> None:
    """Each decision can be told from every other in logs."""
    new_id = decision_ids()
    made = {new_id() for _ in range(1000)}
    assert len(made) == 1000
    assert {len(item) for item in made} == {32}

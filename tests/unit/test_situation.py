"""Situations: what is worked out once for a license holds as long as it should, and no longer."""

from dataclasses import replace
from datetime import timedelta

import pytest
from support.pipelines import GRANT, LICENSE, NOW, PHASE, Desk, credits_of, request
from support.terms import terms_of

from tallygate.decision.decision import Reason
from tallygate.decision.rules import Refusal
from tallygate.decision.situation import Situation, Situations
from tallygate.licenses.license import FirstUseTrial, Standing, Terms
from tallygate.licenses.routes import EVERYTHING, RouteRule

HOUR = timedelta(hours=1)
OVER = replace(PHASE, standing=Standing.SUSPENDED)


def test_the_same_license_is_worked_out_once() -> None:
    """Requests of a license share its situation and what its routes consume, the same objects."""
    situations = Situations()
    first, again = situations.of(LICENSE, NOW), situations.of(LICENSE, NOW + HOUR)
    assert first is again
    assert first.passage(EVERYTHING) is again.passage(EVERYTHING)
    one, other = (first.passage(EVERYTHING).asking(request_id, "d") for request_id in ("1", "2"))
    assert (one.charges is other.charges, one.subject is other.subject) == (True, True)
    assert (one.idempotency_key, other.idempotency_key) == ("1", "2")


def test_another_license_of_the_token_is_another_situation() -> None:
    """A license that was read anew and changed is never decided by what was worked out for the one before."""
    situations = Situations()
    situations.of(LICENSE, NOW)
    revoked = replace(LICENSE, revoked_at=NOW)
    refusal = situations.of(revoked, NOW).refusal
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.TOKEN_REVOKED
    assert situations.of(LICENSE, NOW).refusal is None


def test_every_instant_of_a_license_ends_a_situation() -> None:
    """Phases and a token's own times take effect in the microsecond they name, forwards and after a step back."""
    ended = replace(PHASE, starts_at=NOW + 3 * HOUR, standing=Standing.CANCELED)
    token = replace(
        LICENSE,
        terms=Terms((PHASE, ended)),
        not_before_at=NOW + HOUR,
        expires_at=NOW + 2 * HOUR,
    )
    situations, moment = Situations(), timedelta(microseconds=1)
    told = {
        at: getattr(situations.of(token, at).refusal, "reason", None)
        for at in (NOW, NOW + HOUR - moment, NOW + HOUR, NOW + 2 * HOUR - moment, NOW + 2 * HOUR, NOW + HOUR)
    }
    assert list(told.values()) == [
        Reason.TOKEN_NOT_YET_VALID,
        Reason.TOKEN_NOT_YET_VALID,
        None,
        None,
        Reason.TOKEN_EXPIRED,
    ]
    assert situations.of(token, NOW + 3 * HOUR).phase is ended


def test_a_route_that_was_replaced_is_another_passage() -> None:
    """Passages belong to the very rule: one with another price, or another scope, is worked out for itself."""
    situation = Situation.at(NOW, LICENSE, None)
    cheap, dear = RouteRule("*", "/**"), RouteRule("*", "/**", (("requests", 5),))
    assert situation.passage(cheap).acquisition.usage == (("requests", 1),)
    assert situation.passage(dear).acquisition.usage == (("requests", 5),)
    closed = situation.passage(RouteRule("*", "/**", scope="nobody.has.it")).refusal
    assert isinstance(closed, Refusal)
    assert closed.reason is Reason.SCOPE_MISSING


async def test_situations_are_bounded() -> None:
    """However many tokens are in use, what is remembered of them is bounded, and decisions stay right."""
    situations = Situations()
    for number in range(10_050):
        situations.of(replace(LICENSE, token=f"tok_{number}"), NOW)
    assert len(situations._known) <= 10_000
    desk = Desk()
    desk.issue(credits_of("prepaid", 2), terms=terms_of(GRANT))
    assert [(await desk.check(request())).reason.value for _ in range(3)] == ["ok", "ok", "credits_exhausted"]


def test_passages_are_bounded_however_many_routes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routes times tokens is no bound: the oldest passages go, those of route tables long replaced among them."""
    monkeypatch.setattr("tallygate.decision.situation._KEPT_PASSAGES", 10)
    situations = Situations()
    several = [situations.of(replace(LICENSE, token=f"tok_{number}"), NOW) for number in range(3)]
    for number in range(40):
        route = RouteRule("*", f"/{number}")
        for situation in several:
            assert situation.passage(route) is situation.passage(route)
            assert situation.passage(route).route is route
    assert sum(len(situation._passages) for situation in several) == 10


def test_a_trial_from_first_use_shares_what_is_worked_out_too() -> None:
    """Requests of a trial send the same objects, or each would push another customer's out of what is kept ready."""
    situations, waiting = Situations(), replace(LICENSE, terms=Terms((PHASE,), FirstUseTrial(3600, (OVER,))))
    before, trying = situations.of(waiting, NOW), situations.of(waiting, NOW, NOW)
    assert before is not trying
    assert situations.of(waiting, NOW + HOUR / 2, NOW).passage(EVERYTHING) is trying.passage(EVERYTHING)
    assert situations.of(waiting, NOW + HOUR, NOW).phase.standing is Standing.SUSPENDED

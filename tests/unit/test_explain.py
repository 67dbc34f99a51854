"""A decision told step by step: the steps follow from the decision, and looking consumes nothing."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from support.pipelines import LICENSE, NOW, Desk, credits_of, request

from tallygate.core.errors import OverloadedError
from tallygate.decision.decision import Allow, Decision, Deny, Reason
from tallygate.decision.explain import StepOutcome, steps_of
from tallygate.licenses.routes import RouteRule

STEPS = [
    "credential",
    "token form",
    "license",
    "token state",
    "subscription",
    "network",
    "route",
    "scope and feature",
    "limits",
]
STOPS = {
    Reason.CREDENTIAL_MISSING: "credential",
    Reason.CREDENTIAL_AMBIGUOUS: "credential",
    Reason.TOKEN_MALFORMED: "token form",
    Reason.TOKEN_UNKNOWN: "license",
    Reason.TOKEN_REVOKED: "token state",
    Reason.TOKEN_DISABLED: "token state",
    Reason.TOKEN_EXPIRED: "token state",
    Reason.TOKEN_NOT_YET_VALID: "token state",
    Reason.CUSTOMER_SUSPENDED: "subscription",
    Reason.SUBSCRIPTION_ENDED: "subscription",
    Reason.SUBSCRIPTION_SUSPENDED: "subscription",
    Reason.NETWORK_DENIED: "network",
    Reason.ROUTE_DENIED: "route",
    Reason.SCOPE_MISSING: "scope and feature",
    Reason.FEATURE_MISSING: "scope and feature",
    Reason.RATE_LIMITED: "limits",
    Reason.QUOTA_EXCEEDED: "limits",
    Reason.CREDITS_EXHAUSTED: "limits",
    Reason.CONCURRENCY_EXCEEDED: "limits",
    Reason.PAYMENT_REQUIRED: "subscription",
    Reason.OVERLOADED: "license",
    Reason.DEPENDENCY_DOWN: "license",
}


def refused_at(decision: Decision) -> str:
    """Return the step that refused; every one before must have passed and none after been reached."""
    steps = steps_of(decision)
    assert [step.name for step in steps] == STEPS
    outcomes = [step.outcome for step in steps]
    at = outcomes.index(StepOutcome.REFUSED)
    assert set(outcomes[:at]) <= {StepOutcome.PASSED}
    assert set(outcomes[at + 1 :]) <= {StepOutcome.NOT_REACHED}
    return steps[at].name


@pytest.mark.parametrize("reason", STOPS)
def test_every_reason_stops_at_its_step(reason: Reason) -> None:
    """The explanation points at the step that really refused, in its own words."""
    decision = Deny(reason, "d", "In words.")
    assert refused_at(decision) == STOPS[reason]
    assert [step.detail for step in steps_of(decision) if step.outcome is StepOutcome.REFUSED] == ["In words."]


def test_no_reason_is_forgotten() -> None:
    """A new reason has to say where it stops."""
    assert set(Reason) - set(STOPS) == {Reason.OK, Reason.OVERAGE, Reason.SHADOW}


@pytest.mark.parametrize("reason", [Reason.OVERLOADED, Reason.DEPENDENCY_DOWN])
def test_lost_counters_stop_at_the_limits(reason: Reason) -> None:
    """When the license was read, what was lost are the counters."""
    assert refused_at(Deny(reason, "d", "In words.", LICENSE)) == "limits"


async def test_an_allowed_request_shows_what_each_step_saw() -> None:
    """Whoever asks why a request passes reads license, route, scopes and what is left."""
    desk = Desk()
    desk.rules = (RouteRule("GET", "/v1/reports/{id}", (("requests", 5), ("bytes", 2)), scope="things.read"),)
    desk.issue(credits_of("prepaid", 9), license_=replace(LICENSE, networks=(ip_network("192.0.2.0/24"),)))
    steps = steps_of(await desk.explain(request("/v1/reports/7")))
    assert {step.outcome for step in steps} == {StepOutcome.PASSED}
    assert {step.name: step.detail for step in steps} == {
        "credential": "",
        "token form": "",
        "license": "cus_1 on pro@3, sub_1",
        "token state": "tok_1 of fam_1",
        "subscription": "active, customer active",
        "network": "192.0.2.0/24",
        "route": "GET /v1/reports/{id}, costs 5 requests, 2 bytes",
        "scope and feature": "things.read things.write",
        "limits": "prepaid: 4 would be left",
    }


async def test_a_refusal_shows_what_the_steps_before_it_saw() -> None:
    """A token without networks may be used from anywhere; a refused route has nothing to show after it."""
    desk = Desk()
    desk.rules = (RouteRule("GET", "/v2"),)
    seen = {step.name: step.detail for step in steps_of(await desk.explain())}
    assert seen["network"] == "from anywhere"
    assert seen["route"] == "No plan covers this method and path."
    assert (seen["scope and feature"], seen["limits"]) == ("", "")


async def test_looking_consumes_nothing_and_decides_the_same() -> None:
    """However often somebody looks, the one unit is still there; once it is used, looking says so."""
    desk = Desk()
    desk.issue(credits_of("one", 1))
    looked = [await desk.explain() for _ in range(3)]
    assert all(isinstance(decision, Allow) for decision in looked)
    taken = await desk.check()
    assert taken.reason is Reason.OK
    assert (await desk.explain()).reason is (await desk.check()).reason is Reason.CREDITS_EXHAUSTED


async def test_looking_meets_the_same_losses() -> None:
    """An explanation while too many wait is refused like a request, and told at the step it met that."""
    desk = Desk()
    desk.counters.failure = OverloadedError("full")
    desk.issue(credits_of("one", 1))
    assert refused_at(await desk.check()) == "limits"
    desk.issue(license_=replace(LICENSE, revoked_at=NOW))
    assert refused_at(await desk.explain()) == "token state"

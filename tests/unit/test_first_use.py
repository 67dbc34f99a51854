"""When a trial from first use begins: with the first request that was allowed, and with no other."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from support.pipelines import LICENSE, NOW, PHASE, Desk, credits_of, request

from tallygate.decision.decision import CheckInput, Reason
from tallygate.licenses.license import FirstUseTrial, License, Standing, Terms

WEEK = timedelta(days=7)
TRYING = replace(PHASE, standing=Standing.TRIALING)
OVER = replace(PHASE, standing=Standing.SUSPENDED)
TERMS = Terms((TRYING,), FirstUseTrial(int(WEEK.total_seconds()), (OVER,)))


@pytest.mark.parametrize(
    ("licensed", "asked"),
    [
        (lambda entry: replace(entry, revoked_at=NOW), request()),
        (lambda entry: replace(entry, expires_at=NOW), request()),
        (lambda entry: entry, request("/v1;/things")),
    ],
    ids=["revoked", "expired", "no route"],
)
async def test_what_is_refused_begins_no_trial(licensed: Callable[[License], License], asked: CheckInput) -> None:
    """A leaked key that was revoked, or a request for nothing that exists, does not use up a customer's trial."""
    desk = Desk()
    desk.issue(terms=TERMS, license_=licensed(LICENSE))
    assert (await desk.check(asked)).reason not in {Reason.OK, Reason.SUBSCRIPTION_SUSPENDED}
    desk.issue(terms=TERMS)
    desk.clock.advance(WEEK.total_seconds())
    assert (await desk.check()).reason is Reason.OK
    desk.clock.advance(WEEK.total_seconds())
    assert (await desk.check()).reason is Reason.SUBSCRIPTION_SUSPENDED


async def test_a_trial_goes_on_while_nobody_knows_when_it_began() -> None:
    """Losing the counter store ends no trial, and what was known before stays known."""
    desk = Desk()
    desk.issue(terms=TERMS)
    desk.counters.lose()
    assert (await desk.check()).reason is Reason.OK
    desk.counters.failure = None
    assert (await desk.check()).reason is Reason.OK
    desk.counters.lose()
    desk.clock.advance(WEEK.total_seconds())
    assert (await desk.check()).reason is Reason.SUBSCRIPTION_SUSPENDED


async def test_what_a_limit_refuses_begins_no_trial() -> None:
    """Only what was served is use: the trial waits for the first request that passes its limits."""
    desk = Desk()
    without = replace(TRYING, grant=replace(PHASE.grant, limits=(credits_of("none", 0),)))
    desk.issue(terms=replace(TERMS, phases=(without,)))
    assert (await desk.check()).reason is Reason.CREDITS_EXHAUSTED
    desk.issue(terms=TERMS)
    desk.clock.advance(WEEK.total_seconds())
    assert (await desk.check()).reason is Reason.OK

"""When a trial from first use begins: with the first request that was allowed, and with no other."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from support.pipelines import LICENSE, NOW, PEPPER, PHASE, TOKEN, Desk, credits_of, request

from tallygate.decision.decision import CheckInput, Reason
from tallygate.licenses.license import FirstUseTrial, License, Standing, Terms
from tallygate.limits.limiter import Subject

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


async def test_a_license_that_knows_asks_nobody() -> None:
    """With the counters lost and this process new, the instant in the license ends the trial on time."""
    desk = Desk()
    desk.issue(terms=TERMS, license_=replace(LICENSE, first_used_at=NOW - WEEK + timedelta(microseconds=1)))
    desk.counters.lose()
    assert (await desk.check()).reason is Reason.OK
    desk.clock.advance(1e-6)
    assert (await desk.check()).reason is Reason.SUBSCRIPTION_SUSPENDED


async def test_what_the_license_knows_is_not_begun_anew() -> None:
    """Of a subscription whose first use is on record the counter store is not told, whatever it has lost."""
    desk = Desk()
    desk.issue(terms=TERMS, license_=replace(LICENSE, first_used_at=NOW - timedelta(days=1)))
    assert (await desk.check()).reason is Reason.OK
    assert await desk.counters.first_used_at(Subject("cus_1", "sub_1", "fam_1"), is_look=True) is None


async def test_a_first_use_is_handed_on_until_the_license_has_it() -> None:
    """From the request that was allowed on; one that was refused, and an explanation, are no use."""
    desk = Desk()
    desk.issue(terms=TERMS)
    assert (await desk.explain()).reason is Reason.OK
    assert (await desk.check(request("/v1;/things"))).reason is Reason.ROUTE_DENIED
    await desk.first_uses.hand_on(desk.store)
    assert await first_used_at(desk) is None
    assert (await desk.check()).reason is Reason.OK
    desk.clock.advance(60)
    assert (await desk.check()).reason is Reason.OK
    await desk.first_uses.hand_on(desk.store)
    assert await first_used_at(desk) == NOW


async def first_used_at(desk: Desk) -> datetime | None:
    """Return what the store has for `TOKEN`."""
    found = (await desk.store.find([PEPPER.digest(TOKEN).value])).license
    assert found is not None
    return found.first_used_at

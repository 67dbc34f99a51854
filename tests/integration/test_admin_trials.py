"""Moving subscriptions between versions, and their trials: a move begins, ends and revives none."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from support.office import NOW, Office, office
from support.servers import Database

from tallygate.plans.document import Catalogue
from tallygate.plans.parse import parse

DAY = timedelta(days=1)
_TRIALS = """
plans:
  - {key: convert, name: NAME, trial: {days: 14}, limits: [{name: all, credits: 100}]}
  - {key: suspend, name: NAME, trial: {days: 14, at_end: suspend}, limits: [{name: all, credits: 100}]}
  - {key: cancel, name: NAME, trial: {days: 14, at_end: cancel}, limits: [{name: all, credits: 100}]}
"""


def trials(name: str) -> Catalogue:
    """Return plans with trials that end in different ways; another name makes another version of each."""
    return parse(_TRIALS.replace("NAME", name), "trials.yaml")


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Office]:
    """An office with two versions of each plan, and three customers."""
    async with office(database) as opened:
        for name in ("Old", "New"):
            await opened.plans.apply(trials(name))
        for key in ("one", "two", "three"):
            await opened.customers.create(key, None)
        yield opened


@pytest.mark.parametrize(("plan", "status"), [("suspend", "suspended"), ("cancel", "canceled")])
async def test_a_move_does_not_revive_who_never_paid(desk: Office, plan: str, status: str) -> None:
    """A trial that ended in suspension or cancellation stays ended, and is counted; a change by hand does revive."""
    made = await desk.subscriptions.create("one", f"{plan}@1")
    desk.clock.advance((14 * DAY).total_seconds())
    done = await desk.operations.versions.migrate(f"{plan}@1", f"{plan}@2")
    assert (done.eligible, done.moved, done.trialing, done.ended) == (1, 0, 0, 1)
    left = await desk.subscriptions.show(made.id)
    assert (left.status, left.plan, left.changes) == (status, f"{plan}@1", ())
    assert (await desk.contracts.change(made.id, f"{plan}@2", reason="they bought it")).status == "active"
    done = await desk.operations.versions.migrate(f"{plan}@2", f"{plan}@1")
    assert (done.eligible, done.moved, done.ended) == (1, 1, 0)


async def test_a_move_takes_no_trial_away_that_is_paused_or_lies_ahead(desk: Office) -> None:
    """Suspended, past due or not begun: each has its whole trial when it goes on, and moves after it."""
    ahead = await desk.subscriptions.create("one", "convert@1", starts_at=NOW + 5 * DAY)
    paused = await desk.subscriptions.create("two", "convert@1")
    due = await desk.subscriptions.create("three", "convert@1")
    await desk.subscriptions.suspend(paused.id)
    await desk.customers.set_status("three", "past_due")
    migrate = desk.operations.versions.migrate
    done = await migrate("convert@1", "convert@2")
    assert (done.eligible, done.moved, done.trialing, done.ended) == (3, 0, 3, 0)
    await desk.subscriptions.resume(paused.id)
    await desk.customers.set_status("three", "active")
    ends = [(await desk.subscriptions.show(each.id)).trial_ends_at for each in (paused, due)]
    assert ends == [NOW + 14 * DAY] * 2
    steps = (await desk.subscriptions.show(ahead.id)).phases
    assert [(step.at, step.status) for step in steps] == [(NOW + 5 * DAY, "trialing"), (NOW + 19 * DAY, "active")]
    desk.clock.advance((19 * DAY).total_seconds())
    assert (await migrate("convert@1", "convert@2")).moved == 3


async def test_an_unpaid_or_suspended_contract_moves_and_stays_what_it_was(desk: Office) -> None:
    """Only trials are left behind: who is on the plan for good moves, and is served no sooner for it."""
    paused = await desk.subscriptions.create("one", "convert@1")
    due = await desk.subscriptions.create("two", "convert@1")
    desk.clock.advance((20 * DAY).total_seconds())
    await desk.subscriptions.suspend(paused.id)
    await desk.customers.set_status("two", "past_due")
    assert (await desk.operations.versions.migrate("convert@1", "convert@2")).moved == 2
    for each in (paused, due):
        moved = await desk.subscriptions.show(each.id)
        assert (moved.plan, moved.status) == ("convert@2", "suspended")

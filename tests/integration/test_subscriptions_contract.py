"""A contract's life on a real database: trial, changes, terms of its own, credits, pauses and ends.

What the license says of it is read as the data plane reads it, at instants of the test's own choosing.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from support.offers import offers
from support.office import NOW, Office, office
from support.servers import Database

from tallygate.admin import contracts
from tallygate.admin.records import Subscription, as_json
from tallygate.core.errors import ConflictError, InputError, NotFoundError
from tallygate.licenses.license import Phase, Standing, Terms
from tallygate.plans.contract import Carry
from tallygate.plans.overrides import InvalidOverridesError
from tallygate.tokens.format import Environment

DAY = timedelta(days=1)


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Office]:
    """An office with the offers published, and customer `acme`."""
    async with office(database) as opened:
        await opened.plans.apply(offers())
        await opened.customers.create("acme", None)
        yield opened


async def terms_of(desk: Office, subscription: Subscription) -> Terms:
    """Return what a new token of the subscription may do, as the data plane reads it."""
    secret = (await desk.tokens.issue(subscription=subscription.id)).secret
    license_ = await desk.license_of(secret)
    assert license_ is not None
    return license_.terms


def amount(phase: Phase, name: str = "monthly") -> int:
    """Return how much a phase allows by one of its limits."""
    return next(limit.amount for limit in phase.grant.limits if limit.name == name)


async def test_a_trial_falls_back_to_the_version_that_was_offered_when_it_began(desk: Office) -> None:
    """The end of a trial is pinned at its beginning, is in the license, and comes without anybody's help."""
    made = await desk.subscriptions.create("acme", "trial")
    assert (made.status, made.plan, made.trial_to) == ("trialing", "trial@1", "free@1")
    assert made.trial_ends_at == NOW + 14 * DAY
    assert [(each.at, each.status, each.plan) for each in made.phases] == [(NOW + 14 * DAY, "active", "free@1")]
    terms = await terms_of(desk, made)
    assert [amount(terms.phase_at(NOW + days * DAY)) for days in (0, 13, 14, 400)] == [500, 500, 100, 100]
    desk.clock.advance((14 * DAY).total_seconds())
    after = await desk.subscriptions.show(made.id)
    assert (after.status, after.plan, after.pinned, after.trial_ends_at) == ("active", "free@1", "trial@1", None)


async def test_a_change_now_takes_force_now(desk: Office) -> None:
    """The record, the license and the audit entry say the same; the version it was made on stays on record."""
    made = await desk.subscriptions.create("acme", "free")
    desk.clock.advance(60)
    changed = await desk.contracts.change(made.id, "pro", reason="they grew")
    assert (changed.plan, changed.pinned, changed.status, changed.revision) == ("pro@1", "free@1", "active", 2)
    assert [(each.at, each.plan, each.carry) for each in changed.changes] == [
        (NOW + timedelta(minutes=1), "pro@1", "carry")
    ]
    terms = await terms_of(desk, made)
    assert [terms.phase_at(at).grant.plan for at in (NOW, desk.clock.now())] == ["free@1", "pro@1"]
    entry = next(entry for entry in await desk.audit() if entry.action == "subscription.change")
    assert (entry.before, entry.after, entry.reason) == (as_json(made), as_json(changed), "they grew")
    assert await desk.subscriptions.show(made.id) == changed


@pytest.mark.parametrize(
    ("start", "anchor", "timezone", "ends"),
    [
        ((2026, 1, 31), (2026, 1, 31), "UTC", datetime(2026, 2, 28, tzinfo=UTC)),
        ((2028, 2, 1), (2028, 1, 31), "UTC", datetime(2028, 2, 29, tzinfo=UTC)),
        ((2026, 3, 1), (2026, 2, 28), "Europe/Berlin", datetime(2026, 3, 28, tzinfo=UTC)),
        ((2026, 6, 15), (2026, 1, 31), "UTC", datetime(2026, 6, 30, tzinfo=UTC)),
    ],
    ids=["month end", "leap year", "daylight saving", "anchor 31"],
)
async def test_a_change_at_the_end_of_the_period_waits_for_it(
    desk: Office, start: tuple[int, int, int], anchor: tuple[int, int, int], timezone: str, ends: datetime
) -> None:
    """A downgrade takes force when what is paid for is used up, and costs no unit before."""
    desk.clock.set(datetime(*start, tzinfo=UTC))
    made = await desk.subscriptions.create("acme", "pro", anchor_at=datetime(*anchor, tzinfo=UTC), timezone=timezone)
    changed = await desk.contracts.change(made.id, "free", at="period-end")
    assert (changed.plan, changed.changes[0].at) == ("pro@1", ends)
    assert [(each.at, each.plan) for each in changed.phases] == [(ends, "free@1")]
    terms = await terms_of(desk, made)
    just_before = ends - timedelta(microseconds=1)
    assert [terms.phase_at(at).grant.plan for at in (just_before, ends)] == ["pro@1", "free@1"]


async def test_carry_is_kept_and_compiled(desk: Office) -> None:
    """Reset counts in a place of its own from then on; carry goes on where it was."""
    made = await desk.subscriptions.create("acme", "free")
    for carry in (Carry.CARRY, Carry.RESET, Carry.PRORATE):
        desk.clock.advance(60)
        changed = await desk.contracts.change(made.id, "pro" if carry is Carry.RESET else "free", carry=carry)
        counters = (await terms_of(desk, made)).phase_at(desk.clock.now()).counters
        reset = [change.id for change in changed.changes if change.carry == "reset"]
        assert counters == (reset[0] if reset else "")


async def test_of_two_changes_for_one_instant_the_later_made_counts(desk: Office) -> None:
    """Whoever changes their mind within a period schedules again, and need cancel nothing."""
    made = await desk.subscriptions.create("acme", "trial")
    at = NOW + 30 * DAY
    for plan in ("pro", "free", "pro", "free", "pro"):
        await desk.contracts.change(made.id, plan, at=at)
    assert (await desk.subscriptions.show(made.id)).phases[-1].plan == "pro@1"
    assert (await terms_of(desk, made)).phase_at(at).grant.plan == "pro@1"


async def test_a_change_that_lies_ahead_can_be_taken_back(desk: Office) -> None:
    """Once: then it is on record as canceled; one that has taken force stays."""
    made = await desk.subscriptions.create("acme", "free")
    change = (await desk.contracts.change(made.id, "pro", at=NOW + DAY)).changes[0]
    desk.clock.advance(60)
    kept = await desk.contracts.cancel_change(change.id, reason="changed their mind")
    assert (kept.phases, kept.changes[0].canceled_at) == ((), NOW + timedelta(minutes=1))
    standing = await desk.contents()
    assert await desk.contracts.cancel_change(change.id) == kept
    assert await desk.contents() == standing
    assert (await terms_of(desk, made)).phase_at(NOW + 2 * DAY).grant.plan == "free@1"
    now = (await desk.contracts.change(made.id, "pro")).changes[0]
    with pytest.raises(ConflictError, match="has taken force"):
        await desk.contracts.cancel_change(now.id)
    with pytest.raises(NotFoundError):
        await desk.contracts.cancel_change("chg_nothing")


async def test_a_change_that_makes_no_sense_is_refused(desk: Office) -> None:
    """To a version that is not offered or not there, into the past, or beyond the end."""
    made = await desk.subscriptions.create("acme", "free")
    await desk.plans.apply(offers("Newer"))
    await desk.operations.versions.deprecate("pro@1")
    await desk.subscriptions.cancel(made.id, at=NOW + 10 * DAY)
    standing = await desk.contents()
    with pytest.raises(ConflictError, match="pro@1 is deprecated"):
        await desk.contracts.change(made.id, "pro@1")
    with pytest.raises(NotFoundError):
        await desk.contracts.change(made.id, "gold")
    with pytest.raises(InputError, match="past"):
        await desk.contracts.change(made.id, "pro", at=NOW - DAY)
    with pytest.raises(ConflictError, match="ends before"):
        await desk.contracts.change(made.id, "pro", at=NOW + 10 * DAY)
    assert await desk.contents() == standing
    desk.clock.advance((10 * DAY).total_seconds())
    for late in (desk.contracts.change(made.id, "pro"), desk.contracts.override(made.id, {})):
        with pytest.raises(ConflictError, match="has ended"):
            await late


async def test_overrides_are_the_terms_of_this_contract_only(desk: Office) -> None:
    """The enterprise contract: other amounts, features and scopes, with who and why; the plan stays as it is."""
    other = await desk.subscriptions.create((await desk.customers.create("other", None)).id, "pro")
    made = await desk.subscriptions.create("acme", "pro")
    document = {"limits": {"monthly": {"amount": 5_000_000}}, "features": {"seats": 500}, "scopes": {"add": ["sla"]}}
    changed = await desk.contracts.override(made.id, document, reason="contract 7")
    assert (changed.overrides, changed.plan) == (document, "pro@1")
    phase = (await terms_of(desk, made)).phase_at(NOW)
    assert (amount(phase), phase.grant.features["seats"], "sla" in phase.grant.scopes) == (5_000_000, 500, True)
    assert amount((await terms_of(desk, other)).phase_at(NOW)) == 1000
    entry = next(entry for entry in await desk.audit() if entry.action == "subscription.override")
    assert (entry.after["overrides"], entry.reason) == (document, "contract 7")
    (row,) = (await desk.contents())["subscription_overrides"]
    assert "test:office" in row
    assert "contract 7" in row


async def test_the_newest_overrides_count_and_an_empty_document_takes_them_away(desk: Office) -> None:
    """A document replaces the one before as a whole; saying the same again changes nothing."""
    made = await desk.subscriptions.create("acme", "pro")
    for number in (1, 2, 3):
        await desk.contracts.override(made.id, {"limits": {"monthly": {"amount": number}}})
    assert amount((await terms_of(desk, made)).phase_at(NOW)) == 3
    await desk.contracts.override(made.id, {"features": {"seats": 1}})
    assert amount((await terms_of(desk, made)).phase_at(NOW)) == 1000
    standing = await desk.contents()
    await desk.contracts.override(made.id, "features: {seats: 1}\n")
    assert await desk.contents() == standing
    cleared = await desk.contracts.override(made.id, {})
    assert cleared.overrides is None
    assert (await terms_of(desk, made)).phase_at(NOW).grant.features["seats"] == 5
    assert len((await desk.contents())["subscription_overrides"]) == 5


async def test_overrides_of_what_is_not_there_are_refused_all_at_once(desk: Office) -> None:
    """Unknown limits and features, wrong types: each is named; nothing is written. What a route asks for is known."""
    made = await desk.subscriptions.create("acme", "pro")
    standing = await desk.contents()
    with pytest.raises(InvalidOverridesError) as refused:
        await desk.contracts.override(
            made.id, {"limits": {"daily": {"amount": 1}, "monthly": {"amount": "x"}}, "features": {"sso": True}}
        )
    assert [problem.field for problem in refused.value.problems] == [
        "limits.daily",
        "limits.monthly.amount",
        "features.sso",
    ]
    assert await desk.contents() == standing
    await desk.contracts.override(made.id, {"features": {"audit_trail": True}})


async def test_overrides_know_the_plan_to_come(desk: Office) -> None:
    """Terms for the plan of next month can be agreed on today."""
    made = await desk.subscriptions.create("acme", "free")
    await desk.contracts.change(made.id, "pro", at=NOW + DAY)
    await desk.contracts.override(made.id, {"limits": {"burst": {"amount": 7}}})
    assert amount((await terms_of(desk, made)).phase_at(NOW + DAY), "burst") == 7


async def test_credits_are_granted_for_a_time(desk: Office) -> None:
    """A grant is a bucket of its own in the license, with its end; each is on record with who and why."""
    made = await desk.subscriptions.create("acme", "pro")
    await desk.contracts.grant_credits(made.id, "prepaid", 500, expires_at=NOW + 90 * DAY, reason="goodwill")
    granted = await desk.contracts.grant_credits(made.id, "prepaid", 20)
    assert {(each.limit, each.amount, each.expires_at) for each in granted.credits} == {
        ("prepaid", 500, NOW + 90 * DAY),
        ("prepaid", 20, None),
    }
    limits = (await terms_of(desk, made)).phase_at(NOW).grant.limits
    buckets = next(limit.buckets for limit in limits if limit.name == "prepaid")
    assert {(bucket.amount, bucket.from_at, bucket.until_at) for bucket in buckets} == {
        (500, NOW, NOW + 90 * DAY),
        (20, NOW, None),
    }
    standing = await desk.contents()
    for limit, units, ends, field in (
        ("monthly", 1, None, "limit"),
        ("nothing", 1, None, "limit"),
        ("prepaid", 0, None, "amount"),
        ("prepaid", 2**53, None, "amount"),
        ("prepaid", 1, NOW, "expires"),
    ):
        with pytest.raises(InputError) as wrong:
            await desk.contracts.grant_credits(made.id, limit, units, expires_at=ends)
        assert wrong.value.field == field
    assert await desk.contents() == standing


async def test_a_license_does_not_grow_with_what_is_over(desk: Office) -> None:
    """After years of changes and grants it holds what counts from two days ago on; the record keeps everything."""
    made = await desk.subscriptions.create("acme", "free")
    for number in range(6):
        desk.clock.advance((30 * DAY).total_seconds())
        await desk.contracts.change(made.id, "free" if number % 2 else "pro")
        await desk.contracts.grant_credits(made.id, "prepaid", 7, expires_at=desk.clock.now() + 31 * DAY)
    now = desk.clock.now()
    terms = await terms_of(desk, made)
    assert [phase.starts_at for phase in terms.phases] == [now - 30 * DAY, now]
    (prepaid,) = [limit for limit in terms.phases[0].grant.limits if limit.name == "prepaid"]
    assert [bucket.until_at for bucket in prepaid.buckets] == [now + DAY, now + 31 * DAY]
    shown = await desk.subscriptions.show(made.id)
    assert (len(shown.changes), len(shown.credits), shown.plan) == (6, 6, "free@1")


async def test_grants_that_are_over_leave_room_for_others(desk: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever grants credits each month is not stopped after a thousand months, only at so many at once."""
    monkeypatch.setattr(contracts, "_MOST_GRANTS", 2)
    made = await desk.subscriptions.create("acme", "pro")
    for days in (1, 5):
        await desk.contracts.grant_credits(made.id, "prepaid", 7, expires_at=NOW + days * DAY)
    desk.clock.advance((3 * DAY - timedelta(seconds=1)).total_seconds())
    with pytest.raises(ConflictError, match="has 2 grants"):
        await desk.contracts.grant_credits(made.id, "prepaid", 7)
    desk.clock.advance(1)
    assert len((await desk.contracts.grant_credits(made.id, "prepaid", 7)).credits) == 3


async def test_a_suspension_lasts_until_it_is_lifted(desk: Office) -> None:
    """Every token is refused meanwhile; doing it twice changes nothing."""
    made = await desk.subscriptions.create("acme", "pro")
    desk.clock.advance(60)
    suspended = await desk.subscriptions.suspend(made.id, "abuse")
    assert (suspended.status, suspended.suspended_at) == ("suspended", NOW + timedelta(minutes=1))
    terms = await terms_of(desk, made)
    assert [terms.phase_at(at).standing for at in (NOW, desk.clock.now())] == [Standing.ACTIVE, Standing.SUSPENDED]
    standing = await desk.contents()
    assert await desk.subscriptions.suspend(made.id) == suspended
    assert await desk.contents() == standing
    resumed = await desk.subscriptions.resume(made.id, "talked to them")
    assert (resumed.status, resumed.suspended_at) == ("active", None)
    assert (await terms_of(desk, made)).phase_at(desk.clock.now()).standing is Standing.ACTIVE


async def test_an_end_at_the_period_can_be_taken_back_until_it_comes(desk: Office) -> None:
    """A customer who is leaving may stay after all; one who has left needs a new contract."""
    made = await desk.subscriptions.create("acme", "pro")
    ending = await desk.subscriptions.cancel(made.id, at="period-end")
    assert (ending.status, ending.ends_at) == ("active", datetime(2026, 7, 15, 12, tzinfo=UTC))
    assert [(each.status, each.at) for each in ending.phases] == [("canceled", ending.ends_at)]
    sooner = await desk.subscriptions.cancel(made.id, at=NOW + DAY)
    assert sooner.ends_at == NOW + DAY
    assert (await desk.subscriptions.cancel(made.id, at="period-end")).ends_at == NOW + DAY
    stays = await desk.subscriptions.uncancel(made.id)
    assert (stays.ends_at, stays.phases) == (None, ())
    await desk.subscriptions.cancel(made.id)
    for late in (desk.subscriptions.uncancel(made.id), desk.subscriptions.suspend(made.id)):
        with pytest.raises(ConflictError, match="has ended"):
            await late


async def test_two_subscriptions_of_a_customer_never_overlap(desk: Office) -> None:
    """The refusal names the other one; one after the other, and one in each environment, are fine."""
    first = await desk.subscriptions.create("acme", "free")
    standing = await desk.contents()
    for starts_at in (None, NOW + DAY, NOW - DAY):
        with pytest.raises(ConflictError, match=first.id):
            await desk.subscriptions.create("acme", "pro", starts_at=starts_at)
    assert await desk.contents() == standing
    await desk.subscriptions.create("acme", "free", environment=Environment.TEST)
    await desk.subscriptions.cancel(first.id, at=NOW + DAY)
    second = await desk.subscriptions.create("acme", "pro", starts_at=NOW + DAY)
    with pytest.raises(ConflictError, match=second.id):
        await desk.subscriptions.uncancel(first.id)
    await desk.subscriptions.cancel(second.id)
    assert (await desk.subscriptions.uncancel(first.id)).ends_at is None


async def test_of_many_who_create_at_once_one_succeeds(desk: Office, database: Database) -> None:
    """The database refuses the overlap, whoever else looked before and saw nothing; nor can plain SQL make one."""
    results = await asyncio.gather(
        *(desk.subscriptions.create("acme", plan) for plan in ("free", "pro", "trial", "free")), return_exceptions=True
    )
    made = [result for result in results if isinstance(result, Subscription)]
    conflicts = [result for result in results if isinstance(result, ConflictError)]
    assert (len(made), len(conflicts)) == (1, 3)
    assert all(made[0].id in str(conflict) for conflict in conflicts)
    owner = await asyncpg.connect(database.dsn)
    try:
        with pytest.raises(asyncpg.ExclusionViolationError):
            await owner.execute(
                """INSERT INTO subscriptions (id, customer_id, plan_key, plan_version, environment, anchor_at,
                                                 starts_at,
                       created_at, updated_at)
                   SELECT 'sub_' || repeat('0', 26), customer_id, plan_key, plan_version, environment, anchor_at,
                       starts_at + interval '1 year', created_at, updated_at FROM subscriptions"""
            )
    finally:
        await owner.close()


async def test_whoever_read_an_older_revision_changes_nothing(desk: Office) -> None:
    """Two people who edit the same contract do not undo each other's work unseen."""
    made = await desk.subscriptions.create("acme", "pro")
    await desk.subscriptions.suspend(made.id, revision=1)
    standing = await desk.contents()
    for late in (
        desk.subscriptions.resume(made.id, revision=1),
        desk.subscriptions.cancel(made.id, revision=1),
        desk.contracts.change(made.id, "free", revision=1),
        desk.contracts.override(made.id, {}, revision=1),
        desk.contracts.grant_credits(made.id, "prepaid", 1, revision=1),
    ):
        with pytest.raises(ConflictError) as wrong:
            await late
        assert wrong.value.field == "revision"
    assert await desk.contents() == standing
    assert (await desk.subscriptions.resume(made.id, revision=2)).revision == 3


async def test_changes_of_one_contract_at_once_all_count(desk: Office) -> None:
    """Concurrent edits are one after the other: the license is compiled from all of them."""
    made = await desk.subscriptions.create("acme", "pro")
    await asyncio.gather(
        desk.contracts.override(made.id, {"limits": {"monthly": {"amount": 9}}}),
        desk.contracts.grant_credits(made.id, "prepaid", 5),
        desk.customers.set_status("acme", "past_due"),
        desk.subscriptions.cancel(made.id, at=NOW + 5 * DAY),
    )
    after = await desk.subscriptions.show(made.id)
    assert (after.status, after.ends_at, len(after.credits)) == ("grace", NOW + 5 * DAY, 1)
    terms = await terms_of(desk, made)
    assert (amount(terms.phase_at(NOW)), terms.phase_at(NOW).standing) == (9, Standing.GRACE)
    assert terms.phase_at(NOW + 5 * DAY).standing is Standing.CANCELED

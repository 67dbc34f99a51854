"""Use cases of customers, plans and subscriptions on a real database: rows, audit, change notices, all or nothing."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from support.office import NOW, Office, catalogue, office
from support.servers import Database

from tallygate.admin.postgres import Registry
from tallygate.admin.records import as_json
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import ConflictError, InputError, NotFoundError, StoreUnavailableError
from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.licenses.license import Standing
from tallygate.plans.document import Catalogue
from tallygate.storage.postgres import close_pool, create_pool
from tallygate.tokens.format import Environment

DAY = timedelta(days=1)


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Office]:
    """An office with nothing in it yet."""
    async with office(database) as opened:
        yield opened


async def test_a_new_customer_is_active_and_audited(desk: Office) -> None:
    """Creating a customer writes one row and one audit entry, and changes no license."""
    made = await desk.customers.create("acme", "Acme Corp")
    assert made.id.startswith("cus_")
    assert (made.key, made.name, made.status, made.created_at) == ("acme", "Acme Corp", "active", NOW)
    (entry,) = await desk.audit()
    assert (entry.action, entry.object, entry.before, entry.after) == ("customer.create", made.id, None, as_json(made))
    assert await desk.changes() == []


async def test_key_and_name_stand_in_for_each_other(desk: Office) -> None:
    """An operator types one of the two."""
    typed = [("acme", None), (None, "Acme & Söhne GmbH"), ("a.b_c-1", "  padded  "), ("x" * 63, None)]
    made = [await desk.customers.create(key, name) for key, name in typed]
    assert [(customer.key, customer.name) for customer in made] == [
        ("acme", "acme"),
        ("acme-sohne-gmbh", "Acme & Söhne GmbH"),
        ("a.b_c-1", "padded"),
        ("x" * 63, "x" * 63),
    ]


async def test_a_customer_that_cannot_be_named_is_refused(desk: Office) -> None:
    """The wrong field is named, and nothing is written."""
    keys = ("", "Acme", "-acme", "x" * 64, "acme\n", "nul\0", "half \ud800")
    names = ("", "   ", "x" * 201, "two\nlines", "nul\0", "half \ud800")
    cases: list[tuple[str | None, str | None, str]] = [(None, None, "key"), (None, "日本", "key")]
    cases += [(key, None, "key") for key in keys] + [("acme", name, "name") for name in names]
    for key, name, field in cases:
        with pytest.raises(InputError) as wrong:
            await desk.customers.create(key, name)
        assert wrong.value.field == field
    standing = await desk.contents()
    assert not standing["customers"] + standing["audit"]


async def test_a_taken_key_is_a_conflict(desk: Office) -> None:
    """Two customers cannot share a key; also not when both are made at once."""
    results = await asyncio.gather(*(desk.customers.create("acme", None) for _ in range(4)), return_exceptions=True)
    conflicts = [result for result in results if isinstance(result, ConflictError)]
    assert len(conflicts) == 3
    assert "acme" in str(conflicts[0])
    assert len(await desk.audit()) == 1


async def test_customers_are_found_by_id_and_by_key_and_listed_in_order(desk: Office) -> None:
    """Either name works; a page begins after the id it is told."""
    made = []
    for key in ("zeta", "acme", "mid"):
        made.append(await desk.customers.create(key, None))
        desk.clock.advance(1)
    assert await desk.customers.show("acme") == await desk.customers.show(made[1].id) == made[1]
    assert await desk.customers.list() == made
    assert await desk.customers.list(after=made[0].id, limit=1) == [made[1]]
    assert await desk.customers.list(after=made[2].id) == []


async def test_a_reference_to_nobody_is_bad_input(desk: Office) -> None:
    """Whatever is typed for a customer, a subscription, a plan or a token, the answer is never a crash."""
    shows = (desk.customers.show, desk.subscriptions.show, desk.tokens.show, desk.plans.show)
    for show in shows:
        for ref in ("nobody", "", "cus_00000000000000000000000000", "%"):
            with pytest.raises(NotFoundError):
                await show(ref)
        for ref in ("nul\0", "half \ud800"):
            with pytest.raises(InputError):
                await show(ref)
    with pytest.raises(NotFoundError):
        await desk.customers.set_status("nobody", "suspended")


async def test_a_suspension_reaches_every_license_and_is_audited(desk: Office) -> None:
    """Suspending and resuming a customer is one change notice each, with before, after and the reason."""
    subscription = await desk.open_account()
    secret = (await desk.tokens.issue(subscription=subscription.id)).secret
    earlier = len(await desk.changes())
    suspended = await desk.customers.set_status("acme", "suspended", "did not pay")
    told = [await desk.license_of(secret)]
    resumed = await desk.customers.set_status("acme", "active")
    told.append(await desk.license_of(secret))
    assert [license_ and license_.customer_status.value for license_ in told] == ["suspended", "active"]
    assert (await desk.changes())[earlier:] == [suspended.id, suspended.id]
    first, second = (await desk.audit())[-2:]
    assert (first.action, first.before["status"], first.after) == ("customer.suspended", "active", as_json(suspended))
    assert (second.before, second.after) == (as_json(suspended), as_json(resumed))
    assert (first.reason, second.action, second.reason) == ("did not pay", "customer.active", "")


async def test_a_closed_customer_stays_closed(desk: Office) -> None:
    """Nothing reopens a closed customer, and nothing new is sold to them."""
    await desk.open_account()
    assert (await desk.customers.set_status("acme", "closed")).status == "closed"
    for attempt in (
        desk.customers.set_status("acme", "active"),
        desk.subscriptions.create("acme", "pro"),
    ):
        with pytest.raises(InputError, match="closed"):
            await attempt


async def test_applying_publishes_what_changed_and_nothing_else(desk: Office) -> None:
    """The first time creates, the second does nothing at all, a changed plan becomes the next version."""
    first = await desk.plans.apply(catalogue())
    assert [(change.plan, change.action) for change in first.plans] == [("free@1", "created"), ("pro@1", "created")]
    assert first.routes == "replaced"
    standing = await desk.contents()
    again = await desk.plans.apply(catalogue())
    assert {change.action for change in again.plans} | {again.routes} == {"unchanged"}
    assert await desk.contents() == standing
    changed = await desk.plans.apply(catalogue("Professional"))
    assert [(change.plan, change.action) for change in changed.plans] == [
        ("free@1", "unchanged"),
        ("pro@2", "published"),
    ]
    assert [(entry.action, entry.object) for entry in await desk.audit()] == [
        ("plan.publish", "free@1"),
        ("plan.publish", "pro@1"),
        ("routes.replace", "routes"),
        ("plan.publish", "pro@2"),
    ]
    last = (await desk.audit())[-1]
    assert (last.before["name"], last.after["name"]) == ("Pro", "Professional")


async def test_a_published_version_stays_as_it_was(desk: Office) -> None:
    """A new version leaves the old one's row untouched, and both can be shown."""
    await desk.plans.apply(catalogue())
    first = await desk.plans.show("pro")
    desk.clock.advance(60)
    await desk.plans.apply(catalogue("Professional"))
    assert await desk.plans.show("pro@1") == first
    newest = await desk.plans.show("pro")
    assert (newest.ref, newest.name, newest.published_at) == ("pro@2", "Professional", NOW + timedelta(minutes=1))
    assert [version.ref for version in await desk.plans.list()] == ["free@1", "pro@2", "pro@1"]


async def test_a_dry_run_says_the_same_and_writes_nothing(desk: Office) -> None:
    """What would happen is told exactly, and none of it happens."""
    before = await desk.contents()
    said = await desk.plans.apply(catalogue(), is_dry_run=True)
    assert await desk.contents() == before
    done = await desk.plans.apply(catalogue())
    assert (said.plans, said.routes, said.is_dry_run) == (done.plans, done.routes, True)


async def test_several_who_apply_at_once_do_not_collide(desk: Office) -> None:
    """Two pipelines that deploy together neither fail nor publish the same text twice."""
    await asyncio.gather(*(desk.plans.apply(catalogue(name)) for name in ("A", "A", "A", "B", "B")))
    names = [version.name for version in await desk.plans.list() if version.key == "pro"]
    assert set(names) == {"A", "B"}
    assert all(name != earlier for name, earlier in itertools.pairwise(names))
    assert await desk.changes() == ["routes"]


async def test_a_catalogue_without_routes_puts_the_default_back(desk: Office) -> None:
    """Taking all rules out of the file takes them out of force, and says so once."""
    await desk.plans.apply(catalogue())
    bare = Catalogue(plans=catalogue().plans)
    assert (await desk.plans.apply(bare)).routes == "replaced"
    assert (await desk.plans.apply(bare)).routes == "unchanged"
    assert await desk.changes() == ["routes", "routes"]


async def test_plans_alone_leave_the_routes_in_force(desk: Office) -> None:
    """Whoever publishes one plan says nothing of routes, and changes none."""
    await desk.plans.apply(catalogue())
    applied = await desk.plans.apply(Catalogue(plans=catalogue("Professional").plans, has_routes=False))
    assert (applied.plans[1].action, applied.routes, await desk.changes()) == ("published", "unchanged", ["routes"])


async def test_a_plan_that_does_not_exist_is_told_from_a_mistyped_one(desk: Office) -> None:
    """Nobody can be put on a plan that was never published; what is no version at all is told as such."""
    await desk.open_account()
    for ref in ("gold", "pro@2", "pro@0", "PRO", ""):
        with pytest.raises(NotFoundError):
            await desk.subscriptions.create("acme", ref)
    for ref in ("pro@", "pro@x", "pro@-1", "pro@1.0", "pro@²", "pro@99999999999", "pro@@1"):
        with pytest.raises(InputError, match="names no version"):
            await desk.plans.show(ref)


async def test_a_subscription_is_pinned_to_the_version_it_was_made_on(desk: Office) -> None:
    """A newer version changes nothing for those who are on the older; new ones get it, or name another."""
    old = await desk.open_account()
    secret = (await desk.tokens.issue(subscription=old.id)).secret
    compiled = await desk.license_of(secret)
    await desk.plans.apply(catalogue("Professional"))
    assert await desk.license_of(secret) == compiled
    assert (await desk.subscriptions.show(old.id)).plan == "pro@1"
    made = [
        await desk.subscriptions.create((await desk.customers.create(key, None)).id, plan)
        for key, plan in (("newer", "pro"), ("older", "pro@1"))
    ]
    assert [each.plan for each in made] == ["pro@2", "pro@1"]
    await desk.subscriptions.cancel(old.id)
    ended = await desk.license_of(secret)
    assert ended is not None
    assert {phase.grant.plan for phase in ended.terms.phases} == {"pro@1"}


async def test_a_new_subscription_has_a_license_of_its_change(desk: Office) -> None:
    """The compiled license carries the number of the notice that announced it, and the contract's instants."""
    made = await desk.open_account()
    secret = (await desk.tokens.issue(subscription=made.id)).secret
    license_ = await desk.license_of(secret)
    assert license_ is not None
    assert (license_.customer, license_.subscription) == (made.customer, made.id)
    assert (await desk.changes())[license_.generation - 1] == made.id
    assert [(phase.starts_at, phase.standing) for phase in license_.terms.phases[1:]] == [(NOW, Standing.ACTIVE)]
    assert (await desk.audit())[-2].action == "subscription.create"
    assert (await desk.audit())[-2].after == as_json(made)


async def test_a_subscription_is_what_it_was_told_to_be(desk: Office) -> None:
    """World, start, anchor and time zone are kept; a start ahead makes it scheduled."""
    await desk.open_account()
    anchor = datetime(2026, 1, 31, tzinfo=UTC)
    made = await desk.subscriptions.create(
        "acme", "free", environment=Environment.TEST, starts_at=NOW + DAY, anchor_at=anchor, timezone="Europe/Berlin"
    )
    assert (made.environment, made.status, made.starts_at) == ("test", "scheduled", NOW + DAY)
    assert (made.anchor_at, made.timezone) == (anchor, "Europe/Berlin")
    assert await desk.subscriptions.show(made.id) == made
    desk.clock.advance(DAY.total_seconds())
    assert (await desk.subscriptions.show(made.id)).status == "active"


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "Africa/Monrovia"])
@pytest.mark.parametrize("is_told", [True, False])
async def test_billing_periods_begin_on_whole_minutes(desk: Office, zone: str, is_told: bool) -> None:  # noqa: FBT001
    """Use is recorded by the minute: none belongs to two periods, wherever the customer is, or was long ago."""
    await desk.open_account()
    desk.clock.advance(17.000003)
    told = datetime(1961, 5, 3, 10, 20, 59, 999_999, tzinfo=UTC)  # Monrovia was 44 minutes and a half behind
    made = await desk.subscriptions.create(
        "acme", "free", environment=Environment.TEST, anchor_at=told if is_told else None, timezone=zone
    )
    assert made.starts_at == desk.clock.now()
    assert timedelta() <= (told if is_told else made.starts_at) - made.anchor_at < timedelta(minutes=1)
    start_at = Calendar(PeriodUnit.MONTH, made.anchor_at, zone).period_at(made.starts_at).start_at
    assert (start_at.second, start_at.microsecond) == (0, 0)


async def test_a_time_zone_that_is_none_is_refused(desk: Office) -> None:
    """A zone that nobody knows is named as the wrong field."""
    await desk.open_account()
    for timezone in ("", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "nul\0", "x" * 5000):
        with pytest.raises(InputError) as wrong:
            await desk.subscriptions.create("acme", "pro", timezone=timezone)
        assert wrong.value.field == "timezone"


async def test_canceling_ends_a_subscription_once(desk: Office) -> None:
    """Its license ends now; canceling again is no error, no change and no entry."""
    made = await desk.open_account()
    secret = (await desk.tokens.issue(subscription=made.id)).secret
    desk.clock.advance(60)
    ended = await desk.subscriptions.cancel(made.id, "moved on")
    license_ = await desk.license_of(secret)
    assert license_ is not None
    assert ended.status == "canceled"
    assert license_.terms.phases[-1].standing is Standing.CANCELED
    assert license_.terms.phases[-1].starts_at == ended.ends_at == NOW + timedelta(minutes=1)
    entry = (await desk.audit())[-1]
    assert (entry.action, entry.before["status"], entry.after["status"], entry.reason) == (
        "subscription.cancel",
        "active",
        "canceled",
        "moved on",
    )
    standing = await desk.contents()
    assert await desk.subscriptions.cancel(made.id) == ended
    assert await desk.contents() == standing


async def test_canceling_before_the_start_ends_it_at_its_start(desk: Office) -> None:
    """A scheduled subscription that is canceled never comes into force."""
    await desk.plans.apply(catalogue())
    await desk.customers.create("acme", None)
    made = await desk.subscriptions.create("acme", "pro", starts_at=NOW + DAY)
    ended = await desk.subscriptions.cancel(made.id)
    assert (ended.status, ended.ends_at) == ("canceled", NOW + DAY)


async def test_subscriptions_are_listed_in_order_and_by_customer(desk: Office) -> None:
    """A customer's own, or everybody's, page by page; of nobody is not found."""
    made = [await desk.open_account("acme")]
    desk.clock.advance(1)
    made.append(await desk.open_account("other"))
    assert await desk.subscriptions.list() == made
    assert await desk.subscriptions.list("acme") == made[:1]
    assert await desk.subscriptions.list(after=made[0].id, limit=1) == made[1:]
    with pytest.raises(NotFoundError):
        await desk.subscriptions.list("nobody")


# Each takes the office, a subscription and a token of it; they can be done one after the other.
CHANGES: tuple[Callable[[Office, str, str], Awaitable[object]], ...] = (
    lambda desk, *_: desk.customers.create("other", None),
    lambda desk, *_: desk.customers.set_status("acme", "suspended"),
    lambda desk, *_: desk.plans.apply(Catalogue(plans=catalogue("New").plans)),
    lambda desk, *_: desk.subscriptions.create("acme", "free", environment=Environment.TEST),
    lambda desk, subscription, _: desk.tokens.issue(subscription=subscription),
    lambda desk, _, token: desk.tokens.rotate(token, DAY),
    lambda desk, _, token: desk.tokens.revoke(token),
    lambda desk, subscription, _: desk.subscriptions.cancel(subscription),
)


@pytest.mark.parametrize("failure", [RuntimeError("in the middle"), asyncio.CancelledError()], ids=["error", "cancel"])
async def test_a_failure_in_the_middle_leaves_nothing(
    desk: Office, failure: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every change is one transaction: when its last step fails, or its caller leaves, no row of it remains."""
    subscription = await desk.open_account()
    token = (await desk.tokens.issue(subscription=subscription.id)).record.id

    async def fail(*_: object) -> None:
        raise failure

    for change in CHANGES:
        standing = await desk.contents()
        with monkeypatch.context() as patched:
            patched.setattr(Transaction, "settle", fail)
            with pytest.raises(type(failure)):
                await change(desk, subscription.id, token)
        assert await desk.contents() == standing
    for change in CHANGES:
        standing = await desk.contents()
        await change(desk, subscription.id, token)
        assert await desk.contents() != standing


async def test_a_lost_database_is_told_as_such() -> None:
    """Whoever changes licenses while Postgres is away hears of it within the deadline."""
    pool = await create_pool(f"postgresql://x:y@{LOOPBACK}:{free_port()}/none", min_size=0)
    try:
        with pytest.raises(StoreUnavailableError, match="cannot change licenses"):
            async with Registry(pool).session():
                raise AssertionError("there is no transaction without a database")
    finally:
        await close_pool(pool)

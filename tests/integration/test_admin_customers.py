"""Customers who do not pay, pay late, leave or are renamed: what becomes of their subscriptions and tokens."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from support.offers import offers
from support.office import NOW, Office, office
from support.servers import Database

from tallygate.admin.records import as_json
from tallygate.core.errors import ConflictError, InputError
from tallygate.licenses.license import Standing
from tallygate.tokens.format import Environment

DAY = timedelta(days=1)


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Office]:
    """An office with the offers published, and customer `acme` on `pro` (seven days of grace)."""
    async with office(database) as opened:
        await opened.plans.apply(offers())
        await opened.customers.create("acme", None)
        await opened.subscriptions.create("acme", "pro")
        yield opened


async def test_a_failed_payment_begins_the_grace_of_every_plan(desk: Office) -> None:
    """Each live subscription is compiled anew in the same transaction, and all are one change notice."""
    await desk.subscriptions.create("acme", "free", environment=Environment.TEST)
    secret = (await desk.tokens.issue(customer="acme", environment=Environment.LIVE)).secret
    earlier = len(await desk.changes())
    late = await desk.customers.set_status("acme", "past_due", "invoice 7", since=NOW - 2 * DAY)
    assert (late.status, late.past_due_at, late.revision) == ("past_due", NOW - 2 * DAY, 2)
    assert (await desk.changes())[earlier:] == [late.id]
    license_ = await desk.license_of(secret)
    assert license_ is not None
    standings = [license_.terms.phase_at(NOW + days * DAY).standing for days in (0, 4, 5)]
    assert standings == [Standing.GRACE, Standing.GRACE, Standing.SUSPENDED]
    assert license_.terms.phase_at(NOW + 5 * DAY).is_unpaid
    shown = {each.environment: each for each in await desk.subscriptions.list("acme")}
    assert (shown["live"].status, shown["live"].grace_until) == ("grace", NOW + 5 * DAY)
    assert (shown["test"].status, shown["test"].grace_until) == ("suspended", None)
    entry = (await desk.audit())[-1]
    assert (entry.action, entry.after, entry.reason) == ("customer.past_due", as_json(late), "invoice 7")


async def test_paying_ends_it(desk: Office) -> None:
    """Once all is paid everything is as it was; also after the operator had suspended them meanwhile."""
    before = (await desk.subscriptions.list("acme"))[0]
    await desk.customers.set_status("acme", "past_due")
    suspended = await desk.customers.set_status("acme", "suspended")
    assert suspended.past_due_at == NOW
    assert (await desk.subscriptions.list("acme"))[0].status == "grace"
    paid = await desk.customers.set_status("acme", "active")
    assert (paid.past_due_at, (await desk.subscriptions.list("acme"))[0]) == (None, before)


async def test_a_new_contract_of_a_late_payer_knows_of_it(desk: Office) -> None:
    """Whoever is past due cannot get around it by another subscription, not even one made at the same time."""
    made, _ = await asyncio.gather(
        desk.subscriptions.create("acme", "pro", environment=Environment.TEST),
        desk.customers.set_status("acme", "past_due"),
    )
    assert (await desk.subscriptions.show(made.id)).status == "grace"


async def test_saying_the_same_again_changes_nothing(desk: Office) -> None:
    """A billing system may repeat itself; the grace does not begin anew."""
    late = await desk.customers.set_status("acme", "past_due")
    standing = await desk.contents()
    desk.clock.advance(3600)
    assert await desk.customers.set_status("acme", "past_due") == late
    assert await desk.contents() == standing


async def test_a_status_that_makes_no_sense_is_refused(desk: Office) -> None:
    """Unknown ones, a date ahead, a date without a failed payment, and anything after the close."""
    wrong = (("gone", None, "status"), ("past_due", NOW + DAY, "since"), ("active", NOW, "since"))
    for status, since, field in wrong:
        with pytest.raises(InputError) as refused:
            await desk.customers.set_status("acme", status, since=since)
        assert refused.value.field == field
    await desk.customers.set_status("acme", "closed")
    standing = await desk.contents()
    await desk.customers.set_status("acme", "closed")
    for status in ("active", "past_due", "suspended"):
        with pytest.raises(ConflictError, match="closed"):
            await desk.customers.set_status("acme", status)
    assert await desk.contents() == standing


async def test_nothing_cascades(desk: Office) -> None:
    """Closing a customer leaves contracts and tokens as they are: reopening history shows what was."""
    token = (await desk.tokens.issue(customer="acme")).record
    before = await desk.contents()
    await desk.customers.set_status("acme", "closed")
    after = await desk.contents()
    for table in ("subscriptions", "tokens", "token_families", "licenses"):
        assert after[table] == before[table]
    assert (await desk.tokens.show(token.id)).status == "active"


async def test_a_customer_is_renamed_by_whoever_read_them_last(desk: Office) -> None:
    """The key stays; an older revision is refused, and so is a name that nobody could read."""
    renamed = await desk.customers.rename("acme", "  Acme Corp ", revision=1)
    assert (renamed.key, renamed.name, renamed.revision) == ("acme", "Acme Corp", 2)
    for change in (
        desk.customers.rename("acme", "X", revision=1),
        desk.customers.set_status("acme", "active", revision=1),
    ):
        with pytest.raises(ConflictError, match="revision"):
            await change
    with pytest.raises(InputError, match="name"):
        await desk.customers.rename("acme", "two\nlines")
    assert (await desk.audit())[-1].action == "customer.rename"


async def test_customers_are_listed_by_status(desk: Office) -> None:
    """Page by page, in order of creation; each page begins after the last."""
    made = []
    for number in range(5):
        desk.clock.advance(1)
        made.append(await desk.customers.create(f"late-{number}", None))
        made[-1] = await desk.customers.set_status(made[-1].id, "past_due")
    assert await desk.customers.list(status="past_due") == made
    assert await desk.customers.list(made[1].id, 2, status="past_due") == made[2:4]
    assert [each.key for each in await desk.customers.list(status="active")] == ["acme"]
    assert await desk.customers.list(status="closed") == []
    with pytest.raises(InputError):
        await desk.customers.list(status="gone")


async def test_a_key_may_not_look_like_an_id(desk: Office) -> None:
    """Otherwise a customer could be taken for another."""
    theirs = (await desk.customers.show("acme")).id
    with pytest.raises(InputError, match="looks like an id"):
        await desk.customers.create(theirs, "Somebody else")
    assert (await desk.customers.create("cus_short", None)).key == "cus_short"
    assert (await desk.customers.show("cus_short")).key == "cus_short"


async def test_a_reason_is_a_line_of_text(desk: Office) -> None:
    """What goes into the audit log can be printed from it."""
    for reason in ("two\nlines", "x" * 501, "\x1b[31mred"):
        with pytest.raises(InputError) as wrong:
            await desk.customers.set_status("acme", "suspended", reason)
        assert wrong.value.field == "reason"

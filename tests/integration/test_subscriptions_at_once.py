"""Beginning contracts: many at the same time, at the ends of the calendar, and with what must not be kept."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta

import pytest
from support.offers import offers
from support.office import ACTOR, NOW, Office, office
from support.servers import Database

from tallygate.admin.records import Subscription
from tallygate.core.errors import ConflictError, InputError
from tallygate.plans.contract import Carry

DAY = timedelta(days=1)


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Office]:
    """An office with the offers published, and customer `acme`."""
    async with office(database) as opened:
        await opened.plans.apply(offers())
        await opened.customers.create("acme", None)
        yield opened


async def test_of_many_contracts_made_at_once_one_stands_and_the_others_hear_why(desk: Office) -> None:
    """Eight at a time, for many customers: never two, never none, and no refusal that speaks of an outage."""
    for number in range(25):
        customer = await desk.customers.create(f"c{number}", None)
        made = await asyncio.gather(
            *(desk.control.acting(ACTOR).subscriptions.create(customer.id, "pro") for _ in range(8)),
            return_exceptions=True,
        )
        assert sum(isinstance(each, Subscription) for each in made) == 1
        assert sum(isinstance(each, ConflictError) for each in made) == 7
        assert len(await desk.subscriptions.list(customer.id)) == 1


@pytest.mark.parametrize("at", [datetime(9999, 12, 29, tzinfo=UTC), datetime(1, 1, 3, tzinfo=UTC)])
async def test_an_instant_beyond_the_calendar_is_refused_by_name(desk: Office, at: datetime) -> None:
    """What trials, periods and changes would carry out of the calendar is never stored, and breaks nothing."""
    for field, attempt in (
        ("starts_at", desk.subscriptions.create("acme", "trial", starts_at=at)),
        ("anchor_at", desk.subscriptions.create("acme", "pro", anchor_at=at)),
    ):
        with pytest.raises(InputError, match=f"^{field}: is more than a century away"):
            await attempt
    made = await desk.subscriptions.create("acme", "free")
    far = at if at > NOW else at.replace(year=9999)
    attempts: list[Awaitable[object]] = [
        desk.contracts.change(made.id, "pro", at=far, carry=Carry.PRORATE),
        desk.subscriptions.cancel(made.id, at=far),
        desk.operations.versions.migrate("free@1", "pro@1", at=far),
    ]
    for later in attempts:
        with pytest.raises(InputError, match=r"^at: is more than a century away"):
            await later


@pytest.mark.parametrize("timezone", ["localtime", "Factory", "posixrules", "right/UTC", "Europe", "../UTC", ""])
async def test_a_time_zone_that_is_not_the_same_everywhere_is_refused(desk: Office, timezone: str) -> None:
    """A period begins at one instant on every machine, and knows no leap seconds."""
    with pytest.raises(InputError, match=r"^timezone: "):
        await desk.subscriptions.create("acme", "pro", timezone=timezone)


async def test_a_secret_in_a_reason_is_kept_nowhere(desk: Office) -> None:
    """Beside the audit log, overrides and credits keep their reasons too: the secret is cut out of those as well."""
    made = await desk.subscriptions.create("acme", "pro")
    secret = (await desk.tokens.issue(subscription=made.id)).secret
    await desk.contracts.override(made.id, {"limits": {"monthly": {"amount": 5}}}, reason=f"for {secret}")
    await desk.contracts.grant_credits(made.id, "prepaid", 5, reason=f"for {secret}")
    contents = await desk.contents()
    assert "[hidden]" in str(contents["subscription_overrides"])
    assert "[hidden]" in str(contents["credit_grants"])
    assert secret not in str(contents)


async def test_changes_to_come_have_an_end(desk: Office) -> None:
    """A license holds every one of them, so there are at most a hundred; taking one back makes room."""
    made = await desk.subscriptions.create("acme", "free")
    for day in range(100):
        made = await desk.contracts.change(made.id, "pro" if day % 2 else "free", at=NOW + (day + 1) * DAY)
    with pytest.raises(ConflictError, match=r"100 changes ahead \(take some back first\)"):
        await desk.contracts.change(made.id, "pro")
    await desk.contracts.cancel_change(made.changes[0].id)
    assert (await desk.contracts.change(made.id, "pro")).plan == "pro@1"

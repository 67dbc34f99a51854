"""The example catalogue, as agreed upon beforehand: changes, ends and periods that come on their instant.

Customers' stories through a real Envoy, as in `test_catalogue.py`; the last with Postgres and the control plane gone.
"""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from support.movable import Shop

from tallygate.admin.subscriptions import When
from tallygate.insights.memory import MemoryShadowLedger
from tallygate.plans.contract import Carry

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MOMENT = timedelta(microseconds=1)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("carry", "left"),
    [(Carry.CARRY, (999_970, 1_000_000)), (Carry.RESET, (1_000_000, 1_000_000)), (Carry.PRORATE, None)],
)
async def test_what_was_used_is_carried_shared_or_forgotten(
    shop: Shop, carry: Carry, left: tuple[int, int] | None
) -> None:
    """On another plan in mid-period the used units count against it, unless it was said otherwise."""
    start = await shop.next_date(4, 1)
    max_ = await shop.buyer("payg@1")
    assert await max_.spend(30) == {"200 ok": 30}
    await shop.move_to(start + 10 * DAY)
    await shop.done(shop.control.contracts.change(max_.subscription, "pro@1", carry=carry))
    shared = (100 * 10 + 1_000_000 * 20) // 30  # ten days of thirty on the old plan
    assert (await max_.left())["monthly"] == (left or (shared - 30, shared))
    await shop.move_to(start.replace(month=5))
    assert (await max_.left())["monthly"] == (1_000_000, 1_000_000)


async def test_a_change_at_the_end_of_the_period_waits_for_it(shop: Shop) -> None:
    """Until then the old plan is in force, from that instant on the new one; and it can be taken back."""
    start = await shop.next_date(1, 31)
    nia, leo = await shop.buyer("payg@1"), await shop.buyer("payg@1")
    change = shop.control.contracts.change
    await shop.done(change(nia.subscription, "enterprise@1", at="period-end"))
    regretted = await shop.done(change(leo.subscription, "enterprise@1", at="period-end"))
    await shop.done(shop.control.contracts.cancel_change(regretted.changes[0].id))
    await shop.move_to(start.replace(month=2, day=28) - MOMENT)
    assert [await nia.plan(), await leo.plan()] == ["payg@1", "payg@1"]
    await shop.advance(MOMENT)
    assert [await nia.plan(), await leo.plan()] == ["enterprise@1", "payg@1"]


@pytest.mark.parametrize("at", ["now", "period-end", "a day"])
async def test_a_subscription_ends_when_it_was_told_to(shop: Shop, at: str) -> None:
    """Canceled at once, for the end of what was paid, or for a day: it is served up to that instant."""
    start = await shop.next_date(5, 31)
    ola = await shop.buyer("payg@1")
    ends: dict[str, tuple[When, datetime]] = {
        "now": ("now", start),
        "period-end": ("period-end", start.replace(month=6, day=30)),
        "a day": (start + 5 * DAY, start + 5 * DAY),
    }
    when, ends_at = ends[at]
    await shop.done(shop.control.subscriptions.cancel(ola.subscription, at=when))
    if ends_at > start:
        await shop.move_to(ends_at - MOMENT)
        assert await ola.seen() == "200 ok"
        await shop.advance(MOMENT)
    assert await ola.seen() == "403 subscription_ended"


async def test_a_subscription_begins_when_it_was_told_to(shop: Shop) -> None:
    """A token issued beforehand works from the first instant of the contract, and the contract before it until then."""
    leaving = await shop.buyer("free@1")
    tomorrow = shop.now + DAY
    await shop.control.subscriptions.cancel(leaving.subscription, at=tomorrow)
    coming = await shop.done(shop.buyer("enterprise@1", leaving.customer, starts_at=tomorrow))
    await shop.move_to(tomorrow - MOMENT)
    assert [await leaving.seen(), await coming.seen()] == ["200 ok", "403 subscription_suspended"]
    await shop.advance(MOMENT)
    assert [await leaving.seen(), await coming.seen()] == ["403 subscription_ended", "200 ok"]


async def test_the_month_of_an_anchor_on_day_31_ends_on_the_last_day_there_is(shop: Shop) -> None:
    """Billed on 31 January: the quota begins anew on 28 February and on 31 March, at the hour of the anchor."""
    start = await shop.next_date(1, 31)
    pia = await shop.buyer("payg@1")
    await shop.done(shop.control.contracts.override(pia.subscription, {"limits": {"monthly": {"amount": 3}}}))
    for month, day in ((2, 28), (3, 31), (4, 30)):
        assert await pia.spend(4) == {"200 ok": 3, "200 overage": 1}
        await shop.move_to(start.replace(month=month, day=day) - MOMENT)
        assert await pia.seen() == "200 overage"
        await shop.advance(MOMENT)


@pytest.mark.parametrize(("month", "hours"), [(3, 23), (10, 25)])
async def test_a_day_is_as_long_as_it_is_where_the_customer_lives(shop: Shop, month: int, hours: int) -> None:
    """On the Sunday when clocks change in Berlin, the day's quota lasts 23 hours, or 25, from midnight to midnight."""
    await shop.next_date(month, 20)
    sunday = last_sunday(shop.now.year, month)
    await shop.move_to(datetime.combine(sunday, time(), BERLIN).astimezone(UTC))
    quinn = await shop.buyer("free@1", timezone="Europe/Berlin")
    await shop.done(shop.control.contracts.override(quinn.subscription, {"limits": {"daily": {"amount": 2}}}))
    assert await quinn.spend(3) == {"200 ok": 2, "429 quota_exceeded": 1}
    await shop.advance(hours * HOUR - MOMENT)
    assert await quinn.seen() == "429 quota_exceeded"
    await shop.advance(MOMENT)
    assert await quinn.seen() == "200 ok"


def last_sunday(year: int, month: int) -> datetime:
    """Return the last Sunday of a month of 31 days."""
    last = datetime(year, month, 31, tzinfo=UTC)
    return last - (last.isoweekday() % 7) * DAY


async def test_a_change_brings_its_shadow_on_time_though_postgres_is_gone(shop: Shop) -> None:
    """What is tried beside the new plan begins with it, with nobody there to compile anything."""
    eve, change_at = await shop.buyer("payg@1"), shop.now + 10 * MINUTE
    await shop.done(shop.control.contracts.change(eve.subscription, "enterprise@1", at=change_at))
    await shop.done(shop.control.shadows.start("enterprise@1", "free@1", counts=MemoryShadowLedger()))
    assert await eve.seen() == "200 ok"
    await shop.postgres.close()
    await shop.move_to(change_at - MOMENT)
    assert await eve.spend(6) == {"200 ok": 6}
    await shop.advance(MOMENT)
    assert await eve.spend(6) == {"200 ok": 5, "200 shadow": 1}
    await shop.postgres.open()
    await shop.done(shop.control.shadows.stop("enterprise@1"))
    await shop.advance(MINUTE)  # what is served while Postgres is gone is served for a second, whoever hears of what
    assert await eve.seen() == "200 ok"


async def test_what_was_agreed_happens_on_time_though_postgres_is_gone(shop: Shop) -> None:
    """Trial, grace, change, contract and period all end on their instant, with nobody there to do it."""
    midnight = datetime.combine(shop.now.date() + 30 * DAY, time(), UTC)
    await shop.move_to(midnight - 14 * DAY)
    trying = await shop.buyer("pro@1")
    assert await trying.plan() == "pro@1"
    await shop.move_to(midnight - 3 * DAY)
    owing = await shop.buyer("payg@1")
    await shop.control.customers.set_status(owing.customer.id, "past_due")
    await shop.move_to(midnight - 10 * MINUTE)
    growing, leaving, waiting = [await shop.buyer(plan) for plan in ("payg@1", "payg@1", "free@1")]
    await shop.control.contracts.change(growing.subscription, "enterprise@1", at=midnight)
    await shop.control.subscriptions.cancel(leaving.subscription, at=midnight)
    await shop.done(shop.control.contracts.override(waiting.subscription, {"limits": {"daily": {"amount": 2}}}))
    assert await waiting.spend(2) == {"200 ok": 2}
    unheard = await shop.buyer("free@1")
    everybody = [trying, owing, growing, leaving]
    before = ["pro@1", "payg@1", "payg@1", "payg@1"]
    assert [await buyer.plan() for buyer in everybody] == before

    await shop.postgres.close()
    await shop.move_to(midnight - MOMENT)
    assert [await buyer.plan() for buyer in everybody] == before
    assert await waiting.seen() == "429 quota_exceeded"
    assert await unheard.seen() == "503 dependency_down"
    await shop.advance(MOMENT)
    after = ["free@1", "402 payment_required", "enterprise@1", "403 subscription_ended"]
    assert [await buyer.plan() for buyer in everybody] == after
    assert await waiting.spend(3) == {"200 ok": 2, "429 quota_exceeded": 1}

    await shop.postgres.open()
    await shop.done(shop.control.customers.set_status(owing.customer.id, "active"))
    assert await owing.plan() == "payg@1"
    assert await unheard.seen() == "200 ok"

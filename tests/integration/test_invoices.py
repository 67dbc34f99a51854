"""Invoice previews over a real ledger: by the use case, over REST, and on the command line."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import cast

import asyncpg
import pytest
from support.billing import Row, read
from support.commands import Shell
from support.office import NOW, Office, office
from support.rest import Rest, problem, running_rest
from support.servers import Database

from tallygate.billing.home import cuts_of
from tallygate.billing.invoice import Invoice
from tallygate.billing.life import FOR_EVER, Stretch
from tallygate.billing.period import Billed, BillingPeriod, WhichPeriod
from tallygate.billing.postgres import PostgresBilledUsage
from tallygate.billing.usage import Outcome, UsageTotal
from tallygate.core.errors import InputError, NotFoundError
from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.plans.parse import parse
from tallygate.storage.postgres import PooledConnection
from tallygate.tokens.format import Environment

PLANS = """
plans:
  - key: pro
    name: Pro
    price: {amount: "40.00", currency: USD, prorate: true}
    charges: {bytes: {model: per_unit, unit: "0.001", included: 100}}
    limits: [{name: monthly, quota: 100, period: billing, on_exceed: overage}]
    overage: {requests: {model: graduated, tiers: [{up_to: 10, unit: "1.00"}, {unit: "0.50"}]}}
  - {key: free, name: Free}
"""
DEARER = PLANS.replace("40.00", "80.00")
TRIED = """
plans:
  - key: pro
    name: Pro
    trial: {days: 7, at_end: downgrade, to: basic}
    price: {amount: "40.00", currency: USD}
    charges: {bytes: {model: per_unit, unit: "1.00"}}
  - key: basic
    name: Basic
    price: {amount: "0.00", currency: USD}
    charges: {bytes: {model: per_unit, unit: "0.10"}}
  - {key: free, name: Free}
"""
JUNE, JULY = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
Entry = tuple[str, str, str, datetime, int]
_INSERT = """
INSERT INTO usage_entries (recorded_at, bucket, customer_id, subscription_id, family_id, plan, meter, route, outcome,
                           entry, minute_at, quantity)
SELECT at, nextval('usage_entry_ids'), $1, $2, 'fam_1', plan, meter, 'GET /v1/things', outcome,
       CASE WHEN quantity < 0 THEN 'refund' ELSE 'counted' END, at, quantity
FROM unnest($3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::bigint[])
    AS given (plan, meter, outcome, at, quantity)
"""


class Ledger:
    """The ledger, with rows as the worker would have moved them."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        """Write through a connection of the schema's owner."""
        self._connection = connection

    async def add(self, customer: str, subscription: str, rows: Sequence[Entry]) -> None:
        """Add rows: plan version, meter, outcome, minute, units."""
        instants = [at for *_, at, _ in rows]
        await self._connection.execute("SELECT make_usage_partitions_v1($1)", instants)
        columns = [list(column) for column in zip(*rows, strict=True)]
        await self._connection.execute(_INSERT, customer, subscription, *columns)

    async def totals(self, subscription: str, cuts: Sequence[datetime]) -> tuple[UsageTotal, ...]:
        """Return what bills read."""
        return await PostgresBilledUsage(cast("PooledConnection", self._connection)).totals(subscription, cuts)

    async def moved_to(self, at: datetime) -> None:
        """Say that everything before an instant is there."""
        await self._connection.execute("UPDATE usage_ledger SET moved_to = $1, last_id = 99", at)


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[Ledger]:
    """The ledger of this test's database."""
    connection = await asyncpg.connect(database.dsn)
    try:
        yield Ledger(connection)
    finally:
        await connection.close()


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Office]:
    """An office with the plans published, in the middle of June, with the rights of the control plane."""
    async with office(database) as opened:
        await opened.plans.apply(parse(PLANS, "plans.yaml"))
        yield opened


def lines_of(made: Invoice) -> list[tuple[str, str, str]]:
    """Return each line's plan version, description and amount."""
    return [(line.plan, line.description, str(line.amount)) for line in made.lines]


async def test_a_bill_follows_the_contract_and_the_ledger(desk: Office, ledger: Ledger) -> None:
    """Two versions in a month, refunds, units of other months and customers: each number is where it belongs."""
    acme = await desk.customers.create("acme", None)
    made = await desk.subscriptions.create(acme.id, "pro", anchor_at=JUNE, starts_at=JUNE + timedelta(days=5))
    await desk.plans.apply(parse(DEARER, "plans.yaml"))
    await desk.contracts.change(made.id, "pro", at=JUNE + timedelta(days=20))
    await ledger.add(
        acme.id,
        made.id,
        [
            ("pro@1", "requests", "allowed", JUNE + timedelta(days=6), 90),
            ("pro@1", "requests", "overage", JUNE + timedelta(days=7), 14),
            ("pro@1", "requests", "overage", JUNE + timedelta(days=7, minutes=1), -2),
            ("pro@1", "bytes", "allowed", JUNE + timedelta(days=7), 1000),
            ("pro@1", "bytes", "overage", JUNE + timedelta(days=8), 1100),
            ("pro@2", "requests", "overage", JULY - MINUTE, 3),
            ("pro@2", "requests", "overage", JULY, 7),
            ("pro@1", "requests", "overage", JUNE - MINUTE, 7),
            ("unknown", "requests", "overage", JUNE + timedelta(days=7), 7),
            ("pro@99", "requests", "overage", JUNE + timedelta(days=7), 7),
        ],
    )
    await ledger.add("cus_other", "sub_other", [("pro@1", "requests", "overage", JUNE + timedelta(days=7), 1000)])
    desk.clock.advance(20 * 86_400)
    (june,) = await desk.operations.invoices.preview("acme", period=WhichPeriod.PREVIOUS)
    assert lines_of(june) == [
        ("pro@1", "Pro, a month, 15 of 30 days", "20.00"),
        ("pro@1", "Pro, bytes", "2.05"),  # 2,100 less half of the 100 that a whole month includes
        ("pro@1", "Pro, requests beyond the limits", "11.00"),
        ("pro@2", "Pro, a month, 10 of 30 days", "26.67"),
        ("pro@2", "Pro, requests beyond the limits", "3.00"),
    ]
    assert (str(june.total), june.is_complete) == ("62.72", False)
    (trace,) = june.lines[2].usage
    assert (trace.rows, trace.quantity, trace.from_at, trace.to_at) == (2, 12, JUNE, JULY)
    assert [(each.reason, each.usage.plan, each.usage.quantity) for each in june.unbilled] == [
        ("within_limits", "pro@1", 90),
        ("unknown_plan", "pro@99", 7),
        ("unknown_plan", "unknown", 7),
    ]
    await ledger.moved_to(june.complete_at)
    (again,) = await desk.operations.invoices.preview(acme.id, at=JUNE + timedelta(days=12))
    assert (again.lines, again.is_complete, again.ledger.last_id) == (june.lines, True, 99)
    (july,) = await desk.operations.invoices.preview("acme")
    assert lines_of(july)[1] == ("pro@2", "Pro, requests beyond the limits", "7.00")


async def test_units_decided_on_a_plan_that_was_left_are_billed(desk: Office, ledger: Ledger) -> None:
    """Three minutes after a change from pro to free a data plane still counts on pro: pro's last bill has them."""
    await desk.customers.create("acme", None)
    made = await desk.subscriptions.create("acme", "pro", anchor_at=JUNE)
    desk.clock.advance(3600)
    left_at = desk.clock.now()
    await desk.contracts.change(made.id, "free")
    minute_at = left_at.replace(second=0, microsecond=0) + 3 * MINUTE
    rows = [("pro@1", "bytes", "allowed", minute_at, 1_000_000), ("free@1", "bytes", "allowed", minute_at, 7)]
    await ledger.add(made.customer, made.id, rows)
    desk.clock.advance(3600)
    (pro,) = await desk.operations.invoices.preview("acme", period=WhichPeriod.PREVIOUS)
    assert (pro.to_at, pro.unbilled) == (left_at, ())
    assert lines_of(pro) == [("pro@1", "Pro, bytes", "1000.00")]
    (free,) = await desk.operations.invoices.preview("acme")
    assert [(each.reason, each.usage.plan, each.usage.quantity) for each in free.unbilled] == [
        ("no_price", "free@1", 7)
    ]


async def test_usage_after_an_end_is_billed_and_corrections_without_a_plan_in_force_are_told(
    desk: Office, ledger: Ledger
) -> None:
    """A canceled subscription has a bill for its last seconds, and one wherever something was put into its ledger."""
    await desk.customers.create("acme", None)
    made = await desk.subscriptions.create("acme", "pro", anchor_at=JUNE)
    desk.clock.advance(40 * 86_400)
    await desk.subscriptions.cancel(made.id)
    ended_at = desk.clock.now().replace(second=0, microsecond=0)
    late = ("pro@1", "bytes", "allowed", ended_at + 3 * MINUTE, 1000)
    much_later = ("free@1", "bytes", "allowed", ended_at + timedelta(days=40), 5)
    await ledger.add(made.customer, made.id, [late, much_later])
    desk.clock.advance(100 * 86_400)
    (last,) = await desk.operations.invoices.preview("acme", at=ended_at)
    assert lines_of(last)[1][1] == "Pro, bytes"
    (told,) = await desk.operations.invoices.preview("acme", at=ended_at + timedelta(days=40))
    assert (told.lines, [(each.reason, each.usage.quantity) for each in told.unbilled]) == ((), [("no_price", 5)])
    assert await desk.operations.invoices.preview("acme") == []


async def test_postgres_adds_up_between_cuts_as_the_laws_do(desk: Office, ledger: Ledger) -> None:
    """Rows on both sides of every cut come to the totals of the reader that the laws of invoices are tried on."""
    await desk.customers.create("acme", None)
    made = await desk.subscriptions.create("acme", "pro", anchor_at=JUNE)
    left_at = JUNE + timedelta(days=9, seconds=30)
    found = tuple(Stretch(*each) for each in (("pro@1", False, JUNE, left_at), ("free@1", False, left_at, FOR_EVER)))
    period = BillingPeriod(Billed(PeriodUnit.MONTH, "USD"), JUNE, left_at, 30, Calendar(PeriodUnit.DAY))
    cuts = cuts_of(period, found)
    minutes = [at + lapse for at in cuts for lapse in (-MINUTE, timedelta())]
    kinds = [("pro@1", Outcome.ALLOWED), ("free@1", Outcome.OVERAGE)]
    rows = [
        (plan, "bytes", outcome.value, at, 2**number)
        for number, (at, (plan, outcome)) in enumerate(product(minutes, kinds))
    ]
    await ledger.add(made.customer, made.id, rows)
    expected = [Row(plan, meter, Outcome(outcome), quantity, at, at) for plan, meter, outcome, at, quantity in rows]
    assert {*await ledger.totals(made.id, cuts)} == {*read(expected, period, found).totals}


async def test_a_correction_after_a_trial_counts_on_the_plan_that_followed(desk: Office, ledger: Ledger) -> None:
    """What is taken back without naming a plan is taken from the bill, not from a plan the trial was of."""
    await desk.plans.apply(parse(TRIED, "plans.yaml"))
    await desk.customers.create("acme", None)
    made = await desk.subscriptions.create("acme", "pro")
    desk.clock.advance(10 * 86_400)
    counted_at = desk.clock.now().replace(second=0, microsecond=0) - 60 * MINUTE
    await ledger.add(made.customer, made.id, [("basic@1", "bytes", "allowed", counted_at, 1000)])
    correct = desk.operations.corrections.add
    corrected = [await correct(made.id, "bytes", -400, reason="ours", at=at) for at in (counted_at, NOW)]
    assert [each.plan for each in corrected] == ["basic@1", "pro@2"]
    (bill,) = await desk.operations.invoices.preview("acme")
    assert lines_of(bill) == [("basic@1", "Basic, bytes", "60.00")]
    assert [(each.reason, each.usage.quantity) for each in bill.unbilled] == [("trial", -400)]


async def test_one_subscription_after_another_is_two_bills(desk: Office, ledger: Ledger) -> None:
    """Each has its own period and part; one that ended before, or belongs to the other environment, has none."""
    await desk.customers.create("acme", None)
    first = await desk.subscriptions.create("acme", "pro")
    await ledger.add(first.customer, first.id, [("pro@1", "bytes", "allowed", NOW - timedelta(hours=1), 1100)])
    desk.clock.advance(5 * 86_400)
    await desk.subscriptions.cancel(first.id)
    second = await desk.subscriptions.create("acme", "free")
    await desk.subscriptions.create("acme", "pro", environment=Environment.TEST)
    bills = await desk.operations.invoices.preview("acme")
    assert [(bill.subscription, bill.currency) for bill in bills] == [(first.id, "USD"), (second.id, None)]
    (tried,) = await desk.operations.invoices.preview("acme", environment=Environment.TEST)
    assert (tried.environment, tried.lines[0].description) == ("test", "Pro, a month")
    desk.clock.advance(60 * 86_400)
    assert [bill.subscription for bill in await desk.operations.invoices.preview("acme")] == [second.id]
    assert await desk.operations.invoices.preview("acme", at=NOW - timedelta(days=90)) == []


async def test_every_subscription_is_billed_however_many_there_are(
    desk: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subscriptions are read in pages, and none beyond the first page is left out."""
    monkeypatch.setattr("tallygate.admin.invoices.PAGE", 2)
    await desk.customers.create("acme", None)
    made = []
    for _ in range(5):
        made.append(await desk.subscriptions.create("acme", "pro"))
        desk.clock.advance(1)
        await desk.subscriptions.cancel(made[-1].id)
    bills = await desk.operations.invoices.preview("acme")
    assert [bill.subscription for bill in bills] == [each.id for each in made]


async def test_units_of_a_minute_in_which_the_plan_changes_are_paid(desk: Office, ledger: Ledger) -> None:
    """Who goes to a plan that is paid and back to a free one within a minute pays what was used on it, once."""
    await desk.customers.create("acme", None)
    made = await desk.subscriptions.create("acme", "free", anchor_at=JUNE)
    desk.clock.advance(61)
    paid_at = desk.clock.now()
    await desk.contracts.change(made.id, "pro")
    desk.clock.advance(58)
    await desk.contracts.change(made.id, "free")
    free_at = desk.clock.now()
    minute_at = paid_at.replace(second=0, microsecond=0)
    assert minute_at < paid_at < free_at < minute_at + MINUTE
    rows = [("pro@1", "bytes", "allowed", minute_at, 1100), ("free@1", "bytes", "allowed", minute_at, 7)]
    await ledger.add(made.customer, made.id, rows)
    bills = [await desk.operations.invoices.preview("acme", at=at) for at in (NOW, paid_at, free_at)]
    assert [(lines_of(bill), bill.currency) for (bill,) in bills] == [
        ([], None),
        ([("pro@1", "Pro, bytes", "1.10")], "USD"),
        ([], None),
    ]
    (trace,) = bills[1][0].lines[0].usage
    assert (trace.from_at, trace.to_at) == (minute_at, minute_at + MINUTE)


async def test_a_trial_that_ends_within_a_minute_is_free_to_its_end(desk: Office, ledger: Ledger) -> None:
    """What was used in its last minute is of the trial, though the next plan begins in that minute."""
    trial = "USD, prorate: true}\n    trial: {days: 7, at_end: downgrade, to: free}"
    await desk.plans.apply(parse(PLANS.replace("USD, prorate: true}", trial), "plans.yaml"))
    await desk.customers.create("acme", None)
    desk.clock.advance(13)
    made = await desk.subscriptions.create("acme", "pro")
    ends_at = made.starts_at + timedelta(days=7)
    last = ends_at.replace(second=0, microsecond=0)
    assert last < ends_at
    rows = [(made.plan, "bytes", "allowed", at, 1100) for at in (last - MINUTE, last)]
    await ledger.add(made.customer, made.id, rows)
    desk.clock.advance(8 * 86_400)
    for at in (ends_at - timedelta(seconds=1), ends_at):
        (bill,) = await desk.operations.invoices.preview("acme", at=at)
        assert lines_of(bill) == []


async def test_what_cannot_be_previewed_is_told(desk: Office) -> None:
    """Nobody's bill, and the bill of a time to come."""
    with pytest.raises(NotFoundError, match="nobody"):
        await desk.operations.invoices.preview("nobody")
    await desk.customers.create("acme", None)
    assert await desk.operations.invoices.preview("acme") == []
    with pytest.raises(InputError, match="lies ahead"):
        await desk.operations.invoices.preview("acme", at=NOW + MINUTE)
    with pytest.raises(InputError, match="century"):
        await desk.operations.invoices.preview("acme", at=NOW - timedelta(days=40_000))


@pytest.fixture
async def rest(database: Database, redis_url: str) -> AsyncIterator[Rest]:
    """A running API."""
    async with running_rest(database, redis_url) as running:
        yield running


async def test_a_preview_over_rest(rest: Rest, ledger: Ledger) -> None:
    """Money is decimal text, and each line names where its units are; a viewer may read it, a stranger not."""
    await rest.operations.plans.apply(parse(PLANS.replace("prorate: true", "prorate: false"), "plans.yaml"))
    await rest.made("/v1/customers", key="acme")
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    anchor = f"{now - timedelta(days=1):%Y-%m-%dT%H}:31:00Z"  # within an hour: its usage is asked for by minutes
    made = await rest.made("/v1/subscriptions", customer="acme", plan="pro", anchor_at=anchor)
    counted = [("pro@2", "requests", "overage", now, 11), ("pro@2", "tokens", "allowed", now, 5)]
    await ledger.add(made["customer"], made["id"], counted)
    path = "/v1/customers/acme/invoice-preview"
    body = (await rest.viewer.get(path)).json()
    (bill,) = body["items"]
    assert body["next_cursor"] is None
    assert (bill["customer"], bill["subscription"], bill["environment"]) == (made["customer"], made["id"], "live")
    assert (bill["total"], bill["currency"], bill["is_complete"]) == ("50.50", "USD", False)
    assert [(line["kind"], line["amount"]) for line in bill["lines"]] == [("fee", "40.00"), ("overage", "10.50")]
    assert [(step["quantity"], step["price"]) for step in bill["lines"][1]["steps"]] == [(10, "1"), (1, "0.5")]
    (trace,) = bill["lines"][1]["usage"]
    assert (trace["rows"], trace["quantity"], trace["plan"]) == (1, 11, "pro@2")
    rows = (await rest.viewer.get(trace["query"])).json()["items"]
    assert [(row["quantity"], row["plan"], row["outcome"]) for row in rows] == [(11, "pro@2", "overage")]
    (free,) = bill["unbilled"]
    assert (free["reason"], free["usage"]["meter"], free["usage"]["quantity"]) == ("no_charge", "tokens", 5)
    rows = (await rest.viewer.get(free["usage"]["query"])).json()["items"]
    assert [(row["quantity"], row["plan"], row["meter"]) for row in rows] == [(5, "pro@2", "tokens")]
    assert (bill["changed_at"], bill["complete_at"] > bill["to_at"]) == (f"{now:%Y-%m-%dT%H:%M:%SZ}", True)
    assert (await rest.viewer.get(path, params={"period": "previous"})).json()["items"] == []
    problem(await rest.viewer.get("/v1/customers/nobody/invoice-preview"), 404)
    problem(await rest.viewer.get(path, params={"at": f"{now + timedelta(days=9):%Y-%m-%dT%H:%M:%SZ}"}), 422)
    problem(await rest.viewer.get(path, params={"period": "next"}), 422)
    problem(await rest.stranger.get(path), 401)


async def test_a_preview_on_the_command_line(shell: Shell, tmp_path: Path, database: Database) -> None:
    """A table to add up by hand, or the representation of REST."""
    file = tmp_path / "plans.yaml"
    file.write_text(PLANS.replace("prorate: true", "prorate: false"))
    assert shell("plans", "apply", str(file)).code == 0
    shell("customers", "create", "acme")
    assert shell("invoices", "preview", "--customer", "acme").out == "(none)\n"
    made = shell("subscriptions", "create", "--customer", "acme", "--plan", "pro", "--json").json
    connection = await asyncpg.connect(database.dsn)
    try:
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        rows = [("pro@1", "bytes", "allowed", now, 1600), ("pro@1", "requests", "allowed", now, 42)]
        await Ledger(connection).add(made["customer"], made["id"], rows)
    finally:
        await connection.close()
    (bill,) = shell("invoices", "preview", "--customer", "acme", "--json").items
    assert (bill["total"], [line["amount"] for line in bill["lines"]]) == ("41.50", ["40.00", "1.50"])
    shown = shell("invoices", "preview", "--customer", "acme", "--period", "current").out
    for text in (made["id"], "so far", "Pro, bytes", "units: 1500 x 0.001 = 1.500", "1.50 USD", "total 41.50 USD"):
        assert text in shown
    assert [each["usage"]["query"].startswith("/v1/usage?") for each in bill["unbilled"]] == [True]
    for text in ("complete from", "requests", "42", "within_limits"):
        assert text in shown
    assert shell("invoices", "preview", "--customer", "acme", "--at", "60d", "--json").items == []
    assert "customer" in shell("invoices", "preview", "--customer", "nobody").refused()
    assert "century" in shell("invoices", "preview", "--customer", "acme", "--at", "2999-01-01").refused()

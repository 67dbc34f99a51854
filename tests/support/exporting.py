"""Exports over a real ledger and local receivers: a customer who used something, and who is told of it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.receiver_servers import BEARER, SECRET, ReceiverServer
from support.servers import Database

from tallygate.admin.operations import ControlPlane
from tallygate.admin.postgres import Registry
from tallygate.billing.exports.config import read
from tallygate.billing.exports.cursor import Aside, Cursor
from tallygate.billing.exports.postgres import ExportRows, PostgresExports
from tallygate.billing.exports.receivers import Exporter, exporters
from tallygate.core.clock import ManualClock
from tallygate.plans.parse import parse
from tallygate.storage.postgres import Pool, close_pool, create_pool
from tallygate.tokens.digest import Pepper, Peppers
from tallygate.tokens.format import Environment, TokenFormat
from tallygate.usage.buckets import Bucket, BucketName
from tallygate.usage.entry import UsageEntry
from tallygate.usage.postgres import PostgresLedger

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
ROUTE = "GET /v1/things"
_PLANS = "plans: [{key: pro, name: Pro}]"
_MINUTE = timedelta(minutes=1)


@dataclass(slots=True)
class Books:
    """The ledger, one customer (`acme`), and the use cases; `clock` is everybody's."""

    dsn: str
    pool: Pool
    clock: ManualClock
    customer: str = ""
    subscription: str = ""
    test_subscription: str = ""

    @property
    def control(self) -> ControlPlane:
        """Return the control plane."""
        return ControlPlane(Registry(self.pool), self.clock, TokenFormat(), Peppers(Pepper("p" * 40)))

    @property
    def rows(self) -> ExportRows:
        """Return the cursors, on any connection."""
        return ExportRows(self.pool)  # type: ignore[arg-type]  # a pool runs single statements as a connection does

    async def open(self) -> None:
        """Put the customer on a plan."""
        operations = self.control.acting("test")
        await operations.plans.apply(parse(_PLANS, "plans.yaml"))
        self.customer = (await operations.customers.create("acme", None)).id
        await operations.references.put("acme", "stripe", "cus_of_stripe")
        self.subscription = (await operations.subscriptions.create("acme", "pro")).id
        made = await operations.subscriptions.create("acme", "pro", environment=Environment.TEST)
        self.test_subscription = made.id

    async def use(
        self,
        quantities: Sequence[int],
        *,
        at: datetime = NOW,
        meter: str = "requests",
        outcome: str = "allowed",
        customer: str | None = None,
        subscription: str | None = None,
    ) -> None:
        """Store so many units, each in the minute after the one before, as the worker does."""
        for number, quantity in enumerate(quantities):
            minute_at = at + number * _MINUTE
            minute = int(minute_at.timestamp()) // 60
            entry = UsageEntry(
                customer or self.customer, subscription or self.subscription, "fam_1", "pro@1", meter, ROUTE, outcome,
                "counted" if quantity > 0 else "refund", minute_at, quantity,
            )  # fmt: skip
            opened_us = int(minute_at.timestamp() * 1_000_000) + len(meter) + len(outcome)
            bucket = Bucket(BucketName(entry.customer, minute, opened_us), (entry,))
            await PostgresLedger(self.pool).store([bucket])

    async def cursor(self, name: str) -> Cursor:
        """Return how far an export has come."""
        found = await self.rows.cursor(name)
        assert found is not None
        return found

    async def asides(self, name: str) -> list[Aside]:
        """Return what an export put aside."""
        return await self.rows.asides(name, 100_000)


@asynccontextmanager
async def open_books(database: Database) -> AsyncIterator[Books]:
    """Return the books over a database."""
    pool = await create_pool(database.dsn, max_size=4)
    try:
        books = Books(database.dsn, pool, ManualClock(NOW))
        await books.open()
        yield books
    finally:
        await close_pool(pool)


def table_of(kind: str, url: str, *lines: str) -> str:
    """Return the table of an export named as its kind, at a local receiver."""
    common = [f"[exports.{kind}]", f'kind = "{kind}"', f'url = "{url}"']
    if kind == "cloudevents":
        common += ['secret_env = "SECRET"', 'source = "tests"']
    else:
        common += ['key_env = "KEY"']
    return "\n".join([*common, *lines]) + "\n"


def exporter_of(books: Books, directory: Path, text: str) -> Exporter:
    """Return what sends the one export of a file."""
    path = directory / "exports.toml"
    path.write_text(text)
    configured = read(path, {"KEY": BEARER, "SECRET": SECRET})
    (made,) = exporters(configured, PostgresExports(books.dsn), books.clock)
    return made


def address_of(kind: str, server: ReceiverServer) -> str:
    """Return the `url` that leads to a server."""
    return server.url + server.path if kind == "cloudevents" else server.url

"""The control plane over a real database: its use cases, a clock to move, and what they left behind.

Works with the rights of role `tallygate_control`, so that a use case that needs more fails here.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from support.servers import Database

from tallygate.admin.operations import ControlPlane
from tallygate.admin.postgres import Registry
from tallygate.admin.records import Subscription
from tallygate.core.clock import ManualClock
from tallygate.licenses.license import License
from tallygate.licenses.postgres import PostgresLicenseStore
from tallygate.plans.document import Catalogue
from tallygate.plans.parse import parse
from tallygate.storage.postgres import Pool, close_pool, create_pool
from tallygate.tokens.digest import Pepper, Peppers
from tallygate.tokens.format import TokenFormat

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
PEPPERS = Peppers(Pepper("a pepper of tests, long enough to be one"))
FORMAT = TokenFormat()
ACTOR = "test:office"
_TABLES = (
    "customers",
    "plans",
    "plan_versions",
    "plan_shadows",
    "route_tables",
    "subscriptions",
    "subscription_changes",
    "subscription_overrides",
    "credit_grants",
    "token_families",
    "tokens",
    "token_last_used",
    "leak_reports",
    "admin_keys",
    "idempotency_keys",
    "licenses",
    "license_changes",
    "license_generation",
    "audit",
    "audit_head",
)
_CATALOGUE = """
routes:
  - {match: "* /v1/**"}
plans:
  - {key: free, name: Free, scopes: [things.read], limits: [{name: all, credits: 100}]}
  - {key: pro, name: PRO_NAME, scopes: [things.read, things.write], limits: [{name: all, credits: 1000}]}
"""


def catalogue(pro_name: str = "Pro") -> Catalogue:
    """Return a catalogue of `free` and `pro`; another name of `pro` makes another version of it."""
    return parse(_CATALOGUE.replace("PRO_NAME", json.dumps(pro_name)), "test.yaml")


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the audit log."""

    action: str
    object: str
    before: Any
    after: Any
    reason: str


class Office:
    """The use cases, by noun, and the rows they write."""

    def __init__(self, pool: Pool, data_plane: Pool) -> None:
        """Work through `pool`; `data_plane` is another login's, to read licenses as `serve` does."""
        self.clock = ManualClock(NOW)
        self.control = ControlPlane(Registry(pool), self.clock, FORMAT, PEPPERS)
        self.operations = self.control.acting(ACTOR)
        self.customers = self.operations.customers
        self.plans = self.operations.plans
        self.subscriptions = self.operations.subscriptions
        self.contracts = self.operations.contracts
        self.tokens = self.operations.tokens
        self._pool = pool
        self._store = PostgresLicenseStore(data_plane)

    async def open_account(self, key: str = "acme", plan: str = "pro") -> Subscription:
        """Publish the catalogue and put a new customer on `plan`."""
        await self.plans.apply(catalogue())
        customer = await self.customers.create(key, None)
        return await self.subscriptions.create(customer.id, plan)

    async def license_of(self, secret: str) -> License | None:
        """Return what the data plane reads for a token."""
        text = FORMAT.parse(secret)
        assert text is not None
        return (await self._store.find(PEPPERS.candidates(text))).license

    async def audit(self) -> list[Entry]:
        """Return the audit log, oldest first; every entry must be of our actor and clock."""
        rows = await self._pool.fetch("SELECT * FROM audit ORDER BY id")
        assert {row["actor"] for row in rows} <= {ACTOR}
        assert all(NOW <= row["at"] <= self.clock.now() for row in rows)
        return [
            Entry(row["action"], row["object"], _read(row["before"]), _read(row["after"]), row["reason"])
            for row in rows
        ]

    async def changes(self) -> list[str]:
        """Return the subjects of all license changes, oldest first; their numbers must have no gap."""
        rows = await self._pool.fetch("SELECT generation, subject FROM license_changes ORDER BY generation")
        assert [row["generation"] for row in rows] == list(range(1, len(rows) + 1))
        return [row["subject"] for row in rows]

    async def contents(self) -> dict[str, list[str]]:
        """Return every row of every table, as text."""
        return {
            table: [
                str(row[0])
                for row in await self._pool.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")  # noqa: S608
            ]
            for table in _TABLES
        }


@asynccontextmanager
async def office(database: Database) -> AsyncIterator[Office]:
    """Open an office over a fresh database."""
    separator = "&" if "?" in database.dsn else "?"
    pool = await create_pool(f"{database.dsn}{separator}role=tallygate_control", min_size=1)
    data_plane = await create_pool(database.data_plane_dsn, min_size=0, max_size=1)
    try:
        yield Office(pool, data_plane)
    finally:
        await close_pool(pool)
        await close_pool(data_plane)


def _read(document: str | None) -> Any:  # noqa: ANN401 - JSON of any shape
    return None if document is None else json.loads(document)

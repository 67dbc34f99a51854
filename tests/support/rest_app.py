"""The REST API in this process: the real app over real Postgres, with time that stands still.

For what a server of its own would hide: how often the database is asked, and what a request leaves behind
when its process dies in the middle (cancel it).
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from support.rest import PEPPER, PLANS
from support.servers import Database

from tallygate.admin.leaks import LeakPolicy
from tallygate.admin.operations import ControlPlane, Operations
from tallygate.admin.postgres import Registry, Statements
from tallygate.admin.records import Role
from tallygate.admin.rest.app import rest_app
from tallygate.admin.rest.call import Backstage
from tallygate.admin.rest.signatures import LeakKeys
from tallygate.admin.rest.throttle import Throttle, requests_per_second
from tallygate.core.clock import ManualClock
from tallygate.insights.memory import MemoryShadowLedger
from tallygate.limits.memory import MemoryLimiter
from tallygate.plans.parse import parse
from tallygate.storage.postgres import Pool, close_pool, create_pool
from tallygate.tokens.digest import Pepper, Peppers
from tallygate.tokens.format import TokenFormat
from tallygate.usage.reading import UsageReader

STRANGERS_AT_ONCE = 10
"""Requests of strangers from one address at once; one more each second."""


class CountingRegistry(Registry):
    """The registry, counting how often it was asked."""

    asked = 0

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Statements]:
        """Count, and go on."""
        self.asked += 1
        async with super().session() as statements:
            yield statements


async def _unknown(asked: object) -> Any:  # noqa: ANN401 - never returns
    raise AssertionError(asked)


@dataclass(slots=True)
class RestApp:
    """The app; `explain` is what the address of that name asks."""

    registry: CountingRegistry
    clock: ManualClock = field(default_factory=lambda: ManualClock(datetime(2027, 1, 1, tzinfo=UTC)))
    explain: Callable[[Any], Awaitable[Any]] = _unknown
    control: ControlPlane = field(init=False)
    _app: Any = field(init=False)

    def __post_init__(self) -> None:
        """Build the app."""
        self.control = ControlPlane(self.registry, self.clock, TokenFormat("tg"), Peppers(Pepper(PEPPER)))
        counters = MemoryLimiter(self.clock)
        throttle = Throttle(
            counters,
            counters,
            lambda _states: {},
            per_key=requests_per_second("admin-key", 100_000, burst=1),
            per_address=requests_per_second("address", 1, burst=STRANGERS_AT_ONCE),
        )

        async def explain(asked: object) -> Any:  # noqa: ANN401 - whatever the test's own returns
            return await self.explain(asked)

        backstage = Backstage(
            self.control, throttle, explain, MemoryShadowLedger(), UsageReader(self.registry._pool, None), LeakKeys(),
            LeakPolicy.REVOKE, timedelta(0), self.clock, "https://problems.example/",
        )  # fmt: skip
        self._app = rest_app(backstage, "test")

    @property
    def operations(self) -> Operations:
        """The use cases, without HTTP."""
        return self.control.acting("test")

    def at(self, address: str, secret: str | None = None) -> httpx.AsyncClient:
        """Return a client at an address, with an admin key or without."""
        headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
        transport = httpx.ASGITransport(self._app, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url="http://rest.example", headers=headers)

    async def admin(self) -> httpx.AsyncClient:
        """Return the client of an administrator."""
        made = await self.operations.keys.create("admin", Role.ADMIN)
        return self.at("192.0.2.99", made.secret)

    async def subscribed(self) -> None:
        """Publish the plans, and put the customer `acme` on one."""
        await self.operations.plans.apply(parse(PLANS, "plans.yaml"))
        await self.operations.customers.create("acme", None)
        await self.operations.subscriptions.create("acme", "pro")


@asynccontextmanager
async def rest_app_over(database: Database, *, connections: int = 16) -> AsyncIterator[RestApp]:
    """Return the app over a database, with so many connections to it."""
    pool: Pool = await create_pool(database.dsn, max_size=connections)
    try:
        yield RestApp(CountingRegistry(pool))
    finally:
        await close_pool(pool)

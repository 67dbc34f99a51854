"""The REST API as it runs: the real app over HTTP, real Postgres and Redis, and a client for each role."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
from support.rest_conformance import Conformance
from support.servers import Database

from tallygate.admin.operations import Operations
from tallygate.admin.records import Role
from tallygate.app.control_plane import control_plane
from tallygate.app.rest_api import admin_api
from tallygate.core.clock import Clock
from tallygate.plans.parse import parse
from tallygate.settings import Settings, load

PEPPER = "p" * 40
PLANS = """
routes:
  - {match: "GET /v1/reports/{id}", cost: {requests: 5}, scope: reports.read, feature: reports}
  - {match: "* /v1/**", cost: {requests: 1}}
plans:
  - key: free
    name: Free
    scopes: [things.read]
    limits:
      - {name: monthly, quota: 100, period: month}
  - key: pro
    name: Pro
    scopes: [things.read, things.write, reports.read]
    features: {reports: true, max_projects: 20}
    limits:
      - {name: burst, rate: 50/s, burst: 100}
      - {name: monthly, quota: 1000, period: month}
      - {name: prepaid, credits: 10}
"""


@dataclass(frozen=True, slots=True)
class Rest:
    """A running API, and a client for each role; `stranger` has no key."""

    url: str
    secrets: Mapping[Role, str] = field(repr=False)
    viewer: httpx.AsyncClient
    issuer: httpx.AsyncClient
    admin: httpx.AsyncClient
    stranger: httpx.AsyncClient
    operations: Operations

    def as_role(self, role: Role) -> httpx.AsyncClient:
        """Return the client of a role."""
        return {Role.VIEWER: self.viewer, Role.ISSUER: self.issuer, Role.ADMIN: self.admin}[role]

    async def made(self, path: str, **body: object) -> dict[str, Any]:
        """Make something as an admin and return it."""
        answer = await self.admin.post(path, json=body)
        assert answer.status_code == httpx.codes.CREATED, answer.text
        return dict(answer.json())

    async def subscribed(self, key: str = "acme", plan: str = "pro") -> dict[str, Any]:
        """Make a customer with a subscription and return the subscription."""
        await self.made("/v1/customers", key=key)
        return await self.made("/v1/subscriptions", customer=key, plan=plan)


def settings_of(database: Database, redis_url: str, **more: str | int) -> Settings:
    """Return settings for an API on any free port."""
    given = {"postgres_dsn": database.dsn, "redis_url": redis_url, "pepper": PEPPER, "admin_listen": "127.0.0.1:0"}
    return load({f"TALLYGATE_{name.upper()}": str(value) for name, value in (given | more).items()}).values


@asynccontextmanager
async def running_rest(
    database: Database, redis_url: str, *, clock: Clock | None = None, **more: str | int
) -> AsyncIterator[Rest]:
    """Run the API with a key for each role and the plans `free` and `pro`.

    Whatever a test does, each answer is held against the OpenAPI document.
    """
    values = settings_of(database, redis_url, **more)
    async with AsyncExitStack() as left_open:
        operations = await left_open.enter_async_context(control_plane(values, "test"))
        await operations.plans.apply(parse(PLANS, "plans.yaml"))
        secrets = {role: (await operations.keys.create(role.value, role)).secret for role in Role}
        server = await left_open.enter_async_context(admin_api(values, clock))
        url = f"http://{server.address}"
        clients = {role: await left_open.enter_async_context(client(url, secret)) for role, secret in secrets.items()}
        stranger = await left_open.enter_async_context(client(url))
        conformance = Conformance((await stranger.get("/openapi.json")).json())
        for each in (stranger, *clients.values()):
            each.event_hooks = {"response": [conformance.check]}
        yield Rest(url, secrets, clients[Role.VIEWER], clients[Role.ISSUER], clients[Role.ADMIN], stranger, operations)


def client(url: str, secret: str | None = None) -> httpx.AsyncClient:
    """Return a client, with an admin key or without."""
    headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=20, trust_env=False)


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Return the problem an answer tells, having seen that it is a whole one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = dict(answer.json())
    assert {"type", "title", "status", "detail", "instance"} <= body.keys()
    assert body["status"] == status
    assert "Traceback" not in answer.text
    return body


async def together(*requests: Any) -> list[httpx.Response]:  # noqa: ANN401 - awaitables of answers
    """Send requests at the same time."""
    return list(await asyncio.gather(*requests))


def dumped(value: object) -> bytes:
    """Return JSON as bytes."""
    return json.dumps(value).encode()


async def everything_stored(database: Database) -> bytes:
    """Return every row of every table as text."""
    connection = await asyncpg.connect(database.dsn)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        found = []
        for (name,) in tables:
            rows = await connection.fetch(f'SELECT * FROM "{name}"')  # noqa: S608 - the name is from the catalog
            found += [repr(value) for row in rows for value in row.values()]
    finally:
        await connection.close()
    return "\n".join(found).encode()

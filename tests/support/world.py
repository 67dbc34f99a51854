"""The whole running system as a caller and an operator see it: accounts on test plans, requests through Envoy.

Owns the plans of the acceptance tests and small ways to ask. Does not own what runs (`cli/system.py`).
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from tallygate.admin.records import Customer, IssuedToken, Subscription
from tallygate.app.explain import explain
from tallygate.cli.system import System
from tallygate.decision.decision import CheckInput, Decision
from tallygate.plans.document import Catalogue
from tallygate.plans.parse import parse
from tallygate.settings import PREFIX, load

THINGS = "/v1/things"
PLANS = """
routes:
  - {match: "GET /v1/reports/{id}", cost: {requests: 5}, scope: reports.read, feature: reports}
  - {match: "DELETE /v1/things/{id}", scope: things.delete}
  - {match: "GET /v1/bulk", cost: {requests: 3}}
  - {match: "* /v1/**"}
  - {match: "POST /things.Things/Delete", scope: things.delete}
  - {match: "POST /things.Things/{method}"}
plans:
  - key: open
    name: Open
    scopes: [things.read, things.delete, reports.read]
    features: {reports: true, seats: 5}
  - {key: plain, name: Plain, scopes: [reports.read], features: {reports: false}, upgrade_url: "https://example.com/up"}
  - {key: rated, name: Rated, limits: [{name: hourly, rate: 3/h, burst: 3}]}
  - {key: large, name: Large, limits: [{name: monthly, quota: 5000, period: billing}]}
  - {key: prepaid, name: Prepaid, limits: [{name: prepaid, credits: 7}]}
  - {key: few, name: Few, limits: [{name: monthly, quota: 4, period: billing}]}
  - key: both
    name: Both
    limits:
      - {name: small, quota: 3, period: billing}
      - {name: wide, quota: 1000, period: billing}
      - {name: per-token, credits: 1000, per: token}
  - {key: overage, name: Overage, limits: [{name: all, quota: 2, period: billing, on_exceed: overage, allow_until: 2x}]}
  - {key: shadow, name: Shadow, limits: [{name: trial, credits: 1, mode: shadow}]}
  - {key: closed, name: Closed, limits: [{name: all, credits: 1000000, fail: closed}]}
  - {key: opened, name: Opened, limits: [{name: all, credits: 1000000, fail: open}]}
  - {key: local, name: Local, limits: [{name: all, credits: 3, fail: local}]}
"""


def plans(*, extra_route: str = "", renamed: str = "-") -> Catalogue:
    """Return the plans of these tests, with one more route rule in front, or a plan of another name, if told."""
    text = PLANS.replace("routes:\n", f"routes:\n{extra_route}", 1)
    return parse(text.replace(f"name: {renamed.title()},", "name: Another,"), "acceptance.yaml")


@dataclass(frozen=True, slots=True)
class Account:
    """A customer on a plan, with a token."""

    customer: Customer
    subscription: Subscription
    issued: IssuedToken

    @property
    def secret(self) -> str:
        """Return the token."""
        return self.issued.secret


class World:
    """The running system, and a client in front of it."""

    def __init__(self, system: System, http: httpx.AsyncClient) -> None:
        """Take the running system and a client."""
        self.system = system
        self.http = http
        self._made = 0

    async def account(self, plan: str, **options: object) -> Account:
        """Make a customer on `plan` with a token of these options."""
        self._made += 1
        control = self.system.control
        customer = await control.customers.create(f"{plan}-{self._made}", None)
        subscription = await control.subscriptions.create(customer.id, plan)
        issued = await control.tokens.issue(subscription=subscription.id, **options)  # type: ignore[arg-type]
        return Account(customer, subscription, issued)

    async def get(
        self, secret: str | None, path: str = THINGS, method: str = "GET", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Ask through Envoy with `secret` as the bearer."""
        bearer = {} if secret is None else {"authorization": f"Bearer {secret}"}
        return await self.http.request(method, self.system.gateway_url + path, headers=bearer | (headers or {}))

    async def seen(self, secret: str | None, path: str = THINGS, method: str = "GET") -> str:
        """Return status and reason as a caller sees them, such as `429 rate_limited`."""
        return told(await self.get(secret, path, method))

    async def until(self, expected: str, ask: Callable[[], Awaitable[str]], deadline_s: float = 20) -> float:
        """Ask without a pause until the answer is as expected; return the seconds that took."""
        started = time.monotonic()
        while (seen := await ask()) != expected:
            assert time.monotonic() - started < deadline_s, f"still {seen}, not {expected}, after {deadline_s} s"
        return time.monotonic() - started

    async def explain(self, secret: str, path: str = THINGS) -> Decision:
        """Say how a request would be decided, consuming nothing."""
        named = {PREFIX + name: value for name, value in self.system.environment.items()}
        asked = CheckInput("GET", path, {"authorization": f"Bearer {secret}"}, "127.0.0.1")
        return await explain(load(named).values, asked)

    async def left(self, secret: str) -> dict[str, int]:
        """Return what each limit of a token has left before any further request."""
        decision = await self.explain(secret)
        spent = 1 if decision.reason.value in {"ok", "overage", "shadow"} else 0
        return {state.limit.name: state.remaining + spent for state in decision.states}

    async def hammer(self, secret: str, requests: int, clients: int) -> Counter[str]:
        """Send so many requests from so many keep-alive connections at once; count what came back."""
        address = urlsplit(self.system.gateway_url)
        todo = iter(range(requests))
        answers: Counter[str] = Counter()
        message = f"GET {THINGS} HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {secret}\r\n\r\n".encode()

        async def client() -> None:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            try:
                for _ in todo:
                    writer.write(message)
                    answers[await _answer(reader)] += 1
            finally:
                writer.close()
                await writer.wait_closed()

        await asyncio.gather(*(client() for _ in range(clients)))
        return answers

    async def metrics(self) -> dict[str, float]:
        """Return every sample of the metrics endpoint by its name with labels."""
        text = (await self.http.get(self.system.metrics_url)).text
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}


def told(answer: httpx.Response) -> str:
    """Return status and reason as a caller sees them."""
    if answer.headers.get("content-type") != "application/problem+json":
        return str(answer.status_code)
    return f"{answer.status_code} {answer.json()['reason']}"


async def _answer(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    body = await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r")[0]))
    status = head.split(" ", 2)[1]
    return f"{status} {json.loads(body)['reason']}" if "application/problem+json" in head else status

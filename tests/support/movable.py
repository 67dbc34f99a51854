"""The whole system with a clock that the test moves: years pass in a second, and nothing sleeps.

Envoy, Postgres and Valkey are real. The data plane runs in this process, wired by `app.data_plane` as for
`serve`; its clock, the control plane's and the one that the scripts read in Valkey are one. Deadlines are as
long as a slow machine may need. The time lies far ahead, so that Valkey's own clock forgets nothing; what it
would forget by ours is deleted when the clock moves. Envoy shows the caller what it was told of a request.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar, cast

import httpx
from redis.asyncio import Redis
from support.counting import CLOCK_KEY, scripted_clocks
from support.gateway import HARDENED
from support.servers import Database
from support.tcp_proxy import TcpProxy, tcp_proxy

from tallygate.admin.operations import ControlPlane, Operations
from tallygate.admin.postgres import Registry
from tallygate.admin.records import Customer
from tallygate.app.data_plane import DataPlane, data_plane
from tallygate.core.clock import ManualClock
from tallygate.devservers.envoy import EmbeddedEnvoy
from tallygate.devservers.envoy_config import with_endpoints
from tallygate.devservers.ports import LOOPBACK
from tallygate.devservers.upstream import SampleUpstream
from tallygate.devservers.valkey import EmbeddedValkey
from tallygate.limits.algorithms import microseconds
from tallygate.limits.keys import PREFIX as COUNTERS
from tallygate.plans.parse import parse
from tallygate.settings import PREFIX, load
from tallygate.storage.postgres import close_pool, create_pool
from tallygate.tokens.digest import Pepper, Peppers
from tallygate.tokens.format import TokenFormat

CATALOGUE = (Path(__file__).parents[2] / "examples" / "catalogue.yaml").read_text()
START_AT = datetime(2097, 1, 10, 12, tzinfo=UTC)
THINGS, ALLOWANCE = "/v1/things", "/v1/allowance"
_PEPPER = "a pepper of a shop in the year 2097, long enough"
_DEADLINE_S = 60
_AT_ONCE = 40
_FORGET_LUA = """
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  local until_ms = redis.call('PEXPIRETIME', key)
  if until_ms > 0 and until_ms <= tonumber(ARGV[2]) and not string.find(key, ':u:', 1, true) then
    redis.call('DEL', key)
  end
end
redis.call('HSET', KEYS[1], 's', ARGV[3], 'us', ARGV[4])
"""
_SHOWN = "".join(
    f"""
                          - header:
                              key: x-seen-{name}
                              value: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:{name})%"
                            keep_empty_value: false"""
    for name in ("reason", "plan", "would_refuse")
)
_DOMAINS = 'domains: ["*"]'

_Done = TypeVar("_Done")


@dataclass(frozen=True, slots=True)
class Buyer:
    """A customer with a subscription and a token, and what they meet."""

    shop: "Shop"
    customer: Customer
    subscription: str
    secret: str

    async def ask(self, path: str = THINGS, method: str = "GET") -> httpx.Response:
        """Ask through Envoy."""
        bearer = {"authorization": f"Bearer {self.secret}"}
        return await self.shop.http.request(method, self.shop.gateway_url + path, headers=bearer)

    async def seen(self, path: str = THINGS, method: str = "GET") -> str:
        """Ask, and return status and reason, such as `200 overage`."""
        return told(await self.ask(path, method))

    async def plan(self) -> str:
        """Return the plan version in force, spending nothing; why not, when the answer is a refusal."""
        answer = await self.ask(ALLOWANCE)
        return str(answer.json()["headers"]["x-tallygate-plan"]) if answer.is_success else told(answer)

    async def spend(self, requests: int, path: str = THINGS, method: str = "GET") -> dict[str, int]:
        """Ask so often within one instant, and return how many answers were which."""
        answers: Counter[str] = Counter()
        for first in range(0, requests, _AT_ONCE):
            at_once = range(first, min(requests, first + _AT_ONCE))
            answers.update(await asyncio.gather(*(self.seen(path, method) for _ in at_once)))
        return dict(answers)

    async def left(self, path: str = ALLOWANCE, method: str = "GET") -> dict[str, tuple[int, int]]:
        """Ask, and return what each limit then has left and what it is in all, as the caller is told."""
        headers = (await self.ask(path, method)).headers
        remaining, amounts = [_listed(headers.get(name, "")) for name in ("ratelimit", "ratelimit-policy")]
        return {name: (int(remaining[name]["r"]), int(policy["q"])) for name, policy in amounts.items()}


class MovableTime:
    """The clock of everything: ours, and the one that the scripts read in Valkey."""

    def __init__(self, redis: Redis) -> None:
        """Begin at `START_AT`, once `move_to` has been told so."""
        self.clock = ManualClock(START_AT)
        self._redis = redis

    async def move_to(self, at: datetime) -> None:
        """Let time pass until `at`, everywhere."""
        passed = at - self.clock.now()
        assert passed >= timedelta(), "time only moves forward"
        self.clock.advance(passed.total_seconds())
        self.clock.set(at)
        now_us = microseconds(at)
        arguments = [COUNTERS + "{*", now_us // 1000, *divmod(now_us, 10**6)]
        await cast("Awaitable[object]", self._redis.eval(_FORGET_LUA, 1, CLOCK_KEY, *map(str, arguments)))


class Shop:
    """The running system: whoever runs it acts through `control`, its customers are `Buyer`s."""

    def __init__(  # noqa: PLR0917 - the parts of a system
        self,
        time: MovableTime,
        control: Operations,
        http: httpx.AsyncClient,
        gateway_url: str,
        metrics_url: str,
        redis: Redis,
        postgres: TcpProxy,
    ) -> None:
        """Take the parts, which run; `postgres` is the data plane's way to Postgres."""
        self.control = control
        self.http = http
        self.gateway_url = gateway_url
        self.redis = redis
        self.postgres = postgres
        self._time = time
        self._metrics_url = metrics_url
        self._bell: Buyer | None = None
        self._made = 0
        self._rings = 0

    @property
    def now(self) -> datetime:
        """Return the instant it is."""
        return self._time.clock.now()

    async def move_to(self, at: datetime) -> None:
        """Let time pass until `at`."""
        await self._time.move_to(at)

    async def advance(self, by: timedelta) -> None:
        """Let so much time pass."""
        await self.move_to(self.now + by)

    async def next_date(self, month: int, day: int) -> datetime:
        """Let time pass until 09:30 UTC of that day, in the next year that is no leap year."""
        year = self.now.year + 1
        await self.move_to(datetime(year + (year % 4 == 0), month, day, 9, 30, tzinfo=UTC))
        return self.now

    async def buyer(self, plan: str, customer: Customer | None = None, **terms: object) -> Buyer:
        """Return a customer, a new one unless told, on a plan version, with a token.

        `terms` are those of `subscriptions.create`.
        """
        self._made += 1
        payer = customer or await self.control.customers.create(f"customer-{self._made}", None)
        subscription = await self.control.subscriptions.create(payer.id, plan, **terms)  # type: ignore[arg-type]
        issued = await self.control.tokens.issue(subscription=subscription.id)
        return Buyer(self, payer, subscription.id, issued.secret)

    async def bought(self, plan: str) -> Buyer:
        """Return a new customer who has bought a plan that begins with a trial."""
        buyer = await self.buyer(plan)
        await self.done(self.control.contracts.change(buyer.subscription, plan, reason="bought"))
        return buyer

    async def done(self, act: Awaitable[_Done]) -> _Done:
        """Let an operator act, and return when the data plane has heard of it."""
        result = await act
        await self.heard()
        return result

    async def heard(self) -> None:
        """Return when the data plane has heard of every change so far.

        Changes are heard in order: once a last one, which concerns only a customer of our own, is seen to
        have taken effect, so have all before it.
        """
        if self._bell is None:
            self._bell = await self.buyer("free@1")
        self._rings += 1
        status, expected = ("suspended", "403 customer_suspended") if self._rings % 2 else ("active", "200 ok")
        await self.control.customers.set_status(self._bell.customer.id, status)
        async with asyncio.timeout(_DEADLINE_S):
            while await self._bell.seen(ALLOWANCE) != expected:
                pass

    async def metric(self, name: str) -> float:
        """Return a sample of the metrics endpoint by its name with labels, 0 where there is none."""
        text = (await self.http.get(self._metrics_url)).text
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {found: float(value) for found, _, value in samples}.get(name, 0.0)


def told(answer: httpx.Response) -> str:
    """Return status and reason: of a refusal from its body, of an admission from what Envoy was told beside it."""
    if answer.headers.get("content-type") == "application/problem+json":
        return f"{answer.status_code} {answer.json()['reason']}"
    return f"{answer.status_code} {answer.headers.get('x-seen-reason', '')}".strip()


@asynccontextmanager
async def open_shop(database: Database, run_dir: Path) -> AsyncIterator[Shop]:
    """Run the whole system over a fresh database, selling the example catalogue."""
    async with AsyncExitStack() as left_open:
        enter = left_open.enter_async_context
        valkey = await enter(EmbeddedValkey(run_dir / "valkey", is_durable=False))
        redis = Redis.from_url(valkey.url, socket_timeout=_DEADLINE_S)
        left_open.push_async_callback(redis.aclose)
        time = MovableTime(redis)
        await time.move_to(START_AT)
        postgres = await enter(tcp_proxy(database.data_plane_dsn))
        upstream = await enter(SampleUpstream())
        http = await enter(httpx.AsyncClient(timeout=_DEADLINE_S, trust_env=False))
        control = await enter(_control(database, time.clock))
        await control.plans.apply(parse(CATALOGUE, "catalogue.yaml"))
        plane = await enter(_data_plane(postgres.dsn, valkey.url, time.clock))
        config = with_endpoints(
            _shown(HARDENED),
            listeners={"gateway": (LOOPBACK, 0)},
            clusters={"tallygate": (LOOPBACK, plane.transport.port), "upstream": (upstream.host, upstream.port)},
        )
        envoy = await enter(EmbeddedEnvoy(config, run_dir=run_dir / "envoy", concurrency=1))
        metrics_url = f"http://{plane.probes.address}/metrics"
        yield Shop(time, control, http, envoy.url("gateway"), metrics_url, redis, postgres)


def _shown(config: str) -> str:
    """Return the configuration with patience, and with a response header for each thing Envoy is told."""
    assert config.count(_DOMAINS) == 1
    assert "0.2s" in config
    patient = config.replace("0.2s", f"{_DEADLINE_S}s")
    return patient.replace(_DOMAINS, f"{_DOMAINS}\n                      response_headers_to_add:{_SHOWN}")


@asynccontextmanager
async def _control(database: Database, clock: ManualClock) -> AsyncIterator[Operations]:
    separator = "&" if "?" in database.dsn else "?"
    pool = await create_pool(f"{database.dsn}{separator}role=tallygate_control", min_size=1, max_size=4)
    try:
        yield ControlPlane(Registry(pool), clock, TokenFormat(), Peppers(Pepper(_PEPPER))).acting("test:shop")
    finally:
        await close_pool(pool)


@asynccontextmanager
async def _data_plane(dsn: str, redis_url: str, clock: ManualClock) -> AsyncIterator[DataPlane]:
    named = {
        "POSTGRES_DSN": dsn,
        "REDIS_URL": redis_url,
        "PEPPER": _PEPPER,
        "LISTEN": f"{LOOPBACK}:0",
        "METRICS_LISTEN": f"{LOOPBACK}:0",
        "SERVICES_LISTEN": f"{LOOPBACK}:0",
        "LIMITER_TIMEOUT_S": str(_DEADLINE_S),
        "STORE_TIMEOUT_S": str(_DEADLINE_S),
        "DRAIN_S": "0",
    }
    values = load({PREFIX + name: value for name, value in named.items()}).values
    plane = await data_plane(values, clock, scripted_clocks())
    stop = asyncio.Event()
    living = asyncio.create_task(plane.life.run(plane.probes, stop))
    try:
        async with asyncio.timeout(_DEADLINE_S):
            while plane.life.not_ready():
                assert not living.done(), "the data plane ended before it was ready"
                await asyncio.sleep(0)
        yield plane
    finally:
        stop.set()
        await living


def _listed(field: str) -> dict[str, dict[str, str]]:
    """Return the members of a RateLimit field and their parameters."""
    members = (member.strip().split(";") for member in field.split(",") if member.strip())
    return {name.strip('"'): dict(part.split("=", 1) for part in rest) for name, *rest in members}

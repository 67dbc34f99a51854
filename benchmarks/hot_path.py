"""What does each step of a decision cost one thread: read, decide, write, count, and all of them by `Check`?

Everything is what `tallygate serve` wires, in this process and without a socket. The license cache is warm, and
`AtOnce` stands in for the counters: `limiter` measures them, and `transport` the bytes' way here. 200 tokens take
turns, each with three limits, in requests with the headers that Envoy 1.40 sends. What is shown is the best of many
short rounds, on the thread's own CPU clock: it leaves out what a busy machine adds.

    python -m benchmarks.hot_path
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.measure import arguments, keep, run, show

from tallygate._proto.envoy.v3.external_auth_pb2 import AttributeContext, CheckRequest
from tallygate.core.clock import SystemClock
from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.decision.decision import CheckInput, Decision, Reason
from tallygate.decision.pipeline import Pipeline
from tallygate.envoy.attributes import read
from tallygate.envoy.check import Check
from tallygate.envoy.count import Counting
from tallygate.envoy.responses import ResponseWriter
from tallygate.insights.shadow import ShadowTally
from tallygate.licenses.cache import LicenseCache
from tallygate.licenses.last_used import LastUsed
from tallygate.licenses.license import CustomerStatus, Grant, License, Phase, Standing, Terms
from tallygate.licenses.memory import MemoryLicenseStore
from tallygate.licenses.routes import RouteRule
from tallygate.limits.limit import Limit, LimitKind
from tallygate.limits.limiter import Acquirer, Acquisition, LimitOutcome, LimitState, Subject, Verdict
from tallygate.metrics import Metrics
from tallygate.tokens.digest import Pepper, Peppers
from tallygate.tokens.format import Environment, TokenFormat
from tallygate.tokens.mint import mint

_TOKENS = 200
_BEGAN_AT = datetime(2026, 1, 1, tzinfo=UTC)
_BEGAN_US = int(_BEGAN_AT.timestamp()) * 10**6
_PEPPER = Pepper("a pepper of the benchmark, long enough to be one")
_FORMAT = TokenFormat()
_LIMITS = (
    Limit("burst", LimitKind.RATE, 10**6, burst=10**6, window_us=10**6),
    Limit("daily", LimitKind.QUOTA, 10**9, calendar=Calendar(PeriodUnit.DAY)),
    Limit("monthly", LimitKind.QUOTA, 10**9, calendar=Calendar(PeriodUnit.MONTH)),
)
_GRANT = Grant(
    plan="enterprise@1",
    plan_key="enterprise",
    scopes=frozenset({"things.read", "things.write", "reports.read"}),
    features={"reports": True, "max_projects": 20},
    limits=_LIMITS,
)
_ROUTES = (
    RouteRule("GET", "/v1/reports/{id}", (("requests", 5),), scope="reports.read", feature="reports"),
    RouteRule("*", "/v1/**", scope="things.read"),
)
_HEADERS = {
    ":authority": "api.example.com",
    ":method": "GET",
    ":path": "/v1/things?page=2",
    ":scheme": "https",
    "accept": "*/*",
    "accept-encoding": "gzip, deflate, br",
    "user-agent": "benchmark/1",
    "x-envoy-external-address": "203.0.113.7",
    "x-forwarded-for": "203.0.113.7",
    "x-forwarded-proto": "https",
    "x-request-id": "5e1f8a0c-7d7b-4c0e-9a35-2f4f2a1b9c11",
}


class AtOnce:
    """A limiter that answers at once and counts nothing; each answer leaves one less, as real ones do."""

    def __init__(self, *, is_admitting: bool) -> None:
        """Say that all limits have room, or that the last has none."""
        self._left = 10**6
        self._is_admitting = is_admitting

    async def acquire(self, acquisition: Acquisition) -> Verdict:
        """Say so."""
        self._left -= 1
        states = [LimitState(each.limit, LimitOutcome.OK, self._left, None, 1) for each in acquisition.charges]
        if not self._is_admitting:
            states[-1] = LimitState(states[-1].limit, LimitOutcome.EXCEEDED, 0, 3_600, 3_600)
        return Verdict(self._is_admitting, False, tuple(states), _BEGAN_US)  # noqa: FBT003 - by position, as cheaply as can be

    async def peek(self, acquisition: Acquisition) -> Verdict:
        """Say the same."""
        return await self.acquire(acquisition)

    async def release(self, subject: Subject, request_id: str) -> None:
        """Do nothing."""

    async def first_used_at(self, subject: Subject, *, is_look: bool = False) -> datetime | None:
        """Say that it has long been used."""
        del subject, is_look
        return _BEGAN_AT


def question(secret: str, number: int) -> bytes:
    """Return what Envoy sends for a small GET."""
    headers = _HEADERS | {"authorization": f"Bearer {secret}"}
    http = AttributeContext.HttpRequest(
        id=str(10**18 + number), method="GET", path=_HEADERS[":path"], headers=headers, host=_HEADERS[":authority"]
    )
    http.scheme, http.protocol, http.size = "https", "HTTP/1.1", -1
    attributes = AttributeContext(request=AttributeContext.Request(http=http))
    attributes.source.address.socket_address.address = "203.0.113.7"
    return CheckRequest(attributes=attributes).SerializeToString()


class Bench:
    """A data plane without its sockets, and the questions it is asked."""

    def __init__(self, *, is_admitting: bool = True, limiter: Acquirer | None = None) -> None:
        """Wire it as `app/data_plane.py` does, unless `limiter` is given with one that admits or does not."""
        limiter = limiter or AtOnce(is_admitting=is_admitting)
        self.metrics, self.writer = Metrics("benchmark"), ResponseWriter()
        clock, store = SystemClock(), MemoryLicenseStore()
        self._cache = LicenseCache(
            store, clock, ttl_s=3_600, negative_ttl_s=3_600, observe=self.metrics.license_cache.count
        )
        secrets = [mint(_FORMAT, Environment.LIVE) for _ in range(_TOKENS)]
        for number, secret in enumerate(secrets):
            store.put(_PEPPER.digest(secret).value, _license(number))
        store.put_routes(_ROUTES)
        self.pipeline = Pipeline(
            licenses=self._cache,
            limiter=limiter,
            local=limiter,
            token_format=_FORMAT,
            peppers=Peppers(_PEPPER),
            clock=clock,
        )
        self.count = Counting(self.metrics, ShadowTally(), LastUsed())
        self.check = Check(self.pipeline, self.writer, self.count, print)
        self.questions = [question(secret.text, number) for number, secret in enumerate(secrets)]
        self.nobodys = question(mint(_FORMAT, Environment.LIVE).text, 0)

    async def decide(self, questions: Sequence[bytes]) -> list[tuple[Decision, CheckInput]]:
        """Return the decision of each question, and what was read of it."""
        await self._cache.load_routes()
        return [(await self.pipeline.check(asked), asked) for asked in map(read, questions)]


def _license(number: int) -> License:
    terms = Terms((Phase(_BEGAN_AT - timedelta(days=1), Standing.ACTIVE, replace(_GRANT)),))
    ids = [f"{prefix}_{number:026}" for prefix in ("cus", "sub", "fam", "tok")]
    return License(ids[0], CustomerStatus.ACTIVE, ids[1], ids[2], ids[3], terms, generation=1)


@dataclass(frozen=True, slots=True)
class Step:
    """A step by its name, and one round of it: so many calls, one after the other."""

    name: str
    round: Callable[[int], None]


def calls(name: str, work: Callable[..., object], *arguments_: Sequence[Any]) -> Step:
    """Return a step that calls `work` with each set of arguments in turns."""

    def once(times: int) -> None:
        for given in itertools.islice(itertools.cycle(zip(*arguments_, strict=True)), times):
            work(*given)

    return Step(name, once)


def awaits(name: str, work: Callable[[Any], Coroutine[Any, Any, object]], given: Sequence[object]) -> Step:
    """Return a step that runs `work` on each in turns, without an event loop: it must wait for nothing."""

    def once(times: int) -> None:
        for one in itertools.islice(itertools.cycle(given), times):
            try:
                work(one).send(None)
            except StopIteration:
                continue
            raise AssertionError(f"{name} waits for something")

    return Step(name, once)


async def steps() -> list[Step]:
    """Return every step, warm."""
    bench, full = Bench(), Bench(is_admitting=False)
    allowed, asked = zip(*await bench.decide(bench.questions), strict=True)
    limited, asked_in_vain = zip(*await full.decide(full.questions), strict=True)
    unknown, _ = zip(*await bench.decide([bench.nobodys]), strict=True)
    reasons = [one.reason for one in (allowed[0], limited[0], unknown[0])]
    if reasons != [Reason.OK, Reason.QUOTA_EXCEEDED, Reason.TOKEN_UNKNOWN]:
        raise AssertionError(reasons)
    return [
        calls("(empty)", _nothing, allowed),
        calls("read", read, bench.questions),
        awaits("decide, counters at once", bench.pipeline.check, asked),
        calls("write", bench.writer.write, allowed, asked),
        calls("count", lambda decision: bench.count(decision, 0.0003), allowed),
        awaits("all of it", bench.check, bench.questions),
        calls("write, 401", bench.writer.write, unknown, asked[:1]),
        awaits("all of it, 401: unknown token", bench.check, [bench.nobodys]),
        calls("write, 429", full.writer.write, limited, asked_in_vain),
        awaits("all of it, 429: quota", full.check, full.questions),
    ]


def _nothing(_: object) -> None:
    pass


def best_us(step: Step, rounds: int, times: int) -> float:
    """Return the CPU microseconds of a call in the quickest round."""
    quickest_ns = 0
    for _ in range(rounds):
        began_ns = time.thread_time_ns()
        step.round(times)
        took_ns = time.thread_time_ns() - began_ns
        quickest_ns = min(quickest_ns or took_ns, took_ns)
    return quickest_ns / times / 1000


async def main(rounds: int, times: int) -> None:
    """Measure each step and keep the numbers."""
    best: dict[str, float] = {}
    for step in await steps():
        step.round(times)
        best[step.name] = best_us(step, rounds, times)
        await asyncio.sleep(0)
    empty = best.pop("(empty)")
    rows = [{"step": name, "us": round(us - empty, 2)} for name, us in best.items()]
    show(f"CPU of one call, the best of {rounds} rounds of {times:,}", rows)
    keep("hot_path", {"rounds": rounds, "calls": times, "steps": rows})


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="of each step; default 100")
    parser.add_argument("--calls", type=int, default=1_000, help="in each round; default 1,000")
    options = parser.parse_args()
    run(main(options.rounds, options.calls))

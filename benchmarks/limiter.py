"""What does a worker pay to ask Redis: by redis-py, by the pipelining connection, by one call over many decisions?

Each call decides a request with three limits (a rate, a day, a month) of one of 500 customers, by the shipped script.
Asked in turns, several times, at 1, 16, 64 and 256 calls in flight, each caller asking anew when it is answered:

- `redis-py`: `await client.evalsha(…)` over 16 connections, which is what most services do
- `shipped`: `storage.redis_link`; what comes while calls are under way goes in one write after them
- `each tick`: the same connection, but every turn of the event loop writes what it has
- `arrays`: as many decisions as are in flight in the arguments of one call, which a loop in Lua takes apart
- `limiter`: `RedisLimiter.acquire`, so `shipped` with the call built and the verdict read

CPU is the kernel's for this process and Valkey's own for Valkey, in us a decision. The commands of `shipped`, `each
tick` and `arrays` are made before the clock runs: building them is the same work for each, and is in `limiter`.

    python -m benchmarks.limiter
"""

import asyncio
import gc
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from unittest.mock import patch

import redis.asyncio
import uvloop
from benchmarks.lab import scratch
from benchmarks.measure import LONGEST_S, arguments, keep, quantile, show

from tallygate.core.clock import SystemClock
from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.devservers.valkey import EmbeddedValkey
from tallygate.limits.limit import Limit, LimitKind
from tallygate.limits.limiter import Acquisition, Charge, Subject
from tallygate.limits.present import Present
from tallygate.limits.redis import RedisLimiter
from tallygate.limits.script import ACQUIRE_LUA, Call, Form
from tallygate.storage.redis import connect
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_pipeline import Pipeline, pack_command
from tallygate.storage.redis_topology import RedisLinks, link

IN_FLIGHT = (1, 16, 64, 256)
_CUSTOMERS = 500
_DEADLINE_S = 20.0
_PLENTY = 10**9
THREE_LIMITS = (
    Limit("burst", LimitKind.RATE, 10**6, burst=10**6, window_us=10**6),
    Limit("daily", LimitKind.QUOTA, _PLENTY, calendar=Calendar(PeriodUnit.DAY)),
    Limit("monthly", LimitKind.QUOTA, _PLENTY, calendar=Calendar(PeriodUnit.MONTH)),
)
_ARRAYS_LUA = (
    "local function one(KEYS, ARGV)\n"
    + ACQUIRE_LUA
    + """
end
local replies, key, argument = {}, 0, 0
for number = 1, #KEYS do
  local keys, arguments = tonumber(ARGV[argument + 1] or 0), tonumber(ARGV[argument + 2] or 0)
  if keys == 0 then break end
  argument = argument + 2
  replies[number] = one({unpack(KEYS, key + 1, key + keys)}, {unpack(ARGV, argument + 1, argument + arguments)})
  key, argument = key + keys, argument + arguments
end
return replies
"""
)

Ask = Callable[[int], Awaitable[object]]
"""Asks for the decision of this number, or for as many from it on as a call holds."""


class EachTick(Pipeline):
    """The connection without its patience: it always has room."""

    @property
    def has_room(self) -> bool:
        """Return that it has room, unless the operating system says otherwise."""
        return not self._is_paused


@dataclass(slots=True)
class Way:
    """A way to ask: what it does, how many decisions a call of it holds, and how many calls went in each write."""

    name: str
    ask: Ask
    per_call: int = 1
    batches: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Round:
    """What one round took."""

    client_us: float
    valkey_us: float
    took_s: list[float]
    elapsed_s: float
    decisions: int
    writes: int


def requests() -> list[Acquisition]:
    """Return a request of each customer."""
    subjects = (Subject(f"cus_{number:026}", f"sub_{number:026}", f"fam_{number:026}") for number in range(_CUSTOMERS))
    # Charges of its own each, as the pipeline gives them: by these a ready call is known.
    return [
        Acquisition(subject, tuple(Charge(limit, 1) for limit in THREE_LIMITS), (("requests", 1),), "GET /v1/things")
        for subject in subjects
    ]


class Ways:
    """Opens each way to ask one Valkey."""

    def __init__(self, url: str, stack: AsyncExitStack, digests: tuple[str, str]) -> None:
        """Ask `url`, where the script and its loop are known by their digests; `stack` closes what is opened."""
        self._url = url
        self._stack = stack
        self._digest, self._arrays_digest = digests
        self._asked = requests()
        present = Present(SystemClock())
        self._calls = [Form(each).call("acquire", None, present) for each in self._asked]

    async def open(self, in_flight: int) -> list[Way]:
        """Return all ways, connected."""
        made = [self._redis_py(), self._shipped(), self._each_tick(), self._limiter()]
        if in_flight > 1:
            made.append(self._arrays(in_flight))
        for way in made:
            await way.ask(0)
        return made

    def _redis_py(self) -> Way:
        client = connect(self._url, deadline_s=_DEADLINE_S)
        self._stack.push_async_callback(client.aclose)

        async def ask(number: int) -> object:
            keys, rest = self._calls[number % _CUSTOMERS]
            return await client.evalsha(self._digest, len(keys), *keys, *rest)

        return Way("redis-py", ask)

    def _shipped(self, name: str = "shipped") -> Way:
        batches: list[int] = []
        links = self._links(batches)
        commands = [pack_command((b"EVALSHA", self._digest, len(keys), *keys, *rest)) for keys, rest in self._calls]

        def ask(number: int) -> Awaitable[object]:
            return links.ask(commands[number % _CUSTOMERS], time.monotonic() + _DEADLINE_S, "")

        return Way(name, ask, batches=batches)

    def _each_tick(self) -> Way:
        way = self._shipped("each tick")
        ask = way.ask

        async def first(number: int) -> object:
            with patch("tallygate.storage.redis_link.Pipeline", EachTick):  # the link connects when it is first asked
                answer = await ask(number)
            way.ask = ask
            return answer

        way.ask = first
        return way

    def _arrays(self, size: int) -> Way:
        links = self._links([])
        calls = list(itertools.islice(itertools.cycle(self._calls), _CUSTOMERS + size))
        commands = [self._array(calls[first : first + size]) for first in range(0, _CUSTOMERS, size)]

        def ask(number: int) -> Awaitable[object]:
            return links.ask(commands[number % len(commands)], time.monotonic() + _DEADLINE_S, "")

        return Way("arrays", ask, per_call=size)

    def _array(self, calls: list[Call]) -> bytes:
        keys = [key for call in calls for key in call[0]]
        rest = [part for keys_, arguments_ in calls for part in (len(keys_), len(arguments_), *arguments_)]
        return pack_command((b"EVALSHA", self._arrays_digest, len(keys), *keys, *rest))

    def _limiter(self) -> Way:
        batches: list[int] = []
        limiter = RedisLimiter(self._links(batches))
        return Way("limiter", lambda number: limiter.acquire(self._asked[number % _CUSTOMERS]), batches=batches)

    def _links(self, batches: list[int]) -> RedisLinks:
        links = link(self._url, LinkTerms(deadline_s=_DEADLINE_S, on_batch=batches.append))
        self._stack.push_async_callback(links.close)
        return links


async def measured(way: Way, in_flight: int, decisions: int, valkey: redis.asyncio.Redis) -> Round:
    """Make so many decisions, `in_flight` at once."""
    numbers = iter(range(decisions // way.per_call))
    took_s: list[float] = []

    async def caller() -> None:
        for number in numbers:
            began_s = time.monotonic()
            answer = await way.ask(number)
            took_s.append(time.monotonic() - began_s)
            if isinstance(answer, Exception):
                raise answer

    way.batches.clear()
    gc.collect()
    used_before_s, began_s, cpu_s = await _used_s(valkey), time.monotonic(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(max(1, in_flight // way.per_call))))
    cpu_s, elapsed_s = time.process_time() - cpu_s, time.monotonic() - began_s
    valkey_s = await _used_s(valkey) - used_before_s
    made = len(took_s) * way.per_call
    writes = len(way.batches) or len(took_s)
    return Round(cpu_s * 1e6 / made, valkey_s * 1e6 / made, took_s, elapsed_s, made, writes)


async def _used_s(valkey: redis.asyncio.Redis) -> float:
    used = await valkey.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def row(name: str, in_flight: int, rounds: list[Round]) -> dict[str, object]:
    """Return the medians of all rounds."""
    return {
        "way": name,
        "in flight": in_flight,
        "client us": round(median(each.client_us for each in rounds), 1),
        "Valkey us": round(median(each.valkey_us for each in rounds), 1),
        "both us": round(median(each.client_us + each.valkey_us for each in rounds), 1),
        "p50_us": round(median(quantile(each.took_s, 0.5) for each in rounds) * 1e6),
        "decisions/s": round(median(each.decisions / each.elapsed_s for each in rounds)),
        "a write": round(median(each.decisions / each.writes for each in rounds), 1),
    }


async def main(decisions: int, rounds: int) -> None:
    """Ask in every way and keep the numbers."""
    rows: list[dict[str, object]] = []
    with scratch() as directory:
        async with EmbeddedValkey(Path(directory) / "valkey") as server, redis.asyncio.from_url(server.url) as valkey:
            digests = str(await valkey.script_load(ACQUIRE_LUA)), str(await valkey.script_load(_ARRAYS_LUA))
            for in_flight in IN_FLIGHT:
                async with AsyncExitStack() as stack:
                    ways = await Ways(server.url, stack, digests).open(in_flight)
                    made: dict[str, list[Round]] = {way.name: [] for way in ways}
                    for _, way in itertools.product(range(rounds), ways):
                        made[way.name].append(await measured(way, in_flight, decisions, valkey))
                    rows += [row(name, in_flight, each) for name, each in made.items()]
    show(f"Medians of {rounds} rounds of {decisions:,} decisions with three limits", rows)
    keep("limiter", {"rounds": rounds, "decisions": decisions, "ways": rows})


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--decisions", type=int, default=8_000, help="in each round; default 8,000")
    parser.add_argument("--rounds", type=int, default=5, help="of each way; default 5")
    options = parser.parse_args()

    async def bounded() -> None:
        """Run for `LONGEST_S` at most."""
        async with asyncio.timeout(LONGEST_S):
            await main(options.decisions, options.rounds)

    uvloop.run(bounded())

"""One process full of licenses: what each takes in the cache, and what a decision costs among so many.

Run by `scaling`, one process for each question, so that nothing of another is left in memory. The licenses are read
as from Postgres: from JSON, by `licenses.codec`, each with ids of its own, and compiled terms that differ from one
subscription to the next. Bytes are the growth of the resident set, after a full collection. Counters answer at once.

    python -m benchmarks.crowded_cache TOKENS TOKENS_PER_SUBSCRIPTION [traced]
"""

import asyncio
import gc
import itertools
import json
import random
import sys
import time
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from resource import getpagesize
from statistics import median

import msgspec
from benchmarks.caller import OK, Question, read
from benchmarks.contestants import three_limits
from benchmarks.hot_path import AtOnce
from benchmarks.lab import FORMAT, PEPPER

from tallygate.core.clock import SystemClock
from tallygate.core.ids import new_id
from tallygate.decision.pipeline import Pipeline
from tallygate.envoy.check import Check
from tallygate.envoy.count import Counting
from tallygate.envoy.responses import ResponseWriter
from tallygate.insights.shadow import ShadowTally
from tallygate.licenses.cache import LicenseCache
from tallygate.licenses.codec import SharedTerms, decode_license, encode_terms
from tallygate.licenses.last_used import LastUsed
from tallygate.licenses.store import Changes, Found, FoundRoutes
from tallygate.metrics import Metrics
from tallygate.plans.compile import compile_terms
from tallygate.plans.contract import Contract
from tallygate.plans.parse import parse
from tallygate.tokens.digest import Pepper, Peppers
from tallygate.tokens.format import ALPHABET, BODY_LENGTH, Environment

_BEGAN_AT = datetime(2026, 1, 1, tzinfo=UTC)
_CHECKS, _ROUNDS = 2_000, 9
_HOT = 100
_PLAN = "exact"


class Written:
    """A store that answers as Postgres does, of licenses made up on the spot; each digest is a token of its own."""

    def __init__(self, per_subscription: int) -> None:
        """Give so many tokens to each subscription, one after the other."""
        catalogue = parse(three_limits(_PLAN), "benchmark")
        self._plans = {f"{_PLAN}@1": catalogue.plans[0]}
        self._routes = catalogue.routes
        self._per_subscription = per_subscription
        self._terms = SharedTerms()
        self._made = 0
        self._owner = b""

    async def find(self, digests: Sequence[bytes]) -> Found:
        """Return the next license."""
        del digests
        at = _BEGAN_AT + timedelta(seconds=self._made)
        if self._made % self._per_subscription == 0:
            self._owner = self._subscription(at)
        self._made += 1
        family, token = new_id("fam", at), new_id("tok", at)
        text = b'{"family":"%b","token":"%b",%b' % (family.encode(), token.encode(), self._owner)
        return Found(decode_license(text, self._terms), 1)

    def _subscription(self, at: datetime) -> bytes:
        customer, subscription = new_id("cus", at), new_id("sub", at)
        terms = compile_terms(Contract(customer, f"{_PLAN}@1", at, "UTC", at), self._plans)
        own = {"customer": customer, "customer_status": "active", "subscription": subscription, "generation": 1}
        return msgspec.json.encode(own | {"terms": encode_terms(terms)})[1:]

    async def routes(self) -> FoundRoutes:
        """Return the routes of the plan file."""
        return FoundRoutes(self._routes, 1)

    async def changes_since(self, generation: int) -> Changes:
        """Return that nothing changed."""
        del generation
        return Changes((), is_complete=True)

    async def generation(self) -> int:
        """Return the first."""
        return 1


def secrets(number: int) -> list[bytes]:
    """Return the bodies of so many tokens: 30 bytes each, for a million whole texts would be most of the memory."""
    chance = random.Random(1)  # noqa: S311 - these open nothing
    return ["".join(chance.choices(ALPHABET, k=BODY_LENGTH)).encode() for _ in range(number)]


def resident_bytes() -> int:
    """Return what this process has in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


class Crowd:
    """A cache full of licenses, and a data plane that decides by it."""

    def __init__(self, tokens: int, per_subscription: int) -> None:
        """Prepare; `fill` fills it."""
        self._bodies = secrets(tokens)
        self._peppers = Peppers(Pepper(PEPPER))
        clock, metrics = SystemClock(), Metrics("benchmark")
        self.cache = LicenseCache(
            Written(per_subscription), clock, ttl_s=10**6, max_entries=tokens + 1, max_bytes=2**50
        )
        limiter = AtOnce(is_admitting=True)
        pipeline = Pipeline(
            licenses=self.cache,
            limiter=limiter,
            local=limiter,
            token_format=FORMAT,
            peppers=self._peppers,
            clock=clock,
        )
        self.check = Check(pipeline, ResponseWriter(), Counting(metrics, ShadowTally(), LastUsed()), print)

    async def fill(self) -> None:
        """Read every license, as misses do."""
        await self.cache.load_routes()
        for body in self._bodies:
            await self.cache.get(self._peppers.candidates(FORMAT.compose(Environment.LIVE, body.decode())))

    def questions(self, number: int, among: int) -> list[bytes]:
        """Return so many questions by random tokens among the first ones."""
        chance, known = random.Random(2), {}  # noqa: S311 - as above
        for position in chance.choices(range(among), k=number):
            if position not in known:
                secret = FORMAT.compose(Environment.LIVE, self._bodies[position].decode())
                known[position] = Question(secret.text)
        return [known[position].next() for position in random.Random(2).choices(range(among), k=number)]  # noqa: S311

    async def check_us(self, among: int) -> float:
        """Return the CPU us of a decision for a random one of the first tokens: the median of rounds."""
        took: list[float] = []
        for _ in range(_ROUNDS):
            asked = self.questions(_CHECKS, among)
            began = time.thread_time()
            answers = [await self.check(one) for one in asked]
            took.append((time.thread_time() - began) / _CHECKS * 1e6)
            if read(answers[-1]).reason != OK:
                raise RuntimeError("a decision among many refused")
        return median(took)


async def main(tokens: int, per_subscription: int, *, is_traced: bool) -> dict[str, object]:
    """Fill a cache and say what it came to."""
    crowd = Crowd(tokens, per_subscription)
    await Crowd(1, 1).fill()  # what is imported and remembered at first use is not a license's
    if is_traced:
        tracemalloc.start()
        await crowd.fill()
        gc.collect()
        return {"by place": _places(tokens)}
    before = resident_bytes()
    await crowd.fill()
    taken = resident_bytes() - before
    gc.freeze()
    return {
        "tokens": tokens,
        "tokens a subscription": per_subscription,
        "bytes a license": round(taken / tokens),
        "estimated": round(crowd.cache.size_bytes / tokens),
        "check us, 100 tokens": round(await crowd.check_us(min(tokens, _HOT)), 1),
        "check us, any token": round(await crowd.check_us(tokens), 1),
    }


def _places(tokens: int) -> list[dict[str, object]]:
    """Return where the memory was taken, the largest parts first, in bytes a license."""
    found = tracemalloc.take_snapshot().statistics("lineno")
    return [
        {"where": _short(one.traceback[0]), "bytes a license": round(one.size / tokens, 1)}
        for one in itertools.takewhile(lambda one: one.size / tokens >= 1, found)
    ]


def _short(frame: tracemalloc.Frame) -> str:
    path = Path(frame.filename)
    return f"{path.parent.name}/{path.name}:{frame.lineno}"


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), is_traced="traced" in sys.argv))))

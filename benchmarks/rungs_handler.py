"""A server for `rungs`: the transport, and above it as much of a decision as its rung says.

Usage: rungs_handler.py ADDRESS RUNG REDIS_URL FILE, where FILE is given the questions it can answer, when it is ready.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from benchmarks.hot_path import Bench

from tallygate._proto.envoy.v3.external_auth_pb2 import CheckRequest
from tallygate.envoy.check import SERVICE_PATH
from tallygate.lifecycle import stop_on_signals
from tallygate.limits.redis import RedisLimiter
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_topology import link
from tallygate.transport.adapters import adapter

SPIN_US = 18
_ID = "9" * 20


def spinning(answer: bytes) -> Callable[[bytes], Awaitable[bytes]]:
    """Return a handler that keeps the interpreter busy for a while, with nothing."""

    async def handler(_request: bytes) -> bytes:
        ends_ns = time.perf_counter_ns() + SPIN_US * 1000
        while time.perf_counter_ns() < ends_ns:
            pass
        return answer

    return handler


def constant(answer: bytes) -> Callable[[bytes], Awaitable[bytes]]:
    """Return a handler that answers at once."""

    async def handler(_request: bytes) -> bytes:
        return answer

    return handler


def parts(question: bytes) -> tuple[str, str]:
    """Return a question before and after the id of the request, in hexadecimal."""
    request = CheckRequest.FromString(question)
    request.attributes.request.http.id = _ID
    before, after = request.SerializeToString().split(_ID.encode())
    return before.hex(), after.hex()


async def serve(address: str, rung: str, redis_url: str, ready: Path) -> None:
    """Answer until a signal comes."""
    bench = Bench()
    if rung == "all of it":
        links = link(redis_url, LinkTerms(deadline_s=0.15, on_batch=bench.metrics.limiter_batch_size.observe))
        bench = Bench(limiter=RedisLimiter(links, observe=bench.metrics.limiter_duration.observe))
    await bench.decide(bench.questions)
    answer = await bench.check(bench.questions[0])
    handlers = {"static": constant(answer), "spin": spinning(answer)}
    stop: asyncio.Event = stop_on_signals()
    transport = adapter("h2corn")(address, {SERVICE_PATH: handlers.get(rung, bench.check)})
    await transport.start()
    gc.collect()
    gc.freeze()
    text = json.dumps([parts(question) for question in bench.questions])
    await asyncio.to_thread(ready.write_text, text)
    await stop.wait()
    await transport.stop(0)


if __name__ == "__main__":
    where, what, counters, file = sys.argv[1:]
    uvloop.run(serve(where, what, counters, Path(file)))

"""Everything is killed, again and again, under load: does the ledger have what callers were told?

Eight callers ask `tallygate serve`, each request by an id of its own, and ask again until it is allowed. Meanwhile one
of data plane, worker, Valkey and Postgres, or two, gets SIGKILL, in an order drawn from a seed, and is started again; a
round is over when all are back and requests have been answered since. In the end the ledger must have as many units as
there were requests, in entries and in every roll-up. Redis's clock runs sixty times as fast, so that buckets are sealed
and moved all the while.

    python -m benchmarks.ledger_drill --rounds 200 --fsync always

Exits 1 when a total differs.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain, repeat
from pathlib import Path

import grpc
import httpx
from benchmarks.caller import OK, Call, Question, read
from benchmarks.contestants import tokens
from benchmarks.drill_process import FASTER
from benchmarks.lab import PEPPER, control_plane, scratch
from benchmarks.measure import arguments, keep, run, show
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tallygate.devservers.binaries import valkey_binary
from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.postgres import EmbeddedPostgres
from tallygate.devservers.process import Child, Program, running
from tallygate.envoy.check import SERVICE_PATH
from tallygate.storage.migrate import migrate
from tallygate.storage.postgres import connect

_CALLERS, _CUSTOMERS = 8, 5
_ATTEMPT_S, _PAUSE_S, _PATIENCE_S = 1.0, 0.02, 120.0
_LONGEST_S = 7200.0
_PROGRESS = 20
"""Requests that are answered after each round, before the next begins."""
_PLAN = """
routes: [{match: "* /v1/**", scope: things.read}]
plans:
  - {key: drilled, name: Drilled, scopes: [things.read], limits: [
      {name: monthly, quota: 100_000_000_000, period: month, fail: closed}]}
"""
_VALKEY = "bind 127.0.0.1\nport {port}\ndir {directory}\nsave ''\nappendonly yes\nappendfsync {fsync}\n"
_TABLES = ("usage_entries", "usage_hours", "usage_days", "usage_months")


class Victim:
    """A program that is killed and started again, in the same place."""

    def __init__(self, program: Program, metrics: str | None = None, port: int = 0) -> None:
        """Take what to run; it is ready when its page says so, or its port answers PING."""
        self._program = program
        self._metrics = metrics
        self._port = port
        self._stack = AsyncExitStack()
        self.name = program.name
        self.pid = 0

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        ready = running(self._program, self._is_ready, start_deadline_s=_PATIENCE_S, stop_deadline_s=10)
        self.pid = (await self._stack.enter_async_context(ready)).pid

    async def stop(self) -> None:
        """Stop it, if it lives."""
        await self._stack.aclose()

    async def _is_ready(self, _child: Child) -> bool:
        try:
            if self._metrics is not None:
                async with httpx.AsyncClient(timeout=2, trust_env=False) as http:
                    return (await http.get(f"http://{self._metrics}/readyz")).status_code == httpx.codes.OK
            async with Redis(host=LOOPBACK, port=self._port) as client:
                return bool(await client.ping())
        except (httpx.TransportError, RedisError, OSError):
            return False


class Postgres(EmbeddedPostgres):
    """A Postgres that is killed and started again."""

    name = "postgres"

    @property
    def pid(self) -> int:
        """Return the process to be killed, with all that it started."""
        return int((self._cluster / "postmaster.pid").read_text().splitlines()[0])

    async def start(self) -> None:
        """Start it and wait until it has recovered."""
        await self.__aenter__()

    async def stop(self) -> None:
        """Stop it, if it lives."""
        await self.__aexit__(None, None, None)


class Callers:
    """Requests that are asked until they are allowed; `allowed` were."""

    def __init__(self, address: str, secrets: list[str]) -> None:
        """Ask at `address`."""
        self._address = address
        self._questions = [Question(secret) for secret in secrets]
        self._is_over = False
        self._changed = asyncio.Condition()
        self.allowed = self.attempts = 0
        self.failures: Counter[str] = Counter()

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Ask while the block runs; then finish what was begun."""
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            call: Call = channel.unary_unary(SERVICE_PATH)
            tasks = [asyncio.create_task(self._ask(call, number)) for number in range(_CALLERS)]
            try:
                yield
            finally:
                self._is_over = True
                async with asyncio.timeout(_PATIENCE_S):
                    await asyncio.gather(*tasks)

    async def until(self, allowed: int) -> None:
        """Wait until so many were allowed in all."""
        async with asyncio.timeout(_PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: self.allowed >= allowed)

    async def _ask(self, call: Call, number: int) -> None:
        while not self._is_over:
            question = self._questions[number % len(self._questions)].next()
            for pause_s in chain([0.0], repeat(_PAUSE_S)):
                await asyncio.sleep(pause_s)
                if await self._is_allowed(call, question):
                    break
            async with self._changed:
                self.allowed += 1
                self._changed.notify_all()

    async def _is_allowed(self, call: Call, question: bytes) -> bool:
        self.attempts += 1
        try:
            answer = read(await call(question, timeout=_ATTEMPT_S))
        except grpc.aio.AioRpcError as error:
            self.failures[error.code().name] += 1
            return False
        if answer.reason != OK:
            self.failures[answer.reason] += 1
        return answer.reason == OK


def _tallygate(role: str, place: Path, settings: Mapping[str, object]) -> Victim:
    metrics = f"{LOOPBACK}:{free_port()}"
    config = place / f"{role}.toml"
    values = {"pepper": PEPPER, "metrics_listen": metrics, "services_listen": "off", "drain_s": 0, **settings}
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    script = str(Path(__file__).with_name("drill_process.py"))
    command = (sys.executable, script, role, str(config), str(time.time_ns() // 1000))
    return Victim(Program(role, command, place, place / f"{role}.log"), metrics)


def _valkey(place: Path, fsync: str) -> tuple[Victim, str]:
    port, directory = free_port(), place / "valkey"
    directory.mkdir()
    config = directory / "valkey.conf"
    config.write_text(_VALKEY.format(port=port, directory=directory, fsync=fsync))
    program = Program("valkey", (str(valkey_binary()), str(config)), directory, place / "valkey.log")
    return Victim(program, port=port), f"redis://{LOOPBACK}:{port}/0"


async def _secrets(dsn: str) -> list[str]:
    """Make the database; return a token of each customer."""
    await migrate(dsn)
    async with control_plane(dsn) as control:
        return await tokens(control.acting("benchmark"), _PLAN, "drilled", _CUSTOMERS)


async def _moved(redis_url: str) -> None:
    """Wait until nothing is left in Valkey that is to be moved."""
    async with asyncio.timeout(_PATIENCE_S), Redis.from_url(redis_url) as client:
        for _ in repeat(None):
            if not [key async for key in client.scan_iter(match="tg:v1:*}:u:*", count=1000)]:
                return
            await asyncio.sleep(_PAUSE_S)


async def _totals(dsn: str) -> dict[str, int]:
    connection = await connect(dsn, application_name="benchmark")
    try:
        sums = [await connection.fetchval(f"SELECT coalesce(sum(quantity), 0) FROM {name}") for name in _TABLES]  # noqa: S608
    finally:
        await connection.close()
    return dict(zip(_TABLES, map(int, sums), strict=True))


async def drill(place: Path, rounds: int, fsync: str, seed: int) -> dict[str, object]:
    """Kill, start again, and count."""
    chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    postgres = Postgres(place / "postgres", port=free_port())
    valkey, redis_url = _valkey(place, fsync)
    listen = f"{LOOPBACK}:{free_port()}"
    async with AsyncExitStack() as left_open:
        for server in (postgres, valkey):
            left_open.push_async_callback(server.stop)
            await server.start()
        dsn = postgres.dsn()
        secrets = await _secrets(dsn)
        common = {"postgres_dsn": dsn, "redis_url": redis_url}
        serve = _tallygate("serve", place, common | {"listen": listen})
        worker = _tallygate("worker", place, common | {"usage_round_s": 0.3})
        for process in (serve, worker):
            left_open.push_async_callback(process.stop)
            await process.start()
        victims: tuple[Victim | Postgres, ...] = (serve, worker, valkey, postgres)
        killed: Counter[str] = Counter()
        callers = Callers(listen, secrets)
        async with callers.asking():
            await callers.until(_PROGRESS)
            for _ in range(rounds):
                chosen = chance.sample(victims, chance.choice((1, 1, 1, 2)))
                for victim in chosen:
                    killed[victim.name] += 1
                    os.killpg(victim.pid, signal.SIGKILL)
                await asyncio.sleep(chance.random() * 0.3)
                for victim in sorted(chosen, key=victims.index, reverse=True):
                    await victim.stop()
                    await victim.start()
                await callers.until(callers.allowed + _PROGRESS)
                await asyncio.sleep(chance.random() * 2 * 60 / FASTER)
        await _moved(redis_url)
        totals = await _totals(dsn)
    return {
        "fsync": fsync,
        "rounds": rounds,
        "killed": dict(killed),
        "requests": callers.allowed,
        "attempts": callers.attempts,
        "failures": dict(callers.failures),
        **totals,
        "is equal": set(totals.values()) == {callers.allowed},
    }


async def main(rounds: int, fsync: str, seed: int, *, is_kept: bool) -> None:
    """Drill, and say what came of it."""
    with scratch() as place:
        found = await drill(place, rounds, fsync, seed)
    show(f"{rounds} rounds, seed {seed}", [found])
    if is_kept:
        keep(f"ledger_drill_{fsync}", {"seed": seed, **found})
    if not found["is equal"]:
        raise SystemExit(1)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--fsync", choices=("always", "everysec"), default="everysec")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write the result down")
    given = parser.parse_args()
    run(main(given.rounds, given.fsync, given.seed, is_kept=given.keep), _LONGEST_S)

"""Servers to compare: a data plane, and beside it one that answers the same bytes without deciding.

Owns starting them over a transport, and the customers, plans and tokens they are asked about. Does not own the load
(`http2_load`) nor the numbers.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import redis.asyncio
from benchmarks.caller import OK, Question, calling, read
from benchmarks.http2_load import Load
from benchmarks.lab import Lab, data_planes

from tallygate.admin.operations import Operations
from tallygate.core.errors import InputError
from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.process import Child, Program, running
from tallygate.plans.parse import parse

_ROUTES = """
routes:
  - {match: "GET /v1/reports/{id}", cost: {requests: 5}, scope: reports.read, feature: reports}
  - {match: "* /v1/**", scope: things.read}
plans:
"""
_PLAN = """
  - key: KEY
    name: Enterprise
    scopes: [things.read, things.write, reports.read]
    features: {reports: true, max_projects: 1000}
    limits:
"""
_LIMITS = (
    "{name: per-second, rate: 1_000_000/s, burst: 1_000_000",
    "{name: daily, quota: 10_000_000_000, period: day",
    "{name: monthly, quota: 100_000_000_000, period: month",
)
LEASED = ", exactness: leased"


@dataclass(frozen=True, slots=True, eq=False)
class Contestant:
    """A server to ask: its name in the table, its transport, where it is, its process, and what it is asked."""

    name: str
    transport: str
    address: str
    pid: int
    questions: Sequence[tuple[str, str | None]]

    def load(self, calls: int, in_flight: int, *beside: int) -> Load:
        """Return a load for it that watches its CPU, and that of the processes beside it."""
        at_once = min(in_flight, 4)
        return Load(self.address, self.questions, calls, in_flight, at_once, max(200, calls // 10), (self.pid, *beside))


def three_limits(key: str, more: str = "") -> str:
    """Return a plan file with one plan of three limits that nobody meets; each of them with `more` of its own."""
    limits = "".join(f"      - {limit}{more}}}\n" for limit in _LIMITS)
    return _ROUTES + _PLAN.replace("KEY", key) + limits


def is_understood(plan_text: str) -> bool:
    """Return whether the parser takes this plan file: a benchmark may be newer than what it measures."""
    try:
        parse(plan_text, "benchmark")
    except InputError:
        return False
    return True


async def tokens(operations: Operations, plan_text: str, plan: str, number: int) -> list[str]:
    """Return a token of each of so many new customers on a plan of this file."""
    await operations.plans.apply(parse(plan_text, "benchmark"))
    return [await _token(operations, plan, f"{plan}-{index}") for index in range(number)]


async def _token(operations: Operations, plan: str, name: str) -> str:
    customer = await operations.customers.create(name, None)
    subscription = await operations.subscriptions.create(customer.id, plan)
    return (await operations.tokens.issue(subscription=subscription.id)).secret


def with_ids(secrets: Sequence[str]) -> list[tuple[str, str | None]]:
    """Return questions that each get an id when they are asked."""
    return [(before.hex(), after.hex()) for before, after in (Question(secret).around_id for secret in secrets)]


def without_ids(secrets: Sequence[str]) -> list[tuple[str, str | None]]:
    """Return questions without an id, so that nobody could tell a repeat."""
    return [(Question(secret).without_id.hex(), None) for secret in secrets]


@asynccontextmanager
async def deciding(
    lab: Lab, transport: str, secrets: Sequence[str], more: Mapping[str, object] | None = None
) -> AsyncIterator[Contestant]:
    """Run `tallygate serve` over this transport, and see that it allows the first of these tokens."""
    async with data_planes(lab, 1, more={"transport": transport, **(more or {})}) as (plane,):
        async with calling(plane.address) as caller:
            answer = read(await caller.raw(Question(secrets[0]).next()))
        if answer.reason != OK:
            raise RuntimeError(f"not allowed: {answer}")
        yield Contestant("decision", transport, plane.address, plane.child.pid, with_ids(secrets))


async def answer_of(contestant: Contestant) -> bytes:
    """Return the bytes it answers its first question with."""
    before, after = contestant.questions[0]
    async with calling(contestant.address) as caller:
        return await caller.raw(b"%b%020d%b" % (bytes.fromhex(before), 0, bytes.fromhex(after or "")))


@asynccontextmanager
async def static(
    lab: Lab, transport: str, answer: bytes, questions: Sequence[tuple[str, str | None]]
) -> AsyncIterator[Contestant]:
    """Run the server that answers these bytes, whatever it is asked."""
    address, file = f"{LOOPBACK}:{free_port()}", lab.directory / f"answer-{transport}.bin"
    file.write_bytes(answer)
    command = (sys.executable, str(Path(__file__).with_name("static_handler.py")), address, str(file), transport)
    program = Program(f"the static handler over {transport}", command, lab.directory, file.with_suffix(".log"))

    async def is_ready(_child: Child) -> bool:
        try:
            _, writer = await asyncio.open_connection(*address.split(":"))
        except OSError:
            return False
        writer.close()
        return True

    async with running(program, is_ready, start_deadline_s=30, stop_deadline_s=10) as child:
        yield Contestant("static", transport, address, child.pid, questions)


async def process_of(redis_url: str) -> int:
    """Return the process id of a Valkey."""
    async with redis.asyncio.from_url(redis_url) as client:
        return int((await client.info("server"))["process_id"])

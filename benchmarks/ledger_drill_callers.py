"""Who asks while everything is killed, and what they were told: the numbers the ledger must come to.

Each caller asks one thing at a time, by an id of its own, again and again until it is allowed; then it does what its
meter is there for:

| meter | what is done | comes to |
|---|---|---|
| `exact` | nothing more | the cost |
| `leased` | nothing more; decided from memory mostly | the cost |
| `refunded` | every other response is told as a 503, by the access log, until it is settled | the cost, or 0 |
| `reserved` | the true number is told by `Settle` until that is answered | that number |
| `lapsing` | nobody tells anything; the worker gives it back | 0 |

Owns these callers. Does not own the victims nor the count of what the ledger has. For one event loop.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import cast

import grpc
from benchmarks.caller import OK, Call, Question, read
from benchmarks.ledger_drill_victims import PATIENCE_S, SERVICES_KEY
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tallygate._proto.envoy.v3.accesslog_pb2 import HTTPAccessLogEntry, StreamAccessLogsMessage
from tallygate._proto.envoy.v3.external_auth_pb2 import CheckRequest, CheckResponse
from tallygate._proto.v1 import usage_pb2 as wire
from tallygate.envoy.access_log import STREAM_PATH
from tallygate.envoy.check import SERVICE_PATH
from tallygate.limits.keys import idempotency_key, receipt_key
from tallygate.services.usage_service import SERVICE

PLAN = """
meters:
  exact: {}
  leased: {}
  refunded: {refund_on: [5xx], within: 24h}
  reserved: {actual: reported, within: 24h}
  lapsing: {actual: reported, within: 60s, unsettled: refund}
routes:
  - {match: "GET /v1/exact", cost: {exact: 1}}
  - {match: "GET /v1/leased", cost: {leased: 1}}
  - {match: "GET /v1/refunded", cost: {refunded: 3}}
  - {match: "GET /v1/reserved", cost: {reserved: 10}}
  - {match: "GET /v1/lapsing", cost: {lapsing: 7}}
plans:
  - {key: drilled, name: Drilled, limits: [
      {name: exact, meter: exact, quota: 100_000_000_000, period: month},
      {name: leased, meter: leased, quota: 100_000_000_000, period: month, exactness: leased},
      {name: refunded, meter: refunded, quota: 100_000_000_000, period: month},
      {name: reserved, meter: reserved, quota: 100_000_000_000, period: month},
      {name: lapsing, meter: lapsing, quota: 100_000_000_000, period: month}]}
"""
COSTS = {"exact": 1, "leased": 1, "refunded": 3, "reserved": 10, "lapsing": 7}
CALLERS = ("exact", "exact", "exact", "leased", "leased", "leased", "refunded", "reserved", "lapsing")
_ATTEMPT_S, _PAUSE_S, _LOOKS = 1.0, 0.02, 10
_DONE = (wire.RESULT_DONE, wire.RESULT_REPEATED)
_AWAY = (grpc.aio.AioRpcError, RedisError, OSError)
_CHANNEL = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]


@dataclass(frozen=True, slots=True)
class Act:
    """What a caller was told at `at_s`: these units are in the ledger, as this entry, if Valkey has the key.

    `is_settled` where the key is a receipt's: it must be settled, too.
    """

    meter: str
    entry: str
    units: int
    key: str
    at_s: float
    is_settled: bool = False


class Told:
    """What callers were told, by meter and entry; `recent` since Valkey was last looked at."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.units: Counter[tuple[str, str]] = Counter()
        self.recent: list[Act] = []
        self.allowed = self.attempts = self.late = self.unknown = 0
        self.failures: Counter[str] = Counter()

    def add(self, meter: str, entry: str, units: int, key: str, *, is_settled: bool = False) -> None:
        """Note what was told just now."""
        self.units[meter, entry] += units
        self.recent.append(Act(meter, entry, units, key, time.monotonic(), is_settled))


@dataclass(frozen=True, slots=True)
class Admission:
    """An allowed request: whose, by which id, and what Envoy and the upstream were told."""

    customer: str
    request_id: str
    response: CheckResponse

    @property
    def receipt(self) -> str:
        """Return the receipt as its upstream sees it."""
        return f"{self.customer}:{self.request_id}"


class Callers:
    """Callers of one data plane."""

    def __init__(self, checks_at: str, services_at: str, redis_url: str, secrets: Sequence[str]) -> None:
        """Ask at `checks_at`, tell outcomes at `services_at`; look into Valkey for whether one was heard."""
        self._addresses = checks_at, services_at
        self._redis_url = redis_url
        self._secrets = secrets
        self._is_over = False
        self._changed = asyncio.Condition()
        self.told = Told()

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Ask while the block runs; then finish what was begun."""
        checks, services = (grpc.aio.insecure_channel(address, options=_CHANNEL) for address in self._addresses)
        async with checks, services, Redis.from_url(self._redis_url) as client:
            after: dict[str, Callable[[Admission], Awaitable[None]]] = {
                "refunded": Refunds(services, client, self.told).one,
                "reserved": Settlements(services, self.told).one,
                "lapsing": self._lapse,
            }
            call: Call = checks.unary_unary(SERVICE_PATH)
            tasks = [
                asyncio.create_task(self._ask(call, meter, self._question(number, meter), after.get(meter)))
                for number, meter in enumerate(CALLERS)
            ]
            try:
                yield
            finally:
                self._is_over = True
                async with asyncio.timeout(PATIENCE_S):
                    await asyncio.gather(*tasks)

    async def until(self, allowed: int) -> None:
        """Wait until so many were allowed in all."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: self.told.allowed >= allowed)

    def _question(self, number: int, meter: str) -> Question:
        # One token for all that is leased: a slab is of a token and a route, and wants many requests.
        return Question(self._secrets[0 if meter == "leased" else number % len(self._secrets)], f"/v1/{meter}")

    async def _ask(
        self, call: Call, meter: str, question: Question, after: Callable[[Admission], Awaitable[None]] | None
    ) -> None:
        while not self._is_over:
            admission = await self._admitted(call, question.next(), meter)
            key = idempotency_key(admission.customer, admission.request_id)
            self.told.add(meter, "counted", COSTS[meter], key)
            if after is not None:
                await after(admission)
            async with self._changed:
                self.told.allowed += 1
                self._changed.notify_all()

    async def _admitted(self, call: Call, question: bytes, meter: str) -> Admission:
        """Ask until it is allowed."""
        request_id = CheckRequest.FromString(question).attributes.request.http.id
        answer = None
        while answer is None:
            answer = await self._allowed(call, question, meter)
        response = CheckResponse.FromString(answer)
        return Admission(str(response.dynamic_metadata["customer"]), request_id, response)

    async def _allowed(self, call: Call, question: bytes, meter: str) -> bytes | None:
        """Ask once; return the answer if it is allowed, and else None after a pause."""
        self.told.attempts += 1
        try:
            answer = await call(question, timeout=_ATTEMPT_S)
        except grpc.aio.AioRpcError as error:
            self.told.late += meter == "leased" and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            reason = error.code().name
        else:
            reason = read(answer).reason
            if reason == OK:
                return answer
        self.told.failures[reason] += 1
        await asyncio.sleep(_PAUSE_S)
        return None

    async def _lapse(self, _admission: Admission) -> None:
        # Its receipt is there or not, as the admission is: nothing more is to be looked for.
        self.told.units["lapsing", "refund"] -= COSTS["lapsing"]
        await asyncio.sleep(_PAUSE_S)


class Settlements:
    """Tells what was really used, until that is answered."""

    def __init__(self, services: grpc.aio.Channel, told: Told) -> None:
        """Tell by `services`."""
        self._settle: Call = services.unary_unary(f"/{SERVICE}/Settle")
        self._told = told
        self._numbers = count()

    async def one(self, admission: Admission) -> None:
        """Settle what was admitted."""
        actual = next(self._numbers) % 21
        settlement = wire.Settlement(receipt=admission.receipt, units={"reserved": actual})
        question = wire.SettleRequest(settlements=[settlement]).SerializeToString()
        result = wire.RESULT_UNAVAILABLE
        while result == wire.RESULT_UNAVAILABLE:
            result = await self._result(question)
        if result in _DONE:
            key = receipt_key(admission.customer, admission.request_id)
            self._told.add("reserved", "settlement", actual - COSTS["reserved"], key, is_settled=True)
        else:
            self._told.unknown += 1

    async def _result(self, question: bytes) -> wire.Result:
        metadata = (("authorization", f"Bearer {SERVICES_KEY}"),)
        try:
            answer = await self._settle(question, metadata=metadata, timeout=_ATTEMPT_S)
        except grpc.aio.AioRpcError:
            await asyncio.sleep(_PAUSE_S)
            return wire.RESULT_UNAVAILABLE
        return wire.SettleResponse.FromString(answer).results[0].result


class Refunds:
    """Tells of every other request that it failed, as Envoy's access log does, until that is settled."""

    def __init__(self, services: grpc.aio.Channel, client: Redis, told: Told) -> None:
        """Tell by `services`; see in Valkey, through `client`, whether it was heard: access logs are not answered."""
        self._stream: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = services.stream_unary(STREAM_PATH)
        self._client = client
        self._told = told
        self._numbers = count()

    async def one(self, admission: Admission) -> None:
        """Tell that what was admitted has failed, or leave it as it is."""
        if next(self._numbers) % 2:
            return
        key = receipt_key(admission.customer, admission.request_id)
        receipt: bytes | None = b"not looked for"
        while receipt:
            try:
                await self._tell(_failed(admission))
                receipt = await self._looked_for(key)
            except _AWAY:
                await asyncio.sleep(_PAUSE_S)
        if receipt == b"":
            self._told.add("refunded", "refund", -COSTS["refunded"], key, is_settled=True)
        else:
            self._told.unknown += 1

    async def _tell(self, message: bytes) -> None:
        async def messages() -> AsyncIterator[bytes]:
            yield message

        metadata = (("authorization", f"Bearer {SERVICES_KEY}"),)
        await self._stream(messages(), metadata=metadata, timeout=_ATTEMPT_S)

    async def _looked_for(self, key: str) -> bytes | None:
        """Return the receipt as it is soon: empty once it was settled, None when it is gone."""
        receipt = await self._client.get(key)
        for _ in range(_LOOKS):
            if not receipt:
                break
            await asyncio.sleep(_PAUSE_S)
            receipt = await self._client.get(key)
        return cast("bytes | None", receipt)


def _failed(admission: Admission) -> bytes:
    entry = HTTPAccessLogEntry()
    noted = entry.common_properties.metadata.filter_metadata["envoy.filters.http.ext_authz"]
    noted.CopyFrom(admission.response.dynamic_metadata)
    entry.response.response_code.value = 503
    entries = StreamAccessLogsMessage.HTTPAccessLogEntries(log_entry=[entry])
    return StreamAccessLogsMessage(http_logs=entries).SerializeToString()

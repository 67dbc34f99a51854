"""The services beside Check, served for real over everything in memory, and a caller of them.

The gRPC server, the queue and the services are those of `serve`; licenses, counters and time are a `Desk`'s.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
from google.protobuf.message import Message
from support.pipelines import PEPPER_TEXT, Desk, request

from tallygate import __version__
from tallygate._proto.v1 import usage_pb2 as wire
from tallygate.app.services import Known, Services, services
from tallygate.decision.decision import Allow
from tallygate.envoy.access_log import STREAM_PATH
from tallygate.metrics import Metrics
from tallygate.services.usage_service import SERVICE
from tallygate.settings import load
from tallygate.transport.tls import TlsFiles

KEY = "a key of the services, long enough to be one"
ANYWHERE = "127.0.0.1:0"
_DEADLINE_S = 20.0


@dataclass
class Told:
    """A running server, a channel to it, and what stands behind it."""

    desk: Desk
    served: Services
    channel: grpc.aio.Channel
    metrics: "NoticedMetrics"
    key: str | None = KEY

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what shows the key."""
        return () if self.key is None else (("authorization", f"Bearer {self.key}"),)

    async def call(self, method: str, asked: Message) -> bytes:
        """Call a method of the usage service; raises what gRPC raises."""
        unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(f"/{SERVICE}/{method}")
        return await unary(asked.SerializeToString(), metadata=self.metadata, timeout=_DEADLINE_S)

    async def report(self, *reports: wire.UsageReport) -> list[wire.ReportResult]:
        """Report usage."""
        answer = await self.call("Report", wire.ReportRequest(reports=reports))
        return list(wire.ReportResponse.FromString(answer).results)

    async def settle(self, *settlements: wire.Settlement) -> list[str]:
        """Settle receipts; return the names of the results."""
        answer = await self.call("Settle", wire.SettleRequest(settlements=settlements))
        return [wire.Result.Name(each.result) for each in wire.SettleResponse.FromString(answer).results]

    async def introspect(self, **asked: str) -> wire.IntrospectResponse:
        """Ask about a token."""
        return wire.IntrospectResponse.FromString(await self.call("Introspect", wire.IntrospectRequest(**asked)))

    async def log(self, *messages: bytes) -> None:
        """Stream messages of an access log, and return when all of them is settled."""
        stream: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = self.channel.stream_unary(STREAM_PATH)
        assert await stream(_each(messages), metadata=self.metadata, timeout=_DEADLINE_S) == b""
        await self.served.settled(_DEADLINE_S)

    @property
    def changed(self) -> asyncio.Event:
        """Return what is set when an outcome is counted."""
        return self.metrics.changed

    async def allowed(self, request_id: str, target: str = "/v1/things", method: str = "GET") -> Allow:
        """Let a request pass, and return its decision."""
        decision = await self.desk.check(request(target=target, method=method, request_id=request_id))
        assert isinstance(decision, Allow), decision
        return decision

    def counted(self, name: str, *labels: str) -> float:
        """Return a number of the metrics by the values of its labels, in the order of their names."""
        samples = (sample for family in self.metrics.registry.collect() for sample in family.samples)
        return next((one.value for one in samples if one.name == name and tuple(one.labels.values()) == labels), 0.0)


class NoticedMetrics(Metrics):
    """Metrics, and an event that is set when an outcome is counted."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        super().__init__(__version__)
        self.changed = asyncio.Event()
        count = self.outcomes.count

        def tell(*labels: str) -> None:
            count(*labels)
            self.changed.set()

        self.outcomes.count = tell  # type: ignore[method-assign]


async def _each(messages: Iterable[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


@asynccontextmanager
async def told(desk: Desk, *, key: str | None = KEY, tls: TlsFiles | None = None) -> AsyncIterator[Told]:
    """Serve what is behind `desk`."""
    named = {"TALLYGATE_PEPPER": PEPPER_TEXT, "TALLYGATE_SERVICES_LISTEN": ANYWHERE} | (
        {} if key is None else {"TALLYGATE_SERVICES_KEY": key}
    )
    metrics = NoticedMetrics()
    known = Known(desk.clock, metrics, desk.cache, desk.store, desk.counters.memory, desk.first_uses)
    served = await services(load(named).values, known, tls, is_shared=False)
    assert served is not None
    await desk.put_rules()
    working = asyncio.create_task(served.run())
    await served.server.start()
    served.server.set_serving(True)
    try:
        async with grpc.aio.insecure_channel(served.server.address) as channel:
            yield Told(desk, served, channel, metrics, key)
    finally:
        await served.stop(0)
        working.cancel()
        await asyncio.wait({working})

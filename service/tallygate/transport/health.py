"""The state behind `grpc.health.v1.Health`: is this process to be sent calls?

Every adapter serves the same object. Lives on one event loop; no method waits except a watch. A watch ends
by itself when the server stops, so that an idle watcher never holds up a drain.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from tallygate.transport.status import CallError, Status

HEALTH_SERVICE = "grpc.health.v1.Health"

_SERVING = HealthCheckResponse(status=HealthCheckResponse.SERVING)
_NOT_SERVING = HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)
_UNKNOWN = HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)


class Health:
    """One status for the whole server (`""`) and every service it serves."""

    def __init__(self, services: Iterable[str]) -> None:
        """Start as NOT_SERVING for these services and for `""`."""
        self._services = frozenset({"", *services})
        self._is_serving = False
        self._is_closed = False
        self._changed = asyncio.Event()

    def set_serving(self, is_serving: bool) -> None:  # noqa: FBT001 - it is the one thing set
        """Change the status and wake who watches."""
        self._is_serving = is_serving
        self._wake()

    def close(self) -> None:
        """End every watch, after it has told the last status."""
        self._is_closed = True
        self._wake()

    def check(self, service: str) -> HealthCheckResponse | None:
        """Return the status of a service; None when it is not served here (NOT_FOUND)."""
        if service not in self._services:
            return None
        return _SERVING if self._is_serving else _NOT_SERVING

    async def watch(self, service: str) -> AsyncIterator[HealthCheckResponse]:
        """Yield the status now and after every change; SERVICE_UNKNOWN for one not served here."""
        told: HealthCheckResponse | None = None
        while True:
            changed = self._changed
            status = self.check(service) or _UNKNOWN
            if status is not told:
                yield status
                told = status
            if self._is_closed:
                return
            await changed.wait()

    async def answer(self, request: bytes) -> bytes:
        """Answer `Check`: a unary handler. Raises CallError, NOT_FOUND, for a service not served here."""
        status = self.check(HealthCheckRequest.FromString(request).service)
        if status is None:
            raise CallError(Status.NOT_FOUND, "no such service here")
        return status.SerializeToString()

    async def answers(self, request: bytes) -> AsyncGenerator[bytes, None]:
        """Answer `Watch`: one message for the status now and for every change."""
        async for status in self.watch(HealthCheckRequest.FromString(request).service):
            yield status.SerializeToString()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

"""The transport over grpc.aio: the reference implementation of gRPC, slower than it could be.

Runs on the event loop it is started on. Failure: an address that is taken or wrong stops the start with an
InputError; afterwards a broken connection ends its own calls only.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest

from tallygate.core.errors import InputError
from tallygate.transport.health import HEALTH_SERVICE, Health
from tallygate.transport.transport import LISTEN_SETTING, MAX_REQUEST_BYTES, Handlers, ListenAddress, UnaryHandler

_OPTIONS = (
    # Two processes on one port would share it silently, and one of them would starve.
    ("grpc.so_reuseport", 0),
    # Envoy's keepalive on an idle connection is no attack; without this it is answered by GOAWAY.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    # No max_concurrent_streams: calls above it fail; Envoy's circuit breaker is where that is bounded.
)
_PROBE_TIMEOUT_S = 1.0

# The stubs' generics do not exist at run time.
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
MethodHandler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"


class GrpcioTransport:
    """Serves unary handlers by grpc.aio."""

    def __init__(self, listen: str, handlers: Handlers) -> None:
        """Take where to listen (`host:port`, `unix:/path`) and what to serve; raise InputError for no address."""
        self._listen = ListenAddress.parse(listen)
        self._handlers = dict(handlers)
        self._health = Health(path.split("/")[1] for path in self._handlers)
        self._server: grpc.aio.Server | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """Return where it listens, with the real port."""
        return self._listen.at(self._port)

    @property
    def port(self) -> int:
        """Return the TCP port, 0 on a Unix socket."""
        return self._port

    async def start(self) -> None:
        """Listen; raise InputError when the address cannot be had."""
        await self._refuse_live_socket()
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((_Methods(self._handlers, self._health),))
        try:
            port = server.add_insecure_port(self.address if self._listen.path else self._listen.at(self._listen.port))
        except RuntimeError:
            await server.stop(None)
            raise self._unavailable() from None
        self._port = 0 if self._listen.path else port
        await server.start()
        self._server = server

    def set_serving(self, is_serving: bool) -> None:  # noqa: FBT001 - it is the one thing set
        """Tell health checks, and who watches, whether to send calls here."""
        self._health.set_serving(is_serving)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those under way finish within `grace_s` seconds, cancel the rest."""
        self._health.close()
        if self._server is not None:
            await self._server.stop(grace_s)

    async def _refuse_live_socket(self) -> None:
        # gRPC removes a socket that is there, even one that another process listens on.
        if self._listen.path is None:
            return
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                _, writer = await asyncio.open_unix_connection(self._listen.path)
        except (OSError, TimeoutError):
            return
        writer.close()
        raise self._unavailable()

    def _unavailable(self) -> InputError:
        where = self._listen.at(self._listen.port)
        return InputError(LISTEN_SETTING, f"cannot listen on {where}", "is it in use, or not of this machine?")


class _Methods(grpc.GenericRpcHandler):
    """Finds the handler of a method path."""

    def __init__(self, handlers: Handlers, health: Health) -> None:
        self._methods = {path: _unary(handler) for path, handler in handlers.items()}
        self._methods |= _health_methods(health)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "MethodHandler | None":
        return self._methods.get(handler_call_details.method)


def _unary(handler: UnaryHandler) -> MethodHandler:
    async def answer(request: bytes, _context: Context) -> bytes:
        return await handler(request)

    return grpc.unary_unary_rpc_method_handler(answer)


def _health_methods(health: Health) -> dict[str, MethodHandler]:
    async def check(request: bytes, context: Context) -> bytes:
        status = health.check(_service(request))
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service here")
        return status.SerializeToString()

    async def watch(request: bytes, _context: Context) -> AsyncIterator[bytes]:
        async for status in health.watch(_service(request)):
            yield status.SerializeToString()

    return {
        f"/{HEALTH_SERVICE}/Check": grpc.unary_unary_rpc_method_handler(check),
        f"/{HEALTH_SERVICE}/Watch": grpc.unary_stream_rpc_method_handler(watch),
    }


def _service(request: bytes) -> str:
    return HealthCheckRequest.FromString(request).service

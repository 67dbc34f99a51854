"""The server of everything but Check: grpc.aio, for access logs are streams.

Owns who may call what, how errors become statuses, reflection, and that a stop ends streams instead of waiting for
them. Does not own what a call does (`services`). Runs beside the server of Check, on the same event loop. Failure: as
the transport over grpc.aio, under the name of its own setting.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from tallygate.core.errors import DependencyError, InputError
from tallygate.services.access import Access, NotAuthenticatedError
from tallygate.transport.grpcio import CODES, Context, GrpcioTransport, MethodHandler
from tallygate.transport.health import HEALTH_SERVICE
from tallygate.transport.listening import SERVICES_SETTING, Listen
from tallygate.transport.status import CallError, Status, as_call_error
from tallygate.transport.tls import TlsFiles
from tallygate.transport.transport import Handlers

# The two have the same messages on the wire; newer tools ask the second first.
_REFLECTION = (reflection.SERVICE_NAME, "grpc.reflection.v1.ServerReflection")
StreamHandler = Callable[[AsyncIterator[bytes]], Awaitable[bytes]]
Observe = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Offered:
    """What is served: unary methods for those with the key, and streams, open to all as long as there is none."""

    guarded: Handlers
    streams: Mapping[str, StreamHandler]


class ServicesServer(GrpcioTransport):
    """Serves the methods of `services`, health and reflection."""

    def __init__(
        self, listen: Listen, offered: Offered, access: Access, observe: Observe, tls: TlsFiles | None = None
    ) -> None:
        """Take where to listen and what to serve to whom; `observe` is told method and status code of every call."""
        self._stopping = asyncio.Event()
        calls = _Calls(access, observe, self._stopping)
        methods = {path: calls.unary(path, handler) for path, handler in offered.guarded.items()}
        methods |= {path: calls.stream(path, handler) for path, handler in offered.streams.items()}
        # Envoy's services have messages of their own, so only ours can be told.
        told = {path.split("/")[1] for path in offered.guarded}
        methods |= {f"/{name}/ServerReflectionInfo": _reflected(told) for name in _REFLECTION}
        super().__init__(listen, {}, tls, more=methods, setting=SERVICES_SETTING)

    async def stop(self, grace_s: float) -> None:
        """End streams, refuse new calls, let those under way finish within `grace_s` seconds, cancel the rest."""
        self._stopping.set()
        await super().stop(grace_s)


class _Calls:
    """Makes handlers of gRPC's out of ours: who may call is checked before, and how it went is counted after."""

    def __init__(self, access: Access, observe: Observe, stopping: asyncio.Event) -> None:
        self._access = access
        self._observe = observe
        self._stopping = stopping

    def unary(self, path: str, handler: Callable[[bytes], Awaitable[bytes]]) -> MethodHandler:
        async def answer(request: bytes, context: Context) -> bytes:
            return await self._call(path, context, lambda: handler(request), is_guarded=True)

        return grpc.unary_unary_rpc_method_handler(answer)

    def stream(self, path: str, handler: StreamHandler) -> MethodHandler:
        async def answer(messages: AsyncIterator[bytes], context: Context) -> bytes:
            told = until(self._stopping, messages)
            return await self._call(path, context, lambda: handler(told), is_guarded=False)

        return grpc.stream_unary_rpc_method_handler(answer)

    async def _call(
        self, path: str, context: Context, work: Callable[[], Awaitable[bytes]], *, is_guarded: bool
    ) -> bytes:
        method = path.rpartition("/")[2]
        try:
            self._access.require(_authorization(context), is_guarded=is_guarded)
            answer = await work()
        except Exception as error:  # noqa: BLE001 - gRPC would tell its text to the caller
            told = _told(error, path)
            self._observe(method, told.status.name)
            await context.abort(CODES[told.status], told.message)
        except asyncio.CancelledError:
            self._observe(method, "CANCELLED")
            raise
        self._observe(method, Status.OK.name)
        return answer


async def until(stopping: asyncio.Event, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the messages, and no more once it is time to stop."""
    stopped = asyncio.ensure_future(stopping.wait())
    following: asyncio.Future[bytes | None] = stopped.get_loop().create_future()
    try:
        while not stopping.is_set():
            following = asyncio.ensure_future(anext(messages, None))
            await asyncio.wait({stopped, following}, return_when=asyncio.FIRST_COMPLETED)
            message = following.result() if following.done() else None
            if message is None:
                return
            yield message
    finally:
        stopped.cancel()
        following.cancel()


def _told(error: Exception, path: str) -> CallError:
    match error:
        case NotAuthenticatedError():
            return CallError(Status.UNAUTHENTICATED, str(error))
        case InputError():
            return CallError(Status.INVALID_ARGUMENT, str(error))
        case DependencyError():
            return CallError(Status.UNAVAILABLE, f"{error.dependency} did not answer, try again")
        case _:
            return as_call_error(error, path)


def _authorization(context: Context) -> str | None:
    found = (value for name, value in context.invocation_metadata() or () if name == "authorization")
    value = next(found, None)
    return value if isinstance(value, str) else None


def _reflected(services: set[str]) -> MethodHandler:
    answering = reflection.aio.ReflectionServicer({*services, HEALTH_SERVICE, *_REFLECTION})

    async def answer(messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        asked = (ServerReflectionRequest.FromString(message) async for message in messages)
        # The stubs take an asynchronous generator for a coroutine.
        async for told in answering.ServerReflectionInfo(asked, context):  # type: ignore[attr-defined]
            yield told.SerializeToString()

    return grpc.stream_stream_rpc_method_handler(answer)

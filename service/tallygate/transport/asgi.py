"""Unary gRPC over ASGI: what stands between an HTTP/2 server and a handler of bytes, and as little as can be.

Owns the headers and trailers of gRPC, its framing (`messages`), its deadlines (`deadlines`). Does not own HTTP/2. One
task a call, on the event loop of the server; a caller that leaves cancels it. Failure: whatever is wrong with a call
ends that call, with gRPC's status or HTTP's. This is run for every request: what can be built beforehand is.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, TypeAlias

from tallygate.transport.deadlines import CallsUnderWay, deadline_passed, seconds_of
from tallygate.transport.health import HEALTH_SERVICE, Health
from tallygate.transport.messages import ACCEPTED_ENCODINGS, framed, is_too_large, too_large, unframed
from tallygate.transport.status import CallError, Status, as_call_error, percent_encoded
from tallygate.transport.transport import Handlers

Event: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]

_GRPC = b"application/grpc"
_HEADERS = [(b"content-type", _GRPC), (b"grpc-accept-encoding", ACCEPTED_ENCODINGS)]
_START: Event = {"type": "http.response.start", "status": 200, "headers": _HEADERS, "trailers": True}
_OK: Event = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]}
_NO_BODY: Event = {"type": "http.response.body"}


class GrpcApp:
    """An ASGI application that serves unary handlers, and health with its watch."""

    def __init__(self, handlers: Handlers, health: Health) -> None:
        """Take handlers by full method path."""
        # By the path as it came: percent-decoded, other paths would be the same.
        served = {**handlers, f"/{HEALTH_SERVICE}/Check": health.answer}
        self._handlers = {path.encode(): handler for path, handler in served.items()}
        self._streams: Mapping[bytes, Callable[[bytes], AsyncGenerator[bytes, None]]]
        self._streams = {f"/{HEALTH_SERVICE}/Watch".encode(): health.answers}
        self._calls = CallsUnderWay()
        self._loop: asyncio.AbstractEventLoop | None = None

    def cancel_calls(self) -> None:
        """Cancel every call under way."""
        self._calls.cancel_all()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if headers.get(b"content-type") != _GRPC or scope["method"] != "POST":
            status = _http_status(scope["method"], headers.get(b"content-type", b""))
            if status is not None:
                await send({"type": "http.response.start", "status": status, "headers": []})
                await send(_NO_BODY)
                return
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(self._loop)  # to look for the loop is a system call on Python 3.11
        assert task is not None  # noqa: S101 - a coroutine that runs has one
        calls = self._calls
        path: bytes = scope["raw_path"]
        handler = self._handlers.get(path)
        try:
            calls.begin(task, seconds_of(headers.get(b"grpc-timeout")))
            if handler is None:
                await self._stream(path, headers, receive, send)
                return
            answer = await handler(unframed(await _body(receive), headers.get(b"grpc-encoding")))
        except asyncio.CancelledError:
            if not calls.is_overdue(task) or task.uncancel():
                raise
            await _refuse(send, deadline_passed())
            return
        except Exception as error:  # noqa: BLE001 - whatever a handler raises ends its own call only
            await _refuse(send, as_call_error(error, path.decode(errors="replace")))
            return
        finally:
            calls.end(task)
        await send(_START)
        await send({"type": "http.response.body", "body": framed(answer)})
        await send(_OK)

    async def _stream(self, path: bytes, headers: Mapping[bytes, bytes], receive: Receive, send: Send) -> None:
        answers = self._streams.get(path)
        if answers is None:
            raise CallError(Status.UNIMPLEMENTED, "no such method here")
        request = unframed(await _body(receive), headers.get(b"grpc-encoding"))
        await send(_START)
        end = _OK
        try:
            async with aclosing(answers(request)) as told:
                async for answer in told:
                    await send({"type": "http.response.body", "body": framed(answer), "more_body": True})
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not self._calls.is_overdue(task) or task.uncancel():
                raise
            end = {"type": "http.response.trailers", "headers": _status_headers(deadline_passed())}
        await send(_NO_BODY)
        await send(end)


async def _body(receive: Receive) -> bytes | bytearray:
    """Return the whole body; raise CallError as soon as it is, or claims to be, too large."""
    event = await receive()
    body: bytes | bytearray = event.get("body", b"")
    while event.get("more_body"):
        event = await receive()
        more = event.get("body")
        if more:
            # Appended in place: a body that comes byte by byte must not be copied at each.
            body = body if isinstance(body, bytearray) else bytearray(body)
            body += more
            if is_too_large(body):
                raise too_large()
    return body


async def _refuse(send: Send, error: CallError) -> None:
    headers = [*_HEADERS, *_status_headers(error)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send(_NO_BODY)


def _status_headers(error: CallError) -> list[tuple[bytes, bytes]]:
    return [(b"grpc-status", b"%d" % error.status), (b"grpc-message", percent_encoded(error.message))]


def _http_status(method: str, content_type: bytes) -> int | None:
    """Return the HTTP status of what is no gRPC call; None for a media type of gRPC with more to it."""
    if method != "POST":
        return HTTPStatus.METHOD_NOT_ALLOWED
    media_type = content_type.partition(b";")[0].strip().lower()
    is_grpc = media_type == _GRPC or media_type.startswith(_GRPC + b"+")
    return None if is_grpc else HTTPStatus.UNSUPPORTED_MEDIA_TYPE

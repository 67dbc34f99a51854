"""What surrounds every request: its id, its size, its deadline, and the last catch.

An ASGI middleware; it leaves `request_id` and the whole `body` in the request's state, and adds the `headers`
it finds there to the answer. Owns that a body is read whole and bounded, in size and in time, before anything looks
at it, that at most so many bodies are arriving and so many requests are under way, and that whatever goes wrong leaves
as a problem, never as a traceback. Does not own who may call (`access`) or what is asked for.

A request whose body trickles in is not under way: it holds one of the places of bodies (of which an address has
only some), and none of those that do the work.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallygate.admin.rest.problems import Problem, problem_of
from tallygate.core.clock import Clock
from tallygate.core.errors import TallygateError
from tallygate.core.ids import new_id

MAXIMUM_BODY_BYTES = 2**20
DEADLINE_S = 30.0
BODY_DEADLINE_S = 5.0
REQUEST_ID = "x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_TOO_LARGE = f"The body is larger than {MAXIMUM_BODY_BYTES} bytes."
_CLOSED = {"Connection": "close"}
_log = structlog.get_logger("tallygate.rest")


class Envelope:
    """Wraps an ASGI app."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        clock: Clock,
        problem_base_url: str,
        deadline_s: float = DEADLINE_S,
        body_deadline_s: float = BODY_DEADLINE_S,
        max_in_flight: int = 200,
        arrivals: "Arrivals | None" = None,
    ) -> None:
        """Give each body `body_deadline_s` to arrive, and what it asks for `deadline_s` from then on."""
        self._app = app
        self._clock = clock
        self._problem_base_url = problem_base_url
        self._deadline_s = deadline_s
        self._body_deadline_s = body_deadline_s
        self._max_in_flight = max_in_flight
        self._arrivals = arrivals or Arrivals()
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":  # there are no web sockets here
            await send({"type": "websocket.close"})
            return
        request_id = scope.setdefault("state", {})["request_id"] = self._request_id(scope)
        sent = _Sent(send, scope)
        started_s = self._clock.monotonic()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            problem = await self._answer(scope, receive, sent)
            if problem is not None and not sent.status:
                await problem.response(self._problem_base_url, request_id)(scope, receive, sent)
            _log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=sent.status,
                duration_ms=round((self._clock.monotonic() - started_s) * 1000, 1),
            )

    async def _answer(self, scope: Scope, receive: Receive, sent: "_Sent") -> Problem | None:
        """Answer, or return the problem to answer with."""
        try:
            body = scope["state"]["body"] = await self._arrived(scope, receive)
            with self._under_way():
                async with asyncio.timeout(self._deadline_s):
                    await self._app(scope, _Replay(body, receive), sent)
        except Problem as problem:
            return problem
        except TallygateError as error:
            return problem_of(error)
        except TimeoutError:
            return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "The request took too long.", headers=_soon())
        except Exception:  # noqa: BLE001 - whatever it was, its caller gets an answer, and no traceback
            _log.exception("a request failed")
            return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong on our side.")
        return None

    async def _arrived(self, scope: Scope, receive: Receive) -> bytes:
        """Return the whole body; raise Problem (400, 408, 413, 503), after which nothing more can be read."""
        try:
            with self._arrivals.one_of(str((scope.get("client") or ("",))[0])):
                async with asyncio.timeout(self._body_deadline_s):
                    return await _body(scope, receive)
        except TimeoutError:
            told = f"The body did not arrive within {self._body_deadline_s:g} s."
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, told, slug="body-too-slow", headers=_CLOSED) from None

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        if self._in_flight >= self._max_in_flight:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "Too many requests are under way.", headers=_soon())
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    def _request_id(self, scope: Scope) -> str:
        given = Headers(scope=scope).get(REQUEST_ID, "")
        return given if _REQUEST_ID.fullmatch(given) else new_id("req", self._clock.now())


class Arrivals:
    """Bodies that are arriving: at most so many at once, and of these so many from one address."""

    def __init__(self, *, most: int = 128, most_of_address: int = 32) -> None:
        """Bound what half-read bodies may hold: `most` times `MAXIMUM_BODY_BYTES`."""
        self._most = most
        self._most_of_address = most_of_address
        self._by_address = Counter[str]()

    @contextmanager
    def one_of(self, address: str) -> Iterator[None]:
        """Count a body of `address` while the block lasts; raise Problem (503) when there are too many."""
        if self._by_address.total() >= self._most or self._by_address[address] >= self._most_of_address:
            headers = {**_soon(), **_CLOSED}
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "Too many bodies are arriving.", headers=headers)
        self._by_address[address] += 1
        try:
            yield
        finally:
            self._by_address[address] -= 1
            self._by_address += Counter()  # forgets addresses that have none


class _Sent:
    """A `send` that adds our headers and remembers the status; 0 before the answer begins."""

    def __init__(self, send: Send, scope: Scope) -> None:
        self._send = send
        self._scope = scope
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self._scope["state"]["request_id"]
            headers["cache-control"] = "no-store"
            headers["x-content-type-options"] = "nosniff"
            headers.update(self._scope["state"].get("headers", {}))
        await self._send(message)


class _Replay:
    """A `receive` that gives a body already read, then whatever else the client does."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._message: MutableMapping[str, Any] | None = {"type": "http.request", "body": body, "more_body": False}
        self._receive = receive

    async def __call__(self) -> Message:
        message, self._message = self._message, None
        return message if message is not None else await self._receive()


async def _body(scope: Scope, receive: Receive) -> bytes:
    """Read the body; raise Problem as soon as it is known to be too large."""
    announced = Headers(scope=scope).get("content-length", "")
    if announced.isdigit() and int(announced[:20]) > MAXIMUM_BODY_BYTES:
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE, slug="too-large")
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(HTTPStatus.BAD_REQUEST, "The body ended early.", slug="malformed")
        part = message.get("body", b"")
        size += len(part)
        if size > MAXIMUM_BODY_BYTES:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE, slug="too-large")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _soon() -> dict[str, str]:
    return {"Retry-After": "1"}

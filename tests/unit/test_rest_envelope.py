"""The last catch: whatever an app below does, its caller gets one whole answer, in time, without a traceback."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallygate.admin.rest.envelope import MAXIMUM_BODY_BYTES, Envelope
from tallygate.admin.rest.problems import Problem
from tallygate.core.clock import ManualClock
from tallygate.core.errors import ConflictError, StoreUnavailableError

BASE = "https://problems.example/"


@dataclass(slots=True)
class Exchange:
    """One request as a server would bring it, and what was sent back."""

    body: list[bytes] = field(default_factory=lambda: [b""])
    headers: dict[str, str] = field(default_factory=dict)
    hangs_up: bool = False
    sent: list[Message] = field(default_factory=list)

    @property
    def scope(self) -> Scope:
        """Return the scope."""
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        return {"type": "http", "method": "POST", "path": "/v1/customers", "headers": headers}

    async def receive(self) -> Message:
        """Give the body in its parts, then hang up."""
        if not self.body:
            return {"type": "http.disconnect"}
        part = self.body.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(self.body) or self.hangs_up}

    async def send(self, message: Message) -> None:
        """Take a part of the answer."""
        self.sent.append(message)

    @property
    def status(self) -> int:
        """Return the status; there must be one whole answer."""
        assert [message["type"] for message in self.sent] == ["http.response.start", "http.response.body"]
        return int(self.sent[0]["status"])

    @property
    def problem(self) -> dict[str, Any]:
        """Return the problem that was told."""
        return dict(json.loads(self.sent[1]["body"]))

    @property
    def answered(self) -> dict[str, str]:
        """Return the headers of the answer."""
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}


def around(app: ASGIApp, **limits: float) -> Envelope:
    """Return the envelope of an app."""
    clock = ManualClock(datetime(2026, 11, 23, tzinfo=UTC))
    return Envelope(app, clock=clock, problem_base_url=BASE, **limits)  # type: ignore[arg-type]  # ints are floats


async def sent_through(app: ASGIApp, exchange: Exchange | None = None, **limits: float) -> Exchange:
    """Send a request through the envelope of an app."""
    exchange = exchange or Exchange()
    await around(app, **limits)(exchange.scope, exchange.receive, exchange.send)
    return exchange


def raising(error: Exception) -> ASGIApp:
    """Return an app that raises."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise error

    return app


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body."""
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def test_every_error_is_a_problem() -> None:
    """Errors of ours have their status; any other is our fault, and nothing of it is told."""
    for error, status in (
        (ConflictError("key", "is taken"), 409),
        (StoreUnavailableError("password=hunter2"), 503),
        (Problem(418, "No coffee."), 418),
        (ZeroDivisionError("hunter2"), 500),
        (RecursionError("hunter2"), 500),
    ):
        exchange = await sent_through(raising(error))
        assert exchange.status == exchange.problem["status"] == status
        assert exchange.answered["content-type"] == "application/problem+json"
        assert exchange.answered["x-request-id"] in exchange.problem["instance"]
        assert "hunter2" not in str(exchange.sent)


async def test_a_request_that_takes_too_long_is_given_up() -> None:
    """A handler that never ends meets the deadline."""

    async def waits(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    exchange = await sent_through(waits, deadline_s=0.001)
    assert (exchange.status, exchange.answered["retry-after"]) == (503, "1")


async def test_only_so_many_are_under_way() -> None:
    """The one too many is told to come back, and those before it are answered."""
    release = asyncio.Event()
    arrived = asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        arrived.set()
        await release.wait()
        await echo(scope, receive, send)

    envelope, first, second, third = around(waits, max_in_flight=1), Exchange(), Exchange(), Exchange()
    running = asyncio.create_task(envelope(first.scope, first.receive, first.send))
    await arrived.wait()
    await envelope(second.scope, second.receive, second.send)
    assert second.status == 503
    release.set()
    await running
    assert first.status == 200
    await envelope(third.scope, third.receive, third.send)
    assert third.status == 200


async def test_a_body_arrives_whole_or_not_at_all() -> None:
    """Parts are joined; too many bytes are refused at once, announced or not; half a body is no body."""
    assert (await sent_through(echo, Exchange([b"one ", b"two"]))).sent[1]["body"] == b"one two"
    announced = Exchange(headers={"content-length": str(MAXIMUM_BODY_BYTES + 1)})
    assert (await sent_through(echo, announced)).status == 413
    assert announced.body == [b""]
    streamed = Exchange([b"x" * 2**19] * 4)
    assert (await sent_through(echo, streamed)).status == 413
    assert len(streamed.body) == 1
    assert (await sent_through(echo, Exchange([b"half"], hangs_up=True))).status == 400
    assert (await sent_through(echo, Exchange([b"x" * MAXIMUM_BODY_BYTES]))).status == 200


async def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    """After an error in the middle of an answer the server is left to close the connection."""

    async def breaks(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    exchange = await sent_through(breaks)
    assert [message["type"] for message in exchange.sent] == ["http.response.start"]


async def test_a_web_socket_is_closed() -> None:
    """There is nothing to talk about."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    receive: Callable[[], Awaitable[Message]] = Exchange().receive
    await around(echo)({"type": "websocket"}, receive, send)
    assert sent == [{"type": "websocket.close"}]

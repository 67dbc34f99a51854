"""Bodies on their way in: how long they may take, how many there may be, and that they keep nobody from work.

Every client here is a queue of ASGI messages, so nothing waits for a clock.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.types import Receive, Scope, Send

from tallygate.admin.rest.envelope import Arrivals, Envelope
from tallygate.core.clock import ManualClock

SLOW = 3600.0


@dataclass(slots=True)
class Client:
    """One request, whose body arrives when the test says so."""

    address: str = "192.0.2.1"
    inbox: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    is_read: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[dict[str, Any]] = field(default_factory=list)

    def part(self, body: bytes, *, is_last: bool = True) -> None:
        """Let a part of the body arrive."""
        self.inbox.put_nowait({"type": "http.request", "body": body, "more_body": not is_last})

    async def ask(self, app: Envelope) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Send the request; return status, headers and body of the answer."""
        scope: Scope = {
            "type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": [],
            "client": (self.address, 1),
        }  # fmt: skip
        await app(scope, self._receive, self._send)
        headers = {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}
        return self.sent[0]["status"], headers, json.loads(self.sent[1]["body"])

    async def _receive(self) -> dict[str, Any]:
        message = await self.inbox.get()
        self.is_read.set()
        return message

    async def _send(self, message: Any) -> None:  # noqa: ANN401 - an ASGI message
        self.sent.append(message)


async def echo(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer with the body's length."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps({"size": len(scope["state"]["body"])}).encode()})


def envelope(**more: Any) -> Envelope:  # noqa: ANN401 - the envelope's own parameters
    """Return an envelope around `echo` that is in no hurry."""
    clock = ManualClock(datetime(2027, 1, 1, tzinfo=UTC))
    given = {"body_deadline_s": SLOW, "deadline_s": SLOW} | more
    return Envelope(echo, clock=clock, problem_base_url="https://problems.example/", **given)


@asynccontextmanager
async def trickling(app: Envelope, *clients: Client) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Have clients that have sent a part of their bodies, and no more."""
    for client in clients:
        client.part(b"{", is_last=False)
    tasks = [asyncio.create_task(client.ask(app)) for client in clients]
    for client in clients:
        await client.is_read.wait()
    try:
        yield tasks
    finally:
        for client in clients:
            client.part(b"}")
        await asyncio.gather(*tasks)


async def test_slow_bodies_do_not_keep_others_from_work() -> None:
    """With one place for work and many bodies trickling in, a whole request is served at once."""
    app = envelope(max_in_flight=1)
    slow = [Client() for _ in range(20)]
    async with trickling(app, *slow) as tasks:
        quick = Client()
        quick.part(b"{}")
        assert (await quick.ask(app))[0] == 200
        assert not any(task.done() for task in tasks)
    assert {task.result()[0] for task in tasks} == {200}
    assert {task.result()[2]["size"] for task in tasks} == {2}


async def test_a_body_that_takes_too_long_is_given_up() -> None:
    """It is answered with 408, and the connection closes, for the rest of the body is not wanted (RFC 9110 §15.5.9)."""
    client = Client()
    client.part(b"{", is_last=False)
    status, headers, told = await client.ask(envelope(body_deadline_s=0.0))
    assert (status, told["status"], headers["connection"]) == (408, 408, "close")
    assert told["type"].endswith("/body-too-slow")


async def test_only_so_many_bodies_arrive_at_once() -> None:
    """One more from an address, or from anywhere, is told to come back; when one is whole there is room again."""
    app = envelope(arrivals=Arrivals(most=3, most_of_address=2))
    async with trickling(app, Client(), Client()):
        neighbour = Client()
        neighbour.part(b"{}")
        status, headers, _ = await neighbour.ask(app)
        assert (status, headers["retry-after"]) == (503, "1")
        async with trickling(app, Client("192.0.2.2")):
            somebody = Client("192.0.2.3")
            somebody.part(b"{}")
            assert (await somebody.ask(app))[0] == 503
        somebody = Client("192.0.2.3")
        somebody.part(b"{}")
        assert (await somebody.ask(app))[0] == 200
    again = Client()
    again.part(b"{}")
    assert (await again.ask(app))[0] == 200


async def test_a_client_that_goes_away_leaves_its_place() -> None:
    """A body that ends early, is too large, or too slow is no longer counted as arriving."""
    app = envelope(arrivals=Arrivals(most=1), body_deadline_s=SLOW)
    gone = Client()
    gone.inbox.put_nowait({"type": "http.disconnect"})
    assert (await gone.ask(app))[0] == 400
    large = Client()
    large.part(b" " * (2**20 + 1), is_last=False)
    assert (await large.ask(app))[0] == 413
    client = Client()
    client.part(b"{}")
    assert (await client.ask(app))[0] == 200

"""Receivers of usage as local servers: they check as the real ones do, know an event again, and misbehave on request.

What they know of the protocols is written from the receivers' documentation, not shared with the code under test.
"""

import asyncio
import base64
import hashlib
import hmac
import json
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qsl

from support.http_receiver import Call, HttpReceiver

BEARER = "a-key-of-tests"
SECRET = "whsec_" + base64.b64encode(b"a secret of tests, 32 bytes long").decode()


class Fault(Enum):
    """What a server does with a call in place of taking and answering it."""

    DIES_AFTER = "takes it, and dies before the answer"
    DIES_BEFORE = "dies before it takes it"
    SILENT = "takes it, and never answers"
    FAILS_AFTER = "takes it, and answers 500"
    FAILS = "answers 503"
    THROTTLES = "answers 429"
    LOCKS_OUT = "answers 401"
    ANSWERS_TWICE = "takes it, and answers twice"


@dataclass(frozen=True, slots=True)
class Taken:
    """An event a receiver counted."""

    key: str
    name: str
    subject: str
    value: int
    at: str


class ReceiverServer(HttpReceiver):
    """A receiver; `taken` is what it counted, by key, in the order in which it came."""

    path = ""

    def __init__(self) -> None:
        """Take everything."""
        super().__init__()
        self.taken: dict[str, Taken] = {}
        self.calls: list[bytes] = []
        self.faults: deque[Fault | None] = deque()
        self.refuses: Callable[[Taken], bool] = lambda _: False
        self.repeats = 0

    @abstractmethod
    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Check a call and count what it holds; return what is answered."""

    def values(self) -> list[int]:
        """Return what was counted, in the order in which it came."""
        return [taken.value for taken in self.taken.values()]

    def _count(self, taken: Taken) -> bool:
        """Count an event; say no to one that was counted before."""
        if taken.key in self.taken:
            assert self.taken[taken.key] == taken, "another event under the same key"
            self.repeats += 1
            return False
        self.taken[taken.key] = taken
        return True

    async def answer(self, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Take it, or misbehave as the next of `faults` says."""
        assert call.asked == f"POST {self.path} HTTP/1.1"
        self.calls.append(call.body)
        fault = self.faults.popleft() if self.faults else None
        match fault:
            case Fault.DIES_BEFORE:
                return False
            case Fault.FAILS | Fault.THROTTLES | Fault.LOCKS_OUT:
                status = {Fault.FAILS: 503, Fault.THROTTLES: 429, Fault.LOCKS_OUT: 401}[fault]
                writer.write(_response(status, f"no, {BEARER}".encode(), "retry-after: 70\r\n"))
                return True
        status, told = self.take(call.headers, call.body)
        match fault:
            case Fault.DIES_AFTER:
                return False
            case Fault.SILENT:
                await reader.read(1)  # until the other side hangs up
                return False
            case Fault.FAILS_AFTER:
                status, told = 500, b"something broke"
        writer.write(_response(status, told) * (2 if fault is Fault.ANSWERS_TWICE else 1))
        await writer.drain()
        return True


class StripeServer(ReceiverServer):
    """POST /v1/billing/meter_events; an identifier that is known is a refusal."""

    path = "/v1/billing/meter_events"

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Count a meter event."""
        assert headers["authorization"] == f"Bearer {BEARER}"
        assert headers["content-type"] == "application/x-www-form-urlencoded"
        form = dict(parse_qsl(body.decode(), strict_parsing=True))
        assert form.keys() == {
            "event_name", "identifier", "timestamp", "payload[stripe_customer_id]", "payload[value]"
        }  # fmt: skip
        assert len(form["identifier"]) <= 100
        taken = Taken(
            form["identifier"], form["event_name"], form["payload[stripe_customer_id]"], int(form["payload[value]"]),
            form["timestamp"],
        )  # fmt: skip
        if self.refuses(taken):
            return 400, _stripe_error(f"No such customer: '{taken.subject}'")
        if not self._count(taken):
            return 400, _stripe_error(f"An event already exists with identifier {taken.key}.")
        return 200, json.dumps({"object": "billing.meter_event", "identifier": taken.key}).encode()


class LagoServer(ReceiverServer):
    """POST /api/v1/events/batch; a batch is taken or refused as a whole."""

    path = "/api/v1/events/batch"

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Count the events of a batch, if all can be."""
        assert headers["authorization"] == f"Bearer {BEARER}"
        given = json.loads(body)["events"]
        assert 1 <= len(given) <= 100
        found = [
            Taken(
                event["transaction_id"], event["code"], event["external_subscription_id"],
                int(event["properties"]["value"]), str(event["timestamp"]),
            )
            for event in given
        ]  # fmt: skip
        wrong: dict[str, object] = {
            str(number): {"code": ["metric_not_found"]} for number, event in enumerate(found) if self.refuses(event)
        }
        known = [number for number, event in enumerate(found) if event.key in self.taken]
        wrong |= {str(number): {"transaction_id": ["value_already_exist"]} for number in known}
        if wrong:
            self.repeats += len(known)
            return 422, json.dumps({"status": 422, "code": "validation_errors", "error_details": wrong}).encode()
        for event in found:
            self._count(event)
        return 200, json.dumps({"events": given}).encode()


class CloudEventsServer(ReceiverServer):
    """A batch of CloudEvents, signed as Standard Webhooks has it; an event that is known is taken and not counted."""

    path = "/usage"
    source = "tests"

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Check the signature, and count."""
        self.check(headers, body)
        assert headers["content-type"] == "application/cloudevents-batch+json"
        found = []
        for event in json.loads(body):
            assert (event["specversion"], event["source"]) == ("1.0", self.source)
            found.append(Taken(event["id"], event["type"], event["subject"], event["data"]["value"], event["time"]))
        if any(map(self.refuses, found)):
            return 400, b"one of them is wrong"
        for taken in found:
            self._count(taken)
        return 202, b""

    def check(self, headers: dict[str, str], body: bytes) -> None:
        """Check who sends."""
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{wanted}"


class OpenMeterServer(CloudEventsServer):
    """OpenMeter: CloudEvents at its own address, with a key in place of a signature."""

    path = "/api/v1/events"
    source = "tallygate"

    def check(self, headers: dict[str, str], body: bytes) -> None:  # noqa: ARG002 - nothing is signed
        """Check who sends."""
        assert headers["authorization"] == f"Bearer {BEARER}"


SERVERS: dict[str, type[ReceiverServer]] = {
    "stripe": StripeServer,
    "lago": LagoServer,
    "cloudevents": CloudEventsServer,
    "openmeter": OpenMeterServer,
}


def _stripe_error(message: str) -> bytes:
    return json.dumps({"error": {"type": "invalid_request_error", "message": message}}).encode()


def _response(status: int, body: bytes, more: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{more}\r\n".encode() + body

"""Spans on their way to a receiver: all come, or are counted; requests never wait for it."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from opentelemetry.trace import Tracer
from support.otlp import UNAUTHORIZED, Receiver

from tallygate.traces import otlp

_MOST_WAITING = 2048


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the machine's proxy out of it."""
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that takes everything."""
    async with Receiver().running() as receiver:
        yield receiver


class Sending:
    """A queue to a receiver, and what it counted."""

    def __init__(self, url: str) -> None:
        """Send there."""
        self.told: Counter[str] = Counter()
        self.queue = otlp.span_queue(url, self._tell)
        self.tracer: Tracer = otlp.tracer(self.queue, "1.2.3")

    def record(self, spans: int) -> None:
        """End so many spans."""
        for _ in range(spans):
            self.tracer.start_span("a").end()

    def _tell(self, result: str, spans: int) -> None:
        self.told[result] += spans


async def test_spans_come_as_they_were(receiver: Receiver) -> None:
    """Each once, in batches, under the name of the service and its version, at OTLP's path."""
    sending = Sending(receiver.url)
    sending.record(300)
    await sending.queue.hand_on()
    assert len({span.span_id for span in receiver.spans}) == len(receiver.spans) == 300
    assert len(receiver.bodies) == 3
    assert receiver.paths == {"/v1/traces"}
    assert receiver.resource["service.name"] == "tallygate"
    assert receiver.resource["service.version"] == "1.2.3"
    assert sending.told == {"sent": 300}
    await sending.queue.close()


async def test_the_exporters_own_settings_hold(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """What OpenTelemetry reads of its environment is as it is everywhere; a path that is given is kept."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gate-eu")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    sending = Sending(f"{receiver.url}/otlp/traces")
    sending.record(1)
    await sending.queue.close()
    assert receiver.resource["service.name"] == "gate-eu"
    assert receiver.paths == {"/otlp/traces"}
    assert sending.told == {"sent": 1}


async def test_at_the_end_what_waits_is_sent(receiver: Receiver) -> None:
    """A process that stops in good order loses no span."""
    sending = Sending(receiver.url)
    sending.record(200)
    await sending.queue.close()
    assert len(receiver.spans) == 200
    assert sending.told == {"sent": 200}


async def test_the_queue_is_bounded(receiver: Receiver) -> None:
    """More than it holds is dropped at once, and counted; what it holds comes."""
    sending = Sending(receiver.url)
    sending.record(_MOST_WAITING + 10)
    assert sending.told == {"dropped": 10}
    await sending.queue.close()
    assert sending.told == {"dropped": 10, "sent": _MOST_WAITING}


async def test_a_refused_batch_is_lost_and_the_next_is_tried_later(receiver: Receiver) -> None:
    """A round ends with the first batch that is refused; the next round begins with the next batch."""
    sending = Sending(receiver.url)
    receiver.status = UNAUTHORIZED
    sending.record(300)
    await sending.queue.hand_on()
    assert sending.told == {"failed": 128}
    receiver.status = 200
    await sending.queue.hand_on()
    assert sending.told == {"failed": 128, "sent": 172}
    await sending.queue.close()


async def test_an_exporter_that_raises_costs_its_batch_alone(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error nobody foresaw is a batch lost, and counted; the spans after it are sent."""
    sending = Sending(receiver.url)
    with monkeypatch.context() as broken:
        broken.setattr(sending.queue._exporter, "export", _raise)
        sending.record(1)
        await sending.queue.hand_on()
    sending.record(2)
    await sending.queue.hand_on()
    assert sending.told == {"failed": 1, "sent": 2}
    await sending.queue.close()


def _raise(_spans: object) -> None:
    raise ValueError("unforeseen")


async def test_a_receiver_that_is_away_at_the_end_costs_its_spans() -> None:
    """Nobody listens: what could not be sent is counted, whether it was tried or not."""
    sending = Sending("http://127.0.0.1:1")
    sending.record(300)
    await sending.queue.close()
    assert sum(sending.told.values()) == 300
    assert set(sending.told) == {"failed", "dropped"}


async def test_a_silent_receiver_does_not_hold_up_the_end(receiver: Receiver) -> None:
    """One that never answers gets what time there is; then the process ends, and the spans are counted as lost."""
    sending = Sending(receiver.url)
    sending.queue._last_s = 0.1
    receiver.status = None
    sending.record(300)
    await sending.queue.close()
    assert sending.told == {"failed": 128, "dropped": 172}


async def test_a_round_that_is_cancelled_loses_nothing(receiver: Receiver) -> None:
    """The task that sends is cancelled with all others at the end: what was under way is waited for, and counted."""
    sending = Sending(receiver.url)
    sending.record(200)
    handing_on = asyncio.create_task(sending.queue.hand_on())
    await asyncio.sleep(0)
    handing_on.cancel()
    await asyncio.wait({handing_on})
    await sending.queue.close()
    assert sending.told == {"sent": 200}
    assert len({span.span_id for span in receiver.spans}) == 200


_WITHOUT = """
import sys
sys.modules["opentelemetry.sdk"] = None
from tallygate.cli.main import run
sys.argv = ["tallygate", *sys.argv[1:]]
run()
"""
_SETTINGS = {
    "TALLYGATE_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/none",
    "TALLYGATE_REDIS_URL": "redis://127.0.0.1:1",
    "TALLYGATE_PEPPER": "p" * 32,
    "TALLYGATE_TRACES_ENDPOINT": "http://127.0.0.1:4318",
}


@pytest.mark.parametrize(("command", "workers"), [("config check", "1"), ("serve", "1"), ("serve", "2")])
def test_traces_without_opentelemetry_are_refused(command: str, workers: str) -> None:
    """Who switches traces on without the extra is told its name, before anything is served."""
    whole = [sys.executable, "-c", _WITHOUT, *command.split()]
    environment = os.environ | _SETTINGS | {"TALLYGATE_WORKERS": workers}
    ran = subprocess.run(whole, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 2, ran.stderr
    assert "TALLYGATE_TRACES_ENDPOINT" in ran.stderr
    assert "tallygate[traces]" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_switched_off_nothing_of_it_is_loaded() -> None:
    """Whoever serves without traces neither needs nor loads what makes and sends them."""
    probe = (
        "import sys, tallygate.app.data_plane, tallygate.app.workers; print([m for m in sys.modules if m.startswith("
        "('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'tallygate.traces'))])"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[]"

"""The parts of the transport that need no server: timeouts, messages, the text of a status."""

import asyncio
import gzip
import math
import zlib
from contextlib import suppress
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.transport.deadlines import CallsUnderWay, seconds_of
from tallygate.transport.messages import framed, is_too_large, unframed
from tallygate.transport.status import CallError, Status, as_call_error, percent_encoded
from tallygate.transport.transport import MAX_REQUEST_BYTES

ENCODINGS = st.sampled_from([None, b"identity", b"gzip", b"deflate", b"br", b""])


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (b"1H", 3600.0),
        (b"2M", 120.0),
        (b"3S", 3.0),
        (b"200m", 0.2),
        (b"200u", 0.0002),
        (b"5n", 5e-9),
        (b"99999999H", 99999999 * 3600.0),
        (b"00000001S", 1.0),
        (None, math.inf),
    ],
)
def test_a_timeout_is_seconds(said: bytes | None, seconds: float) -> None:
    """Every unit of gRPC's `grpc-timeout` is understood; none means no end."""
    assert seconds_of(said) == pytest.approx(seconds)


@pytest.mark.parametrize("said", [b"", b"1", b"S", b"123456789S", b"-1S", b"1.5S", b"1s", b"1S ", "٣S".encode()])
def test_a_malformed_timeout_is_refused(said: bytes) -> None:
    """More than eight digits, a sign, another unit, digits of another script: all are INTERNAL."""
    with pytest.raises(CallError) as caught:
        seconds_of(said)
    assert caught.value.status is Status.INTERNAL


def test_a_timeout_of_zero_has_passed() -> None:
    """No time is no call."""
    with pytest.raises(CallError) as caught:
        seconds_of(b"0m")
    assert caught.value.status is Status.DEADLINE_EXCEEDED


@given(st.text())
def test_a_message_of_a_status_survives_the_wire(message: str) -> None:
    """Whatever is said, what is sent is printable ASCII, and decodes to what was said."""
    message = message.encode("utf-8", "ignore").decode()
    sent = percent_encoded(message)
    assert all(0x20 <= byte <= 0x7E for byte in sent)
    assert unquote_to_bytes(sent).decode() == message


@given(st.binary(max_size=2_000))
def test_a_framed_message_is_unframed(message: bytes) -> None:
    """Framing and taking apart are each other's opposite, packed or not."""
    assert unframed(framed(message), None) == message
    packed = {b"gzip": gzip.compress(message), b"deflate": zlib.compress(message)}
    for encoding, body in packed.items():
        assert unframed(b"\1" + framed(body)[1:], encoding) == message
        assert unframed(framed(message), encoding) == message


@given(st.binary(max_size=200), ENCODINGS)
def test_any_bytes_are_a_message_or_an_error_of_the_call(body: bytes, encoding: bytes | None) -> None:
    """Nothing that comes can raise anything but the status of its call."""
    with suppress(CallError):
        message = unframed(body, encoding)
        assert body[0] == 1 or body == framed(message)


@given(st.binary(min_size=1, max_size=50), st.data())
def test_no_part_of_a_message_is_taken_for_it(message: bytes, data: st.DataObject) -> None:
    """A message that is cut anywhere is an error, and so is one with anything after it."""
    whole = framed(message)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    for body in (cut, whole + b"\0", whole + whole):
        with pytest.raises(CallError):
            unframed(body, None)


def test_the_largest_message_is_not_too_large() -> None:
    """The limit is the largest allowed, by claim and by bytes."""
    assert not is_too_large(framed(bytes(MAX_REQUEST_BYTES)))
    assert is_too_large(framed(bytes(MAX_REQUEST_BYTES)) + b"\0")
    assert is_too_large(b"\0" + (MAX_REQUEST_BYTES + 1).to_bytes(4, "big"))


def test_nothing_of_a_foreign_exception_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """What a caller reads, and the log, hold neither the message of the exception nor its arguments."""
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError("tg_live_a_credential")
    told = as_call_error(caught.value, "/a.B/C")
    assert (told.status, told.message) == (Status.INTERNAL, "internal error")
    printed = capsys.readouterr()
    logged = printed.out + printed.err
    assert "RuntimeError" in logged
    assert "test_transport_parts.py" in logged
    assert "credential" not in logged


async def test_late_calls_are_cancelled_and_no_others() -> None:
    """One timer serves calls of any deadline, begun in any order; ended ones are let be."""
    calls, cancelled = CallsUnderWay(), []

    async def work(name: str, timeout_s: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        calls.begin(task, timeout_s)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if calls.is_overdue(task):
                cancelled.append(name)
        finally:
            calls.end(task)

    timeouts = {"long": 1000.0, "later": 0.06, "endless": math.inf, "soon": 0.02, "at once": 0.0}
    tasks = {name: asyncio.create_task(work(name, timeout_s)) for name, timeout_s in timeouts.items()}
    await asyncio.gather(tasks["later"], tasks["soon"], tasks["at once"])
    assert cancelled == ["at once", "soon", "later"]
    calls.cancel_all()
    await asyncio.gather(*tasks.values())
    assert cancelled == ["at once", "soon", "later"], "cancelled by a stop, not by a deadline"

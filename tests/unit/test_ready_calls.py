"""Calls made ready: the bytes sent are those of a call laid out anew, whatever it leaves or holds."""

import pytest
from support.counting import START_AT, asking, at_once, prepaid, quota, rate

from tallygate.core.clock import ManualClock
from tallygate.limits.limiter import Acquisition
from tallygate.limits.present import Present
from tallygate.limits.ready import ReadyCall
from tallygate.storage.redis_pipeline import pack_command

DIGEST = b"0123456789" * 4
LIMITS = (rate(257, 257), quota(2**40 + 1), prepaid(10))
KINDS = {
    "plain": asking(*LIMITS),
    "receipt": asking(*LIMITS)._replace(receipt_s=257),
    "given back": asking(*LIMITS)._replace(receipt_s=600, unsettled=(("requests", 0),)),
    "held": asking(*LIMITS, at_once(9)),
    "all": asking(*LIMITS, at_once(9))._replace(receipt_s=600, unsettled=(("requests", 0),)),
}
IDS = ["0f8fad5b-d9cb-469f-a165-70867728950e", "b" * 36, "c" * 32, "1", "2", "é", "\x01", "\x01\x01", "", "x" * 300]


def anew(asked: Acquisition, present: Present, request_id: str | None) -> bytes:
    """Return the call as it is laid out once."""
    keys, arguments = ReadyCall(asked, DIGEST, present).call("acquire", request_id)
    return pack_command((b"EVALSHA", DIGEST, len(keys), *keys, *arguments))


@pytest.mark.parametrize("asked", KINDS.values(), ids=KINDS)
def test_a_ready_call_is_the_call(asked: Acquisition) -> None:
    """Ids of any length and letters stand where they belong, the first time and ever after."""
    present = Present(ManualClock(START_AT))
    ready = ReadyCall(asked, DIGEST, present)
    for request_id in [*IDS, *IDS]:
        assert ready.command("acquire", request_id) == anew(asked, present, request_id)
    if not asked.receipt_s:
        assert ready.command("acquire", None) == anew(asked, present, None)


def test_what_a_period_ended_is_laid_out_anew() -> None:
    """After `renew` the bytes name the present period, in calls with a receipt too."""
    clock = ManualClock(START_AT)
    present = Present(clock)
    asked = KINDS["given back"]
    ready = ReadyCall(asked, DIGEST, present)
    before = ready.command("acquire", IDS[0])
    clock.advance(60)
    assert ready.command("acquire", IDS[0]) == before
    ready.renew()
    assert ready.command("acquire", IDS[0]) == anew(asked, present, IDS[0]) != before


def test_what_is_kept_ready_is_bounded() -> None:
    """A client that varies the length of its ids makes no call larger."""
    ready = ReadyCall(KINDS["plain"], DIGEST, Present(ManualClock(START_AT)))
    for length in range(100):
        ready.command("acquire", "i" * length)
    assert len(ready._pieces) <= 4

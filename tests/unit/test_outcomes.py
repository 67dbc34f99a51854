"""What becomes of a charge once it is known how its request ended."""

from typing import Any

import pytest

from tallygate.decision.outcomes import Entry, Outcome, may_change, truth_of
from tallygate.licenses.routes import ActualSource, MeterPolicy, RouteRule

FAILED = ((500, 599), (429, 429))
METERS = {"tokens": None, "input": "tokens", "output": "tokens", "thinking": "output", "bytes": None}
CHARGED = {"requests": 1, "tokens": 40, "input": 10, "output": 30, "thinking": 5, "bytes": 0}


def rule(*policies: MeterPolicy) -> RouteRule:
    """Return a rule that costs all of `CHARGED` and has these policies."""
    return RouteRule("POST", "/v1/completions", tuple(CHARGED.items()), policies=policies)


def outcome(status: int = 200, **more: Any) -> Outcome:  # noqa: ANN401 - fields of an outcome
    """Return an outcome of a request."""
    return Outcome("cus_1", "r-1", "POST /v1/completions", status, **more)


def truth(told: Outcome, *policies: MeterPolicy) -> tuple[dict[str, int], Entry] | None:
    """Return the units and the reason an outcome comes to, None for nothing."""
    found = truth_of(told, rule(*policies), CHARGED, METERS)
    assert (found is not None) == may_change(told, rule(*policies))
    return None if found is None else (dict(found.units), found.entry)


REQUESTS = MeterPolicy("requests", refund_on=FAILED)
OUTPUT = MeterPolicy("output", actual=ActualSource.HEADER, field_name="x-units")


@pytest.mark.parametrize(
    ("status", "is_refunded"), [(499, False), (500, True), (599, True), (429, True), (200, False), (0, False)]
)
def test_a_status_in_range_gives_the_units_back(status: int, is_refunded: bool) -> None:  # noqa: FBT001
    """Both ends of a range belong to it; no response at all is in none."""
    assert truth(outcome(status), REQUESTS) == (({"requests": 0}, Entry.REFUND) if is_refunded else None)


@pytest.mark.parametrize(
    ("source", "units"), [(ActualSource.BYTES_SENT, 11), (ActualSource.BYTES_RECEIVED, 7), (ActualSource.BYTES, 18)]
)
def test_bytes_are_those_of_the_bodies(source: ActualSource, units: int) -> None:
    """A meter of bytes is charged what was sent, received, or both."""
    told = outcome(bytes_sent=11, bytes_received=7)
    assert truth(told, MeterPolicy("bytes", actual=source)) == ({"bytes": units}, Entry.SETTLEMENT)


def test_a_header_and_a_trailer_say_the_number() -> None:
    """Each meter looks in its own place, and the meters above follow by as much."""
    trailer = MeterPolicy("input", actual=ActualSource.TRAILER, field_name="x-units")
    told = outcome(headers={"x-units": " 100 "}, trailers={"x-units": "3"})
    assert truth(told, OUTPUT, trailer) == ({"output": 100, "input": 3, "tokens": 103}, Entry.SETTLEMENT)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1e3", "3,4", "٣", "9" * 13])
def test_a_header_without_a_number_says_nothing(text: str) -> None:
    """The estimate stands until the receipt's time is over; nothing is guessed."""
    assert truth(outcome(headers={"x-units": text}), OUTPUT) is None
    assert truth(outcome(), OUTPUT) is None


def test_units_follow_all_the_way_up_and_stop_at_what_is_told() -> None:
    """A grandchild moves its parent and grandparent; a parent with a number of its own has that."""
    thinking = MeterPolicy("thinking", actual=ActualSource.TRAILER, field_name="x-units")
    told = outcome(trailers={"x-units": "7"}, headers={"x-units": "50"})
    assert truth(told, thinking) == ({"thinking": 7, "output": 32, "tokens": 42}, Entry.SETTLEMENT)
    assert truth(told, thinking, OUTPUT) == ({"thinking": 7, "output": 50, "tokens": 60}, Entry.SETTLEMENT)


def test_a_failed_request_with_all_given_back_leaves_nothing_above() -> None:
    """Refunds of all children are the refund of their parent."""
    children = [MeterPolicy(meter, refund_on=FAILED) for meter in ("input", "output")]
    assert truth(outcome(503), *children) == ({"input": 0, "output": 0, "tokens": 0}, Entry.REFUND)


def test_a_refund_goes_before_the_actual_number() -> None:
    """A failure that is not to be paid is not paid, whatever it claims to have used."""
    policy = MeterPolicy("output", FAILED, ActualSource.HEADER, "x-units")
    told = outcome(500, headers={"x-units": "9"})
    assert truth(told, policy) == ({"output": 0, "tokens": 10}, Entry.REFUND)


def test_what_a_settled_request_leaves_open_is_unsettled() -> None:
    """The receipt is spent, so the plan's word for what is never told holds at once."""
    unsaid = MeterPolicy("output", actual=ActualSource.HEADER, field_name="x-units", is_refunded_unsettled=True)
    sent = MeterPolicy("bytes", actual=ActualSource.BYTES_SENT)
    assert truth(outcome(bytes_sent=9), unsaid, sent) == ({"bytes": 9, "output": 0, "tokens": 10}, Entry.SETTLEMENT)


def test_an_outcome_confirms_what_silence_would_give_back() -> None:
    """Where requests nobody hears of are free, one that ended well is charged."""
    policy = MeterPolicy("requests", FAILED, is_refunded_unsettled=True)
    assert truth(outcome(200), policy) == ({"requests": 1}, Entry.SETTLEMENT)
    assert truth(outcome(500), policy) == ({"requests": 0}, Entry.REFUND)


def test_what_is_reported_is_left_to_the_report() -> None:
    """An access log settles nothing its upstream is still to tell, unless the request failed."""
    reported = MeterPolicy("output", actual=ActualSource.REPORTED)
    sent = MeterPolicy("bytes", actual=ActualSource.BYTES_SENT)
    assert truth(outcome(bytes_sent=9), reported, sent) is None
    assert truth(outcome(503, bytes_sent=9), reported, sent, REQUESTS) == ({"bytes": 9, "requests": 0}, Entry.REFUND)

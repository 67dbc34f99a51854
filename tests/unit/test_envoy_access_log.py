"""Envoy's access log entries, written by somebody else's code and read by ours."""

from collections.abc import Mapping

import pytest
from support.envoy_oracle import log_entry, log_message

from tallygate.decision.outcomes import Outcome, read_receipt
from tallygate.envoy.access_log import UnreadableLogError, read

NOTED = {"customer": "cus_1", "receipt": "r-1", "route": "GET /v1/things", "reason": "ok"}


def test_an_entry_tells_how_its_request_ended() -> None:
    """Status, bytes of both bodies, logged headers and trailers, and what Tallygate noted."""
    entry = log_entry(NOTED, status=503, body_bytes=(7, 11), headers={"x-units": "5"}, trailers={"x-more": "6"})
    (outcome,) = read(log_message(entry))
    assert outcome == Outcome(
        customer="cus_1",
        receipt="r-1",
        route="GET /v1/things",
        status=503,
        bytes_sent=11,
        bytes_received=7,
        headers={"x-units": "5"},
        trailers={"x-more": "6"},
        duration_s=1.5,
    )


def test_a_request_without_a_response_has_no_status() -> None:
    """A caller who went away got none; nothing is invented."""
    (outcome,) = read(log_message(log_entry(NOTED, status=None)))
    assert outcome is not None
    assert outcome.status == 0


@pytest.mark.parametrize(
    "noted",
    [
        None,
        {},
        {"customer": "cus_1", "reason": "rate_limited"},
        {"receipt": "r-1"},
        {**NOTED, "customer": "cus}:x"},
        {**NOTED, "receipt": "a b"},
    ],
    ids=str,
)
def test_an_entry_without_a_receipt_tells_nothing(noted: Mapping[str, str] | None) -> None:
    """Denied requests, requests of other filters, and ids that no key could be made of."""
    first, second = read(log_message(log_entry(noted), log_entry(NOTED)))
    assert (first, second is None) == (None, False)


@pytest.mark.parametrize(
    ("moment", "is_end"), [("DownstreamStart", False), ("DownstreamPeriodic", False), ("NotSet", True)]
)
def test_only_an_end_is_an_outcome(moment: str, is_end: bool) -> None:  # noqa: FBT001 - the expectation
    """A request that goes on is not settled; an Envoy too old to say tells of ends only."""
    (outcome,) = read(log_message(log_entry(NOTED, moment=moment)))
    assert (outcome is not None) is is_end


def test_strange_bytes_are_refused() -> None:
    """A message that is none ends its stream with an error, before anything is taken from it."""
    with pytest.raises(UnreadableLogError):
        read(b"\xff\xff")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cus_1:r-1", ("cus_1", "r-1")),
        ("cus_1:", None),
        (":r-1", None),
        ("cus_1", None),
        ("cus_1:a:b", None),
        ("cus_1:" + "a" * 129, None),
        ("cus_1:a\n", None),
    ],
)
def test_a_receipt_is_a_customer_and_an_id(text: str, expected: tuple[str, str] | None) -> None:
    """What upstreams send back is read as it was given, or not at all."""
    assert read_receipt(text) == expected

"""`traceparent` is read as W3C's Trace Context has it; whatever is not one says nothing."""

import pytest

from tallygate.traces.parent import Parent, parent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "is_sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"cc-{TRACE}-{SPAN}-01-what-will-be", True),
    ],
)
def test_a_parent_is_read(text: str, is_sampled: bool) -> None:  # noqa: FBT001 - a column of the table
    """Ids, and the flag that says whether the trace is recorded; of later versions what they share with this one."""
    assert parent_of(text) == Parent(int(TRACE, 16), int(SPAN, 16), is_sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01",
        f"0x-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-" + "a" * 1000,
    ],
)
def test_what_is_no_parent_begins_a_trace_of_its_own(text: str) -> None:
    """Version ff, ids of zeros, capitals, a version 00 with more behind it, two headers in one, nonsense."""
    assert parent_of(text) is None

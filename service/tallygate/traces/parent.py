"""Whose part a decision is: the W3C trace context of a request (Trace Context Level 2, §3.2)."""

import re
from typing import NamedTuple

_FORM = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
_LONGEST = 512
_SAMPLED = 1


class Parent(NamedTuple):
    """The span that asked, and whether its trace is recorded."""

    trace_id: int
    span_id: int
    is_sampled: bool


def parent_of(traceparent: str) -> Parent | None:
    """Read a `traceparent` header, of a later version too; None for anything else."""
    found = _FORM.fullmatch(traceparent) if len(traceparent) <= _LONGEST else None
    if found is None or (found["version"] == "00" and found["rest"]):
        return None
    return Parent(int(found["trace"], 16), int(found["span"], 16), bool(int(found["flags"], 16) & _SAMPLED))

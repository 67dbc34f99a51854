"""Reading what becomes of a meter's units once the outcome of a request is known.

Owns which words go together in one meter. What policies ask of routes, and of each other, is `coherence`.
"""

import re
from collections.abc import Iterable
from enum import StrEnum

from tallygate.licenses.routes import DEFAULT_WITHIN_S, ActualSource, MeterPolicy
from tallygate.plans.fields import Field, Record
from tallygate.plans.notation import read_hold, read_statuses
from tallygate.plans.problems import shown

Ranges = tuple[tuple[int, int], ...]
_Actual = tuple[ActualSource, str]

POLICY_KEYS = ("refund_on", "actual", "within", "unsettled")
MAXIMUM_STATUSES = 100
NAMED_SOURCES = (ActualSource.HEADER, ActualSource.TRAILER)
PLAIN_SOURCES = tuple(source for source in ActualSource if source not in NAMED_SOURCES)
FIELD_NAME = re.compile(r"(?!x-tallygate-)[a-z0-9!#$%&'*+.^_`|~-]{1,128}")
FIELD_NAME_MEND = "a header's name in lower case, at most 128 characters, and none of x-tallygate-"
_ACTUAL_MEND = "write bytes_sent, bytes_received, bytes, reported, {header: NAME} or {trailer: NAME}"


class Unsettled(StrEnum):
    """What becomes of a charge that nobody settles in time."""

    CHARGE = "charge"
    REFUND = "refund"


def read_policy(meter: str, record: Record) -> MeterPolicy | None:
    """Return the policy of `meter`; None for one that has none, or whose policy cannot be read."""
    refund_field, actual_field = record.get("refund_on"), record.get("actual")
    within_field, unsettled_field = record.get("within"), record.get("unsettled")
    ranges = _read_refunds(refund_field) if refund_field else ()
    actual = _read_actual(actual_field) if actual_field else None
    within_s = within_field.read(read_hold) if within_field else None
    unsettled = unsettled_field.choice(Unsettled) if unsettled_field else None
    if refund_field is None and actual_field is None:
        if unsettled_field and unsettled is Unsettled.CHARGE:
            _says_nothing("unsettled", unsettled_field, "refund_on or actual, or write unsettled: refund")
        if within_field and unsettled_field is None:
            _says_nothing("within", within_field, "refund_on, actual or unsettled: refund")
    is_refunded = unsettled is Unsettled.REFUND
    if not ranges and actual is None and not is_refunded:
        return None
    source, name = actual or (None, "")
    return MeterPolicy(meter, ranges, source, name, within_s or DEFAULT_WITHIN_S, is_refunded)


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return ranges in ascending order, those that touch or overlap made one: equal sets are equal values."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def _says_nothing(name: str, field: Field, beside: str) -> None:
    field.wrong(f"{name} says nothing where no outcome changes the charge", f"remove it, or add {beside}")


def _read_refunds(field: Field) -> Ranges:
    items = field.items()
    if len(items) > MAXIMUM_STATUSES:
        field.wrong(f"has {len(items)} members", f"at most {MAXIMUM_STATUSES}: 500-503 and 5xx say several at once")
    return merged(found for item in items[:MAXIMUM_STATUSES] if (found := item.read(read_statuses)) is not None)


def _read_actual(field: Field) -> _Actual | None:
    if field.kind == "map":
        return _read_named(field)
    text = field.text()
    if text is None:
        return None
    if text in PLAIN_SOURCES:
        return ActualSource(text), ""
    field.wrong(f"{shown(text)} is not known", _ACTUAL_MEND)
    return None


def _read_named(field: Field) -> _Actual | None:
    named = field.record(NAMED_SOURCES).fields
    if len(named) != 1:
        field.wrong("names both a header and a trailer" if named else "names no header or trailer", _ACTUAL_MEND)
        return None
    ((source, name_field),) = named.items()
    name = name_field.matching(FIELD_NAME, FIELD_NAME_MEND)
    return None if name is None else (ActualSource(source), name)

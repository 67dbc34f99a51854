"""An entry of usage: units of a meter, whose they are, and how they came to be counted.

Owns the value, and how it is read from a field of a bucket (`limits.keys.usage_field` writes them). Refuses what the
ledger could not store, so that one bad field never keeps back others. Pure.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from tallygate.limits import keys
from tallygate.limits.limit import EXACT_INTEGER

CORRECTION = "correction"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)
_ENTRIES = {keys.COUNTED: "counted"} | {
    name: name for name in (keys.REFUND, keys.SETTLEMENT, keys.REPORT, keys.DEGRADED)
}
_OUTCOMES = frozenset({keys.ALLOWED, keys.OVERAGE})
_PARTS = 8
_LONGEST_BYTES = 2000
"""Postgres refuses an index row that is much longer; ids and names of ours come to half of that at most."""
_DIGITS = 12
FIRST_MINUTE, LAST_MINUTE = 15_778_080, 525_949_920
"""The years 2000 to 2969: what lies beyond is no minute anything was counted in."""


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """`quantity` units of a meter; below 0 where some were given back.

    `plan` is the version they were counted under (`pro@3`), `outcome` is `allowed` or `overage`, `entry` one of
    `counted`, `refund`, `settlement`, `report`, `degraded` and `correction`. They belong to the minute at `minute_at`.
    """

    customer: str
    subscription: str
    family: str
    plan: str
    meter: str
    route: str
    outcome: str
    entry: str
    minute_at: datetime
    quantity: int


def minute_at(minute: int) -> datetime:
    """Return the instant a minute, counted since 1970, begins."""
    return _EPOCH + minute * _MINUTE


def parse_field(customer: str, minute: int, field: bytes, value: bytes) -> UsageEntry:
    """Read a field of the bucket of a minute; raise ValueError for what is not one, or could not be stored."""
    text, quantity = field.decode(), int(value)
    if len(field) > _LONGEST_BYTES or "\0" in text or abs(quantity) >= EXACT_INTEGER:
        raise ValueError("too long, too large, or not text")
    parts = text.split("|", _PARTS - 1)
    if len(parts) < _PARTS:
        raise ValueError(f"{len(parts)} parts, not {_PARTS}")
    subscription, plan, family, meter, outcome, entry, at, route = parts
    if outcome not in _OUTCOMES or entry not in _ENTRIES:
        raise ValueError(f"unknown outcome {outcome!r} or entry {entry!r}")
    began_at = minute_at(_minute(at) if at else minute)
    return UsageEntry(customer, subscription, family, plan, meter, route, outcome, _ENTRIES[entry], began_at, quantity)


def summed(entries: list[UsageEntry]) -> tuple[UsageEntry, ...]:
    """Return entries of which no two differ in their quantity alone, and none is of 0 units."""
    sums: dict[UsageEntry, int] = {}
    for entry in entries:
        name = replace(entry, quantity=0)
        sums[name] = sums.get(name, 0) + entry.quantity
    return tuple(replace(name, quantity=quantity) for name, quantity in sums.items() if quantity)


def _minute(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and FIRST_MINUTE <= int(text) <= LAST_MINUTE):
        raise ValueError(f"{text!r} is no minute")
    return int(text)

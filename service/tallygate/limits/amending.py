"""The reference, continued: what an amendment comes to. `lua/amend.lua` must say the same.

A counter never goes below 0, nor above what can be counted. A quota changes only in the period it was charged in, a
rate only where it is still told in the same window. A rate gets back only what cannot have drained since: so it never
lets through more than if the request had not been. Credits take from grants that are not over, and from the balance.
What is taken is split by the counter as it stands: beyond the amount it is overage. Pure.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from tallygate.limits.amendment import Amendment, AmendOutcome, Change
from tallygate.limits.keys import ALLOWED, EXPIRY_FIELD, NEVER, OVERAGE, Owner, Place, usage_field
from tallygate.limits.limit import EXACT_INTEGER, LimitKind
from tallygate.limits.limiter import IDEMPOTENCY_TTL_S

SETTLED = ""
"""What is remembered under the id of an amendment that was done."""

_LARGEST = EXACT_INTEGER - 1
_MINUTE_US = 60_000_000

Read: TypeAlias = Callable[[Place], str | None]
_Changed: TypeAlias = tuple[dict[Place, str], int]
"""What is written, and how many of the units taken are overage."""


@dataclass(slots=True)
class Amended:
    """What is written: texts by record and field, units by field of the present bucket.

    `is_over`: it is known from now on that this was done, or never will be.
    """

    outcome: AmendOutcome
    is_over: bool = False
    writes: dict[Place, str] = field(default_factory=dict)
    usage: dict[str, int] = field(default_factory=dict)


def settled_until_ms(amendment: Amendment, now_ms: int) -> int:
    """Return until when it is known that an amendment was done; after that it is refused as unknown."""
    return max(amendment.until_us // 1000, now_ms + IDEMPOTENCY_TTL_S * 1000)


def amend(amendment: Amendment, read: Read, now_us: int, known: str | bytes | None) -> Amended:
    """Return what an amendment comes to; `known` is what is kept under its id, None for nothing."""
    if known is not None and not known:
        return Amended(AmendOutcome.REPEATED)
    if known is None and not amendment.is_slab:
        return Amended(AmendOutcome.UNKNOWN)
    if amendment.until_us and now_us >= amendment.until_us:
        return Amended(AmendOutcome.UNKNOWN)
    if known is None and amendment.is_late:
        return Amended(AmendOutcome.UNKNOWN, is_over=True)
    amended = Amended(AmendOutcome.DONE, is_over=True)
    over: dict[str, int] = {}
    for change in amendment.changes if known is not None else ():
        writes, beyond = _CHANGED[change.kind](change, read, now_us)
        amended.writes.update(writes)
        if change.meter:
            over[change.meter] = max(over.get(change.meter, 0), beyond)
    amended.usage = _usage(amendment, over, now_us)
    return amended


def _rate(change: Change, read: Read, now_us: int) -> _Changed:
    place = Place(change.key, change.field)
    stored = read(place)
    if stored is None:
        return {}, 0
    level, at_us, window_us = map(int, stored.split(":"))
    if window_us != change.window_us:
        return {}, 0
    if change.units < 0:
        back = max(0, -change.units * window_us - change.amount * abs(now_us - change.was_us))
        return {place: f"{max(0, level - back)}:{at_us}:{window_us}"}, 0
    level = max(0, level - change.amount * abs(now_us - at_us))
    full = max(level, min(level + change.units * window_us, change.most * window_us))
    return {place: f"{full}:{now_us}:{window_us}"}, 0


def _quota(change: Change, read: Read, now_us: int) -> _Changed:
    place = Place(change.key, change.field)
    stored = read(place)
    if stored is None:
        return {}, change.over
    used, end_us = map(int, stored.split(":"))
    if not now_us < change.end_us <= end_us:
        return {}, change.over
    left = min(max(0, used + change.units), _LARGEST)
    return {place: f"{left}:{end_us}"}, _beyond(change.units, change.amount - used)


def _credits(change: Change, read: Read, now_us: int) -> _Changed:
    own = Place(change.key, change.field)
    if change.units < 0:
        backs = ((own, change.own), *((Place(grant.key, grant.field), grant.back) for grant in change.grants))
        stored = ((place, read(place), back) for place, back in backs if back)
        return {place: f"{max(0, int(used) - back)}" for place, used, back in stored if used is not None}, 0
    writes: dict[Place, str] = {}
    rest = change.units
    for grant in change.grants:
        place = Place(grant.key, grant.field)
        used = int(read(place) or 0)
        part = min(rest, max(0, grant.amount - used)) if now_us < grant.until_us else 0
        _spend(writes, place, used, part)
        rest -= part
    used = int(read(own) or 0)
    _spend(writes, own, used, rest)
    return writes, _beyond(rest, change.amount - used)


def _spend(writes: dict[Place, str], place: Place, used: int, units: int) -> None:
    if units:
        writes[place] = f"{min(used + units, _LARGEST)}"
        # What was spent is known for ever, also where nothing was counted before.
        writes[Place(place.key, EXPIRY_FIELD)] = NEVER


def _beyond(units: int, room: int) -> int:
    """Return how many of the units that are taken find no room."""
    return min(max(0, units), max(0, units - room))


def _nothing(_change: Change, _read: Read, _now_us: int) -> _Changed:
    """Concurrency ends by itself."""
    return {}, 0


_CHANGED: dict[LimitKind, Callable[[Change, Read, int], _Changed]] = {
    LimitKind.RATE: _rate,
    LimitKind.QUOTA: _quota,
    LimitKind.CREDITS: _credits,
    LimitKind.CONCURRENCY: _nothing,
}


def _usage(amendment: Amendment, over: dict[str, int], now_us: int) -> dict[str, int]:
    owner = Owner(amendment.subscription, amendment.plan, amendment.family)
    at = "" if now_us // _MINUTE_US == amendment.minute else amendment.minute
    usage: dict[str, int] = {}
    for meter, allowed, overage in amendment.usage:
        beyond = min(over.get(meter, 0), max(allowed, 0))
        for outcome, units in ((ALLOWED, allowed - beyond), (OVERAGE, overage + beyond)):
            if units:
                usage[usage_field(owner, meter, outcome, amendment.route, entry=amendment.entry, at=at)] = units
    return usage

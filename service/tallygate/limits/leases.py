"""What a lease is: requests of a kind paid for ahead of need, and what is said when they are over.

Owns the terms on which slabs are taken (`docs/decisions/0012-leases.md` says why these hold) and the reference of
how one is settled, `lua/settle.lua` must say the same. Does not own who holds slabs (`leased`). Pure.

How it counts: a slab of n requests is an acquisition of n times each charge, under an id of its own. Settling it
gives back what was not spent and counts the usage of what was. It is done once: what is remembered under the id
becomes `SETTLED`, and whoever comes later, be it the grant itself, finds that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from tallygate.limits.algorithms import period_us
from tallygate.limits.keys import ALLOWED, Place, places, usage_field
from tallygate.limits.limit import Limit, LimitKind, OnExceed
from tallygate.limits.limiter import Acquisition, Charge, Limiter

RATE_LEASE_US = 200_000
"""Units of a leased rate are spent at most so long after they were charged."""

SMALLEST = 8
"""Requests: fewer cost more to take and to settle than to ask for."""

LARGEST = 2**14
SETTLED = ""
_LEAST_BURST = 20
_SHARE, _SHARE_OF_RATE = 100, 10


class Back(NamedTuple):
    """Units that go back to a quota, in the period that ends at `end_us`, or to credits, whatever the time."""

    place: Place
    kind: LimitKind
    units: int
    end_us: int


class Settlement(NamedTuple):
    """The end of the slab taken under the id `lease`: `usage` are units by field of the bucket of `minute`."""

    customer: str
    lease: str
    backs: tuple[Back, ...]
    minute: int
    usage: tuple[tuple[str, int], ...]


class LeaseStore(Limiter, Protocol):
    """Counters that slabs can be taken from."""

    async def settle(self, settlement: Settlement) -> bool:
        """Settle a slab, once; return False when it was before.

        A slab that the store does not know, for it was never granted or is forgotten, gives nothing back, and will
        not be granted any more. Raises LimiterUnavailableError when the store does not answer in time.
        """
        ...


@dataclass(slots=True)
class Settled:
    """What settling writes: texts by record and field, units by field of the bucket; `is_new` unless it was before."""

    is_new: bool
    writes: dict[Place, str] = field(default_factory=dict)
    usage: dict[str, int] = field(default_factory=dict)


def settle(settlement: Settlement, read: Callable[[Place], str | None], now_us: int, known: str | None) -> Settled:
    """Return what settling comes to; `known` is what is remembered under the slab's id."""
    if known == SETTLED:
        return Settled(is_new=False)
    settled = Settled(is_new=True, usage=dict(settlement.usage))
    for back in settlement.backs if known is not None else ():
        text = _less(back, read(back.place), now_us)
        if text is not None:
            settled.writes[back.place] = text
    return settled


def _less(back: Back, stored: str | None, now_us: int) -> str | None:
    """Return the counter without the units; None where they are not in it any more."""
    if stored is None:
        return None
    used, _, end_us = stored.partition(":")
    if end_us and not now_us < back.end_us <= int(end_us):
        return None
    return f"{max(0, int(used) - back.units)}" + (f":{end_us}" if end_us else "")


def leased_burst(amount: int, window_us: int, burst: int) -> int | None:
    """Return the burst with which a leased rate is counted; None when it is too small to be leased.

    What is charged is spent up to `RATE_LEASE_US` later, so what the rate lets through in that time is kept back:
    then no window holds more than `burst` and what the rate lets through in it.
    """
    counted = burst + -amount * RATE_LEASE_US // window_us
    return counted if counted >= _LEAST_BURST and 2 * counted >= burst else None


def may_lease(acquisition: Acquisition) -> bool:
    """Say whether requests of this kind can be paid for ahead: every limit says so, and one costs something."""
    charges = acquisition.charges
    return all(_may_lease(charge.limit) for charge in charges) and any(charge.cost for charge in charges)


def slab_size(demand: float, charges: Sequence[Charge], remaining: Sequence[int], workers: int) -> int:
    """Return how many requests to take where `demand` are expected; 0 for none. `remaining` units are left of each."""
    most = min(demand, LARGEST)
    for charge, units in zip(charges, remaining, strict=True):
        if charge.cost:
            share = _SHARE_OF_RATE if charge.limit.kind is LimitKind.RATE else _SHARE
            most = min(most, units // (charge.cost * share * workers))
    return 0 if most < SMALLEST else 1 << (int(most).bit_length() - 1)


def slab_request(acquisition: Acquisition, requests: int) -> Acquisition:
    """Return what takes a slab of so many requests: within the amounts, and no usage, for nothing is used yet."""
    charges = tuple(
        Charge(replace(charge.limit, on_exceed=OnExceed.DENY, ceiling=None), charge.cost * requests)
        for charge in acquisition.charges
    )
    return Acquisition(acquisition.subject, charges)


def period_ends(acquisition: Acquisition, at_us: int) -> tuple[int, ...]:
    """Return when the period of each charge that has one is over, 0 for the others; µs since 1970."""
    calendars = (charge.limit.calendar for charge in acquisition.charges)
    return tuple(0 if calendar is None else period_us(calendar, at_us)[1] for calendar in calendars)


def settlement(
    acquisition: Acquisition, lease: str, *, spent: int, unspent: int, ends_us: tuple[int, ...], minute: int
) -> Settlement:
    """Return the end of a slab of which so many requests were spent."""
    where = places(acquisition)
    backs = tuple(
        Back(place[0], charge.limit.kind, charge.cost * unspent, end_us)
        for place, charge, end_us in zip(where, acquisition.charges, ends_us, strict=True)
        if charge.cost and unspent and charge.limit.kind is not LimitKind.RATE
    )
    subject, route = acquisition.subject, acquisition.route
    usage = tuple(
        (f"{usage_field(subject, meter, route)}|{ALLOWED}", units * spent)
        for meter, units in acquisition.usage
        if units and spent
    )
    return Settlement(subject.customer, lease, backs, minute, usage)


def _may_lease(limit: Limit) -> bool:
    if limit.is_shadow or not limit.is_leased or limit.kind is LimitKind.CONCURRENCY:
        return False
    return not limit.buckets  # what is given back would have to go to the bucket it came from

"""What a lease is: requests of a kind paid for ahead of need, and what is said when they are over.

Owns the terms on which slabs are taken (`docs/decisions/0012-leases.md` says why these hold) and what their end is.
Does not own who holds slabs (`leased`), nor how the end is counted (`amending`). Pure.

How it counts: a slab of n requests is an acquisition of n times each charge, under an id of its own. Its end is an
amendment: it gives back what was not spent and counts the usage of what was. It is done once: what is remembered
under the id becomes `SETTLED`, and whoever comes later, be it the grant itself, finds that.
"""

from collections.abc import Sequence
from dataclasses import replace

from tallygate.limits.algorithms import period_us
from tallygate.limits.amendment import Amendment, Change, MeterChange
from tallygate.limits.keys import COUNTED, places
from tallygate.limits.limit import Limit, LimitKind, OnExceed
from tallygate.limits.limiter import Acquisition, Charge

RATE_LEASE_US = 200_000
"""Units of a leased rate are spent at most so long after they were charged."""

SMALLEST = 4
"""Requests: a slab costs two calls, to take and to settle it, so that fewer would save little."""

LARGEST = 2**14

SLAB_KNOWN_S = 86_400
"""A slab is known by its id until it is settled, and so long at most."""

_LEAST_BURST = 20
_SHARE, _SHARE_OF_RATE = 100, 10


def leased_burst(amount: int, window_us: int, burst: int) -> int | None:
    """Return the burst with which a leased rate is counted; None when it is too small to be leased.

    What is charged is spent up to `RATE_LEASE_US` later, so what the rate lets through in that time is kept back:
    then no window holds more than `burst` and what the rate lets through in it.
    """
    counted = burst + -amount * RATE_LEASE_US // window_us
    return counted if counted >= _LEAST_BURST and 2 * counted >= burst else None


def may_lease(acquisition: Acquisition) -> bool:
    """Say whether requests of this kind can be paid for ahead: every limit says so, one costs something, no receipt."""
    charges = acquisition.charges
    return (
        not acquisition.receipt_s
        and all(_may_lease(charge.limit) for charge in charges)
        and any(charge.cost for charge in charges)
    )


def slab_size(demand: float, charges: Sequence[Charge], remaining: Sequence[int], workers: int) -> int:
    """Return how many requests to take where `demand` are expected; 0 for none. `remaining` units are left of each.

    It is a power of two or one and a half: of few sizes each is made ready once.
    """
    most = min(demand, LARGEST)
    for charge, units in zip(charges, remaining, strict=True):
        if charge.cost:
            share = _SHARE_OF_RATE if charge.limit.kind is LimitKind.RATE else _SHARE
            most = min(most, units // (charge.cost * share * workers))
    if most < SMALLEST:
        return 0
    power = 1 << (int(most).bit_length() - 1)
    return power + power // 2 if most >= power + power // 2 else power


def slab_request(acquisition: Acquisition, requests: int) -> Acquisition:
    """Return what takes a slab of so many requests: within the amounts, and no usage, for nothing is used yet."""
    charges = tuple(
        Charge(replace(charge.limit, on_exceed=OnExceed.DENY, ceiling=None), charge.cost * requests)
        for charge in acquisition.charges
    )
    return Acquisition(acquisition.subject, charges, known_s=SLAB_KNOWN_S)


def period_ends(acquisition: Acquisition, at_us: int) -> tuple[int, ...]:
    """Return when the period of each charge that has one is over, 0 for the others; µs since 1970."""
    calendars = (charge.limit.calendar for charge in acquisition.charges)
    return tuple(0 if calendar is None else period_us(calendar, at_us)[1] for calendar in calendars)


def lease_terms(acquisition: Acquisition, lease: str, *, ends_us: tuple[int, ...], minute: int) -> Amendment:
    """Return what each request of a slab taken under the id `lease` gives back if unspent, and its usage if spent."""
    changes = tuple(
        Change(charge.limit.kind, *place[0], -charge.cost, end_us=end_us, own=charge.cost)
        for place, charge, end_us in zip(places(acquisition), acquisition.charges, ends_us, strict=True)
        if charge.cost and charge.limit.kind is not LimitKind.RATE
    )
    subject = acquisition.subject
    return Amendment(
        customer=subject.customer,
        id=lease,
        subscription=subject.subscription,
        plan=acquisition.plan,
        family=subject.family,
        route=acquisition.route,
        entry=COUNTED,
        minute=minute,
        changes=changes,
        usage=tuple(MeterChange(meter, units, 0) for meter, units in acquisition.usage if units),
        is_slab=True,
    )


def settlement(terms: Amendment, *, spent: int, unspent: int, is_late: bool = False) -> Amendment:
    """Return the end of a slab on these terms, of which so many requests were spent."""
    changes = (
        change._replace(units=change.units * unspent, own=change.own * unspent) for change in terms.changes if unspent
    )
    usage = (each._replace(allowed=each.allowed * spent) for each in terms.usage if spent)
    return replace(terms, changes=tuple(changes), usage=tuple(usage), is_late=is_late)


def _may_lease(limit: Limit) -> bool:
    if limit.is_shadow or not limit.is_leased or limit.kind is LimitKind.CONCURRENCY:
        return False
    return not limit.buckets  # what is given back would have to go to the bucket it came from

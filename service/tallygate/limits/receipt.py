"""A receipt: what one request was charged, so that it can be put right once the truth is known.

Owns the value, how it is read from the bytes the counters keep, and the amendment that makes the charge what it should
have been. Does not own how it is written (`receipt_form`) nor policies (`licenses/routes`). Pure.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tallygate.limits.amendment import Amendment, Change, Granted, MeterChange
from tallygate.limits.limit import EXACT_INTEGER, LimitKind

_SECOND_US, _MINUTE_US = 1_000_000, 60_000_000


class Grant(NamedTuple):
    """A grant of credits that could be spent when the request came, and the units it gave."""

    key: str
    field: str
    amount: int
    until_us: int
    units: int


class Taken(NamedTuple):
    """What one limit was charged: `units` of its meter, `over` of them beyond its amount.

    Terms are those at that time. A limit in shadow may not have had room: then it `is_counted` not. `end_us` is the end
    of a quota's period; `own` the units that credits took from the balance itself.
    """

    meter: str
    kind: LimitKind
    key: str
    field: str
    is_shadow: bool
    units: int
    amount: int
    most: int
    window_us: int
    is_counted: bool
    over: int
    end_us: int
    own: int
    grants: tuple[Grant, ...]


class MeterUnits(NamedTuple):
    """The units of a meter that were counted as usage, `over` of them as overage."""

    meter: str
    units: int
    over: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a request was charged at `at_us` by Redis's time; it can be amended until `until_us`.

    `unsettled` has what meters come to when nobody amends it; a receipt without them stands as it is. Concurrency is
    not on it: that ends by itself.
    """

    customer: str
    id: str
    subscription: str
    plan: str
    family: str
    route: str
    at_us: int
    until_us: int
    charges: tuple[Taken, ...]
    usage: tuple[MeterUnits, ...]
    unsettled: tuple[tuple[str, int], ...] = ()

    @property
    def charged(self) -> dict[str, int]:
        """Return the units of each meter."""
        return {meter: units for meter, units, _ in self.usage}

    @classmethod
    def parse(cls, customer: str, receipt_id: str, text: bytes) -> "Receipt":
        """Return what `receipt_form` and the script wrote; raise ValueError for anything else."""
        head, _, packed = text.partition(b"\0")
        try:
            said: dict[str, Any] = json.loads(head)
            numbers = (int(number) for (number,) in struct.iter_unpack("<d", packed))
            at_us = next(numbers)
            subscription, plan, family, route = said["o"]
            return cls(
                customer=customer,
                id=receipt_id,
                subscription=subscription,
                plan=plan,
                family=family,
                route=route,
                at_us=at_us,
                until_us=at_us + said["s"] * _SECOND_US,
                charges=tuple(_taken(said["k"], *charge, numbers) for charge in said["c"]),
                usage=tuple(MeterUnits(meter, units, next(numbers)) for meter, units in said["u"]),
                unsettled=tuple((meter, units) for meter, units in said["x"]),
            )
        except (ValueError, KeyError, TypeError, StopIteration, struct.error) as error:
            raise ValueError(f"the receipt {receipt_id} is not readable") from error


def amendment(receipt: Receipt, actual: Mapping[str, int], entry: str) -> Amendment:
    """Return what makes the charge of each meter in `actual` that number of units; 0 gives all of it back.

    `entry` is the usage's: `refund`, `settlement`. Meters above these are the caller's business, with their own totals.
    Raises ValueError for a meter that is not on the receipt, and for units that cannot be counted exactly.
    """
    return _amendment(receipt, actual, entry, receipt.until_us)


def expiry(receipt: Receipt) -> Amendment:
    """Return what gives back a receipt whose time is over: each of `unsettled` becomes what it says."""
    return _amendment(receipt, dict(receipt.unsettled), "refund", 0)


def _amendment(receipt: Receipt, actual: Mapping[str, int], entry: str, until_us: int) -> Amendment:
    charged = receipt.charged
    for meter, units in actual.items():
        if meter not in charged:
            raise ValueError(f"the receipt has no {meter}: it has {', '.join(charged) or 'no meters'}")
        if not 0 <= units < EXACT_INTEGER:
            raise ValueError(f"{meter}: units are whole, at least 0 and below 2**53")
    more = {meter: units - charged[meter] for meter, units in actual.items() if units != charged[meter]}
    return Amendment(
        customer=receipt.customer,
        id=receipt.id,
        subscription=receipt.subscription,
        plan=receipt.plan,
        family=receipt.family,
        route=receipt.route,
        entry=entry,
        minute=receipt.at_us // _MINUTE_US,
        changes=tuple(
            _change(taken, more[taken.meter], receipt.at_us)
            for taken in receipt.charges
            if taken.is_counted and taken.meter in more
        ),
        usage=tuple(_usage(each, more[each.meter]) for each in receipt.usage if each.meter in more),
        until_us=until_us,
        is_due=bool(receipt.unsettled),
    )


def _usage(counted: MeterUnits, more: int) -> MeterChange:
    """Return the difference: overage is given back first."""
    overage = max(more, -counted.over) if more < 0 else 0
    return MeterChange(counted.meter, more - overage, overage)


def _change(taken: Taken, more: int, at_us: int) -> Change:
    # A limit may have been charged other units than the meter counted; it gives back no more than those.
    more = max(more, -taken.units)
    own, grants = _back(taken, -more if more < 0 else 0)
    return Change(
        kind=taken.kind,
        key=taken.key,
        field=taken.field,
        units=more,
        meter="" if taken.is_shadow else taken.meter,
        amount=taken.amount,
        # What goes on from overage is overage.
        over=more if more > 0 and taken.over > 0 else 0,
        end_us=taken.end_us,
        most=taken.most,
        window_us=taken.window_us,
        was_us=at_us,
        own=own,
        grants=grants,
    )


def _back(taken: Taken, units: int) -> tuple[int, tuple[Granted, ...]]:
    """Return what goes back to the balance itself, which was spent last, and then to each grant, the last first."""
    own = min(units, taken.own)
    units -= own
    grants: list[Granted] = []
    for grant in reversed(taken.grants):
        back = min(units, grant.units)
        units -= back
        grants.insert(0, Granted(grant.key, grant.field, grant.amount, grant.until_us, back))
    return own, tuple(grants)


def _taken(keys: list[str], *rest: Any) -> Taken:  # noqa: ANN401 - one charge of the text, and the numbers to come
    meter, kind, key, field, is_shadow, units, amount, most, window_us, grants, numbers = rest
    is_counted, over, end_us, own = (next(numbers) for _ in range(4))
    return Taken(
        meter,
        LimitKind(kind),
        keys[key],
        field,
        bool(is_shadow),
        units,
        amount,
        most,
        window_us,
        bool(is_counted),
        over,
        end_us,
        own,
        tuple(_grants(keys, grants, numbers)),
    )


def _grants(keys: list[str], grants: list[Any], numbers: Iterator[int]) -> Iterator[Grant]:
    for key, field, amount, until_us in grants:
        yield Grant(keys[key], field, amount, until_us, next(numbers))

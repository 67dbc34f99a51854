"""Reading what a limit allows: one of rate, quota, credits and concurrency, with the words that belong to it.

Owns which amounts can be counted exactly. An amount that cannot be read is noted, and None.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tallygate.limits.limit import EXACT_INTEGER, CountedPer, LimitKind
from tallygate.plans.document import QuotaPeriod, Refill
from tallygate.plans.fields import Field, Record
from tallygate.plans.notation import read_hold, read_rate

KINDS = tuple(kind.value for kind in LimitKind)
BELONGS_TO = {
    "burst": LimitKind.RATE,
    "period": LimitKind.QUOTA,
    "refill": LimitKind.CREDITS,
    "hold": LimitKind.CONCURRENCY,
}
REFILLED_EVERY = (QuotaPeriod.DAY, QuotaPeriod.WEEK, QuotaPeriod.MONTH, QuotaPeriod.YEAR, QuotaPeriod.BILLING)
DEFAULT_HOLD_S = 60
_NOT_SHARED = (
    "each of a customer's subscriptions has a billing period of its own",
    "write per: subscription, or a calendar period such as month",
)
_KINDS_MEND = "write one of rate: 50/s, quota: 1000 with a period, credits: 1000, or concurrency: 10"


@dataclass(frozen=True, slots=True)
class Amount:
    """What a limit allows, and after what it allows it again; the fields are those of `PlanLimit`."""

    units: int
    window_us: int = 0
    burst: int = 0
    period: QuotaPeriod | None = None
    refill: Refill | None = None
    hold_s: int = 0


def read_kind(record: Record) -> LimitKind | None:
    """Return the one kind that is written, after noting words that belong to another."""
    kinds = [kind for kind in LimitKind if record.get(kind)]
    if not kinds:
        record.field.wrong("has no amount", _KINDS_MEND)
    elif len(kinds) > 1:
        record.field.wrong("has " + " and ".join(kinds), "make each a limit of its own")
    if len(kinds) != 1:
        return None
    for name, owner in BELONGS_TO.items():
        misplaced = record.get(name)
        if misplaced and owner is not kinds[0]:
            misplaced.wrong(f"{name} belongs to {owner.value}, not to {kinds[0].value}", "remove it")
    return kinds[0]


def read_amount(record: Record, kind: LimitKind) -> Amount | None:
    """Return the amount of a limit of this kind."""
    return _READERS[kind](record, record.fields[kind])


def _rate(record: Record, field: Field) -> Amount | None:
    rate = field.read(read_rate)
    if rate is None:
        return None
    units, window_us = rate
    if not 1 <= units < EXACT_INTEGER:
        field.wrong(f"a rate of {units} is out of bounds", f"from 1 to {EXACT_INTEGER - 1}; quota: 0 grants none of it")
        return None
    burst = _burst(record, units, window_us)
    return None if burst is None else Amount(units, window_us=window_us, burst=burst)


def _burst(record: Record, units: int, window_us: int) -> int | None:
    """Return what may pass at once: the amount of the rate, unless it is written."""
    field = record.get("burst")
    burst = field.whole(1, EXACT_INTEGER) if field else units
    most = (EXACT_INTEGER - 1) // window_us
    if burst is None or burst <= most:
        return burst
    mend = f"write a burst of at most {most}, or quota: {units} with a period"
    (field or record.fields[LimitKind.RATE]).wrong(f"a burst of {burst} in this window cannot be counted exactly", mend)
    return None


def _quota(record: Record, field: Field) -> Amount | None:
    units = field.whole(0, EXACT_INTEGER)
    period_field = record.need("period", "write period: " + ", ".join(QuotaPeriod))
    period = _period(record, period_field, QuotaPeriod) if period_field else None
    return None if units is None or period is None else Amount(units, period=period)


def _credits(record: Record, field: Field) -> Amount | None:
    units = field.whole(0, EXACT_INTEGER)
    refill_field = record.get("refill")
    refill = _refill(record, refill_field) if refill_field else None
    return None if units is None else Amount(units, refill=refill)


def _refill(limit: Record, field: Field) -> Refill | None:
    record = field.record(("amount", "every"))
    amount_field = record.need("amount", "write amount: 1000")
    every_field = record.need("every", "write every: " + ", ".join(REFILLED_EVERY))
    amount = amount_field.whole(1, EXACT_INTEGER) if amount_field else None
    every = _period(limit, every_field, REFILLED_EVERY) if every_field else None
    return None if amount is None or every is None else Refill(amount, every)


def _period(limit: Record, field: Field, choices: Iterable[QuotaPeriod]) -> QuotaPeriod | None:
    """Return the period, after noting a billing period that all of a customer's subscriptions would share."""
    period, per = field.choice(choices), limit.get("per")
    if period is QuotaPeriod.BILLING and per and per.node.value == CountedPer.CUSTOMER.value:
        field.wrong(*_NOT_SHARED)
    return period


def _concurrency(record: Record, field: Field) -> Amount | None:
    units = field.whole(1, EXACT_INTEGER)
    hold_field = record.get("hold")
    hold_s = hold_field.read(read_hold) if hold_field else DEFAULT_HOLD_S
    return None if units is None or hold_s is None else Amount(units, hold_s=hold_s)


_READERS = {
    LimitKind.RATE: _rate,
    LimitKind.QUOTA: _quota,
    LimitKind.CREDITS: _credits,
    LimitKind.CONCURRENCY: _concurrency,
}

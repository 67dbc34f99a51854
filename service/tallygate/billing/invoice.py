"""An invoice: the price of a billing period and the usage in it, as lines that add up.

Owns the lines and their rounding: a line is rounded to its currency's smallest coin (a half to the even one), the
steps it is made of are not, and the total is the sum of the lines. Units are priced by the plan version they were
counted on, as the ledger has it; so the same ledger gives the same bill, whatever was changed since. What is in no line
is told beside them (`unbilled`): no unit is lost. Pure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from math import ceil

from tallygate.billing.home import REACH
from tallygate.billing.period import BillingPeriod
from tallygate.billing.rating import Step, rate
from tallygate.billing.share import Share, has_billed_trial, shares
from tallygate.billing.unbilled import Unbilled, unbilled
from tallygate.billing.usage import BilledUsage, LedgerState, Outcome, UsageTrace, units_of
from tallygate.core.money import EXACT, rounded
from tallygate.limits.limit import LONGEST_HOLD_S
from tallygate.plans.charge import Charge
from tallygate.plans.document import Plan

SETTLED_AFTER = REACH + timedelta(seconds=LONGEST_HOLD_S) + timedelta(hours=1)
"""How long after its end a period still gets units as a matter of course.

Units on a plan that was left count for as long as REACH, and the outcome of the last of them is awaited for up to a day
more (`within`); in the hour after that the worker gives back what nobody settled.
"""


class LineKind(StrEnum):
    """What a line is for: the price of the plan, every unit of a meter, or its units beyond the limits."""

    FEE = "fee"
    USAGE = "usage"
    OVERAGE = "overage"


_OUTCOMES = {LineKind.USAGE: tuple(Outcome), LineKind.OVERAGE: (Outcome.OVERAGE,)}


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what was sold on which plan version, and what it comes to.

    `steps` add up to the amount as it was before it was rounded; `usage` is where the `quantity` comes from.
    """

    kind: LineKind
    description: str
    plan: str
    meter: str | None
    quantity: int
    amount: Decimal
    currency: str
    from_at: datetime
    to_at: datetime
    steps: tuple[Step, ...]
    usage: tuple[UsageTrace, ...] = ()


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose bill it is."""

    customer: str
    subscription: str
    environment: str


@dataclass(frozen=True, slots=True)
class Invoice:
    """What a subscription's billing period comes to, as far as the ledger goes; `total` is the sum of the lines.

    Each unit of the period is in `lines` or in `unbilled`. `currency` is null for a plan without a price, which has no
    lines. `is_complete`: the ledger has all until `complete_at`, so its outcomes too. `changed_at` is when the newest
    row was recorded, null where there is none; from `complete_at` on it is a change after the bill was complete.
    """

    customer: str
    subscription: str
    environment: str
    from_at: datetime
    to_at: datetime
    complete_at: datetime
    is_complete: bool
    changed_at: datetime | None
    ledger: LedgerState
    currency: str | None
    total: Decimal
    lines: tuple[Line, ...]
    unbilled: tuple[Unbilled, ...]


def invoice(payer: Payer, plans: Mapping[str, Plan], usage: BilledUsage) -> Invoice:
    """Return the invoice of a period; `plans` holds all versions of the life, and those of the usage that there are."""
    period, ledger = usage.period, usage.ledger
    found = shares(period, usage.life, plans, usage.plans)
    lines = tuple(line for share in found for line in (*_fee(share, period), *_charged(share, usage)))
    currency = period.billed.currency
    total = Decimal(0) if currency is None else rounded(Decimal(0), currency)
    for line in lines:
        total = EXACT.add(total, line.amount)
    complete_at = period.to_at + SETTLED_AFTER
    return Invoice(
        customer=payer.customer,
        subscription=payer.subscription,
        environment=payer.environment,
        from_at=period.from_at,
        to_at=period.to_at,
        complete_at=complete_at,
        is_complete=ledger.moved_to is not None and ledger.moved_to >= complete_at,
        changed_at=usage.changed_at,
        ledger=ledger,
        currency=currency,
        total=total,
        lines=lines,
        unbilled=tuple(unbilled(plans, usage)),
    )


def _fee(share: Share, period: BillingPeriod) -> Iterator[Line]:
    money, every = share.price.money, share.price.every.value
    amount = rounded(Fraction(money.amount) * share.due, money.currency)
    if not share.due or not money.amount:
        return
    part = "" if share.due == 1 else f", {share.days} of {period.days} days"
    step = Step(f"{money.amount} {money.currency} a {every}{part}", 1, amount, amount)
    yield Line(
        kind=LineKind.FEE,
        description=f"{share.plan.name}, a {every}{part}",
        plan=share.ref,
        meter=None,
        quantity=1,
        amount=amount,
        currency=money.currency,
        from_at=share.from_at,
        to_at=share.to_at,
        steps=(step,),
    )


def _charged(share: Share, usage: BilledUsage) -> Iterator[Line]:
    """Return a line for each charge that units were used of, or that has a minimum."""
    for kind, charges in ((LineKind.USAGE, share.plan.charges), (LineKind.OVERAGE, share.plan.overage)):
        for meter, charge in charges.items():
            line = _line(share, kind, meter, charge, usage)
            if line.usage or line.amount:
                yield line


def _line(share: Share, kind: LineKind, meter: str, charge: Charge, usage: BilledUsage) -> Line:
    meters = {meter} if charge.events is None else {meter, charge.events}
    trials = (True, False) if has_billed_trial(share.plan) else (False,)
    traces = usage.traces(share.ref, meters, _OUTCOMES[kind], trials)
    quantity = units_of(traces, meter)
    events = 0 if charge.events is None else units_of(traces, charge.events)
    currency = share.price.money.currency
    rated = rate(_shared(charge, share, currency), quantity, events)
    return Line(
        kind=kind,
        description=f"{share.plan.name}, {meter}" + (" beyond the limits" if kind is LineKind.OVERAGE else ""),
        plan=share.ref,
        meter=meter,
        quantity=quantity,
        amount=rounded(rated.amount, currency),
        currency=currency,
        from_at=share.from_at,
        to_at=share.to_at,
        steps=rated.steps,
        usage=traces,
    )


def _shared(charge: Charge, share: Share, currency: str) -> Charge:
    """Return a charge with what is its share of what it includes, of its minimum and of its maximum."""
    minimum = rounded(Fraction(charge.minimum) * share.due, currency)
    maximum = charge.maximum
    if maximum is not None and share.covered != 1:
        maximum = rounded(Fraction(maximum) * share.covered, currency)
    return replace(charge, included=ceil(charge.included * share.covered), minimum=minimum, maximum=maximum)

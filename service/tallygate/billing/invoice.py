"""An invoice: the price of a billing period and the usage in it, as lines that add up.

Owns the lines and their rounding: a line is rounded to its currency's smallest coin (a half to the even one), the
steps it is made of are not, and the total is the sum of the lines. Units are priced by the plan version they were
counted on, as the ledger has it; so the same ledger gives the same bill, whatever was changed since. Pure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from math import ceil

from tallygate.billing.life import Stretch
from tallygate.billing.period import BillingPeriod
from tallygate.billing.rating import Step, rate
from tallygate.billing.share import Share, has_billed_trial, shares
from tallygate.billing.usage import BilledUsage, LedgerState, Outcome, UsageTrace, units_of
from tallygate.core.money import EXACT, rounded
from tallygate.plans.charge import Charge
from tallygate.plans.document import Plan


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

    `is_complete`: the period is over and all of its usage is in the ledger. `currency` is null for a plan without a
    price, which has no lines.
    """

    customer: str
    subscription: str
    environment: str
    from_at: datetime
    to_at: datetime
    is_complete: bool
    ledger: LedgerState
    currency: str | None
    total: Decimal
    lines: tuple[Line, ...]


def invoice(
    payer: Payer,
    period: BillingPeriod,
    life: tuple[Stretch, ...],
    plans: Mapping[str, Plan],
    usage: BilledUsage,
) -> Invoice:
    """Return the invoice of a period; `plans` holds every version of the life and of the usage.

    Usage on a plan in another currency than the period's is left out: it can be there only where a request was
    decided under a plan that was over, by a data plane that had not heard of the change.
    """
    found = shares(period, life, plans, usage.plans)
    lines = tuple(line for share in found for line in (*_fee(share, period), *_charged(share, usage)))
    currency = period.billed.currency
    total = Decimal(0) if currency is None else rounded(Decimal(0), currency)
    for line in lines:
        total = EXACT.add(total, line.amount)
    moved_to = usage.ledger.moved_to
    return Invoice(
        customer=payer.customer,
        subscription=payer.subscription,
        environment=payer.environment,
        from_at=period.from_at,
        to_at=period.to_at,
        is_complete=moved_to is not None and moved_to >= period.to_at,
        ledger=usage.ledger,
        currency=currency,
        total=total,
        lines=lines,
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
    traces = usage.traces(share.ref, meters, _OUTCOMES[kind], has_trial=has_billed_trial(share.plan))
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

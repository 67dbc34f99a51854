"""What all subscriptions come to just now, by plan: how many, what is included and used, and what it costs.

Owns the sums. A bill's usage is priced as an invoice's is, by the same code, so that both are the same amount. Nothing
here names a customer. Pure; for one task.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import TypeAlias, TypeVar

from tallygate.billing.invoice import LineKind, invoice
from tallygate.billing.usage import BilledUsage, LedgerState, Outcome, UsageTotal
from tallygate.core.money import EXACT
from tallygate.core.periods import PeriodUnit
from tallygate.insights.position import OpenBill, Position, Span
from tallygate.plans.document import Plan

_DAYS = Fraction(146_097, 4_800)
"""Of a month, as the calendar has them over 400 years."""
_A_MONTH = {
    PeriodUnit.DAY: _DAYS,
    PeriodUnit.WEEK: _DAYS / 7,
    PeriodUnit.MONTH: Fraction(1),
    PeriodUnit.YEAR: Fraction(1, 12),
}
_UNASKED = LedgerState(None, 0)


@dataclass(frozen=True, slots=True)
class Units:
    """The units of a span that were counted on a plan version."""

    plan: str
    meter: str
    outcome: Outcome
    quantity: int


Used: TypeAlias = Mapping[Span, Sequence[Units]]
_Number = TypeVar("_Number")
Sums: TypeAlias = defaultdict[tuple[str, ...], _Number]


@dataclass(slots=True)
class Revenue:
    """The sums, by plan key and what else is named; money is in the major unit of its currency."""

    subscriptions: Sums[int] = field(default_factory=lambda: defaultdict(int))
    customers: Sums[int] = field(default_factory=lambda: defaultdict(int))
    included: Sums[int] = field(default_factory=lambda: defaultdict(int))
    used: Sums[int] = field(default_factory=lambda: defaultdict(int))
    overage: Sums[Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    recurring: Sums[Fraction] = field(default_factory=lambda: defaultdict(Fraction))

    def add(self, position: Position, used: Used, plans: Mapping[str, Plan]) -> None:
        """Count a subscription; `used` holds its spans, `plans` the versions of its life and those it was used on.

        A customer has one live subscription at a time (the database sees to it), and so is counted once.
        """
        if position.status is not None:
            self.subscriptions[position.plan, position.status.value] += 1
        if position.is_live:
            self.customers[position.plan,] += 1
        if position.price is not None:
            money = position.price.money
            self.recurring[position.plan, money.currency] += Fraction(money.amount) * _A_MONTH[position.price.every]
        for quota in position.quotas:
            key = position.plan, quota.meter
            self.included[key] += quota.units
            self.used[key] += sum(each.quantity for each in used.get(quota.span, ()) if each.meter == quota.meter)
        if position.bill is not None:
            if position.is_live:
                self.overage[position.plan, position.bill.currency] += 0  # told from the start
            for plan, currency, amount in _charged(position.bill, used, plans):
                self.overage[plan, currency] = EXACT.add(self.overage[plan, currency], amount)


def _charged(bill: OpenBill, used: Used, plans: Mapping[str, Plan]) -> Iterator[tuple[str, str, Decimal]]:
    """Return plan key, currency and amount of each line of a bill that is for usage."""
    totals = tuple(
        UsageTotal(each.plan, each.meter, each.outcome, span.from_at, span.from_at, rows=0, quantity=each.quantity)
        for span in bill.spans
        for each in used.get(span, ())
        if each.plan in plans  # the ledger takes any text, and must
    )
    usage = BilledUsage(bill.payer.subscription, bill.period, bill.life, _UNASKED, totals)
    for line in invoice(bill.payer, plans, usage).lines:
        if line.kind is not LineKind.FEE:
            yield plans[line.plan].key, line.currency, line.amount

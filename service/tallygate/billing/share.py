"""Shares: which plan versions a billing period is made of, and how much of each is due.

A prorated price counts by days, and with it what a charge includes, its minimum and its maximum. Of the prices of a
period that are not prorated the dearest is due, once, with the minimums of that version; what others include, and
their maximums, hold whole. No price is due in a trial. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from tallygate.billing.life import Stretch
from tallygate.billing.period import BillingPeriod
from tallygate.plans.document import Plan, Price

_WHOLE, _NONE = Fraction(1), Fraction(0)


@dataclass(frozen=True, slots=True)
class Share:
    """A plan version's part of a period, in which `days` are paid for.

    `due` is the part of its price and of its minimums; `covered` the part of what it includes and of its maximums.
    """

    ref: str
    plan: Plan
    price: Price
    from_at: datetime
    to_at: datetime
    days: int
    due: Fraction
    covered: Fraction


def has_billed_trial(plan: Plan) -> bool:
    """Tell whether what is used in a plan's trial is charged."""
    return plan.trial is not None and plan.trial.is_usage_billed


def shares(
    period: BillingPeriod,
    life: Sequence[Stretch],
    plans: Mapping[str, Plan],
    used: Iterable[str],
) -> tuple[Share, ...]:
    """Return the shares of a period in the order its versions came; those that were only `used` on come last.

    Versions that are billed in another currency, or not in `plans`, have none.
    """
    stretches = period.within(life)
    prices: dict[str, Price] = {}
    for ref in (*(each.plan for each in stretches), *used):
        price = plans[ref].price if ref in plans else None
        if price is not None and price.money.currency == period.billed.currency:
            prices[ref] = price
    paid = {each.plan for each in stretches if not each.is_trial}
    at_once = [ref for ref, price in prices.items() if ref in paid and not price.is_prorated]
    dearest = max(at_once, key=lambda ref: prices[ref].money.amount, default=None)
    found: list[Share] = []
    for ref, price in prices.items():
        own = [each for each in stretches if each.plan == ref]
        days = sum(period.days_of(each) for each in own if not each.is_trial)
        covered = days + sum(period.days_of(each) for each in own if each.is_trial and has_billed_trial(plans[ref]))
        due = _WHOLE if ref == dearest else _NONE
        found.append(
            Share(
                ref=ref,
                plan=plans[ref],
                price=price,
                from_at=min((each.from_at for each in own), default=period.from_at),
                to_at=max((each.to_at for each in own), default=period.to_at),
                days=days,
                due=Fraction(days, period.days) if price.is_prorated else due,
                # A version that lasted for less than a day covers a day's worth.
                covered=Fraction(max(covered, 1), period.days) if price.is_prorated else _WHOLE,
            )
        )
    return tuple(found)

"""Units that are in no line of their invoice: each with the reason, so that every unit of the ledger is accounted for.

Owns the reasons. Most say what the plan says: that this costs nothing. The last two are for a person to look at: units
that were decided on a plan the subscription was not on, and no line could price. Pure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from tallygate.billing.share import has_billed_trial
from tallygate.billing.usage import BilledUsage, Outcome, UsageTrace
from tallygate.plans.charge import Charge
from tallygate.plans.document import Plan


class UnbilledReason(StrEnum):
    """Why units are in no line.

    `no_price`: their plan has none. `trial`: used in a trial in which usage is free, or before it. `no_charge`: the
    plan charges nothing for this meter. `within_limits`: it charges what is beyond the limits only. `other_currency`:
    their plan is billed in another currency than the period, or has one where the period has none, and was not in force
    near. `unknown_plan`: there is no such plan version.
    """

    NO_PRICE = "no_price"
    TRIAL = "trial"
    NO_CHARGE = "no_charge"
    WITHIN_LIMITS = "within_limits"
    OTHER_CURRENCY = "other_currency"
    UNKNOWN_PLAN = "unknown_plan"


@dataclass(frozen=True, slots=True)
class Unbilled:
    """Units that are in no line, and why."""

    reason: UnbilledReason
    usage: UsageTrace


def unbilled(plans: Mapping[str, Plan], usage: BilledUsage) -> Iterator[Unbilled]:
    """Return what is in no line of a period's invoice; `plans` holds the versions that are known."""
    currency = usage.period.billed.currency
    for ref in usage.plans:
        for is_trial in (True, False):
            for trace in usage.traces(ref, trials=(is_trial,)):
                reason = _reason(plans.get(ref), currency, trace, is_trial=is_trial)
                if reason is not None:
                    yield Unbilled(reason, trace)


def _reason(plan: Plan | None, currency: str | None, trace: UsageTrace, *, is_trial: bool) -> UnbilledReason | None:
    if plan is None:
        return UnbilledReason.UNKNOWN_PLAN
    if plan.price is None:
        return UnbilledReason.NO_PRICE
    if plan.price.money.currency != currency:
        return UnbilledReason.OTHER_CURRENCY
    if is_trial and not has_billed_trial(plan):
        return UnbilledReason.TRIAL
    return _not_charged(plan, trace)


def _not_charged(plan: Plan, trace: UsageTrace) -> UnbilledReason | None:
    if trace.meter in _meters(plan.charges):
        return None
    if trace.meter not in _meters(plan.overage):
        return UnbilledReason.NO_CHARGE
    return None if trace.outcome is Outcome.OVERAGE else UnbilledReason.WITHIN_LIMITS


def _meters(charges: Mapping[str, Charge]) -> set[str]:
    """Return the meters of charges, with those that tell how often."""
    return {*charges, *(charge.events for charge in charges.values() if charge.events is not None)}

"""What a plan version grants under a contract: its scopes, features and limits, with the contract's own terms in.

Pure. `compile` decides when a grant is in force.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.licenses.license import Grant
from tallygate.limits.limit import CountedPer, CreditBucket, CreditRefill, Limit, LimitKind, OnExceed
from tallygate.plans.contract import Contract, LimitOverride
from tallygate.plans.document import LimitMode, Plan, PlanLimit, QuotaPeriod
from tallygate.plans.rollout import features_of

_MICROSECOND = timedelta(microseconds=1)


def compile_grant(plan: Plan, ref: str, contract: Contract) -> Grant:
    """Return what version `ref` (`pro@3`) of `plan` grants under `contract`."""
    own = contract.overrides
    return Grant(
        plan=ref,
        plan_key=plan.key,
        scopes=(plan.scopes | own.add_scopes) - own.remove_scopes,
        features=features_of(plan.features, contract.customer) | dict(own.features),
        limits=tuple(_limit(limit, plan, contract) for limit in plan.limits),
        upgrade_url=plan.upgrade_url,
    )


def compile_shadow(grant: Grant) -> Grant:
    """Return `grant` as a shadow: every limit counts in a place of its own and decides nothing."""
    limits = (replace(limit, name=f"{grant.plan}:{limit.name}", is_shadow=True) for limit in grant.limits)
    return replace(grant, limits=tuple(limits))


def reduced(grant: Grant, left_of: Callable[[int], int]) -> Grant:
    """Return `grant` with of every limit's units what `left_of` leaves."""
    limits = (
        replace(
            limit,
            amount=left_of(limit.amount),
            burst=left_of(limit.burst),
            ceiling=None if limit.ceiling is None else left_of(limit.ceiling),
        )
        for limit in grant.limits
    )
    return replace(grant, limits=tuple(limits))


def prorated(before: Grant, old: Grant, after: Grant, changed_at: datetime, at: datetime) -> Grant:
    """Return `after` as it is at `at` when a change at `changed_at` is prorated.

    A quota both plans have counts, until the period that ran at the change is over, each plan's amount for the part
    of the period it was in force, rounded down; so does the ceiling of its overage. `old` is what the plan before
    grants in a whole period, `before` what it granted just then: less or more, where it was prorated itself.
    """
    limits = [_prorated(_quota(before, limit), _quota(old, limit), limit, changed_at, at) for limit in after.limits]
    return replace(after, limits=tuple(limits))


def _quota(grant: Grant, like: Limit) -> Limit | None:
    """Return the quota of `grant` that counts where `like` does."""
    for limit in grant.limits:
        if limit.name == like.name and limit.kind is like.kind is LimitKind.QUOTA:
            is_same = limit.calendar and like.calendar and limit.calendar.unit is like.calendar.unit
            return limit if is_same else None
    return None


def _prorated(before: Limit | None, old: Limit | None, new: Limit, changed_at: datetime, at: datetime) -> Limit:
    if before is None or old is None or new.calendar is None:
        return new
    period = new.calendar.period_at(changed_at)
    if at >= period.end_at:
        return new
    to_come, whole = (period.end_at - changed_at) // _MICROSECOND, (period.end_at - period.start_at) // _MICROSECOND

    def mixed(before_units: int, old_units: int, new_units: int) -> int:
        return max(0, before_units + (new_units - old_units) * to_come // whole)

    amount, ceiling = mixed(before.amount, old.amount, new.amount), new.ceiling
    if ceiling is not None:
        ends = before.admits_up_to, old.admits_up_to
        # An overage that had no end leaves nothing to mix; yet nobody is refused within the amount.
        ceiling = max(amount, ceiling if ends[0] is None or ends[1] is None else mixed(ends[0], ends[1], ceiling))
    return replace(new, amount=amount, ceiling=ceiling)


def _limit(limit: PlanLimit, plan: Plan, contract: Contract) -> Limit:
    own = contract.overrides.limits.get(limit.name, LimitOverride())
    amount = limit.amount if own.amount is None else own.amount
    burst = limit.burst if own.burst is None else own.burst
    ceiling = limit.allow_until.ceiling(amount) if limit.allow_until else None
    on_exceed = own.on_exceed or limit.on_exceed
    return Limit(
        name=limit.name,
        kind=limit.kind,
        amount=amount,
        meter=limit.meter,
        per=limit.per,
        window_us=limit.window_us,
        burst=burst,
        calendar=None if limit.period is None else _calendar(limit.period, limit.per, plan, contract),
        on_exceed=on_exceed,
        ceiling=None if on_exceed is OnExceed.DENY else (ceiling if own.ceiling is None else own.ceiling),
        is_shadow=limit.mode is LimitMode.SHADOW,
        fail=limit.fail,
        hold_s=limit.hold_s,
        refill=_refill(limit, plan, contract),
        buckets=tuple(
            CreditBucket(grant.id, grant.amount, grant.at, grant.expires_at)
            for grant in contract.grants
            if limit.kind is LimitKind.CREDITS and grant.limit == limit.name
        ),
    )


def _refill(limit: PlanLimit, plan: Plan, contract: Contract) -> CreditRefill | None:
    if limit.refill is None:
        return None
    return CreditRefill(
        limit.refill.amount, _calendar(limit.refill.every, limit.per, plan, contract), contract.starts_at
    )


def _calendar(period: QuotaPeriod, per: CountedPer, plan: Plan, contract: Contract) -> Calendar:
    """Return what cuts a limit's time; for what a customer's subscriptions share, a calendar that all of them have."""
    is_billing = period is QuotaPeriod.BILLING
    billed_every = PeriodUnit.MONTH if plan.price is None else plan.price.every
    unit = billed_every if is_billing else PeriodUnit(period.value)
    if per is CountedPer.CUSTOMER:
        # Their zones and anchors differ: by any of those, one subscription would move the other's period.
        return Calendar(unit)
    return Calendar(unit, contract.anchor_at if is_billing else None, contract.timezone)

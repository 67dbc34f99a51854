"""What a plan version grants under a contract: its scopes, features and limits, with the contract's own terms in.

Pure. `compile` decides when a grant is in force.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.licenses.license import Grant, limit_ref
from tallygate.limits.leases import leased_burst
from tallygate.limits.limit import EXACT_INTEGER, CountedPer, CreditBucket, CreditRefill, Limit, LimitKind, OnExceed
from tallygate.plans.contract import Contract, LimitOverride
from tallygate.plans.document import Exactness, LimitMode, Plan, PlanLimit, QuotaPeriod
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
    """Return `grant` as a shadow: every limit counts in a place of its own and decides nothing.

    One that is in shadow there has no part in it: with that version in force it would refuse nobody.
    """
    enforced = (limit for limit in grant.limits if not limit.is_shadow)
    limits = (replace(limit, name=limit_ref(grant.plan, limit.name), is_shadow=True) for limit in enforced)
    return replace(grant, limits=tuple(limits))


def reduced(grant: Grant, left_of: Callable[[int], int]) -> Grant:
    """Return `grant` with of every limit's units what `left_of` leaves; so few of a rate are not worth leasing."""
    limits = (
        replace(
            limit,
            amount=left_of(limit.amount),
            burst=left_of(limit.burst),
            ceiling=None if limit.ceiling is None else left_of(limit.ceiling),
            is_leased=limit.is_leased and limit.kind is not LimitKind.RATE,
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
            return limit if is_same and limit.per is like.per else None
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
    amount, burst, on_exceed = _own_amounts(limit, own)
    is_leased, burst = _leased(limit, amount, burst)
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
        ceiling=None if on_exceed is OnExceed.DENY else _ceiling(limit, own, amount),
        is_shadow=limit.mode is LimitMode.SHADOW,
        fail=limit.fail,
        hold_s=limit.hold_s,
        refill=_refill(limit, plan, contract),
        buckets=tuple(
            CreditBucket(grant.id, grant.amount, grant.at, grant.expires_at)
            for grant in contract.grants
            if limit.kind is LimitKind.CREDITS and grant.limit == limit.name
        ),
        is_leased=is_leased,
    )


def _own_amounts(limit: PlanLimit, own: LimitOverride) -> tuple[int, int, OnExceed]:
    """Return amount, burst and what happens beyond, by the contract's word as far as this limit can be counted so.

    The word may have been given for another plan's limit of this name: a quota of 0, or the burst of a short window.
    """
    amount = limit.amount if own.amount is None else own.amount
    burst = limit.burst if own.burst is None else own.burst
    if limit.kind is LimitKind.RATE:
        return max(amount, 1), min(burst, (EXACT_INTEGER - 1) // limit.window_us), limit.on_exceed
    has_overage = limit.kind in (LimitKind.QUOTA, LimitKind.CREDITS)
    return amount, limit.burst, (own.on_exceed if has_overage else None) or limit.on_exceed


def _leased(limit: PlanLimit, amount: int, burst: int) -> tuple[bool, int]:
    """Return whether the limit can be leased, and the burst it is counted with then."""
    if limit.exactness is Exactness.EXACT or limit.kind is not LimitKind.RATE:
        return limit.exactness is Exactness.LEASED, burst
    counted = leased_burst(amount, limit.window_us, burst)
    return (False, burst) if counted is None else (True, counted)


def _ceiling(limit: PlanLimit, own: LimitOverride, amount: int) -> int | None:
    """Return the hard end of an overage; a contract's larger amount moves one that the plan wrote in units."""
    ceiling = limit.allow_until.ceiling(amount) if limit.allow_until else None
    ceiling = ceiling if own.ceiling is None else own.ceiling
    return None if ceiling is None else min(max(ceiling, amount), EXACT_INTEGER - 1)


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

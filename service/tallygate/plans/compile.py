"""Compiling a contract and its plan versions into the Terms of a license: a pure function, without a "now".

The life of a subscription is cut into phases, one law after another: the plans it is on, the trial at its
beginning, unpaid time, suspension, the end. Each law takes phases and returns phases, so each can be read
and tested by itself; the decision later just looks up the phase its clock is in.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tallygate.licenses.license import FirstUseTrial, Grant, Phase, Standing, Terms
from tallygate.plans.contract import Carry, Contract, PlanChange
from tallygate.plans.document import Plan, Trial, TrialBasis, TrialEnd
from tallygate.plans.grant import compile_grant, compile_shadow, prorated, reduced
from tallygate.plans.refill import with_refills

Phases = list[Phase]

_RUNNING = (Standing.ACTIVE, Standing.TRIALING, Standing.GRACE)
_EVER = datetime.min.replace(tzinfo=UTC)
_DAY_S = 86_400
_AFTER_TRIAL = {
    TrialEnd.CONVERT: Standing.ACTIVE,
    TrialEnd.DOWNGRADE: Standing.ACTIVE,
    TrialEnd.SUSPEND: Standing.SUSPENDED,
    TrialEnd.CANCEL: Standing.CANCELED,
}


def compile_terms(contract: Contract, plans: Mapping[str, Plan]) -> Terms:
    """Return what `contract` comes to; `plans` holds every version `contract.plans` names."""
    grants = {ref: compile_grant(plans[ref], ref, contract) for ref in contract.plans}
    shadows = {ref: compile_shadow(grants[tried]) for ref, tried in contract.shadows.items() if tried in grants}

    def life(beginning: Phases) -> tuple[Phase, ...]:
        phases = _with_changes(beginning, contract, grants)
        phases = _with_payment(phases, contract, plans)
        phases = _with_suspension(phases, contract)
        phases = _with_end(with_refills(phases), contract)
        return (Phase(_EVER, Standing.SCHEDULED, grants[contract.plan]), *_with_shadows(phases, shadows))

    trial, first_use = plans[contract.plan].trial, None
    if trial is not None and trial.basis is TrialBasis.FIRST_USE:
        # Nobody knows here when it will end; from then on, life is as if there had been no trial.
        until_at = min((_takes_force_at(change, contract) for change in contract.changes), default=None)
        first_use = FirstUseTrial(trial.days * _DAY_S, life([_after(trial, contract, grants)]), until_at)
    return Terms(life(_beginning(trial, contract, grants)), first_use)


def standing_by_plans(
    contract: Contract, plans: Mapping[str, Plan], at: datetime, first_used_at: datetime | None
) -> Standing:
    """Return what the plans alone make of `contract` at `at`, or at its start: as if paid, not suspended, without end.

    It tells a trial, and one that ended in suspension or cancellation, from what else a customer's state may hide.
    """
    bare = replace(contract, past_due_at=None, suspended_at=None, ends_at=None, grants=(), shadows={})
    return compile_terms(bare, plans).phase_at(max(at, contract.starts_at), first_used_at).standing


def _beginning(trial: Trial | None, contract: Contract, grants: Mapping[str, Grant]) -> Phases:
    """Begin with the plan, or with its trial and, where its end is known, what follows it."""
    active = Phase(contract.starts_at, Standing.ACTIVE, grants[contract.plan])
    if trial is None:
        return [active]
    trying = replace(active, standing=Standing.TRIALING)
    if trial.basis is TrialBasis.FIRST_USE:
        return [trying]
    over_at = contract.starts_at + timedelta(days=trial.days)
    return [trying, replace(_after(trial, contract, grants), starts_at=over_at)]


def _after(trial: Trial, contract: Contract, grants: Mapping[str, Grant]) -> Phase:
    """Return what follows the trial, as if from the start."""
    to = contract.trial_to if trial.at_end is TrialEnd.DOWNGRADE else None
    return Phase(contract.starts_at, _AFTER_TRIAL[trial.at_end], grants[to or contract.plan])


def _with_changes(phases: Phases, contract: Contract, grants: Mapping[str, Grant]) -> Phases:
    """Each change puts its plan in force from its instant on, whatever the plan before would have become."""
    for change in sorted(contract.changes, key=lambda change: (change.at, change.id)):
        at = _takes_force_at(change, contract)
        before = _at(phases, at)
        counters = change.id if change.carry is Carry.RESET else before.counters
        after = Phase(at, Standing.ACTIVE, grants[change.plan], counters=counters)
        added = [after]
        if change.carry is Carry.PRORATE:
            added = _prorated(before.grant, grants[before.grant.plan], after)
        phases = [phase for phase in phases if phase.starts_at < at] + added
    return phases


def _takes_force_at(change: PlanChange, contract: Contract) -> datetime:
    return max(change.at, contract.starts_at)


def _prorated(before: Grant, old: Grant, after: Phase) -> Phases:
    """Return the phases after a prorated change: each limit has a mixed amount until its own period ends."""
    calendars = {limit.calendar for limit in after.grant.limits if limit.calendar is not None}
    ends = sorted({calendar.period_at(after.starts_at).end_at for calendar in calendars})
    starts = [after.starts_at, *ends]
    return [
        replace(after, starts_at=start, grant=prorated(before, old, after.grant, after.starts_at, start))
        for start in starts
    ]


def _with_payment(phases: Phases, contract: Contract, plans: Mapping[str, Plan]) -> Phases:
    """From a failed payment on the plan's grace runs; after it everything is suspended until it is paid."""
    failed_at = contract.past_due_at
    if failed_at is None:
        return phases
    grace = plans[_at(phases, failed_at).grant.plan].grace
    over_at = failed_at + timedelta(days=grace.days if grace else 0)

    def in_grace(phase: Phase) -> Phase:
        grant = reduced(phase.grant, grace.left_of) if grace is not None and grace.is_reduced else phase.grant
        return replace(phase, standing=Standing.GRACE, grant=grant)

    def unpaid(phase: Phase) -> Phase:
        return replace(phase, standing=Standing.SUSPENDED, is_unpaid=True)

    return _from(_from(phases, failed_at, in_grace), over_at, unpaid)


def _with_suspension(phases: Phases, contract: Contract) -> Phases:
    if contract.suspended_at is None:
        return phases
    return _from(phases, contract.suspended_at, lambda phase: replace(phase, standing=Standing.SUSPENDED))


def _with_end(phases: Phases, contract: Contract) -> Phases:
    """Nothing runs beyond the end, whatever it would have become."""
    if contract.ends_at is None:
        return phases
    last = _at(phases, contract.ends_at)
    end = Phase(contract.ends_at, Standing.CANCELED, last.grant)
    return [*(phase for phase in phases if phase.starts_at < contract.ends_at), end]


def _with_shadows(phases: Phases, shadows: Mapping[str, Grant]) -> Phases:
    """Whatever is served is tried on the version beside its own; so a change of plan changes the shadow too."""
    return [
        replace(phase, shadow=shadows.get(phase.grant.plan)) if phase.standing in _RUNNING else phase
        for phase in phases
    ]


def _from(phases: Phases, at: datetime, law: Callable[[Phase], Phase]) -> Phases:
    """Return the phases cut at `at`, with `law` applied to every running one from there on."""
    cut = _cut(phases, at)
    return [law(phase) if phase.starts_at >= at and phase.standing in _RUNNING else phase for phase in cut]


def _cut(phases: Phases, at: datetime) -> Phases:
    if at <= phases[0].starts_at or any(phase.starts_at == at for phase in phases):
        return phases
    return sorted([*phases, replace(_at(phases, at), starts_at=at)], key=lambda phase: phase.starts_at)


def _at(phases: Iterable[Phase], at: datetime) -> Phase:
    """Return the phase in force at `at`, the first one before any."""
    found: Phase | None = None
    for phase in phases:
        if found is None or phase.starts_at <= at:
            found = phase
    if found is None:
        raise ValueError("a subscription without a phase")
    return found

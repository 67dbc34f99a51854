"""Laws of a subscription's life that hold for every contract, whatever is signed, paid, changed and taken back.

What a license says at an instant is compared with `who`, which knows nothing of phases: it answers from the
contract who the subscription is then.
"""

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from support.lives import MOMENT, REFS, ZONES, amounts, contracts, instants, lapses, offers
from support.moments import moments

from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.licenses.codec import decode_terms, encode_terms
from tallygate.licenses.license import Phase, Standing, Terms
from tallygate.limits.algorithms import microseconds
from tallygate.limits.credits import balance_at
from tallygate.limits.limit import CountedPer, Limit, LimitKind
from tallygate.plans.compile import compile_terms
from tallygate.plans.contract import Carry, Contract, LimitOverride, PlanChange
from tallygate.plans.document import Plan, PlanLimit, QuotaPeriod, TrialBasis, TrialEnd

Offers = dict[str, Plan]

RUNNING = {Standing.ACTIVE, Standing.TRIALING, Standing.GRACE}
AFTER_TRIAL = {TrialEnd.SUSPEND: Standing.SUSPENDED, TrialEnd.CANCEL: Standing.CANCELED}
EVER, NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
laws = settings(deadline=None, max_examples=100)


@dataclass(frozen=True, slots=True)
class Who:
    """What a subscription is at an instant."""

    standing: Standing
    plan: str
    is_unpaid: bool = False
    counters: str = ""


class Life:
    """A contract, asked what it comes to at an instant, as someone would who had only the contract to read."""

    def __init__(self, contract: Contract, plans: Offers, trial_over_at: datetime) -> None:
        """Take the contract, and when its trial is over if nobody changes the plan before."""
        self.contract = contract
        self.plans = plans
        self.trial_over_at = trial_over_at

    def who(self, at: datetime) -> Who:
        """Answer for the instant `at`."""
        contract, wanted = self.contract, self.wanted(at)
        if contract.ends_at is not None and contract.ends_at <= at:
            return Who(Standing.CANCELED, self.wanted(contract.ends_at).plan)
        if at < contract.starts_at:
            return Who(Standing.SCHEDULED, contract.plan)
        if wanted.standing not in RUNNING:
            return wanted
        if contract.past_due_at is not None and contract.past_due_at <= at:
            grace = self.grace_days()
            if contract.past_due_at + timedelta(days=grace) <= at:
                return replace(wanted, standing=Standing.SUSPENDED, is_unpaid=True)
            wanted = replace(wanted, standing=Standing.GRACE)
        if contract.suspended_at is not None and contract.suspended_at <= at:
            return replace(wanted, standing=Standing.SUSPENDED)
        return wanted

    def grace_days(self) -> int:
        """Return the days of grace: those of the plan it was on when the payment failed."""
        assert self.contract.past_due_at is not None
        grace = self.plans[self.wanted(self.contract.past_due_at).plan].grace
        return grace.days if grace else 0

    def wanted(self, at: datetime) -> Who:
        """Answer without regard to payment, suspension and end; before the start as at the start."""
        at = max(at, self.contract.starts_at)
        made = self.made(at)
        if made:
            resets = [change.id for change in made if change.carry is Carry.RESET]
            return Who(Standing.ACTIVE, made[-1].plan, counters=resets[-1] if resets else "")
        trial = self.plans[self.contract.plan].trial
        if trial is None:
            return Who(Standing.ACTIVE, self.contract.plan)
        if at < self.trial_over_at:
            return Who(Standing.TRIALING, self.contract.plan)
        plan = self.contract.trial_to if trial.at_end is TrialEnd.DOWNGRADE else None
        return Who(AFTER_TRIAL.get(trial.at_end, Standing.ACTIVE), plan or self.contract.plan)

    def made(self, at: datetime) -> list[PlanChange]:
        """Return the changes that have taken force by `at`, in their order; none does before the start."""
        ordered = sorted(self.contract.changes, key=lambda change: (change.at, change.id))
        return [change for change in ordered if max(change.at, self.contract.starts_at) <= at]

    def stretches(self, until_at: datetime) -> list[tuple[datetime, datetime, Who]]:
        """Return the times in which the plan stayed the same, up to `until_at`."""
        cuts = {self.contract.starts_at, self.trial_over_at, *(change.at for change in self.contract.changes)}
        cuts = {cut for cut in cuts if self.contract.starts_at <= cut < until_at} | {self.contract.starts_at, until_at}
        return [(start, end, self.wanted(start)) for start, end in itertools.pairwise(sorted(cuts))]


def life_of(contract: Contract, plans: Offers, at: datetime, used_at: datetime | None) -> Life:
    """Return the life as it is seen at `at`, by someone who knows when the subscription was first used."""
    trial = plans[contract.plan].trial
    if trial is None or trial.basis is TrialBasis.CREATION:
        return Life(contract, plans, contract.starts_at + timedelta(days=trial.days if trial else 0))
    # Of a trial from first use only this is known: whether it is over. Then life is as if it had never been.
    first = min((max(change.at, contract.starts_at) for change in contract.changes), default=NEVER)
    is_over = used_at is not None and used_at + timedelta(days=trial.days) <= min(at, first)
    return Life(contract, plans, EVER if is_over else NEVER)


def used_by(at: datetime, contract: Contract, used_after: timedelta | None) -> datetime | None:
    """Return when the subscription was first used, so long after its start, as far as that is known by `at`."""
    used_at = None if used_after is None else contract.starts_at + used_after
    return None if used_at is None or used_at > at else used_at


def seen(phase: Phase) -> Who:
    """Return what a phase says, for comparison."""
    return Who(phase.standing, phase.grant.plan, phase.is_unpaid, phase.counters)


def limit_of(phase: Phase, name: str) -> Limit | None:
    """Return the limit of this name, if the phase has it."""
    return next((limit for limit in phase.grant.limits if limit.name == name), None)


@given(contracts(), offers)
@laws
def test_phases_follow_each_other_without_a_gap(contract: Contract, plans: Offers) -> None:
    """Every instant lies in exactly one phase; what begins with the contract is preceded by nothing but waiting."""
    terms = compile_terms(contract, plans)
    lives = [terms.phases, *([terms.first_use.then] if terms.first_use else [])]
    for phases in lives:
        starts = [phase.starts_at for phase in phases]
        assert starts == sorted(set(starts))
        assert starts[:2] == [EVER, contract.starts_at]
        assert phases[0].standing is Standing.SCHEDULED


@given(contracts(), offers)
@laws
def test_no_overage_ends_below_its_amount(contract: Contract, plans: Offers) -> None:
    """Whatever is prorated, reduced or overridden: nobody is refused within what the quota itself allows."""
    limits = [limit for phase in compile_terms(contract, plans).phases for limit in phase.grant.limits]
    assert all(limit.ceiling is None or limit.ceiling >= limit.amount for limit in limits)


@given(contracts(), offers, lapses)
@laws
def test_a_license_says_what_the_contract_says(contract: Contract, plans: Offers, used_after: timedelta | None) -> None:
    """At every instant at which anything might happen, the phase in force is what the contract comes to by itself."""
    terms = compile_terms(contract, plans)
    for at in moments(contract, terms, used_after):
        known = used_by(at, contract, used_after)
        assert seen(terms.phase_at(at, known)) == life_of(contract, plans, at, known).who(at), at


@given(contracts(), offers, st.randoms(use_true_random=False))
@laws
def test_the_same_contract_gives_the_same_license(contract: Contract, plans: Offers, random: Random) -> None:
    """Compiling is a function: of the contract, and not of the order in which its changes were read."""
    changes = list(contract.changes)
    random.shuffle(changes)
    assert compile_terms(replace(contract, changes=tuple(changes)), plans) == compile_terms(contract, plans)


@given(contracts(), offers, lapses)
@laws
def test_nothing_is_in_force_before_the_start_or_after_the_end(
    contract: Contract, plans: Offers, used_after: timedelta | None
) -> None:
    """A contract serves nobody before it begins and from the instant on at which it ends."""
    terms = compile_terms(contract, plans)
    for at in moments(contract, terms, used_after):
        standing = terms.phase_at(at, used_by(at, contract, used_after)).standing
        if at < contract.starts_at:
            assert standing is Standing.SCHEDULED
        if contract.ends_at is not None and at >= contract.ends_at:
            assert standing is Standing.CANCELED


@given(contracts(), offers, instants, lapses, st.sampled_from(REFS), st.sampled_from(Carry))
@laws
def test_what_is_signed_for_later_changes_nothing_before(  # noqa: PLR0917 - one for each choice
    contract: Contract, plans: Offers, at: datetime, used_after: timedelta | None, plan: str, carry: Carry
) -> None:
    """A change, a failed payment, a suspension and an end leave everything before them as it was."""
    terms = compile_terms(contract, plans)
    change = PlanChange("chg_9", at, plan, carry)
    later = [replace(contract, changes=(*contract.changes, change))]
    later += [replace(contract, past_due_at=at)] if contract.past_due_at is None or at < contract.past_due_at else []
    later += [replace(contract, suspended_at=at)] if contract.suspended_at is None else []
    later += [replace(contract, ends_at=at)] if contract.ends_at is None and at >= contract.starts_at else []
    for one in later:
        other = compile_terms(one, plans)
        for before in [moment for moment in moments(one, other, used_after) if moment < at]:
            known = used_by(before, contract, used_after)
            assert other.phase_at(before, known) == terms.phase_at(before, known)


@given(contracts(), offers)
@laws
def test_counters_begun_afresh_are_never_left_for_older_ones(contract: Contract, plans: Offers) -> None:
    """After a reset no phase counts where one before it did: what was used up does not come back."""
    counters = [phase.counters for phase in compile_terms(replace(contract, ends_at=None), plans).phases]
    runs = [name for name, _ in itertools.groupby(counters)]
    assert len(set(runs)) == len(runs)
    resets = {change.id for change in contract.changes if change.carry is Carry.RESET}
    assert set(runs) <= resets | {""}


@given(contracts(), offers)
@laws
def test_limits_are_the_plans_or_what_the_contract_says_instead(contract: Contract, plans: Offers) -> None:
    """Where nothing is prorated, each amount is the plan's or the override's, in grace what the grace leaves of it."""
    carried = tuple(replace(change, carry=Carry.CARRY) for change in contract.changes)
    contract = replace(contract, changes=carried)
    terms = compile_terms(contract, plans)
    life = life_of(contract, plans, EVER, None)
    due_at = contract.past_due_at
    grace = plans[life.wanted(due_at).plan].grace if due_at is not None else None
    for phase in terms.phases[1:]:
        is_due = due_at is not None and due_at <= phase.starts_at and life.wanted(phase.starts_at).standing in RUNNING
        if phase.standing is Standing.CANCELED:
            continue
        for written in plans[phase.grant.plan].limits:
            own = contract.overrides.limits.get(written.name, LimitOverride())
            amount = written.amount if own.amount is None else own.amount
            limit = limit_of(phase, written.name)
            assert limit is not None
            if limit.kind is not LimitKind.CREDITS:
                assert limit.amount == (grace.left_of(amount) if grace and is_due else amount)


@given(contracts(), offers, lapses)
@laws
def test_credits_hold_what_came_while_the_plan_gave_it(
    contract: Contract, plans: Offers, used_after: timedelta | None
) -> None:
    """A balance is its amount and each refill of its time: a new plan brings none for months it was not in force."""
    contract = replace(contract, past_due_at=None, ends_at=None)
    terms = compile_terms(contract, plans)
    for at in [moment for moment in moments(contract, terms, used_after) if moment >= contract.starts_at]:
        known = used_by(at, contract, used_after)
        life = life_of(contract, plans, at, known)
        limit = limit_of(terms.phase_at(at, known), "balance")
        if limit is not None:
            own = contract.overrides.limits.get("balance", LimitOverride()).amount
            written = balance_in(plans[life.wanted(at).plan])
            assert written is not None
            expected = (written.amount if own is None else own) + refilled(life, at)
            assert balance_at(limit, microseconds(at)).amount == expected


def refilled(life: Life, at: datetime) -> int:
    """Return the units that came by refill to the counter in use at `at`, one stretch of the life after the other."""
    units = 0
    counter = counter_of(life, life.wanted(at))
    for start, end, who in life.stretches(at):
        written = balance_in(life.plans[who.plan])
        if written is not None and written.refill is not None and counter_of(life, who) == counter:
            calendar = calendar_of(life.contract, life.plans[who.plan], written.refill.every, written.per)
            boundary = calendar.period_at(start).end_at
            while boundary <= end:
                units += written.refill.amount
                boundary = calendar.period_at(boundary).end_at
    return units


def balance_in(plan: Plan) -> PlanLimit | None:
    """Return the credits of a plan."""
    return next((limit for limit in plan.limits if limit.name == "balance"), None)


def counter_of(life: Life, who: Who) -> tuple[CountedPer, str] | None:
    """Return which counter the credits of a plan have; a customer's goes on through a reset."""
    written = balance_in(life.plans[who.plan])
    if written is None:
        return None
    return written.per, "" if written.per is CountedPer.CUSTOMER else who.counters


def calendar_of(contract: Contract, plan: Plan, every: QuotaPeriod, per: CountedPer) -> Calendar:
    """Return the calendar of a refill: UTC's for a balance that subscriptions share."""
    if per is CountedPer.CUSTOMER:
        return Calendar(PeriodUnit(every.value))
    if every is not QuotaPeriod.BILLING:
        return Calendar(PeriodUnit(every.value), None, contract.timezone)
    return Calendar(plan.price.every if plan.price else PeriodUnit.MONTH, contract.anchor_at, contract.timezone)


ANCHORS = st.tuples(instants, ZONES)


def on_quotas(quotas: list[int], changes: Iterable[PlanChange], anchor_at: datetime, zone: str) -> Terms:
    """Return the terms of a contract that changes between plans of these monthly quotas, `p0@1`, `p1@1`, and so on."""
    plans = {
        f"p{number}@1": Plan(
            f"p{number}", "P", limits=(PlanLimit("monthly", LimitKind.QUOTA, units, period=QuotaPeriod.BILLING),)
        )
        for number, units in enumerate(quotas)
    }
    contract = Contract("cus_1", "p0@1", anchor_at, zone, anchor_at, changes=tuple(changes))
    return compile_terms(contract, plans)


def monthly_at(terms: Terms, at: datetime) -> int:
    """Return the monthly quota in force."""
    limit = limit_of(terms.phase_at(at), "monthly")
    assert limit is not None
    return limit.amount


@given(ANCHORS, amounts, amounts, st.timedeltas(timedelta(), timedelta(days=400)))
@laws
def test_a_prorated_quota_lies_between_old_and_new(
    anchor: tuple[datetime, str], old: int, new: int, lapse: timedelta
) -> None:
    """It is the new one from a period's first instant on, the old one at its last, and the new one from the next on."""
    period = Calendar(PeriodUnit.MONTH, *anchor).period_at(anchor[0] + lapse)

    def quota(changed_at: datetime, at: datetime) -> int:
        return monthly_at(on_quotas([old, new], [PlanChange("c", changed_at, "p1@1", Carry.PRORATE)], *anchor), at)

    changed_at = anchor[0] + lapse
    assert min(old, new) <= quota(changed_at, changed_at) <= max(old, new)
    assert quota(changed_at, period.end_at - MOMENT) == quota(changed_at, changed_at)
    assert quota(changed_at, period.end_at) == new
    assert quota(period.start_at, period.start_at) == new
    assert quota(period.end_at - MOMENT, period.end_at - MOMENT) in {old, old - 1}, "rounded down"


@given(ANCHORS, st.lists(amounts, min_size=2, max_size=5), st.data())
@laws
def test_prorated_one_after_the_other_each_plan_has_its_share(
    anchor: tuple[datetime, str], quotas: list[int], data: st.DataObject
) -> None:
    """Changing several times in a period comes to each plan's quota for the time it was in force: nothing is gained."""
    period = Calendar(PeriodUnit.MONTH, *anchor).period_at(anchor[0] + timedelta(days=45))
    whole = period.end_at - period.start_at
    within = st.timedeltas(timedelta(), whole - MOMENT).map(lambda lapse: period.start_at + lapse)
    ats = sorted(data.draw(st.lists(within, min_size=len(quotas) - 1, max_size=len(quotas) - 1)))
    changes = [PlanChange(f"c{n}", at, f"p{n}@1", Carry.PRORATE) for n, at in enumerate(ats, start=1)]
    edges = [period.start_at, *ats, period.end_at]
    times = [(end - start) // MOMENT for start, end in itertools.pairwise(edges)]
    exact = Fraction(sum(units * time for units, time in zip(quotas, times, strict=True)), whole // MOMENT)
    terms = on_quotas(quotas, changes, *anchor)
    assert 0 <= exact - monthly_at(terms, period.end_at - MOMENT) < len(changes)
    same = [replace(change, plan="p0@1") for change in changes]
    assert monthly_at(on_quotas(quotas, same, *anchor), period.end_at - MOMENT) == quotas[0]


@given(contracts(), offers)
@laws
def test_terms_survive_being_stored(contract: Contract, plans: Offers) -> None:
    """What the control plane writes is what every worker reads, to the microsecond."""
    terms = compile_terms(contract, plans)
    assert decode_terms(json.dumps(encode_terms(terms)).encode()) == terms

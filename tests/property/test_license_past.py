"""Laws of what a license keeps and what people are shown of it: the same as is decided, without what is long over."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from support.lives import MOMENT, contracts, lapses, offers
from support.moments import moments

from tallygate.licenses.license import Phase, Standing, Terms
from tallygate.limits.algorithms import microseconds
from tallygate.limits.credits import balance_at
from tallygate.limits.limit import Limit, LimitKind
from tallygate.plans.compile import compile_terms
from tallygate.plans.contract import Contract, CreditGrant
from tallygate.plans.document import Plan, PlanLimit, Trial, TrialBasis, TrialEnd
from tallygate.plans.recent import compile_since

Offers = dict[str, Plan]

EVER, NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""Calendars reckon no further than counters do."""
RUNNING = {Standing.ACTIVE, Standing.TRIALING, Standing.GRACE}
TRIALS = st.builds(Trial, st.integers(1, 60), st.just(TrialBasis.FIRST_USE), st.sampled_from(TrialEnd), st.just("free"))
SOON = st.sampled_from([timedelta(), timedelta(hours=1), timedelta(days=1)]) | lapses
laws = settings(deadline=None, max_examples=100)


def near_to(begins: list[datetime]) -> st.SearchStrategy[datetime]:
    """Return one of these instants, or one some time after."""
    later = SOON.map(lambda lapse: lapse or timedelta())
    return st.builds(lambda at, lapse: at + lapse, st.sampled_from(begins), later)


@st.composite
def grants(draw: st.DrawFn, begins: st.SearchStrategy[datetime]) -> CreditGrant:
    """Return credits that were granted then, some of them for a month at most."""
    at, life = draw(begins), draw(st.none() | st.timedeltas(MOMENT, timedelta(days=30)))
    number, units = draw(st.integers(1, 9)), draw(st.integers(1, 999))
    return CreditGrant(f"grt_{number}", "balance", units, at, None if life is None else at + life)


def by_id(grant: CreditGrant) -> str:
    """Return what names a grant."""
    return grant.id


def selling(plans: Offers, contract: Contract, trial: Trial) -> Offers:
    """Return these plans, all with credits, and the contract's with a trial from first use."""
    prepaid = PlanLimit("balance", LimitKind.CREDITS, 100)
    limits = {ref: tuple(limit for limit in plan.limits if limit.name != "balance") for ref, plan in plans.items()}
    sold = {ref: replace(plan, limits=(*limits[ref], prepaid)) for ref, plan in plans.items()}
    return sold | {contract.plan: replace(sold[contract.plan], trial=trial)}


@given(contracts(), offers, TRIALS, SOON)
@laws
def test_a_timeline_is_what_is_in_force_at_each_instant(
    contract: Contract, plans: Offers, trial: Trial, used_after: timedelta | None
) -> None:
    """What people are shown of a life, its trial's end included, is what every worker decides by at its instant."""
    terms = compile_terms(contract, selling(plans, contract, trial))
    used_at = None if used_after is None else contract.starts_at + used_after
    timeline = terms.timeline(used_at)
    assert [phase.starts_at for phase in timeline] == sorted({phase.starts_at for phase in timeline})
    for at in moments(contract, terms, used_after):
        shown = Terms(timeline).phase_at(at)
        decided = terms.phase_at(at, used_at)
        assert replace(shown, starts_at=EVER) == replace(decided, starts_at=EVER)


@given(contracts(), offers)
@laws
def test_what_is_served_has_the_shadow_of_its_own_version(contract: Contract, plans: Offers) -> None:
    """Whenever the plan changes so does what is tried beside it; what is not served tries nothing."""
    for phase in compile_terms(contract, plans).every_phase:
        tried = contract.shadows.get(phase.grant.plan) if phase.standing in RUNNING else None
        assert (phase.shadow.plan if phase.shadow else None) == tried


@given(contracts(), offers, TRIALS, SOON, st.data())
@laws
def test_a_license_without_its_past_decides_the_same(
    contract: Contract, plans: Offers, trial: Trial, used_after: timedelta | None, data: st.DataObject
) -> None:
    """From the instant on from which a license is kept, each phase, limit and balance is that of the whole one."""
    plans = selling(plans, contract, trial)
    whole = compile_terms(contract, plans)
    near = near_to([phase.starts_at for phase in whole.every_phase if phase.starts_at > EVER])
    since_at = data.draw(near)
    contract = replace(contract, grants=tuple(data.draw(st.lists(grants(near), max_size=3, unique_by=by_id))))
    whole, kept = compile_terms(contract, plans), compile_since(since_at, contract, plans)
    used_at = None if used_after is None else contract.starts_at + used_after
    ends = [grant.expires_at for grant in contract.grants if grant.expires_at is not None]
    edges = [*moments(contract, whole, used_after), *ends, *(end - MOMENT for end in ends), since_at, NEVER]
    for at in [edge for edge in edges if edge >= since_at]:
        assert told(kept.phase_at(at, used_at), at) == told(whole.phase_at(at, used_at), at)
    for phases in (kept.phases, kept.first_use.then if kept.first_use else ()):
        assert all(phase.starts_at > since_at for phase in phases[1:])
    buckets = [bucket for phase in kept.every_phase for limit in phase.grant.limits for bucket in limit.buckets]
    assert all(bucket.until_at is None or bucket.until_at > since_at for bucket in buckets)


def told(phase: Phase, at: datetime) -> object:
    """Return all that a decision at `at` takes from a phase: neither grants that are over then, nor their places."""
    grants = [grant for grant in (phase.grant, phase.shadow) if grant is not None]
    limits = [[spendable(limit, at) for limit in grant.limits] for grant in grants]
    what_it_is = phase.standing, phase.is_unpaid, phase.counters
    return what_it_is, [replace(grant, limits=()) for grant in grants], limits


def spendable(limit: Limit, at: datetime) -> object:
    """Return a limit without its buckets, what it holds at `at`, and the buckets that may be spent then, in order."""
    balance = balance_at(limit, microseconds(min(at, LATEST)))
    live = [limit.buckets[number] for number in balance.buckets]
    return replace(limit, buckets=()), replace(balance, buckets=(), since_us=0), live

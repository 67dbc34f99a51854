"""Laws of invoices, for contracts of every shape: periods tile time, days add up, and so does money."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.lives import contracts, instants, lapses, offers

from tallygate.billing.invoice import LineKind, Payer, invoice
from tallygate.billing.life import Stretch, life
from tallygate.billing.period import BillingPeriod, Schedule, WhichPeriod, billed, period_of
from tallygate.billing.usage import BilledUsage, LedgerState, Outcome, UsageTotal, window_of
from tallygate.core.money import rounded
from tallygate.core.periods import Calendar
from tallygate.licenses.license import Standing
from tallygate.plans.charge import Charge, Package, PerUnit
from tallygate.plans.compile import compile_terms
from tallygate.plans.contract import Contract
from tallygate.plans.document import Plan

LEAST = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
CHARGES = {
    "requests": Charge(PerUnit(Decimal("0.003")), 7, Decimal("1.5"), Decimal(400)),
    "m": Charge(Package(9, Decimal(2))),
}
OVERAGE = {"requests": Charge(PerUnit(Decimal("0.5")))}
Case = tuple[Contract, Mapping[str, Plan], tuple[Stretch, ...], BillingPeriod]


def with_money(plan: Plan, *, is_prorated: bool, bills_trial: bool) -> Plan:
    """Return a plan that charges for usage, prorated or not."""
    price = None if plan.price is None else replace(plan.price, is_prorated=is_prorated)
    trial = None if plan.trial is None else replace(plan.trial, is_usage_billed=bills_trial)
    return replace(plan, price=price, trial=trial, charges=CHARGES, overage=OVERAGE)


@st.composite
def cases(draw: st.DrawFn, *, is_prorated: bool | None = None) -> Case:
    """Return a contract, its plans, its life, and a period that is near one of its dates."""
    contract = draw(contracts())
    choice = st.booleans() if is_prorated is None else st.just(is_prorated)
    plans = {
        ref: with_money(plan, is_prorated=draw(choice), bills_trial=draw(st.booleans()))
        for ref, plan in draw(offers).items()
    }
    first_used_at = None if (lapse := draw(lapses)) is None else contract.starts_at + lapse
    found = life(contract, plans, first_used_at)
    assume(found)
    at = draw(st.sampled_from([each.from_at for each in found]) | instants)
    return contract, plans, found, period_of(schedule(contract, found), plans, at, WhichPeriod.CURRENT)


def schedule(contract: Contract, found: tuple[Stretch, ...]) -> Schedule:
    """Return the billing of a contract."""
    return Schedule(found, contract.anchor_at, contract.timezone)


usages = st.lists(
    st.builds(
        UsageTotal,
        plan=st.sampled_from(["pro@1", "pro@2", "free@1", "team@1"]),
        meter=st.sampled_from(["requests", "m", "other"]),
        outcome=st.sampled_from(Outcome),
        is_trial=st.booleans(),
        rows=st.integers(1, 9),
        quantity=st.integers(-5, 10**6),
    ),
    max_size=8,
).map(tuple)


@given(cases())
@settings(deadline=None)
def test_periods_tile_time(case: Case) -> None:
    """Each begins where the one before ends: no instant is billed twice, and none is lost."""
    contract, plans, found, period = case
    own = schedule(contract, found)
    before = period_of(own, plans, period.from_at, WhichPeriod.PREVIOUS)
    after = period_of(own, plans, period.to_at, WhichPeriod.CURRENT)
    assert before.to_at == period.from_at < period.to_at == after.from_at
    assert period_of(own, plans, period.to_at - LEAST, WhichPeriod.CURRENT) == period
    both = window_of(before, found).to_at - window_of(period, found).from_at
    assert both == (MINUTE if period.from_at.second or period.from_at.microsecond else timedelta(0))


@given(cases(), st.sampled_from(["pro@1", "pro@2", "free@1", "team@1"]), st.booleans())
@settings(deadline=None)
def test_a_minute_that_periods_share_is_billed_once(case: Case, ref: str, is_end: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever plan its units were counted on: of all periods that have a part of it exactly one has them."""
    contract, plans, found, period = case
    own = schedule(contract, found)
    at = minute_at = (period.to_at if is_end else period.from_at).replace(second=0, microsecond=0)
    sharing: list[BillingPeriod] = []
    while at < minute_at + MINUTE:
        sharing.append(period_of(own, plans, at, WhichPeriod.CURRENT))
        at = sharing[-1].to_at
    having = [each for each in sharing if each.has(minute_at, plans[ref], found, plans)]
    assert len(having) == 1
    if any(each.billed == billed(plans[ref]) and each.within(found) for each in sharing):
        assert having[0].billed == billed(plans[ref])
    if len(sharing) > 1:
        for each in sharing:
            window = window_of(each, found)
            assert minute_at in window.shared
            assert window.from_at <= minute_at < window.to_at


@given(cases())
@settings(deadline=None)
def test_days_add_up(case: Case) -> None:
    """The days of all versions in a period are those of the time they cover, never more than it has."""
    contract, plans, found, period = case
    parts = period.within(found)
    days = sum(period.days_of(part) for part in parts)
    assert 0 <= days <= period.days
    whole = Calendar(period.billed.every, contract.anchor_at, contract.timezone).period_at(period.from_at)
    covered = sum((part.to_at - part.from_at for part in parts), timedelta(0))
    if covered == whole.end_at - whole.start_at:
        assert days == period.days
    assert {billed(plans[part.plan]) for part in parts} <= {period.billed}


@given(cases())
@settings(deadline=None)
def test_a_life_is_what_the_license_would_have_served(case: Case) -> None:
    """Who has paid and was not suspended is billed for the time in which the license says trialing or active."""
    contract, plans, found, _ = case
    paid = replace(contract, past_due_at=None, suspended_at=None)
    terms = compile_terms(paid, plans)
    assume(terms.first_use is None)
    for stretch in found:
        for at in (stretch.from_at, min(stretch.to_at, stretch.from_at + timedelta(days=999)) - LEAST):
            phase = terms.phase_at(at)
            assert (phase.grant.plan, phase.standing is Standing.TRIALING) == (stretch.plan, stretch.is_trial)
            assert phase.standing in {Standing.TRIALING, Standing.ACTIVE}


@given(cases(), usages)
@settings(deadline=None)
def test_an_invoice_adds_up(case: Case, counted: tuple[UsageTotal, ...]) -> None:
    """The total is the sum of the lines, each its steps rounded once; each quantity is the sum of its traces."""
    _, plans, found, period = case
    usage = BilledUsage("sub_1", window_of(period, found), LedgerState(None, 0), counted)
    made = invoice(Payer("cus_1", "sub_1", "live"), period, found, plans, usage)
    assert made.total == sum((line.amount for line in made.lines), Decimal(0))
    for line in made.lines:
        assert line.amount == rounded(sum((Fraction(step.amount) for step in line.steps), Fraction(0)), line.currency)
        assert line.amount >= 0
        assert made.from_at <= line.from_at <= line.to_at <= made.to_at
        if line.kind is not LineKind.FEE:
            assert line.quantity == sum(trace.quantity for trace in line.usage if trace.meter == line.meter)
            assert {trace.plan for trace in line.usage} <= {line.plan}
    fees = [line for line in made.lines if line.kind is LineKind.FEE]
    assert len(fees) == len({line.plan for line in fees})


@given(cases(is_prorated=True))
@settings(deadline=None)
def test_prorated_fees_never_exceed_the_dearest(case: Case) -> None:
    """However often the plan changes in a period, its days are paid once: never more than the dearest price."""
    _, plans, found, period = case
    usage = BilledUsage("sub_1", window_of(period, found), LedgerState(None, 0), ())
    made = invoice(Payer("cus_1", "sub_1", "live"), period, found, plans, usage)
    fees = [line for line in made.lines if line.kind is LineKind.FEE]
    prices = [price.money.amount for line in fees if (price := plans[line.plan].price)]
    coin = Decimal("0.01")
    assert sum((line.amount for line in fees), Decimal(0)) <= max(prices, default=Decimal(0)) + coin * len(fees)

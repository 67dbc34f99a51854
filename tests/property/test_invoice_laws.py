"""Laws of invoices, for contracts of every shape: periods tile time, days add up, and so does money."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.billing import PAYER, Row, read, traces_of
from support.lives import REFS, contracts, instants, lapses, offers

from tallygate.billing.home import MINUTE, REACH, home_of, minute_of
from tallygate.billing.invoice import SETTLED_AFTER, LineKind, invoice
from tallygate.billing.life import FOR_EVER, Stretch, life
from tallygate.billing.period import BillingPeriod, Schedule, WhichPeriod, billed, period_of
from tallygate.billing.usage import Outcome
from tallygate.core.money import rounded
from tallygate.core.periods import Calendar
from tallygate.licenses.license import Standing
from tallygate.limits.limit import LONGEST_HOLD_S
from tallygate.plans.charge import Charge, Package, PerUnit
from tallygate.plans.compile import compile_terms
from tallygate.plans.contract import Contract
from tallygate.plans.document import Plan

LEAST = timedelta(microseconds=1)
FAR = timedelta(days=3)
SKEWS = st.one_of(
    st.sampled_from([timedelta(), MINUTE, -MINUTE, REACH, -REACH, REACH - MINUTE, MINUTE - REACH]),
    st.timedeltas(timedelta(minutes=-5), timedelta(minutes=5)),
    st.timedeltas(-FAR, FAR),
)
CHARGES = {
    "requests": Charge(PerUnit(Decimal("0.003")), 7, Decimal("1.5"), Decimal(400)),
    "m": Charge(Package(9, Decimal(2))),
}
OVERAGE = {"requests": Charge(PerUnit(Decimal("0.5")))}
Case = tuple[Contract, Mapping[str, Plan], tuple[Stretch, ...], BillingPeriod]


def with_money(plan: Plan, *, currency: str, is_prorated: bool, bills_trial: bool) -> Plan:
    """Return a plan that charges for usage, prorated or not."""
    price = plan.price
    if price is not None:
        price = replace(price, money=replace(price.money, currency=currency), is_prorated=is_prorated)
    trial = None if plan.trial is None else replace(plan.trial, is_usage_billed=bills_trial)
    return replace(plan, price=price, trial=trial, charges=CHARGES, overage=OVERAGE)


@st.composite
def cases(draw: st.DrawFn, *, is_prorated: bool | None = None) -> Case:
    """Return a contract, its plans, its life, and a period that is near one of its dates."""
    contract = draw(contracts())
    choice = st.booleans() if is_prorated is None else st.just(is_prorated)
    plans = {
        ref: with_money(
            plan,
            currency=draw(st.sampled_from(["USD", "EUR"])),
            is_prorated=draw(choice),
            bills_trial=draw(st.booleans()),
        )
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


@st.composite
def rows_of(draw: st.DrawFn, found: Sequence[Stretch]) -> Row:
    """Return a row of the ledger: any plan's, in a minute on either side of where a plan begins or ends."""
    ends = {end for each in found for end in (each.from_at, each.to_at)} - {FOR_EVER}
    at = draw(st.sampled_from(sorted(ends))) + draw(SKEWS)
    return Row(
        plan=draw(st.sampled_from([*REFS, "pro@9"])),
        meter=draw(st.sampled_from(["requests", "m", "other"])),
        outcome=draw(st.sampled_from(Outcome)),
        quantity=draw(st.integers(-5, 10**6)),
        minute_at=minute_of(at),
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[Case, list[Row]]:
    """Return a case, and a ledger with rows on time, late and early."""
    case = draw(cases())
    return case, draw(st.lists(rows_of(case[2]), max_size=8))


def near(case: Case, minutes: Iterable[datetime]) -> list[BillingPeriod]:
    """Return all periods that begin or end within some days of one of these minutes, each once, in order."""
    contract, plans, found, _ = case
    own, sought = schedule(contract, found), dict[datetime, BillingPeriod]()
    for minute_at in minutes:
        at = minute_at - FAR
        while at < minute_at + FAR:
            period = period_of(own, plans, at, WhichPeriod.CURRENT)
            sought[period.from_at] = period
            at = period.to_at
    return [sought[at] for at in sorted(sought)]


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


@given(histories())
@settings(deadline=None)
def test_the_invoices_of_a_subscription_come_to_its_ledger(history: tuple[Case, list[Row]]) -> None:
    """Whatever plan a unit was decided on and when: it is on exactly one invoice, in a line or beside them."""
    case, rows = history
    _, plans, found, _ = case
    told_rows, told_units = Counter[tuple[str, str, Outcome]](), Counter[tuple[str, str, Outcome]]()
    for period in near(case, [row.minute_at for row in rows if row.minute_at]):
        made = invoice(PAYER, plans, read(rows, period, found))
        assert not {trace for line in made.lines for trace in line.usage} & {each.usage for each in made.unbilled}
        for trace in traces_of(made):
            told_rows[trace.plan, trace.meter, trace.outcome] += trace.rows
            told_units[trace.plan, trace.meter, trace.outcome] += trace.quantity
    for row in rows:
        told_rows[row.plan, row.meter, row.outcome] -= 1
        told_units[row.plan, row.meter, row.outcome] -= row.quantity
    assert not any(told_rows.values())
    assert not any(told_units.values())


@given(histories())
@settings(deadline=None)
def test_a_trace_asks_for_its_rows_and_no_others(history: tuple[Case, list[Row]]) -> None:
    """The units of the ledger in its minutes, of its plan version, meter and outcome, are the units it tells."""
    case, rows = history
    _, plans, found, _ = case
    for period in near(case, [row.minute_at for row in rows if row.minute_at]):
        for trace in traces_of(invoice(PAYER, plans, read(rows, period, found))):
            named = (trace.plan, trace.meter, trace.outcome)
            asked = [
                row.quantity
                for row in rows
                if row.minute_at and (row.plan, row.meter, row.outcome) == named
                if trace.from_at <= row.minute_at < trace.to_at
            ]
            assert (len(asked), sum(asked)) == (trace.rows, trace.quantity)


@given(histories())
@settings(deadline=None)
def test_units_on_a_plan_near_its_time_are_priced_by_it(history: tuple[Case, list[Row]]) -> None:
    """Up to a day late or early they are on an invoice in their plan's currency, so no currency keeps them out."""
    case, rows = history
    contract, plans, found, _ = case
    for row in rows:
        assert row.minute_at
        own = [each for each in found if each.plan == row.plan]
        if any(each.from_at - REACH <= row.minute_at < each.to_at for each in own):
            home = home_of(row.plan, row.minute_at, found)
            assert period_of(schedule(contract, found), plans, home.at, WhichPeriod.CURRENT).billed == billed(
                plans[row.plan]
            )
            assert any(each.from_at <= home.at < each.to_at for each in own)
            assert abs(home.at - row.minute_at) <= REACH + MINUTE


@given(histories())
@settings(deadline=None)
def test_all_that_is_awaited_comes_before_a_bill_is_complete(history: tuple[Case, list[Row]]) -> None:
    """A unit as late as it may be, with an outcome as late as that may be, leaves the worker its hour."""
    case, rows = history
    contract, plans, found, _ = case
    for row in rows:
        assert row.minute_at
        home = home_of(row.plan, row.minute_at, found)
        period = period_of(schedule(contract, found), plans, home.at, WhichPeriod.CURRENT)
        told_at = row.minute_at + MINUTE + timedelta(seconds=LONGEST_HOLD_S)
        assert told_at + timedelta(hours=1) <= period.to_at + SETTLED_AFTER


@given(histories())
@settings(deadline=None)
def test_what_comes_later_than_a_day_moves_no_unit(history: tuple[Case, list[Row]]) -> None:
    """Of a life only its beginning and what lies within a day of a minute tell its home: a complete bill stays."""
    case, rows = history
    _, _, found, _ = case
    for row in rows:
        assert row.minute_at
        now = row.minute_at + REACH + MINUTE
        begun = tuple(replace(each, to_at=min(each.to_at, now)) for each in found if each.from_at < now)
        so_far = begun or found[:1]  # the beginning does not change, and is known before anything is used
        home = home_of(row.plan, row.minute_at, found)
        assert home == home_of(row.plan, row.minute_at, so_far)
        assert home.at < now


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


@given(histories())
@settings(deadline=None)
def test_an_invoice_adds_up(history: tuple[Case, list[Row]]) -> None:
    """The total is the sum of the lines, each its steps rounded once; each quantity is the sum of its traces."""
    (_, plans, found, period), rows = history
    made = invoice(PAYER, plans, read(rows, period, found))
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
    made = invoice(PAYER, plans, read([], period, found))
    fees = [line for line in made.lines if line.kind is LineKind.FEE]
    prices = [price.money.amount for line in fees if (price := plans[line.plan].price)]
    coin = Decimal("0.01")
    assert sum((line.amount for line in fees), Decimal(0)) <= max(prices, default=Decimal(0)) + coin * len(fees)

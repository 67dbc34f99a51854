"""Lives in which several things happen: each test is one that once came out wrong."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tallygate.licenses.license import Phase, Standing
from tallygate.limits.algorithms import microseconds
from tallygate.limits.credits import balance_at
from tallygate.limits.limit import CountedPer, LimitKind, OnExceed
from tallygate.plans.compile import compile_terms
from tallygate.plans.contract import Carry, Contract, PlanChange
from tallygate.plans.document import (
    AllowUntil,
    Grace,
    Plan,
    PlanLimit,
    QuotaPeriod,
    Refill,
    Trial,
    TrialBasis,
    TrialEnd,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TRIAL = Trial(14, TrialBasis.FIRST_USE, TrialEnd.DOWNGRADE, "free")
PRO = Plan("pro", "Pro", trial=TRIAL, grace=Grace(30))
FREE = Plan("free", "Free")
CONTRACT = Contract("cus_1", "pro@1", START, "UTC", START, trial_to="free@1")
OFFERS = {"pro@1": PRO, "free@1": FREE, "team@1": replace(FREE, key="team")}


def monthly(amount: int, **more: object) -> Plan:
    """Return a plan with a quota for each billing period."""
    limit = PlanLimit("monthly", LimitKind.QUOTA, amount, period=QuotaPeriod.BILLING, **more)  # type: ignore[arg-type]
    return Plan("it", "It", limits=(limit,))


def prepaid(amount: int, refill: int, per: CountedPer = CountedPer.SUBSCRIPTION) -> Plan:
    """Return a plan with credits that grow each month."""
    every = Refill(refill, QuotaPeriod.BILLING if per is CountedPer.SUBSCRIPTION else QuotaPeriod.MONTH)
    return Plan("it", "It", limits=(PlanLimit("balance", LimitKind.CREDITS, amount, refill=every, per=per),))


def held(phase: Phase, at: datetime) -> int:
    """Return what the credits of a phase hold in all at an instant."""
    return balance_at(phase.grant.limits[0], microseconds(at)).amount


def test_a_trial_that_is_over_leaves_no_grace_of_its_own() -> None:
    """Whoever was on the free plan when a payment failed is treated as that plan says, not as the trial's would."""
    terms = compile_terms(replace(CONTRACT, past_due_at=START + 40 * DAY), OFFERS)
    used_at, at = START + DAY, START + 41 * DAY
    assert terms.phase_at(START + 39 * DAY, used_at).grant.plan == "free@1"
    assert terms.phase_at(at, used_at).is_unpaid
    assert terms.phase_at(at, at - DAY).standing is Standing.GRACE, "the trial still runs"


@pytest.mark.parametrize(("end", "standing"), [("cancel", "canceled"), ("suspend", "suspended")])
def test_what_a_trial_has_ended_is_not_revived_by_a_failed_payment(end: str, standing: str) -> None:
    """A trial from first use that ended the subscription has ended it, whatever is not paid later."""
    plans = OFFERS | {"pro@1": replace(PRO, trial=replace(TRIAL, at_end=TrialEnd(end)))}
    terms = compile_terms(replace(CONTRACT, past_due_at=START + 40 * DAY), plans)
    assert [terms.phase_at(START + day * DAY, START).standing for day in (20, 41)] == [standing, standing]


def test_a_change_ends_a_trial_for_good() -> None:
    """A trial that was ended by a change before its time never runs out later."""
    change = PlanChange("chg_1", START + 5 * DAY, "team@1")
    terms = compile_terms(replace(CONTRACT, changes=(change,), past_due_at=START + 3 * DAY), OFFERS)
    late = START + 20 * DAY
    assert terms.phase_at(late, START + DAY).standing is Standing.GRACE, "of the trial's plan, which had one"
    assert terms.phase_at(late, START - 9 * DAY).is_unpaid, "the trial was over first: on the free plan, without grace"


@pytest.mark.parametrize(("old_end", "ceiling"), [(OnExceed.DENY, 5150), (OnExceed.OVERAGE, 5050)])
def test_a_prorated_overage_never_ends_below_its_amount(old_end: OnExceed, ceiling: int) -> None:
    """Half a month on 10,000 and half on 100 is 5,050: nobody is refused at the new plan's 300 before that."""
    until = AllowUntil(times=Decimal(3))
    plans = {
        "old@1": monthly(10_000, on_exceed=old_end),
        "new@1": monthly(100, on_exceed=OnExceed.OVERAGE, allow_until=until),
    }
    half = START + (datetime(2026, 2, 1, tzinfo=UTC) - START) / 2
    contract = Contract("cus_1", "old@1", START, "UTC", START, changes=(PlanChange("c", half, "new@1", Carry.PRORATE),))
    (limit,) = compile_terms(contract, plans).phase_at(half).grant.limits
    assert (limit.amount, limit.ceiling) == (5050, ceiling)


def test_quotas_of_two_counters_are_not_mixed() -> None:
    """A quota of each token and one of the whole subscription share no counter, so a change mixes nothing."""
    plans = {"old@1": monthly(100, per=CountedPer.TOKEN), "new@1": monthly(1000)}
    change = PlanChange("c", START + 15 * DAY, "new@1", Carry.PRORATE)
    terms = compile_terms(Contract("cus_1", "old@1", START, "UTC", START, changes=(change,)), plans)
    assert terms.phase_at(change.at).grant.limits[0].amount == 1000


def test_changing_to_the_plan_one_is_on_gains_nothing() -> None:
    """Prorated twice, each plan counts for its own time: nothing grows by changing once more."""
    plans = {"small@1": monthly(0), "large@1": monthly(3100)}
    changes = tuple(PlanChange(f"c{day}", START + day * DAY, "large@1", Carry.PRORATE) for day in (10, 20, 30))
    terms = compile_terms(Contract("cus_1", "small@1", START, "UTC", START, changes=changes), plans)
    assert [terms.phase_at(START + day * DAY).grant.limits[0].amount for day in (15, 25, 30, 31)] == [
        2100,
        2100,
        2100,
        3100,
    ]


def test_refills_come_for_the_time_on_the_plan_only() -> None:
    """A year elsewhere brings nothing; another refill counts from the change on and keeps what came before."""
    changes = (
        PlanChange("c1", datetime(2027, 1, 10, tzinfo=UTC), "prepaid@1"),
        PlanChange("c2", datetime(2027, 3, 10, tzinfo=UTC), "prepaid@2"),
        PlanChange("c3", datetime(2027, 5, 10, tzinfo=UTC), "free@1"),
        PlanChange("c4", datetime(2027, 7, 10, tzinfo=UTC), "prepaid@2"),
    )
    plans = OFFERS | {"prepaid@1": prepaid(100, 10), "prepaid@2": prepaid(100, 7)}
    terms = compile_terms(Contract("cus_1", "free@1", START, "UTC", START, changes=changes), plans)
    for month, expected in ((1, 100), (3, 120), (4, 127), (8, 120 + 2 * 7 + 7)):
        at = datetime(2027, month, 15, tzinfo=UTC)
        assert held(terms.phase_at(at), at) == expected, month


@pytest.mark.parametrize(("per", "expected"), [(CountedPer.SUBSCRIPTION, 100), (CountedPer.CUSTOMER, 160)])
def test_credits_begun_afresh_have_no_refills_of_before(per: CountedPer, expected: int) -> None:
    """A reset gives what the plan begins with; a customer's balance is never reset, and so keeps its refills."""
    at = START + 200 * DAY
    change = PlanChange("c1", at, "it@1", Carry.RESET)
    contract = Contract("cus_1", "it@1", START, "UTC", START, changes=(change,))
    assert held(compile_terms(contract, {"it@1": prepaid(100, 10, per)}).phase_at(at), at) == expected


def test_no_change_takes_force_before_the_start() -> None:
    """A subscription that begins later than its first change begins with that change."""
    change = PlanChange("c1", START - 5 * DAY, "team@1")
    terms = compile_terms(replace(CONTRACT, changes=(change,)), OFFERS)
    assert terms.phase_at(START - DAY).standing is Standing.SCHEDULED
    assert terms.phase_at(START).grant.plan == "team@1"


def test_of_two_changes_at_one_instant_the_one_made_last_counts() -> None:
    """Their ids are in the order in which they were made, however they were read."""
    changes = [PlanChange("chg_1", START + DAY, "team@1"), PlanChange("chg_2", START + DAY, "free@1")]
    for order in (changes, changes[::-1]):
        terms = compile_terms(replace(CONTRACT, changes=tuple(order)), OFFERS)
        assert terms.phase_at(START + DAY).grant.plan == "free@1"

"""The life of a subscription, compiled: trials, changes, unpaid time, suspension, the end, and a version in shadow."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tallygate.core.money import Money
from tallygate.licenses.license import Standing, Terms
from tallygate.limits.limit import CreditBucket, LimitKind, OnExceed
from tallygate.plans.compile import compile_terms
from tallygate.plans.contract import Carry, Contract, CreditGrant, LimitOverride, Overrides, PlanChange
from tallygate.plans.document import (
    AllowUntil,
    Grace,
    LimitMode,
    Plan,
    PlanLimit,
    Price,
    QuotaPeriod,
    Refill,
    Trial,
    TrialBasis,
    TrialEnd,
)

START = datetime(2026, 1, 15, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def quota(amount: int, name: str = "monthly", **more: object) -> PlanLimit:
    """Return a quota of a billing period."""
    return PlanLimit(name, LimitKind.QUOTA, amount, period=QuotaPeriod.BILLING, **more)  # type: ignore[arg-type]


PRO = Plan("pro", "Pro", Price(Money(Decimal(49), "USD")), frozenset({"a", "b"}), {"reports": True}, (quota(1000),))
FREE = Plan("free", "Free", None, frozenset({"a"}), {"reports": False}, (quota(100),))
TEAM = replace(PRO, key="team", limits=(quota(4000),))
PLANS = {"pro@1": PRO, "free@1": FREE, "team@1": TEAM}
CONTRACT = Contract("cus_1", "pro@1", anchor_at=START, timezone="UTC", starts_at=START)


def life(terms: Terms) -> list[tuple[datetime, str, str]]:
    """Return when each phase begins, its standing and its plan; the time before the start left out."""
    return [(phase.starts_at, phase.standing.value, phase.grant.plan) for phase in terms.phases[1:]]


def test_a_plain_subscription_is_active_from_its_start() -> None:
    """Before its start a subscription is scheduled, from it on active."""
    terms = compile_terms(CONTRACT, PLANS)
    assert terms.phase_at(START - DAY).standing is Standing.SCHEDULED
    assert life(terms) == [(START, "active", "pro@1")]


@pytest.mark.parametrize(
    ("end", "standing", "plan"),
    [
        (TrialEnd.CONVERT, "active", "pro@1"),
        (TrialEnd.DOWNGRADE, "active", "free@1"),
        (TrialEnd.SUSPEND, "suspended", "pro@1"),
        (TrialEnd.CANCEL, "canceled", "pro@1"),
    ],
)
def test_a_trial_ends_as_its_plan_says(end: TrialEnd, standing: str, plan: str) -> None:
    """A trial is over to the microsecond, and what follows is already in the license."""
    plans = PLANS | {"pro@1": replace(PRO, trial=Trial(14, at_end=end, to="free"))}
    terms = compile_terms(replace(CONTRACT, trial_to="free@1"), plans)
    assert life(terms) == [(START, "trialing", "pro@1"), (START + 14 * DAY, standing, plan)]
    assert terms.phase_at(START + 14 * DAY - timedelta(microseconds=1)).standing is Standing.TRIALING


def test_a_trial_from_first_use_waits_for_it() -> None:
    """Unused, the trial does not run down; used, it ends its days later, with nobody's help."""
    plans = PLANS | {"pro@1": replace(PRO, trial=Trial(14, TrialBasis.FIRST_USE, TrialEnd.SUSPEND))}
    terms = compile_terms(CONTRACT, plans)
    used_at = START + 100 * DAY
    assert terms.phase_at(used_at).standing is Standing.TRIALING
    assert terms.phase_at(used_at + 13 * DAY, used_at).standing is Standing.TRIALING
    assert terms.phase_at(used_at + 14 * DAY, used_at).standing is Standing.SUSPENDED


def test_a_change_ends_a_trial() -> None:
    """Who buys a larger plan during the trial is on it at once, and stays."""
    plans = PLANS | {"pro@1": replace(PRO, trial=Trial(14, at_end=TrialEnd.CANCEL))}
    terms = compile_terms(replace(CONTRACT, changes=(PlanChange("chg_1", START + DAY, "team@1"),)), plans)
    assert life(terms) == [(START, "trialing", "pro@1"), (START + DAY, "active", "team@1")]


def test_unpaid_time_is_grace_and_then_suspension() -> None:
    """A failed payment stops nothing until the grace is over; then paying is what helps."""
    plans = PLANS | {"pro@1": replace(PRO, grace=Grace(7))}
    failed_at = START + 30 * DAY
    terms = compile_terms(replace(CONTRACT, past_due_at=failed_at), plans)
    assert life(terms) == [
        (START, "active", "pro@1"),
        (failed_at, "grace", "pro@1"),
        (failed_at + 7 * DAY, "suspended", "pro@1"),
    ]
    assert [phase.is_unpaid for phase in terms.phases] == [False, False, False, True]


def test_grace_may_come_with_reduced_limits() -> None:
    """Reduced limits apply in the grace and only there, and leave at least one unit."""
    plan = replace(PRO, grace=Grace(7, is_reduced=True, share_percent=10), limits=(quota(1000), quota(3, "small")))
    terms = compile_terms(replace(CONTRACT, past_due_at=START + DAY), {"pro@1": plan})
    amounts = [[limit.amount for limit in phase.grant.limits] for phase in terms.phases[1:]]
    assert amounts[:2] == [[1000, 3], [100, 1]]


def test_a_plan_without_grace_is_suspended_when_unpaid() -> None:
    """Grace is granted, never assumed."""
    terms = compile_terms(replace(CONTRACT, past_due_at=START + DAY), PLANS)
    assert terms.phase_at(START + DAY).is_unpaid


def test_the_end_is_the_end() -> None:
    """Whatever was scheduled after the end never happens, and what has ended is not suspended."""
    changes = (PlanChange("chg_1", START + 10 * DAY, "team@1"),)
    contract = replace(CONTRACT, changes=changes, ends_at=START + 5 * DAY, suspended_at=START + 20 * DAY)
    assert life(compile_terms(contract, PLANS)) == [
        (START, "active", "pro@1"),
        (START + 5 * DAY, "canceled", "pro@1"),
    ]


def test_suspension_stops_every_running_phase_from_there_on() -> None:
    """A suspended subscription stays so over a scheduled change."""
    changes = (PlanChange("chg_1", START + 10 * DAY, "team@1"),)
    terms = compile_terms(replace(CONTRACT, changes=changes, suspended_at=START + DAY), PLANS)
    assert [standing for _, standing, _ in life(terms)] == ["active", "suspended", "suspended"]


def test_used_quota_is_carried_unless_reset() -> None:
    """Counters are the same over a change by default; a reset begins a set of its own, once."""
    changes = (
        PlanChange("chg_1", START + DAY, "team@1"),
        PlanChange("chg_2", START + 2 * DAY, "pro@1", Carry.RESET),
        PlanChange("chg_3", START + 3 * DAY, "team@1"),
    )
    terms = compile_terms(replace(CONTRACT, changes=changes), PLANS)
    assert [phase.counters for phase in terms.phases[1:]] == ["", "", "chg_2", "chg_2"]


def test_a_prorated_change_mixes_amounts_until_the_period_ends() -> None:
    """Half a month on 1,000 and half on 4,000 is 2,500; the next month is the new plan's own."""
    half = START + (datetime(2026, 2, 15, 9, 30, tzinfo=UTC) - START) / 2
    changes = (PlanChange("chg_1", half, "team@1", Carry.PRORATE),)
    terms = compile_terms(replace(CONTRACT, changes=changes), PLANS)
    assert [(phase.starts_at, phase.grant.limits[0].amount) for phase in terms.phases[1:]] == [
        (START, 1000),
        (half, 2500),
        (datetime(2026, 2, 15, 9, 30, tzinfo=UTC), 4000),
    ]


def test_overrides_are_the_contracts_own_words() -> None:
    """An enterprise contract changes what it names, in every plan the subscription is on, and nothing else."""
    own = Overrides(
        limits={"monthly": LimitOverride(amount=9_000, on_exceed=OnExceed.OVERAGE, ceiling=20_000)},
        features={"reports": False, "sla": "gold"},
        add_scopes=frozenset({"c"}),
        remove_scopes=frozenset({"a"}),
    )
    grant = compile_terms(replace(CONTRACT, overrides=own), PLANS).phases[1].grant
    assert grant.scopes == {"b", "c"}
    assert grant.features == {"reports": False, "sla": "gold"}
    limit = grant.limits[0]
    assert (limit.amount, limit.on_exceed, limit.ceiling) == (9_000, OnExceed.OVERAGE, 20_000)


def test_an_overridden_amount_moves_the_end_of_its_overage() -> None:
    """`allow_until: 3x` is three times what this contract has, not what the plan has."""
    plan = replace(PRO, limits=(quota(1000, on_exceed=OnExceed.OVERAGE, allow_until=AllowUntil(times=Decimal(3))),))
    own = Overrides(limits={"monthly": LimitOverride(amount=5000)})
    grant = compile_terms(replace(CONTRACT, overrides=own), {"pro@1": plan}).phases[1].grant
    assert grant.limits[0].ceiling == 15_000


def test_credits_grow_by_refill_and_by_grants() -> None:
    """What was granted beside the plan goes to the limit it was granted on, and to no other."""
    credit = PlanLimit("prepaid", LimitKind.CREDITS, 50, refill=Refill(10, QuotaPeriod.BILLING))
    grants = (CreditGrant("grt_1", "prepaid", 500, START, START + 90 * DAY), CreditGrant("grt_2", "other", 1, START))
    plan = replace(PRO, limits=(credit, quota(1000)))
    limits = compile_terms(replace(CONTRACT, grants=grants), {"pro@1": plan}).phases[1].grant.limits
    assert limits[0].buckets == (CreditBucket("grt_1", 500, START, START + 90 * DAY),)
    assert limits[0].refill is not None
    assert (limits[0].refill.amount, limits[0].refill.since_at) == (10, START)
    assert limits[1].buckets == ()


def test_a_shadow_counts_in_a_place_of_its_own() -> None:
    """A version tried beside the one in force decides nothing and shares no counter with it."""
    phase = compile_terms(replace(CONTRACT, shadows={"pro@1": "team@1"}), PLANS).phases[1]
    assert phase.shadow is not None
    assert [(limit.name, limit.is_shadow) for limit in phase.shadow.limits] == [("team@1:monthly", True)]
    assert phase.grant.limits[0].is_shadow is False


def test_a_shadow_would_not_refuse_for_a_limit_in_shadow() -> None:
    """A limit that the tried version itself only watches is no reason it would refuse anybody for."""
    watched = replace(quota(1), name="daily", mode=LimitMode.SHADOW)
    tried = replace(TEAM, limits=(quota(4000), watched))
    phase = compile_terms(replace(CONTRACT, shadows={"pro@1": "team@1"}), PLANS | {"team@1": tried}).phases[1]
    assert phase.shadow is not None
    assert [limit.name for limit in phase.shadow.limits] == ["team@1:monthly"]


def test_a_shadow_comes_and_goes_with_the_plan_it_is_beside() -> None:
    """Each phase has the shadow of its own version: a change, and the end of a trial, switch it without any help."""
    contract = replace(
        CONTRACT,
        trial_to="free@1",
        ends_at=START + 60 * DAY,
        changes=(PlanChange("chg_1", START + 30 * DAY, "team@1"),),
        shadows={"team@1": "free@1", "free@1": "team@1", "nobody@1": "nothing@1"},
    )
    trying = replace(PRO, trial=Trial(14, at_end=TrialEnd.DOWNGRADE, to="free"))
    terms = compile_terms(contract, PLANS | {"pro@1": trying})
    phases = [terms.phase_at(START + day * DAY) for day in (-1, 0, 14, 30, 60)]
    tried = [None if phase.shadow is None else phase.shadow.plan for phase in phases]
    assert tried == [None, None, "team@1", "free@1", None]

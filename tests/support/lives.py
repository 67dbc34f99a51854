"""Contracts of every shape, on plans of every shape, with instants where calendars and laws are awkward.

Values for hypothesis; nothing here knows how a contract is compiled.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from tallygate.core.money import Money
from tallygate.core.periods import PeriodUnit
from tallygate.limits.limit import CountedPer, LimitKind, OnExceed
from tallygate.plans.contract import Carry, Contract, CreditGrant, LimitOverride, Overrides, PlanChange
from tallygate.plans.document import (
    AllowUntil,
    Grace,
    Plan,
    PlanLimit,
    Price,
    QuotaPeriod,
    Refill,
    Rollout,
    Trial,
    TrialBasis,
    TrialEnd,
)

REFS = ("pro@1", "pro@2", "free@1", "team@1")
MOMENT = timedelta(microseconds=1)
AWKWARD = tuple(
    datetime.fromisoformat(text)
    for text in (
        "2023-12-31T23:59:59.999999+00:00",
        "2024-01-31T00:00:00+00:00",  # an anchor that most months do not have
        "2024-01-31T22:30:00+00:00",
        "2024-02-29T12:00:00+00:00",  # a day that most years do not have
        "2024-03-10T07:00:00+00:00",  # New York's clocks go forward
        "2024-03-31T01:00:00+00:00",  # and Berlin's
        "2024-10-27T00:30:00+00:00",  # the hour that Berlin has twice
        "2024-11-03T05:59:59+00:00",
        "2025-02-28T23:00:00+00:00",
    )
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])
LAPSES = st.sampled_from(
    [timedelta(), MOMENT, timedelta(hours=1), timedelta(days=1), timedelta(days=7)]
) | st.timedeltas(timedelta(), timedelta(days=500))

lapses = st.none() | LAPSES
instants = st.builds(
    lambda at, lapse, sign: at + sign * lapse, st.sampled_from(AWKWARD), LAPSES, st.sampled_from([1, -1])
)
amounts = st.integers(0, 10_000)


def _some(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=optional)


def _quotas(name: str, periods: list[QuotaPeriod]) -> st.SearchStrategy[PlanLimit]:
    own: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.just({}),
        st.just({"on_exceed": OnExceed.OVERAGE}),
        st.integers(10, 40).map(
            lambda tenths: {"on_exceed": OnExceed.OVERAGE, "allow_until": AllowUntil(times=Decimal(tenths) / 10)}
        ),
    )
    return st.builds(
        lambda amount, period, more: PlanLimit(name, LimitKind.QUOTA, amount, period=period, **more),
        amounts,
        st.sampled_from(periods),
        own,
    )


def _refills(per: CountedPer, periods: list[QuotaPeriod]) -> st.SearchStrategy[tuple[CountedPer, Refill | None]]:
    refills = st.none() | st.builds(Refill, st.integers(1, 500), st.sampled_from(periods))
    return st.tuples(st.just(per), refills)


_limits = st.fixed_dictionaries(
    {},
    optional={
        "monthly": _quotas("monthly", [QuotaPeriod.BILLING]),
        "daily": _quotas("daily", [QuotaPeriod.DAY, QuotaPeriod.MONTH, QuotaPeriod.YEAR]),
        "burst": st.builds(
            lambda amount: PlanLimit("burst", LimitKind.RATE, amount, window_us=1_000_000, burst=amount),
            st.integers(1, 100),
        ),
        "balance": st.builds(
            lambda amount, shared: PlanLimit("balance", LimitKind.CREDITS, amount, per=shared[0], refill=shared[1]),
            amounts,
            _refills(CountedPer.SUBSCRIPTION, [QuotaPeriod.WEEK, QuotaPeriod.MONTH, QuotaPeriod.BILLING])
            | _refills(CountedPer.CUSTOMER, [QuotaPeriod.WEEK, QuotaPeriod.MONTH]),
        ),
    },
).map(lambda limits: tuple(limits.values()))
_trials = st.builds(Trial, st.integers(1, 60), st.sampled_from(TrialBasis), st.sampled_from(TrialEnd), st.just("free"))
_graces = st.builds(Grace, st.integers(1, 60), st.booleans(), st.integers(1, 99))
_prices = st.builds(
    Price,
    st.just(Money(Decimal(49), "USD")),
    st.sampled_from([PeriodUnit.DAY, PeriodUnit.WEEK, PeriodUnit.MONTH, PeriodUnit.YEAR]),
)
_features = st.fixed_dictionaries(
    {}, optional={"reports": st.booleans(), "seats": amounts, "beta": st.builds(Rollout, st.just(Decimal(50)))}
)


def _plan(ref: str) -> st.SearchStrategy[Plan]:
    key = ref.partition("@")[0]
    return st.builds(
        Plan,
        key=st.just(key),
        name=st.just(key.title()),
        price=st.none() | _prices,
        scopes=st.frozensets(st.sampled_from("abc")),
        features=_features,
        limits=_limits,
        trial=st.one_of(st.none(), _trials, _trials),
        grace=st.one_of(st.none(), _graces, _graces),
    )


offers = st.fixed_dictionaries({ref: _plan(ref) for ref in REFS})
"""What is sold: a plan for each name in `REFS`, each with or without trial, grace, price and limits."""

_overrides = st.builds(
    Overrides,
    limits=_some(
        monthly=st.builds(LimitOverride, amount=st.none() | amounts, ceiling=st.none() | st.integers(10_000, 20_000)),
        balance=st.builds(LimitOverride, amount=amounts),
        burst=st.builds(LimitOverride, amount=st.integers(1, 100), burst=st.none() | st.integers(1, 100)),
    ),
    features=_some(reports=st.booleans(), seats=amounts),
    add_scopes=st.frozensets(st.sampled_from("cd")),
    remove_scopes=st.frozensets(st.sampled_from("ab")),
)


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    """Return a contract that the control plane could have written; its instants often fall on each other."""
    starts_at = draw(instants)
    dates = [starts_at, *(starts_at + draw(LAPSES) for _ in range(3)), draw(instants)]
    date = st.sampled_from(dates)
    seldom = st.sampled_from([*dates, None, None, None, None, None, None, None])
    changes = draw(st.lists(st.tuples(date, st.sampled_from(REFS), st.sampled_from(Carry)), max_size=4))
    grants = draw(st.lists(st.tuples(st.sampled_from(["balance", "other"]), st.integers(1, 999), date), max_size=2))
    ends_at = draw(seldom)
    return Contract(
        customer=draw(st.sampled_from(["cus_1", "cus_2"])),
        plan=draw(st.sampled_from(REFS)),
        anchor_at=draw(date),
        timezone=draw(ZONES),
        starts_at=starts_at,
        ends_at=None if ends_at is None else max(starts_at, ends_at),
        suspended_at=draw(seldom),
        past_due_at=draw(seldom),
        trial_to="free@1",
        changes=tuple(PlanChange(f"chg_{number}", *rest) for number, rest in enumerate(changes)),
        overrides=draw(_overrides),
        grants=tuple(CreditGrant(f"grt_{number}", *rest) for number, rest in enumerate(grants)),
        shadows=draw(st.dictionaries(st.sampled_from(REFS), st.sampled_from(REFS), max_size=2)),
    )

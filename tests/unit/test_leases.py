"""The terms of leases: how much may be taken, of what, and what is kept back for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.counting import SECOND_US, asking, at_once, overage, prepaid, quota, rate
from support.plan_files import in_limit, problems

from tallygate.limits.leases import LARGEST, RATE_LEASE_US, leased_burst, may_lease, slab_request, slab_size
from tallygate.limits.limit import OnExceed
from tallygate.limits.limiter import Charge
from tallygate.plans.parse import parse


@given(st.integers(1, 10**6), st.integers(1, 10**12), st.integers(0, 10**9), st.integers(0, 10**9))
def test_what_is_kept_back_covers_what_is_spent_late(amount: int, window_us: int, burst: int, during_us: int) -> None:
    """All that may be charged in a window and the time of a lease before it fits the burst and the window's rate."""
    counted = leased_burst(amount, window_us, burst)
    if counted is not None:
        charged = counted * window_us + amount * (during_us + RATE_LEASE_US)
        assert charged <= burst * window_us + amount * during_us
        assert counted >= 20
        assert 2 * counted >= burst


@pytest.mark.parametrize(
    ("amount", "window_s", "burst", "counted"),
    [
        (50, 1, 100, 90),
        (1_000, 1, 5_000, 4_800),
        (50, 1, 50, 40),
        (100, 1, 39, None),
        (5, 60, 20, None),
        (5, 60, 21, 20),
    ],
)
def test_a_rate_too_small_stays_exact(amount: int, window_s: int, burst: int, counted: int | None) -> None:
    """Where most of the burst would be kept back, or too little is left to take a slab of, nothing is leased."""
    assert leased_burst(amount, window_s * SECOND_US, burst) == counted


def test_what_is_left_bounds_a_slab() -> None:
    """A worker's part is a hundredth of an amount and a tenth of a burst; too few are not worth a call."""
    charges = (Charge(quota(1), 2), Charge(rate(1, 1), 1))
    assert slab_size(10**6, charges, [10**9, 10**9], 1) == LARGEST
    assert slab_size(100, charges, [10**9, 10**9], 1) == 96
    assert slab_size(95, charges, [10**9, 10**9], 1) == 64
    assert slab_size(100, charges, [200 * 16, 10**9], 1) == 16
    assert slab_size(100, charges, [200 * 16, 10**9], 2) == 8
    assert slab_size(100, charges, [200 * 16, 10**9], 4) == 4
    assert slab_size(100, charges, [200 * 16, 10**9], 5) == 0
    assert slab_size(100, charges, [10**9, 10 * 20], 1) == 16
    assert slab_size(3, charges, [10**9, 10**9], 1) == 0
    assert slab_size(100, (Charge(quota(0), 0), *charges), [0, 10**9, 10**9], 1) == 96


def test_a_slab_never_goes_into_overage() -> None:
    """It is refused where overage would begin, so that each unit of overage is told to whom it happens."""
    asked = slab_request(asking((overage(10, 30, is_leased=True), 3)), 8)
    assert [(charge.cost, charge.limit.on_exceed, charge.limit.ceiling) for charge in asked.charges] == [
        (24, OnExceed.DENY, None)
    ]
    assert asked.usage == ()


def test_only_what_costs_something_and_is_leased_throughout_is_taken_ahead() -> None:
    """One limit that is exact makes the request exact."""
    leased, exact = quota(1, is_leased=True), prepaid(1)
    assert may_lease(asking(leased))
    assert may_lease(asking((leased, 0), prepaid(1, is_leased=True)))
    assert not may_lease(asking((leased, 0)))
    assert not may_lease(asking(leased, exact))
    assert not may_lease(asking(leased, at_once(1, is_leased=True)))
    assert not may_lease(asking())


def test_a_plan_says_what_is_leased() -> None:
    """It is a word of each limit, and exact unless said otherwise."""
    text = "plans: [{key: p, limits: [{name: a, quota: 5, period: day, exactness: leased}, {name: b, credits: 5}]}]"
    (plan,) = parse(text, "f").plans
    assert [limit.exactness.value for limit in plan.limits] == ["leased", "exact"]


def test_concurrency_is_not_leased() -> None:
    """The mistake is told at the word, with the mend."""
    told = ".exactness: concurrency cannot be leased: what is in flight is known in one place (remove it)"
    assert in_limit("concurrency: 5, exactness: leased") == [told]
    assert "one of exact, leased" in in_limit("quota: 5, period: day, exactness: sloppy")[0]


def test_a_route_must_fit_what_is_left_of_a_leased_burst() -> None:
    """A request that costs more than a leased rate lets through at once could never pass."""
    rule = "routes: [{match: GET /a, cost: {requests: 95}}]"
    plan = "plans: [{key: a, limits: [{name: a, rate: 50/s, burst: 100, exactness: %s}]}]"
    assert parse(f"{rule}\n{plan % 'exact'}", "f").plans
    assert "leased, it lets 90 through at once" in problems(f"{rule}\n{plan % 'leased'}")[0]

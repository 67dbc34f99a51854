"""The limits of a request: what it consumes, what it is called, and what happens when the counters are lost."""

from dataclasses import replace
from datetime import timedelta

import pytest
from support.pipelines import (
    GRANT,
    LICENSE,
    NOW,
    PHASE,
    TERMS,
    Desk,
    credits_of,
    limits_by_policy,
    request,
)
from support.terms import terms_of, with_shadow

from tallygate.core.errors import OverloadedError
from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.decision.decision import Allow, Opinion, Reason
from tallygate.decision.pipeline import fail_policy, only_local
from tallygate.decision.situation import Situation
from tallygate.licenses.license import FirstUseTrial, Standing, Terms
from tallygate.licenses.routes import ActualSource, MeterPolicy, RouteRule
from tallygate.limits.limit import FailPolicy, Limit, LimitKind, OnExceed
from tallygate.limits.limiter import Acquisition, Charge, LimitOutcome, LimitState, Subject, Verdict
from tallygate.limits.memory import MemoryLimiter

HOUR = timedelta(hours=1)
DAILY = Limit("daily", LimitKind.QUOTA, 2, calendar=Calendar(PeriodUnit.DAY))
BURST = Limit("burst", LimitKind.RATE, 1, window_us=1_000_000, burst=1)
ONE_AT_ONCE = Limit("at-once", LimitKind.CONCURRENCY, 1, hold_s=60)


METERED = RouteRule(
    "*",
    "/**",
    (("output", 3), ("requests", 1), ("tokens", 5)),
    policies=(
        MeterPolicy("output", actual=ActualSource.REPORTED, within_s=60, is_refunded_unsettled=True),
        MeterPolicy("requests", refund_on=((500, 599),), within_s=30),
    ),
)


async def test_a_request_whose_end_matters_leaves_a_receipt() -> None:
    """It is named by Envoy's id of the request, or by the decision's; it lasts as long as the longest policy."""
    desk = Desk()
    desk.rules, desk.meters = (METERED,), {"tokens": None, "output": "tokens"}
    desk.issue(credits_of("small", 9))
    for request_id, named in ((None, "decision-1"), ("r1", "r1")):
        decision = await desk.check(request(request_id=request_id))
        assert isinstance(decision, Allow)
        assert decision.receipt == named
        receipt = await desk.counters.receipt(LICENSE.customer, named)
        assert receipt is not None
        assert (receipt.plan, receipt.route, receipt.until_us - receipt.at_us) == ("pro@3", "* /**", 60_000_000)
        assert dict(receipt.unsettled) == {"output": 0, "tokens": 2}
        assert receipt.charged == {"output": 3, "requests": 1, "tokens": 5}


async def test_a_request_in_flight_has_a_name_to_be_released_by() -> None:
    """What holds a limit at once is told under a receipt too, though nothing was charged that could change."""
    desk = Desk()
    desk.issue(ONE_AT_ONCE)
    decision = await desk.check()
    assert isinstance(decision, Allow)
    assert decision.receipt == "decision-1"
    assert not isinstance(await desk.check(request(request_id="r2")), Allow)
    await desk.counters.release(Subject("cus_1", "sub_1", "fam_1"), decision.receipt or "")
    assert isinstance(await desk.check(request(request_id="r3")), Allow)


async def test_a_request_whose_end_changes_nothing_has_no_receipt() -> None:
    """Nor has one that was let through while the counters were away: nothing was charged there."""
    desk = Desk()
    desk.issue(credits_of("small", 9))
    decision = await desk.check(request(request_id="r1"))
    assert isinstance(decision, Allow)
    assert decision.receipt is None
    desk.rules = (METERED,)
    desk.lose(credits_of("small", 9, fail=FailPolicy.LOCAL))
    decision = await desk.check(request(request_id="r2"))
    assert isinstance(decision, Allow)
    assert (decision.degraded, decision.receipt) == ("local", None)


async def test_one_full_limit_leaves_the_others_as_they_were() -> None:
    """A request refused by one limit consumes nothing of the other, however often it is tried."""
    desk = Desk()
    desk.issue(credits_of("small", 1), credits_of("large", 10))
    await desk.check()
    refused = [await desk.check() for _ in range(5)]
    assert {decision.reason for decision in refused} == {Reason.CREDITS_EXHAUSTED}
    looked = await desk.explain()
    assert [state.remaining for state in looked.states] == [0, 9]


async def test_the_refusal_names_the_limit_that_takes_longest_to_pass() -> None:
    """Credits come before a quota, a quota before a rate, and every full limit of that kind is named."""
    full: list[Limit] = [replace(BURST, burst=0)]
    told = []
    for more in (replace(DAILY, amount=0), replace(DAILY, name="weekly", amount=0), credits_of("prepaid", 0)):
        desk = Desk()
        desk.issue(*full)
        told.append(await desk.check())
        full.append(more)
    desk = Desk()
    desk.issue(*full)
    told.append(await desk.check())
    assert [(decision.reason.value, getattr(decision, "detail", "")) for decision in told] == [
        ("rate_limited", "Too many requests: burst."),
        ("quota_exceeded", "The quota is used up: daily."),
        ("quota_exceeded", "The quota is used up: daily, weekly."),
        ("credits_exhausted", "The credits are used up: prepaid."),
    ]
    assert len(told[-1].states) == 4


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((), ["ok", "ok"]),
        ((credits_of("a", 9),), ["ok", "ok"]),
        ((credits_of("a", 1, on_exceed=OnExceed.OVERAGE),), ["ok", "overage"]),
        ((credits_of("a", 1, on_exceed=OnExceed.OVERAGE, ceiling=1),), ["ok", "credits_exhausted"]),
        ((credits_of("a", 1, is_shadow=True),), ["ok", "shadow"]),
        ((credits_of("a", 1, is_shadow=True), credits_of("b", 0, on_exceed=OnExceed.OVERAGE)), ["overage", "overage"]),
        ((credits_of("a", 0, is_shadow=True), credits_of("b", 1)), ["shadow", "credits_exhausted"]),
    ],
)
async def test_what_an_allowed_request_is_called(limits: tuple[Limit, ...], expected: list[str]) -> None:
    """Overage speaks louder than shadow, and an overage ends at its ceiling."""
    desk = Desk()
    desk.issue(*limits)
    assert [(await desk.check()).reason.value for _ in range(2)] == expected


async def test_a_repeated_request_is_counted_once() -> None:
    """Envoy's retry of the same request is allowed again, says so, and consumes nothing."""
    desk = Desk()
    desk.issue(credits_of("one", 1))
    first, again = [await desk.check(request(request_id="r1")) for _ in range(2)]
    other = await desk.check(request(request_id="r2"))
    assert isinstance(first, Allow)
    assert isinstance(again, Allow)
    assert (first.is_repeat, again.is_repeat, other.reason) == (False, True, Reason.CREDITS_EXHAUSTED)


def test_a_route_charges_the_limits_of_its_meters_only() -> None:
    """A limit is asked when the route costs its meter; a cost of nothing looks without spending or recording."""
    on_requests, on_tokens, on_bytes = (credits_of(meter, 9, meter=meter) for meter in ("requests", "tokens", "bytes"))
    terms = terms_of(replace(GRANT, limits=(on_requests, on_tokens, on_bytes)))
    situation = Situation.at(NOW, replace(LICENSE, terms=terms), None)
    route = RouteRule("POST", "/v1/chat", (("requests", 1), ("tokens", 0)))
    acquisition = situation.passage(route).asking("r1", "d")
    assert acquisition.charges == (Charge(on_requests, 1), Charge(on_tokens, 0))
    assert acquisition.usage == (("requests", 1),)
    assert acquisition.subject == Subject("cus_1", "sub_1", "fam_1")
    assert (acquisition.route, acquisition.idempotency_key) == ("POST /v1/chat", "r1")


async def test_a_request_costs_what_its_route_says() -> None:
    """An expensive route takes its whole price, and does not pass on less."""
    desk = Desk()
    desk.rules = (RouteRule("GET", "/v1/reports/{id}", (("requests", 5),)), RouteRule("*", "/**"))
    desk.issue(credits_of("prepaid", 8))
    report = request("/v1/reports/7")
    told = [(await desk.check(asked)).reason.value for asked in (report, report, request(), request(), request())]
    assert told == ["ok", "credits_exhausted", "ok", "ok", "ok"]
    assert (await desk.check()).reason is Reason.CREDITS_EXHAUSTED


@pytest.mark.parametrize(
    ("policies", "told", "degraded"),
    [
        ((), ["ok", "ok"], "open"),
        (("open",), ["ok", "ok"], "open"),
        (("closed",), ["dependency_down", "dependency_down"], "closed"),
        (("local",), ["ok", "credits_exhausted"], "local"),
        (("open", "local"), ["ok", "credits_exhausted"], "local"),
        (("open", "local", "closed"), ["dependency_down", "dependency_down"], "closed"),
    ],
)
async def test_lost_counters_do_what_the_strictest_limit_says(
    policies: tuple[str, ...], told: list[str], degraded: str
) -> None:
    """Closed wins over local, local over open; the decision names what stood in."""
    desk = Desk()
    limits = limits_by_policy()
    desk.issue(*(limits[FailPolicy(policy)] for policy in policies))
    desk.counters.lose()
    decisions = [await desk.check() for _ in range(2)]
    assert [decision.reason.value for decision in decisions] == told
    assert {decision.degraded for decision in decisions} == {degraded}


async def test_local_limits_are_counted_for_themselves() -> None:
    """While the counters are lost only local limits are looked at; what was counted before is not touched."""
    desk = Desk()
    local, open_ = credits_of("local", 2, fail=FailPolicy.LOCAL), credits_of("open", 1, fail=FailPolicy.OPEN)
    desk.issue(local, open_)
    await desk.check()
    desk.counters.lose()
    lost = [await desk.check() for _ in range(3)]
    assert [[state.limit.name for state in decision.states] for decision in lost] == [["local"]] * 3
    assert lost[-1].reason is Reason.CREDITS_EXHAUSTED
    desk.counters.failure = None
    assert [state.remaining for state in (await desk.explain()).states] == [1, 0]


async def test_what_passes_without_counters_is_told_when_they_are_back() -> None:
    """What a fail policy admits is in the ledger, once; a retry and a refusal are not, and no counter is charged."""
    desk = Desk()
    desk.lose(credits_of("local", 2, fail=FailPolicy.LOCAL))
    decisions = [await desk.check(request(request_id=each)) for each in ("1", "1", "2", "3")]
    assert [decision.reason for decision in decisions] == [Reason.OK] * 3 + [Reason.CREDITS_EXHAUSTED]
    desk.counters.failure = None
    await desk.degraded.hand_on(desk.counters)
    minute = int(NOW.timestamp()) // 60
    usage = f"sub_1|pro@3|fam_1|requests|allowed|degraded|{minute}|* /**"
    assert desk.counters.memory.usage == {minute: {usage: 2}}
    assert [state.remaining for state in (await desk.explain()).states] == [1]


async def test_lost_counters_leave_the_other_rules_standing() -> None:
    """A plan that fails open still refuses a missing scope."""
    desk = Desk()
    desk.issue(limits_by_policy()[FailPolicy.OPEN])
    desk.rules = (RouteRule("*", "/**", scope="things.delete"),)
    desk.counters.lose()
    assert (await desk.check()).reason is Reason.SCOPE_MISSING


def test_a_shadow_limit_never_closes_the_door() -> None:
    """A limit on trial has no say in what a lost counter store does, and is not counted locally."""
    shadow = credits_of("trial", 1, is_shadow=True, fail=FailPolicy.CLOSED)
    local_shadow = credits_of("other", 1, is_shadow=True, fail=FailPolicy.LOCAL)
    charges = (Charge(shadow, 1), Charge(local_shadow, 1))
    assert fail_policy(charges) is FailPolicy.OPEN
    reduced = only_local(Acquisition(Subject("c", "s", "f"), charges, usage=(("requests", 1),)))
    assert (reduced.charges, reduced.usage) == ((), ())


async def test_an_overload_is_not_an_outage() -> None:
    """A full queue refuses even a plan that fails open: shedding load must not let everything through."""
    desk = Desk()
    desk.issue(limits_by_policy()[FailPolicy.OPEN])
    desk.counters.failure = OverloadedError("full")
    decision = await desk.check()
    assert (decision.reason, decision.degraded) == (Reason.OVERLOADED, None)


async def test_a_refusal_that_blames_nobody_is_our_own_mistake() -> None:
    """A limiter that refuses without an exceeded limit breaks its port, and is not turned into an answer."""

    class Lying(MemoryLimiter):
        """Refuses without a reason."""

        async def acquire(self, acquisition: Acquisition) -> Verdict:
            """Refuse."""
            state = LimitState(acquisition.charges[0].limit, LimitOutcome.OK, 1, None, None)
            return Verdict(is_admitted=False, is_repeat=False, states=(state,), at_us=0)

    desk = Desk()
    desk.issue(credits_of("any", 1))
    desk.pipeline = desk.pipeline_over(Lying(desk.clock))
    with pytest.raises(AssertionError, match="names no exceeded limit"):
        await desk.check()


async def test_requests_at_once_are_bounded_and_released() -> None:
    """One in flight keeps the next out until somebody says that it has ended."""
    desk = Desk()
    desk.issue(ONE_AT_ONCE)
    first = await desk.check(request(request_id="r1"))
    second = await desk.check(request(request_id="r2"))
    assert (first.reason, second.reason) == (Reason.OK, Reason.CONCURRENCY_EXCEEDED)
    await desk.counters.release(Subject("cus_1", "sub_1", "fam_1"), "r1")
    assert (await desk.check(request(request_id="r3"))).reason is Reason.OK


async def test_a_version_in_shadow_says_what_it_would_refuse() -> None:
    """A stricter version tried on live traffic refuses nobody, and reports whom it would have."""
    desk = Desk()
    shadow = replace(GRANT, plan="pro@4", scopes=frozenset(), limits=())
    desk.rules = (RouteRule("*", "/**", scope="things.read"),)
    desk.issue(terms=with_shadow(TERMS, shadow))
    decision = await desk.check()
    assert isinstance(decision, Allow)
    assert (decision.reason, decision.would_refuse) == (Reason.SHADOW, Reason.SCOPE_MISSING)
    assert decision.phase.grant.plan == "pro@3"


async def test_a_shadow_limit_reports_and_never_moves_the_enforced_one() -> None:
    """The shadow's counter fills beside the enforced one; beyond it requests still pass."""
    desk = Desk()
    tight = replace(credits_of("pro@4:prepaid", 1), is_shadow=True)
    shadow = replace(GRANT, plan="pro@4", limits=(tight,))
    desk.issue(credits_of("prepaid", 3), terms=with_shadow(TERMS, shadow))
    decisions = [await desk.check() for _ in range(4)]
    assert [decision.reason for decision in decisions] == [
        Reason.OK,
        Reason.SHADOW,
        Reason.SHADOW,
        Reason.CREDITS_EXHAUSTED,
    ]
    assert isinstance(decisions[1], Allow)
    assert decisions[1].would_refuse is Reason.CREDITS_EXHAUSTED


async def test_each_thing_in_shadow_has_an_opinion_of_its_own() -> None:
    """A limit in shadow of the plan in force is no refusal of the version tried, nor the other way round."""
    desk = Desk()
    tight = replace(credits_of("pro@4:prepaid", 2), is_shadow=True)
    watched = credits_of("watched", 1, is_shadow=True)
    tried = replace(GRANT, plan="pro@4", limits=(tight,))
    desk.issue(credits_of("prepaid", 9), watched, terms=with_shadow(TERMS, tried))
    decisions = [await desk.check() for _ in range(3)]
    said = [decision.opinions for decision in decisions if isinstance(decision, Allow)]
    mine, refused = "pro@3:watched", Reason.CREDITS_EXHAUSTED
    assert said == [
        (Opinion("pro@4", None), Opinion(mine, None)),
        (Opinion("pro@4", None), Opinion(mine, refused)),
        (Opinion("pro@4", refused), Opinion(mine, refused)),
    ]
    assert [decision.reason for decision in decisions] == [Reason.OK, Reason.SHADOW, Reason.SHADOW]


async def test_the_tried_version_alone_answers_for_what_it_grants() -> None:
    """A scope that the tried version lacks is its refusal; the limit in shadow beside it had room, and says so."""
    desk = Desk()
    desk.rules = (RouteRule("*", "/**", scope="things.read"),)
    tried = replace(GRANT, plan="pro@4", scopes=frozenset(), limits=())
    desk.issue(credits_of("watched", 1, is_shadow=True), terms=with_shadow(TERMS, tried))
    decision = await desk.check()
    assert isinstance(decision, Allow)
    assert decision.opinions == (Opinion("pro@4", Reason.SCOPE_MISSING), Opinion("pro@3:watched", None))
    assert decision.would_refuse is Reason.SCOPE_MISSING


async def test_a_limit_in_shadow_looks_at_what_costs_its_meter_only() -> None:
    """Requests that cost nothing of its meter, and those decided without the counters, are none that it has seen."""
    desk = Desk()
    desk.rules = (RouteRule("GET", "/v1/free", (("bytes", 1),)), RouteRule("*", "/**"))
    desk.issue(credits_of("watched", 0, is_shadow=True))
    free, counted = await desk.check(request("/v1/free")), await desk.check()
    desk.counters.lose()
    lost = await desk.check()
    said = [decision.opinions for decision in (free, counted, lost) if isinstance(decision, Allow)]
    assert said == [(), (Opinion("pro@3:watched", Reason.CREDITS_EXHAUSTED),), ()]


def test_where_nothing_is_in_shadow_nothing_is_asked() -> None:
    """The usual request pays for no shadow: there is none to ask."""
    passage = Situation.at(NOW, replace(LICENSE, terms=TERMS), None).passage(RouteRule("*", "/**"))
    assert passage.shadows is None


async def test_a_scheduled_change_switches_the_shadow_on_time() -> None:
    """With store and control plane gone, from its instant on what the new plan's shadow would refuse is told."""
    desk = Desk()
    strict = replace(GRANT, plan="pro@4", scopes=frozenset(), limits=())
    change_at = NOW + timedelta(days=1)
    changed = replace(PHASE, starts_at=change_at, grant=replace(GRANT, plan="pro@2"), shadow=strict)
    desk.rules = (RouteRule("*", "/**", scope="things.read"),)
    desk.issue(terms=Terms((PHASE, changed)))
    assert (await desk.check()).reason is Reason.OK
    desk.store.is_available = False
    desk.clock.set(change_at - timedelta(microseconds=1))
    assert (await desk.check()).reason is Reason.OK
    desk.clock.set(change_at)
    decision = await desk.check()
    assert isinstance(decision, Allow)
    assert (decision.reason, decision.would_refuse) == (Reason.SHADOW, Reason.SCOPE_MISSING)
    assert (decision.phase.grant.plan, decision.phase.shadow) == ("pro@2", strict)


async def test_a_trial_from_first_use_ends_by_itself() -> None:
    """The first request starts the clock; its time later, with store and control plane gone, the trial is over."""
    desk = Desk()
    trial = replace(PHASE, standing=Standing.TRIALING)
    over = replace(PHASE, standing=Standing.SUSPENDED)
    desk.issue(terms=Terms((trial,), FirstUseTrial(1800, (over,))))
    explained = await desk.explain()
    assert explained.reason is Reason.OK
    desk.clock.advance(timedelta(days=20).total_seconds())
    assert (await desk.check()).reason is Reason.OK, "looking was no use, so the trial had not begun"
    desk.store.is_available = False
    desk.clock.advance(1800)
    assert (await desk.check()).reason is Reason.SUBSCRIPTION_SUSPENDED

"""What trial, grace, roll-outs, refills, concurrency and meters mean when they are right."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tallygate.limits.limit import LimitKind, unenforceable
from tallygate.plans.contract import Contract
from tallygate.plans.document import (
    Grace,
    Plan,
    PlanFeature,
    PlanLimit,
    QuotaPeriod,
    Refill,
    Rollout,
    Trial,
    TrialBasis,
    TrialEnd,
)
from tallygate.plans.grant import compile_grant
from tallygate.plans.meters import ancestors, expand_costs, expand_routes
from tallygate.plans.parse import parse


def first_plan(body: str) -> Plan:
    """Return a plan that has `body`, of a file that has a plan `free` too."""
    return parse(f"plans: [{{key: p, {body}}}, {{key: free}}]", "f").plans[0]


@pytest.mark.parametrize(
    ("text", "trial"),
    [
        ("{days: 14}", Trial(14, TrialBasis.CREATION, TrialEnd.CONVERT)),
        ("{days: 1, basis: first_use, at_end: suspend}", Trial(1, TrialBasis.FIRST_USE, TrialEnd.SUSPEND)),
        ("{days: 3_650, at_end: cancel}", Trial(3650, at_end=TrialEnd.CANCEL)),
        ("{days: 30, at_end: downgrade, to: free}", Trial(30, at_end=TrialEnd.DOWNGRADE, to="free")),
    ],
)
def test_a_trial_says_how_long_from_when_and_what_then(text: str, trial: Trial) -> None:
    """It is counted from creation and converts, unless something else is written."""
    assert first_plan(f"trial: {text}").trial == trial


@pytest.mark.parametrize(
    ("text", "grace"),
    [
        ("{days: 7}", Grace(7)),
        ("{days: 7, limits: full}", Grace(7)),
        ("{days: 7, limits: reduced}", Grace(7, is_reduced=True, share_percent=10)),
        ("{days: 7, limits: reduced, share: 99%}", Grace(7, is_reduced=True, share_percent=99)),
    ],
)
def test_grace_is_full_unless_it_is_reduced(text: str, grace: Grace) -> None:
    """Reduced limits keep a tenth, unless another share is written."""
    assert first_plan(f"grace: {text}").grace == grace


@pytest.mark.parametrize(
    ("share", "amount", "left"),
    [(10, 1000, 100), (10, 1009, 100), (10, 9, 1), (10, 1, 1), (10, 0, 0), (99, 2**53 - 1, 8_917_127_262_193_581)],
)
def test_a_reduced_limit_is_rounded_down_but_never_to_nothing(share: int, amount: int, left: int) -> None:
    """Grace that would leave nothing would be a suspension; a limit of nothing stays one."""
    assert Grace(7, is_reduced=True, share_percent=share).left_of(amount) == left
    assert Grace(7, share_percent=share).left_of(amount) == amount


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{rollout: 0}", Rollout(Decimal(0))),
        ("{rollout: 12.5}", Rollout(Decimal("12.5"))),
        ('{rollout: "0.01"}', Rollout(Decimal("0.01"))),
        ("{rollout: 100.00}", Rollout(Decimal(100))),
    ],
)
def test_a_rollout_is_a_percentage(text: str, value: PlanFeature) -> None:
    """From nobody to everybody, in hundredths."""
    assert first_plan(f"features: {{a: {text}}}").features == {"a": value}


def test_credits_may_be_refilled() -> None:
    """A refill says how much and after what."""
    (limit,) = first_plan("limits: [{name: it, credits: 5, refill: {amount: 1_000, every: billing}}]").limits
    assert limit == PlanLimit("it", LimitKind.CREDITS, 5, refill=Refill(1000, QuotaPeriod.BILLING))


@pytest.mark.parametrize(
    ("hold", "hold_s"), [("", 60), (", hold: 30s", 30), (", hold: 5m", 300), (", hold: 24h", 86400)]
)
def test_a_request_in_flight_is_held_for_a_while(hold: str, hold_s: int) -> None:
    """A request of which nobody says that it ended counts for a minute, or for as long as is written."""
    (limit,) = first_plan(f"limits: [{{name: it, concurrency: 4{hold}}}]").limits
    assert limit == PlanLimit("it", LimitKind.CONCURRENCY, 4, hold_s=hold_s)


METERS = """
meters: {tokens: {}, input: {parent: tokens}, cached: {parent: input}, requests: {parent: events}, events: {}}
routes: [{match: "GET /a", cost: {cached: 5, tokens: 2, requests: 1}}]
plans: [{key: p, limits: [{name: t, quota: 7, period: day, meter: tokens}, {name: e, credits: 1, meter: events}]}]
"""


def test_meters_form_a_tree() -> None:
    """A unit of a child counts in all its ancestors, and a limit on an ancestor counts through its children."""
    catalogue = parse(METERS, "f")
    assert catalogue.meters == {
        "tokens": None,
        "input": "tokens",
        "cached": "input",
        "requests": "events",
        "events": None,
    }
    assert ancestors("cached", catalogue.meters) == ("input", "tokens")
    (rule,) = expand_routes(catalogue.routes, catalogue.meters)
    assert dict(rule.costs) == {"cached": 5, "events": 1, "input": 5, "requests": 1, "tokens": 7}


def test_rules_keep_the_costs_their_author_wrote() -> None:
    """What is shown is what was written; only what is charged is expanded."""
    (rule,) = parse(METERS, "f").routes
    assert dict(rule.costs) == {"cached": 5, "tokens": 2, "requests": 1}


def test_a_cost_of_nothing_counts_nothing_up_the_tree() -> None:
    """Looking without spending looks at the ancestors' limits too."""
    assert expand_costs((("a", 0),), {"a": "b", "b": None}) == (("a", 0), ("b", 0))


def test_requests_are_always_there() -> None:
    """A file with meters need not declare the one that every file has, not even for a parent."""
    catalogue = parse('meters: {reads: {parent: requests}}\nroutes: [{match: "GET /a", cost: {reads: 2}}]', "f")
    (rule,) = expand_routes(catalogue.routes, catalogue.meters)
    assert rule.costs == (("reads", 2), ("requests", 2))


CATALOGUE = parse((Path(__file__).parents[2] / "examples" / "catalogue.yaml").read_bytes(), "catalogue.yaml")


def test_the_catalogue_sells_in_every_way() -> None:
    """Whoever looks for how to sell something finds it said in the example."""
    plans = {plan.key: plan for plan in CATALOGUE.plans}
    assert list(plans) == ["free", "payg", "pro", "enterprise", "prepaid"]
    assert plans["payg"].overage
    assert plans["pro"].trial == Trial(14, TrialBasis.FIRST_USE, TrialEnd.DOWNGRADE, "free")
    assert plans["pro"].grace == Grace(7, is_reduced=True)
    assert plans["pro"].features["beta_search"] == Rollout(Decimal(10))
    assert {limit.kind for plan in CATALOGUE.plans for limit in plan.limits} == set(LimitKind)
    assert [limit.refill for limit in plans["prepaid"].limits] == [None, Refill(4000, QuotaPeriod.MONTH)]
    assert CATALOGUE.meters["input_tokens"] == "tokens"


def test_every_limit_of_the_catalogue_can_be_counted() -> None:
    """No shipped limit is beyond what the counters hold exactly."""
    at = datetime(2026, 1, 31, tzinfo=UTC)
    for plan in CATALOGUE.plans:
        for limit in compile_grant(plan, "it@1", Contract("cus_1", "it@1", at, "UTC", at)).limits:
            assert unenforceable(limit) is None

"""What a diff of two versions of a plan says of each kind of change."""

import pytest

from tallygate.plans.change import ChangeKind
from tallygate.plans.diff import diff
from tallygate.plans.document import Plan
from tallygate.plans.parse import parse

PRICE = "price: {amount: 1, currency: USD}, "
TIMES = "quota: 5, period: day, on_exceed: overage, allow_until"


def plan_with(body: str) -> Plan:
    """Return a plan that has `body`, of a file that has plans `free` and `basic` too."""
    return parse(f"plans: [{{key: p, {body}}}, {{key: free}}, {{key: basic}}]", "f").plans[0]


def told(old: str, new: str) -> list[tuple[str, str]]:
    """Return field and kind of each change between two plans that have these bodies."""
    return [(change.field, change.kind.value) for change in diff(plan_with(old), plan_with(new))]


def told_of_limit(old: str, new: str) -> list[tuple[str, str]]:
    """Return word and kind of each change of one limit, in a plan that is billed monthly."""
    changes = told(*(f"{PRICE}limits: [{{name: it, {limit}}}]" for limit in (old, new)))
    return [(field.removeprefix("limits.it").removeprefix("."), kind) for field, kind in changes]


@pytest.mark.parametrize(
    ("narrow", "wide", "field"),
    [
        ("rate: 50/s, burst: 50", "rate: 51/s, burst: 50", "rate"),
        ("rate: 50/min, burst: 5", "rate: 1/s, burst: 5", "rate"),
        ("rate: 50/s", "rate: 50/s, burst: 100", "burst"),
        ("quota: 5, period: day", "quota: 6, period: day", "quota"),
        ("quota: 5, period: week", "quota: 5, period: day", "period"),
        ("quota: 5, period: billing", "quota: 5, period: week", "period"),
        ("credits: 5", "credits: 6", "credits"),
        ("credits: 5", "credits: 5, refill: {amount: 1, every: year}", "refill"),
        (
            "credits: 5, refill: {amount: 10, every: day}",
            "credits: 5, refill: {amount: 100, every: week}",
            "refill",
        ),
        ("concurrency: 5", "concurrency: 6", "concurrency"),
        ("concurrency: 5", "concurrency: 5, hold: 30s", "hold"),
        ("credits: 5, per: customer", "credits: 5, per: subscription", "per"),
        ("credits: 5", "credits: 5, per: token", "per"),
        ("credits: 5", "credits: 5, on_exceed: overage", "on_exceed"),
        ("credits: 5", "credits: 5, on_exceed: overage, allow_until: 3x", "on_exceed"),
        (f"{TIMES}: 2x", f"{TIMES}: 3x", "allow_until"),
        (f"{TIMES}: 3x", f"{TIMES}: 16 units", "allow_until"),
        (f"{TIMES}: 3x", "quota: 5, period: day, on_exceed: overage", "allow_until"),
        ("credits: 5", "credits: 5, mode: shadow", "mode"),
        ("credits: 5", "credits: 5, fail: local", "fail"),
        ("credits: 5, fail: local", "credits: 5, fail: open", "fail"),
    ],
)
def test_each_word_of_a_limit_widens_one_way_and_narrows_the_other(narrow: str, wide: str, field: str) -> None:
    """The one who publishes learns which way each change goes for those who have the plan."""
    assert told_of_limit(narrow, wide) == [(field, "widens")]
    assert told_of_limit(wide, narrow) == [(field, "narrows")]


@pytest.mark.parametrize(
    ("one", "other", "fields"),
    [
        ("quota: 5, period: billing", "quota: 5, period: month", ["period"]),
        (f"{TIMES}: 3x", f"{TIMES}: 15 units", ["allow_until"]),
        ("rate: 60/min, burst: 5", "rate: 1/s, burst: 5", ["rate"]),
        ("credits: 5, mode: shadow", "credits: 9, mode: shadow, fail: open", ["credits", "fail"]),
        ("credits: 5", "credits: 5, exactness: leased", ["exactness"]),
    ],
)
def test_what_comes_to_the_same_is_neutral(one: str, other: str, fields: list[str]) -> None:
    """Other words for the same, and changes of what refuses nobody, are told but not as more or less."""
    assert told_of_limit(one, other) == [(field, "neutral") for field in fields]
    assert told_of_limit(other, one) == [(field, "neutral") for field in fields]


def test_a_limit_that_begins_to_decide_narrows_whatever_else_changes() -> None:
    """Out of shadow even a larger amount takes something away: before, there was no end."""
    assert told_of_limit("credits: 5, mode: shadow", "credits: 9") == [("credits", "neutral"), ("mode", "narrows")]


@pytest.mark.parametrize(("one", "other"), [("credits: 5", "rate: 5/s"), ("credits: 5", "credits: 5, meter: tokens")])
def test_a_limit_that_counts_otherwise_is_one_less_and_one_more(one: str, other: str) -> None:
    """What was counted is not what is counted now: neither is more or less than the other."""
    assert told_of_limit(one, other) == [("", "widens"), ("", "narrows")]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("limits: []", "limits: [{name: a, credits: 5}]", [("limits.a", "narrows")]),
        ("limits: []", "limits: [{name: a, credits: 5, mode: shadow}]", [("limits.a", "neutral")]),
        (
            "limits: [{name: a, credits: 5}, {name: b, credits: 5}]",
            "limits: [{name: b, credits: 5}, {name: a, credits: 5}]",
            [("limits", "neutral")],
        ),
        (
            "limits: [{name: a, credits: 5}, {name: b, credits: 5}]",
            "limits: [{name: c, credits: 5}, {name: b, credits: 5}]",
            [("limits.a", "widens"), ("limits.c", "narrows")],
        ),
        ("scopes: [a, b]", "scopes: [b, c]", [("scopes.a", "narrows"), ("scopes.c", "widens")]),
        ("features: {a: false}", "features: {a: true}", [("features.a", "widens")]),
        ("scopes: []", "features: {a: true}", [("features.a", "widens")]),
        ("scopes: []", "features: {a: false}", [("features.a", "neutral")]),
        ("features: {a: false}", "features: {a: {rollout: 1}}", [("features.a", "widens")]),
        ("features: {a: {rollout: 20}}", "features: {a: {rollout: 10}}", [("features.a", "narrows")]),
        ("features: {a: {rollout: 99.99}}", "features: {a: text}", [("features.a", "widens")]),
        ("features: {a: 20}", "features: {a: 30}", [("features.a", "widens")]),
        ("features: {a: 20}", "features: {a: 20.0}", [("features.a", "neutral")]),
        ("features: {a: 20}", "features: {a: true}", [("features.a", "neutral")]),
        ("features: {a: email}", "features: {a: phone}", [("features.a", "neutral")]),
        ("name: a", "name: b, upgrade_url: https://b.example/", [("name", "neutral"), ("upgrade_url", "neutral")]),
        (PRICE, "price: {amount: 2, currency: USD}", [("price", "neutral")]),
        ("name: p", "trial: {days: 14}", [("trial", "neutral")]),
        ("name: p", "trial: {days: 14, at_end: cancel}", [("trial", "narrows")]),
        (
            "trial: {days: 14}",
            "trial: {days: 30, basis: first_use}",
            [("trial.days", "neutral"), ("trial.basis", "neutral")],
        ),
        (
            "trial: {days: 14, at_end: suspend}",
            "trial: {days: 30, at_end: suspend, basis: first_use}",
            [("trial.days", "widens"), ("trial.basis", "widens")],
        ),
        ("trial: {days: 14, at_end: suspend}", "trial: {days: 14, at_end: cancel}", [("trial.at_end", "narrows")]),
        (
            "trial: {days: 14}",
            "trial: {days: 14, at_end: downgrade, to: free}",
            [("trial.at_end", "narrows"), ("trial.to", "neutral")],
        ),
        (
            "trial: {days: 14, at_end: downgrade, to: basic}",
            "trial: {days: 14, at_end: downgrade, to: free}",
            [("trial.to", "neutral")],
        ),
        ("name: p", "grace: {days: 7}", [("grace", "widens")]),
        ("grace: {days: 7}", "grace: {days: 3}", [("grace.days", "narrows")]),
        (
            "grace: {days: 7, limits: reduced, share: 99%}",
            "grace: {days: 7}",
            [("grace.limits", "widens"), ("grace.share", "widens")],
        ),
        (
            "grace: {days: 7, limits: reduced}",
            "grace: {days: 7, limits: reduced, share: 5%}",
            [("grace.share", "narrows")],
        ),
        (
            PRICE + "limits: [{name: a, credits: 5, on_exceed: overage}]",
            PRICE
            + "limits: [{name: a, credits: 5, on_exceed: overage}], overage: {requests: {model: per_unit, unit: 1}}",
            [("overage.requests", "neutral")],
        ),
        (
            PRICE,
            PRICE.replace("USD", "USD, prorate: true") + "charges: {requests: {model: per_unit, unit: 1, maximum: 9}}",
            [("price", "neutral"), ("charges.requests", "neutral")],
        ),
    ],
)
def test_each_part_of_a_plan_is_judged(old: str, new: str, expected: list[tuple[str, str]]) -> None:
    """Access widens or narrows; money, names, and texts that only the upstream could weigh are neutral."""
    assert told(old, new) == expected


def test_a_longer_billing_period_narrows_what_is_granted_for_each() -> None:
    """A price by the year instead of the month gives a quota per billing period once where it came twelve times."""
    body = "limits: [{name: a, quota: 5, period: billing}], price: {amount: 1, currency: USD, every: "
    first, second = diff(plan_with(body + "month}"), plan_with(body + "year}"))
    assert (first.field, first.kind) == ("price", ChangeKind.NEUTRAL)
    assert (second.field, second.before, second.after) == ("limits.a.period", "billing (month)", "billing (year)")
    assert second.kind is ChangeKind.NARROWS


def test_a_new_plan_is_one_change() -> None:
    """Where nothing was, nothing widens or narrows."""
    (change,) = diff(None, plan_with("scopes: [a]"))
    assert (change.field, change.before, change.after, change.kind) == ("", None, "p", ChangeKind.NEUTRAL)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "limits: [{name: monthly, quota: 5, period: month}]",
            "limits: [{name: monthly, quota: 6, period: month}]",
            "the limit monthly grants 6 a period instead of 5",
        ),
        (
            "limits: [{name: a, credits: 5}]",
            "limits: [{name: a, credits: 5, refill: {amount: 7, every: day}}]",
            "the limit a grows by 7 every day instead of nothing",
        ),
        ("limits: [{name: a, credits: 5}]", "name: p", "the limit a is removed"),
        ("name: p", "limits: [{name: a, credits: 5, mode: shadow}]", "the limit a is added, in shadow"),
        ("scopes: [a]", "scopes: []", "tokens lose the scope a"),
        ("features: {a: 1}", "features: {a: {rollout: 5}}", 'the feature a goes from 1 to {"rollout":5}'),
        ("grace: {days: 7}", "grace: {days: 8}", "days of the grace goes from 7 to 8"),
    ],
)
def test_a_change_is_told_in_a_sentence(old: str, new: str, sentence: str) -> None:
    """Who approves a change need not know the plan file by heart."""
    assert [change.sentence for change in diff(plan_with(old), plan_with(new))] == [sentence]

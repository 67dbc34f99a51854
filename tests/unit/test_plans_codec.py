"""The form in which plans are kept: readable, normal, and readable for ever."""

import pytest

from tallygate.plans.codec import (
    canonical,
    plan_from_document,
    plan_to_document,
)
from tallygate.plans.document import Plan
from tallygate.plans.parse import parse


def plan_with(body: str) -> Plan:
    """Return a plan that has `body`."""
    return parse(f"plans: [{{key: p, {body}}}]", "f").plans[0]


def test_a_document_has_the_file_s_own_shape() -> None:
    """What `plans show` prints is a plan file with every default written out."""
    plan = plan_with(
        'price: {amount: "49.00", currency: USD}, scopes: [b, a], features: {y: 1.0, x: true}, '
        "limits: [{name: r, rate: 120/60s}, "
        "{name: q, quota: 1_0, period: day, on_exceed: overage, allow_until: 2.50x}], "
        'overage: {requests: {model: volume, tiers: [{up_to: 5, unit: "0.10"}, {unit: 0}]}}'
    )
    shared = {"meter": "requests", "per": "subscription"}
    assert plan_to_document(plan) == {
        "key": "p",
        "name": "p",
        "price": {"amount": "49", "currency": "USD", "every": "month"},
        "scopes": ["a", "b"],
        "features": {"x": True, "y": 1.0},
        "limits": [
            {"name": "r", "rate": "120/min", "burst": 120}
            | shared
            | {"on_exceed": "deny", "mode": "enforce", "fail": "closed"},
            {"name": "q", "quota": 10, "period": "day"}
            | shared
            | {"on_exceed": "overage", "allow_until": "2.5x", "mode": "enforce", "fail": "closed"},
        ],
        "overage": {
            "requests": {
                "model": "volume",
                "tiers": [{"up_to": 5, "unit": "0.1", "flat": "0"}, {"unit": "0", "flat": "0"}],
            }
        },
    }


def test_phases_rollouts_refills_and_holds_are_written_out() -> None:
    """Trial, grace and the rarer words of limits are kept with their defaults, in one form."""
    document = plan_to_document(
        plan_with(
            "trial: {days: 14}, grace: {days: 7, limits: reduced}, features: {a: {rollout: 10}, b: {rollout: 2.50}}, "
            "limits: [{name: c, concurrency: 4, hold: 120s}, {name: d, concurrency: 4}, "
            "{name: e, credits: 5, refill: {amount: 1_000, every: billing}}]"
        )
    )
    assert document["trial"] == {"days": 14, "basis": "creation", "at_end": "convert"}
    assert document["grace"] == {"days": 7, "limits": "reduced", "share": "10%"}
    assert canonical(document["features"]) == '{"a":{"rollout":10},"b":{"rollout":2.5}}'
    assert [limit.get("hold") for limit in document["limits"]] == ["2m", "1m", None]
    assert [limit.get("refill") for limit in document["limits"]] == [None, None, {"amount": 1000, "every": "billing"}]
    assert plan_to_document(plan_with("grace: {days: 7}"))["grace"] == {"days": 7, "limits": "full"}
    plan = plan_with("grace: {days: 7, limits: reduced, share: 25%}, limits: [{name: c, concurrency: 4, hold: 5m}]")
    assert plan_from_document(plan_to_document(plan)) == plan


def test_charges_and_what_bounds_them_are_written_out() -> None:
    """A share of money has its defaults written out, and bounds are there where they say something."""
    document = plan_to_document(
        plan_with(
            "price: {amount: 49, currency: JPY, prorate: true}, trial: {days: 14, bill_usage: true}, charges: "
            '{a: {model: percentage, rate: "1.50%"}, b: {model: percentage, rate: 2%, fee: "0.10", free_events: 3}, '
            'c: {model: package, size: 100, price: 5, included: 100, minimum: "1.50", maximum: 90}}'
        )
    )
    assert document["price"] == {"amount": "49", "currency": "JPY", "every": "month", "prorate": True}
    assert document["trial"] == {"days": 14, "basis": "creation", "at_end": "convert", "bill_usage": True}
    share = {"model": "percentage", "worth": "1", "free_amount": "0"}
    assert document["charges"] == {
        "a": share | {"rate": "1.5%"},
        "b": share | {"rate": "2%", "fee": "0.1", "events": "requests", "free_events": 3},
        "c": {"model": "package", "size": 100, "price": "5", "included": 100, "minimum": "1.5", "maximum": "90"},
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("scopes: [a, b]", "scopes: [b, a]"),
        ("price: {amount: 49, currency: USD}", "price: {amount: 49, currency: USD, prorate: false}, charges: {}"),
        ("trial: {days: 14}", "trial: {days: 14, bill_usage: false}"),
        ("features: {a: 1, b: 2}", "features: {b: 2, a: 1}"),
        ("limits: [{name: a, rate: 60/60s}]", "limits: [{name: a, rate: 60/min, burst: 60, meter: requests}]"),
        ("price: {amount: 49, currency: USD}", 'price: {amount: "49.00", currency: USD, every: month}'),
        ("name: p", "limits: []"),
        ("features: {a: -0.0}", "features: {a: 0.0}"),
        ("features: {a: {rollout: 10}}", 'features: {a: {rollout: "10.00"}}'),
        ("trial: {days: 1_4}", "trial: {days: 14, basis: creation, at_end: convert}"),
        ("grace: {days: 7, limits: reduced}", "grace: {days: 7, limits: reduced, share: 10%}"),
        ("limits: [{name: a, concurrency: 1}]", "limits: [{name: a, concurrency: 1, hold: 60s}]"),
        ("limits: [{name: a, credits: 1}]", "limits: [{name: a, credits: 1, exactness: exact}]"),
    ],
)
def test_what_means_the_same_is_the_same_text(one: str, other: str) -> None:
    """Applying a file that only says the same in other words publishes nothing."""
    assert canonical(plan_to_document(plan_with(one))) == canonical(plan_to_document(plan_with(other)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("features: {a: true}", "features: {a: 1}"),
        ("features: {a: 1}", "features: {a: 1.0}"),
        ("features: {a: 1}", 'features: {a: "1"}'),
        ("limits: [{name: a, rate: 60/min}]", "limits: [{name: a, rate: 1/s}]"),
        ("limits: [{name: a, credits: 1}]", "limits: [{name: a, credits: 1, exactness: leased}]"),
        (
            "limits: [{name: a, credits: 1}, {name: b, credits: 1}]",
            "limits: [{name: b, credits: 1}, {name: a, credits: 1}]",
        ),
    ],
)
def test_what_differs_is_another_text(one: str, other: str) -> None:
    """Even where Python calls True, 1 and 1.0 equal, a changed plan is seen as changed."""
    assert canonical(plan_to_document(plan_with(one))) != canonical(plan_to_document(plan_with(other)))


def test_a_document_of_an_older_version_is_read_with_defaults() -> None:
    """A published version stays readable when later versions of Tallygate write more keys."""
    bare = {"key": "p", "name": "P", "limits": [{"name": "a", "rate": "5/s"}, {"name": "b", "credits": 3}]}
    assert plan_from_document(bare) == plan_with("name: P, limits: [{name: a, rate: 5/s}, {name: b, credits: 3}]")

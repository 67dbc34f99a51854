"""The form in which plans and routes are kept: readable, normal, and readable for ever."""

import json

import pytest

from tallygate.licenses.codec import decode_routes
from tallygate.plans.codec import (
    canonical,
    plan_from_document,
    plan_to_document,
    routes_from_document,
    routes_to_document,
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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("scopes: [a, b]", "scopes: [b, a]"),
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


def test_routes_are_kept_as_both_planes_read_them() -> None:
    """What the control plane writes, it and the data plane read back as the same rules."""
    text = 'routes: [{match: "GET /v1/{id}", cost: {b: 2, a: 0}, scope: s, feature: f}, {match: "* /**"}]'
    rules = parse(text, "f").routes
    document = json.loads(json.dumps(routes_to_document(rules, {})))
    assert document == [
        {"match": "GET /v1/{id}", "cost": {"a": 0, "b": 2}, "scope": "s", "feature": "f"},
        {"match": "* /**", "cost": {"requests": 1}, "scope": None, "feature": None},
    ]
    assert routes_from_document(document) == rules
    assert decode_routes(json.dumps(document)) == rules


def test_the_data_plane_counts_children_in_their_ancestors_and_the_author_s_costs_are_kept() -> None:
    """Whoever reads the stored rules sees what was written, and a request is charged up the tree."""
    text = """
meters: {tokens: {}, in: {parent: tokens}}
routes: [{match: "GET /a", cost: {in: 3, tokens: 1}}, {match: "GET /b"}]
"""
    catalogue = parse(text, "f")
    document = json.loads(json.dumps(routes_to_document(catalogue.routes, catalogue.meters)))
    assert document[0] == {
        "match": "GET /a",
        "cost": {"in": 3, "tokens": 1},
        "counts": {"in": 3, "tokens": 4},
        "scope": None,
        "feature": None,
    }
    assert "counts" not in document[1]
    assert routes_from_document(document) == catalogue.routes
    assert [rule.costs for rule in decode_routes(json.dumps(document))] == [
        (("in", 3), ("tokens", 4)),
        (("requests", 1),),
    ]

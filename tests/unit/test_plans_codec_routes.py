"""The form in which routes and meters are kept: both planes read it, and so do people."""

import json

from tallygate.licenses.codec_routes import decode_routes
from tallygate.plans.codec_routes import as_table, charged, routes_from_document, routes_to_document
from tallygate.plans.document import Catalogue
from tallygate.plans.meters import expand_routes
from tallygate.plans.parse import parse

METERS = """
meters:
  requests: {refund_on: [5xx, 429, 500-503]}
  tokens: {refund_on: ["504"]}
  in: {parent: tokens, actual: {header: x-in}, within: 60m, unsettled: refund}
  bytes: {actual: bytes_sent}
"""


def stored(catalogue: Catalogue) -> object:
    """Return what a database gives back of a catalogue's table."""
    return json.loads(json.dumps(routes_to_document(catalogue.routes, catalogue.meters, catalogue.policies)))


def test_routes_are_kept_as_both_planes_read_them() -> None:
    """What the control plane writes, it and the data plane read back as the same rules."""
    text = 'routes: [{match: "GET /v1/{id}", cost: {b: 2, a: 0}, scope: s, feature: f}, {match: "* /**"}]'
    rules = parse(text, "f").routes
    document = json.loads(json.dumps(routes_to_document(rules, {})))
    assert document["routes"] == [
        {"match": "GET /v1/{id}", "cost": {"a": 0, "b": 2}, "scope": "s", "feature": "f"},
        {"match": "* /**", "cost": {"requests": 1}, "scope": None, "feature": None},
    ]
    assert routes_from_document(document["routes"]) == rules
    assert decode_routes(json.dumps(document)) == (rules, {})


def test_the_data_plane_counts_children_in_their_ancestors_and_the_author_s_costs_are_kept() -> None:
    """Whoever reads the stored rules sees what was written, and a request is charged up the tree."""
    text = """
meters: {tokens: {}, in: {parent: tokens}}
routes: [{match: "GET /a", cost: {in: 3, tokens: 1}}, {match: "GET /b"}]
"""
    catalogue = parse(text, "f")
    document = json.loads(json.dumps(routes_to_document(catalogue.routes, catalogue.meters)))
    first, second = document["routes"]
    assert first == {
        "match": "GET /a",
        "cost": {"in": 3, "tokens": 1},
        "counts": {"in": 3, "tokens": 4},
        "scope": None,
        "feature": None,
    }
    assert "counts" not in second
    assert routes_from_document(document["routes"]) == catalogue.routes
    assert [rule["cost"] for rule in charged(document["routes"])] == [{"in": 3, "tokens": 4}, {"requests": 1}]
    rules, meters = decode_routes(json.dumps(document))
    assert [rule.costs for rule in rules] == [(("in", 3), ("tokens", 4)), (("requests", 1),)]
    assert meters == {"tokens": None, "in": "tokens"}


def test_meters_are_kept_as_they_were_written_and_as_they_are_used() -> None:
    """People see their file again with its defaults; the data plane gets each rule's policies, ancestors' too."""
    catalogue = parse(
        METERS + 'routes: [{match: "GET /a", cost: {requests: 1, in: 9, bytes: 0}}, {match: GET /b}]', "f"
    )
    document = stored(catalogue)
    assert isinstance(document, dict)
    assert document["meters"] == {
        "bytes": {"actual": "bytes_sent", "within": "10m", "unsettled": "charge"},
        "in": {"parent": "tokens", "actual": {"header": "x-in"}, "within": "1h", "unsettled": "refund"},
        "requests": {"refund_on": ["429", "5xx"], "within": "10m", "unsettled": "charge"},
        "tokens": {"refund_on": ["504"], "within": "10m", "unsettled": "charge"},
    }
    rules, meters = decode_routes(json.dumps(document))
    assert rules == expand_routes(catalogue.routes, catalogue.meters, catalogue.policies)
    assert [[policy.meter for policy in rule.policies] for rule in rules] == [
        ["bytes", "in", "requests", "tokens"],
        ["requests"],
    ]
    assert meters == catalogue.meters


def test_the_rule_that_takes_everything_has_policies_too() -> None:
    """Where no routes are named, a failed request can be given back all the same."""
    rules, _ = decode_routes(json.dumps(stored(parse("meters: {requests: {refund_on: [5xx]}}\nroutes: []", "f"))))
    assert [(rule.text, [policy.refund_on for policy in rule.policies]) for rule in rules] == [
        ("* /**", [((500, 599),)])
    ]


def test_a_table_of_an_older_version_is_a_list() -> None:
    """What was put in force before meters were kept is shown, compared and applied like any other."""
    rules = [{"match": "* /**", "cost": {"requests": 1}, "scope": None, "feature": None}]
    assert as_table(rules) == routes_to_document(routes_from_document(rules), {})
